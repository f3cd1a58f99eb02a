"""The client port: sends bytes, gets bytes, and says what a fault means for the caller.

A `Transport` only authenticates, does TLS and sends; it is the one thing that each product brings. `Client` makes the
rest of it alike: JSON, compression, and the mapping of faults, in one place. Nothing here tries again.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol
from urllib.parse import urlencode

import orjson

from connectors.backends.server import faults
from connectors.backends.server.names import Product
from connectors.errors import ConfigurationError, RetryableError

__all__ = ["JSON", "NDJSON", "Client", "Response", "Server", "Transport"]

JSON: Final = "application/json"
NDJSON: Final = "application/x-ndjson"

_WORTH_COMPRESSING: Final = 1024
_WORTH_A_THREAD: Final = 64 * 1024
#: Level 1: of the higher ones, each costs several times as much and gains little.
_LEVEL: Final = 1
_GZIP: Final = 31


@dataclass(frozen=True, slots=True)
class Response:
    """An answer; names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def ok(self) -> bool:
        """Whether the server did what it was asked for."""
        return 200 <= self.status < 300

    def json(self) -> Any:
        """Returns the body as a value; RetryableError when it is cut short or is no JSON."""
        try:
            return orjson.loads(self.body)
        except orjson.JSONDecodeError as error:
            raise RetryableError(f"the server's answer is no JSON: {error}") from None


class Transport(Protocol):
    """Sends one request and returns whatever comes back.

    It raises RetryableError when the connection fails or no whole answer comes, and SuspendSync when a certificate is
    not accepted. It tries nothing a second time.
    """

    async def send(
        self, method: str, target: str, *, headers: Mapping[str, str], body: bytes | None, timeout: float
    ) -> Response:
        """Sends one request; `timeout` in seconds."""
        ...

    async def close(self) -> None:
        """Closes the connections; may be called twice."""
        ...


@dataclass(frozen=True, slots=True)
class Server:
    """What a server says of itself; version (0, 0) when it does not say.

    `serverless` is a project of Elastic Cloud Serverless, which refuses most settings of an index, and names of indices
    that begin with a dot.
    """

    version: tuple[int, int]
    serverless: bool = False


class Client:
    """One server, as destination and store speak to it.

    Args:
        product: what the server has to be.
        url: for messages.
        timeout: seconds that a request may take unless the caller says something else.
        compress: whether larger bodies are sent compressed.
    """

    def __init__(
        self, transport: Transport, product: Product, *, url: str, timeout: float = 60.0, compress: bool = False
    ) -> None:
        self.product = product
        self.url = url
        self.timeout = timeout
        self._transport = transport
        self._compress = compress
        self._server: Server | None = None

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: bytes | Mapping[str, Any] | None = None,
        content_type: str = JSON,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        answered: Collection[int] = (),
    ) -> Response:
        """Sends one request and returns the answer: success, or a refusal that the caller understands.

        Args:
            method: of HTTP.
            path: with its parts escaped.
            params: of the query string.
            body: bytes are sent as they are.
            content_type: of the body.
            headers: further ones.
            timeout: seconds.
            answered: further statuses that the caller wants to see (400, 404, 409 and 413 always are).

        Raises:
            RetryableError: the connection failed, no whole answer came, or the server is overloaded or not ready.
            SuspendSync: credentials, privileges, certificates, a blocked index: a person has to mend it.
        """
        target = f"{path}?{urlencode(params)}" if params else path
        sent = {"accept": JSON, **(headers or {})}
        data = orjson.dumps(body) if isinstance(body, Mapping) else body
        if data is not None:
            sent["content-type"] = content_type
            if self._compress and len(data) >= _WORTH_COMPRESSING:
                data = await _gzip(data)
                sent["content-encoding"] = "gzip"
        response = await self._transport.send(
            method, target, headers=sent, body=data, timeout=self.timeout if timeout is None else timeout
        )
        if not response.ok and response.status not in answered:
            faults.raise_for(response.status, response.headers, response.body, where=f"{self.product.name} {self.url}")
        return response

    async def call(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: bytes | Mapping[str, Any] | None = None,
        timeout: float | None = None,
    ) -> Any:
        """Sends one request that has to succeed and returns its answer's value.

        Raises:
            ConfigurationError: the server refused it as wrong, or does not know what it names.
        """
        response = await self.request(method, path, params=params, body=body, timeout=timeout)
        if not response.ok:
            raise self.refused(response, f"{method} {path}")
        return response.json()

    def refused(self, response: Response, what: str) -> ConfigurationError:
        """Returns the error for a refusal that nobody foresaw."""
        reason = faults.told(faults.reason_of(faults.error_of(response.body)))
        return ConfigurationError(f"{self.product.name} refused {what} ({response.status}): {reason}")

    async def server(self) -> Server:
        """Returns what the server is, asked once; ConfigurationError when it is the other product."""
        if self._server is None:
            # A key that may not ask for the version works all the same.
            response = await self.request("GET", "/", answered=(403,))
            told = response.json() if response.ok else {}
            version = (told.get("version") if isinstance(told, Mapping) else None) or {}
            self._check_product(version)
            self._server = Server(
                _version(str(version.get("number", ""))), serverless=version.get("build_flavor") == "serverless"
            )
        return self._server

    def _check_product(self, version: Mapping[str, Any]) -> None:
        found = "OpenSearch" if version.get("distribution") == "opensearch" else "Elasticsearch"
        if version and found != self.product.name:
            raise ConfigurationError(
                f"{self.url} is {found}, not {self.product.name}; write its address under {found.lower()}: in "
                "config.yml",
                field=f"{self.product.block}.url",
            )

    async def close(self) -> None:
        """Closes the connections; may be called twice."""
        await self._transport.close()


def _version(text: str) -> tuple[int, int]:
    parts = text.split(".")
    return (int(parts[0]), int(parts[1])) if len(parts) > 1 and parts[0].isdigit() and parts[1].isdigit() else (0, 0)


async def _gzip(data: bytes) -> bytes:
    if len(data) < _WORTH_A_THREAD:
        return _gzip_now(data)
    return await asyncio.to_thread(_gzip_now, data)


def _gzip_now(data: bytes) -> bytes:
    compressor = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
    return compressor.compress(data) + compressor.flush()
