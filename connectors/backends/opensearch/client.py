"""A transport made of the connections of opensearch-py: it authenticates, does TLS, and sends bytes as they are.

The client's own serialisers, retries and logs are passed by: bodies are encoded once and before, callers own the
retries, and a request is no line of the log.
"""

from __future__ import annotations

import ssl
import warnings
from collections.abc import Mapping
from typing import Any

import aiohttp
from opensearchpy import AIOHttpConnection, AsyncOpenSearch
from opensearchpy.exceptions import ImproperlyConfigured
from yarl import URL

from connectors.backends.server import OPENSEARCH, Client, Response, ServerBackend
from connectors.backends.server.transports import (
    CONNECTIONS,
    authorization,
    chunked,
    raise_tls,
    raise_unreachable,
    tls_options,
)
from connectors.config import OpenSearchConfig
from connectors.errors import ConfigurationError

__all__ = ["OpenSearchTransport", "open_opensearch"]


class _RawConnection(AIOHttpConnection):
    """A connection that gives answers as bytes: the library's own decodes them to text, and logs each."""

    async def send(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes | None, timeout: float
    ) -> tuple[int, dict[str, str], bytes]:
        """Sends one request; raises what aiohttp raises."""
        if self.session is None:
            self._open_session()
        pinned: dict[str, Any] = {}
        if self.ssl_assert_fingerprint:
            pinned["ssl"] = aiohttp.Fingerprint(bytes.fromhex(self.ssl_assert_fingerprint))
        async with self.session.request(
            method,
            URL(self.host + self.url_prefix + target, encoded=True),
            data=chunked(body),
            headers=headers,
            timeout=aiohttp.ClientTimeout(total=timeout),
            allow_redirects=False,  # a POST that is followed arrives as a GET
            **pinned,
        ) as response:
            data = await response.read()
        return response.status, {name.lower(): value for name, value in response.headers.items()}, data

    def _open_session(self) -> None:
        """Opens it as the library does, without what newer versions of Python warn of."""
        self.session = aiohttp.ClientSession(
            skip_auto_headers=("accept", "accept-encoding", "user-agent"),
            cookie_jar=aiohttp.DummyCookieJar(),
            connector=aiohttp.TCPConnector(limit=self._limit or 0, ssl=self._ssl_context or False),
        )


class OpenSearchTransport:
    """Sends requests to the nodes of one cluster in turn, leaving out for a while one that failed."""

    def __init__(self, config: OpenSearchConfig) -> None:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # it warns of settings that are what we mean
                self._client = AsyncOpenSearch(
                    config.urls,
                    connection_class=_RawConnection,
                    maxsize=CONNECTIONS,
                    http_compress=False,
                    **tls_options(config),
                )
                # Otherwise the library makes them with the first request through its own methods.
                self._client.transport.set_connections(self._client.transport.hosts)
        except (ValueError, OSError, ImproperlyConfigured) as error:  # files that are not there, or no certificates
            raise ConfigurationError(f"opensearch: {error}; mend its TLS settings", field="opensearch") from error
        self._headers = {"user-agent": "connectors", **authorization(config)}

    async def send(
        self, method: str, target: str, *, headers: Mapping[str, str], body: bytes | None, timeout: float
    ) -> Response:
        """Sends one request; see `connectors.backends.server.Transport`."""
        transport = self._client.transport
        connection: _RawConnection = transport.get_connection()
        try:
            status, found, data = await connection.send(method, target, {**self._headers, **headers}, body, timeout)
        except (ssl.SSLError, aiohttp.ClientSSLError, aiohttp.ServerFingerprintMismatch) as error:
            raise_tls(connection.host, error)
        except TimeoutError as error:
            transport.connection_pool.mark_dead(connection)
            raise_unreachable(connection.host, error, seconds=timeout)
        except (aiohttp.ClientError, OSError) as error:
            transport.connection_pool.mark_dead(connection)
            raise_unreachable(connection.host, error)
        transport.connection_pool.mark_live(connection)
        return Response(status, found, data)

    async def close(self) -> None:
        """Closes the connections; may be called twice."""
        await self._client.close()


def open_opensearch(config: OpenSearchConfig) -> ServerBackend:
    """Returns destination and store on OpenSearch; nothing is sent before the first use."""
    transport = OpenSearchTransport(config)
    client = Client(transport, OPENSEARCH, url=config.url, timeout=config.request_timeout, compress=config.compress)
    return ServerBackend(client, config, connectors_index=config.connectors_index, jobs_index=config.jobs_index)
