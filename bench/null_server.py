"""A search server on loopback that says yes to each bulk request and keeps nothing; a process of its own.

`GET /requests` answers how many bulk requests there were. Run: `python -m bench.null_server [--latency SECONDS]`; it
prints its port.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

from bench.figures import FOLDER, environment

__all__ = ["requests_met", "serving"]


class NullServer:
    """Answers, and counts."""

    def __init__(self, latency: float) -> None:
        self._latency = latency
        self._requests = 0

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answers the requests of one connection until it is closed."""
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                lines = head.lower().split(b"\r\n")
                size = next((int(text.split(b":")[1]) for text in lines if text.startswith(b"content-length:")), 0)
                body = await reader.readexactly(size)
                said = await self._bulk(body) if size else str(self._requests).encode()
                writer.write(
                    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-elastic-product: Elasticsearch\r\n"
                    b"content-length: %d\r\n\r\n%b" % (len(said), said)
                )
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionResetError):
            writer.close()

    async def _bulk(self, body: bytes) -> bytes:
        self._requests += 1
        if self._latency:
            await asyncio.sleep(self._latency)
        items = b",".join([b'{"index":{"status":201}}'] * (body.count(b"\n") // 2))
        return b'{"errors":false,"items":[%b]}' % items


async def serve(latency: float) -> None:
    """Listens on a free port, which it prints, until it is ended."""
    server = await asyncio.start_server(NullServer(latency).answer, "127.0.0.1", 0, limit=2**20)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await server.serve_forever()


@contextmanager
def serving(latency: float = 0.0) -> Iterator[str]:
    """Runs the server; gives its address."""
    command = [sys.executable, "-m", "bench.null_server", "--latency", str(latency)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=FOLDER, env=environment()) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        finally:
            process.terminate()


def requests_met(url: str) -> int:
    """Returns how many bulk requests a server had."""
    with urllib.request.urlopen(f"{url}/requests") as answer:  # noqa: S310 - our own server on loopback
        return int(answer.read())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--latency", type=float, default=0.0, help="seconds that a request takes")
    asyncio.run(serve(parser.parse_args().latency))
