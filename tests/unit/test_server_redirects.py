"""A server that sends us elsewhere is followed by neither client: a bulk request would arrive as something else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from connectors.backends.elasticsearch import open_elasticsearch
from connectors.backends.opensearch import open_opensearch
from connectors.backends.server import ServerBackend
from connectors.config import ElasticsearchConfig, OpenSearchConfig
from connectors.errors import SuspendSync


def elasticsearch(url: str) -> ServerBackend:
    return open_elasticsearch(ElasticsearchConfig.model_validate({"url": url}))


def opensearch(url: str) -> ServerBackend:
    return open_opensearch(OpenSearchConfig.model_validate({"url": url}))


@pytest.mark.parametrize("open_backend", [elasticsearch, opensearch])
async def test_a_redirect_is_told_and_not_followed(open_backend: Callable[[str], ServerBackend]) -> None:
    asked: list[str] = []

    async def redirect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readuntil(b"\r\n\r\n")).decode().split(" ")[1])
        writer.write(b"HTTP/1.1 301 Moved\r\nLocation: /elsewhere\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(redirect, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        backend = open_backend(f"http://127.0.0.1:{port}")
        try:
            with pytest.raises(SuspendSync, match=r"sends us elsewhere \(301\): /elsewhere"):
                await backend.client.request("POST", "/things/_bulk", body=b"{}\n")
        finally:
            await backend.close()
    assert asked == ["/things/_bulk"]
