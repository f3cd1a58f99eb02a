"""TLS in front of a server that has none, with certificates made for the occasion."""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Final, Self
from urllib.parse import urlsplit

import trustme
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

__all__ = ["Certificates", "TlsProxy", "node_certificate"]

_READ: Final = 64 * 1024  # bytes


class Certificates:
    """A certificate authority of our own, the server's certificate, and a client's; written to a folder as PEM.

    Args:
        folder: where the files go.
        names: what the server's certificate is for: host names and addresses.
        expires: when the server's certificate ends; far in the future unless given.

    Attributes:
        ca, client_certificate, client_key: files for a client's settings.
        fingerprint: SHA-256 of the server's certificate, in hexadecimal, as for pinning.
    """

    def __init__(
        self, folder: Path, *, names: tuple[str, ...] = ("localhost", "127.0.0.1"), expires: datetime | None = None
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._authority = trustme.CA()
        self._server = self._authority.issue_cert(*names, not_after=expires)
        client = self._authority.issue_cert("client@example.com")
        self.ca = folder / "ca.pem"
        self.client_certificate = folder / "client.pem"
        self.client_key = folder / "client.key"
        self._authority.cert_pem.write_to_path(self.ca)
        client.private_key_pem.write_to_path(self.client_key)
        for position, blob in enumerate(client.cert_chain_pems):
            blob.write_to_path(self.client_certificate, append=position > 0)
        pem = self._server.cert_chain_pems[0].bytes().decode()
        self.fingerprint = hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()

    def server_context(self, *, demand_client: bool) -> ssl.SSLContext:
        """Returns a server's context, which takes only clients of this authority if a certificate is demanded."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._server.configure_cert(context)
        if demand_client:
            self._authority.configure_trust(context)
            context.verify_mode = ssl.CERT_REQUIRED
        return context


def node_certificate(folder: Path) -> None:
    """Writes `ca.pem`, `node.pem` and `node.key`, the key as Java likes it, for a server that speaks TLS itself."""
    authority = trustme.CA()
    node = authority.issue_cert("localhost", "127.0.0.1")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    node.cert_chain_pems[0].write_to_path(folder / "node.pem")
    key = load_pem_private_key(node.private_key_pem.bytes(), password=None)
    (folder / "node.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


class TlsProxy:
    """`async with TlsProxy(server.url, certificates) as proxy:` and connect to `proxy.url`, which is https.

    Args:
        upstream: address of a server or another proxy that speaks HTTP; its path is part of `url`.
        certificates: what the server shows.
        demand_client: refuse clients without a certificate of the same authority.

    Attributes:
        handshakes: connections whose handshake succeeded.
    """

    def __init__(self, upstream: str, certificates: Certificates, *, demand_client: bool = False) -> None:
        self.handshakes = 0
        self._upstream = urlsplit(upstream)
        self._context = certificates.server_context(demand_client=demand_client)
        self._connections: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        assert self._server is not None, "the proxy was not entered"
        return f"https://127.0.0.1:{self._server.sockets[0].getsockname()[1]}{self._upstream.path.rstrip('/')}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._context)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        self.handshakes += 1
        try:
            with suppress(OSError):  # the server is not there, or one side hung up
                onward = await asyncio.open_connection(self._upstream.hostname, self._upstream.port)
                try:
                    async with asyncio.TaskGroup() as both:
                        both.create_task(_pipe(reader, onward[1]))
                        both.create_task(_pipe(onward[0], writer))
                finally:
                    onward[1].transport.abort()
        except asyncio.CancelledError:
            pass  # by __aexit__, and by nobody else; the loop would report a task that ends cancelled
        finally:
            self._connections.discard(task)
            writer.transport.abort()


async def _pipe(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    """Passes bytes on until either side hangs up, and then hangs up on the other."""
    with suppress(OSError):
        while data := await source.read(_READ):
            sink.write(data)
            await sink.drain()
    sink.close()
