"""A transport made of the nodes of elasticsearch-py: it authenticates, does TLS, and sends bytes as they are.

The client's own serialisers, retries and logs are passed by: bodies are encoded once and before, callers own the
retries, and a request is no line of the log.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Any

import aiohttp
from elastic_transport import (
    AiohttpHttpNode,
    BaseAsyncNode,
    ConnectionError,  # noqa: A004 - the library's name; the built-in one is not meant in this module
    ConnectionTimeout,
    TlsError,
)
from elasticsearch import AsyncElasticsearch
from yarl import URL

from connectors.backends.server import ELASTICSEARCH, Client, Response, ServerBackend
from connectors.backends.server.transports import (
    CONNECTIONS,
    authorization,
    chunked,
    raise_tls,
    raise_unreachable,
    tls_options,
)
from connectors.config import ElasticsearchConfig
from connectors.errors import ConfigurationError

__all__ = ["ElasticsearchTransport", "open_elasticsearch"]


class _StraightSession:
    """A session that sends to the very address that it is given: to no other one where the server redirects it, for a
    POST that is followed arrives as a GET, and not to that of the index in place of the document `..` in it.

    Args:
        base: what all addresses begin with.
    """

    def __init__(self, session: aiohttp.ClientSession, base: str) -> None:
        self._session = session
        self._base = base
        self._escaped = str(URL(base)).rstrip("/")

    def request(self, method: str, url: str, **kwargs: Any) -> Any:
        address = URL(self._escaped + url.removeprefix(self._base), encoded=True)
        return self._session.request(method, address, allow_redirects=False, **kwargs)

    async def close(self) -> None:
        await self._session.close()


class _Node(AiohttpHttpNode):
    """A node that follows no redirect, and logs nothing: the library decodes each body for its log, whether a line is
    written or not."""

    def _log_request(self, *args: Any, **kwargs: Any) -> None:
        pass

    def _create_aiohttp_session(self) -> None:
        super()._create_aiohttp_session()
        if self.session is not None:
            self.session = _StraightSession(self.session, self.base_url)  # type: ignore[assignment]  # all that the node uses of it


class ElasticsearchTransport:
    """Sends requests to the nodes of one cluster in turn, leaving out for a while one that failed."""

    def __init__(self, config: ElasticsearchConfig) -> None:
        try:
            self._client = AsyncElasticsearch(
                config.urls,
                node_class=_Node,
                connections_per_node=CONNECTIONS,
                http_compress=False,
                **tls_options(config),
            )
        except (ValueError, OSError) as error:  # files that are not there, or are no certificates (ssl.SSLError)
            raise ConfigurationError(f"elasticsearch: {error}; mend its TLS settings", field="elasticsearch") from error
        self._headers = {"user-agent": "connectors", **authorization(config)}

    async def send(
        self, method: str, target: str, *, headers: Mapping[str, str], body: bytes | None, timeout: float
    ) -> Response:
        """Sends one request; see `connectors.backends.server.Transport`."""
        pool = self._client.transport.node_pool
        node = pool.get()
        if not isinstance(node, BaseAsyncNode):
            raise TypeError("the client's nodes are not asynchronous")
        try:
            meta, data = await node.perform_request(
                method,
                target,
                body=chunked(body),  # type: ignore[arg-type]  # handed to aiohttp as it is
                headers={**self._headers, **headers},  # type: ignore[arg-type]  # it copies any mapping
                request_timeout=timeout,
            )
        except TlsError as error:
            raise_tls(node.base_url, error)
        except ConnectionTimeout as error:
            pool.mark_dead(node)
            raise_unreachable(node.base_url, error, seconds=timeout)
        except (ConnectionError, OSError) as error:
            # What the library does not count among the faults of TLS.
            causes = (error, *getattr(error, "errors", ()))
            if any(isinstance(cause, ssl.SSLError | aiohttp.ServerFingerprintMismatch) for cause in causes):
                raise_tls(node.base_url, error)
            pool.mark_dead(node)
            raise_unreachable(node.base_url, error)
        pool.mark_live(node)
        return Response(meta.status, {name.lower(): value for name, value in meta.headers.items()}, data)

    async def close(self) -> None:
        """Closes the connections; may be called twice."""
        await self._client.close()


def open_elasticsearch(config: ElasticsearchConfig) -> ServerBackend:
    """Returns destination and store on Elasticsearch; nothing is sent before the first use."""
    transport = ElasticsearchTransport(config)
    client = Client(transport, ELASTICSEARCH, url=config.url, timeout=config.request_timeout, compress=config.compress)
    return ServerBackend(client, config, connectors_index=config.connectors_index, jobs_index=config.jobs_index)
