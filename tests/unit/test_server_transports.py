"""What both clients send: to the very address that they are given, whatever it looks like, and to no other one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

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


@pytest.fixture(params=[elasticsearch, opensearch])
def open_backend(request: pytest.FixtureRequest) -> Callable[[str], ServerBackend]:
    opened: Callable[[str], ServerBackend] = request.param
    return opened


@asynccontextmanager
async def answering(head: str, asked: list[str]) -> AsyncIterator[str]:
    """A server that answers everything with this head and nothing behind it; gives its address."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readuntil(b"\r\n\r\n")).decode().split(" ")[1])
        writer.write(f"HTTP/1.1 {head}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_a_redirect_is_told_and_not_followed(open_backend: Callable[[str], ServerBackend]) -> None:
    asked: list[str] = []
    async with answering("301 Moved\r\nLocation: /elsewhere", asked) as url:
        backend = open_backend(url)
        try:
            with pytest.raises(SuspendSync, match=r"sends us elsewhere \(301\): /elsewhere"):
                await backend.client.request("POST", "/things/_bulk", body=b"{}\n")
        finally:
            await backend.close()
    assert asked == ["/things/_bulk"]


@pytest.mark.parametrize("prefix", ["", "/search", "/search/"])
@pytest.mark.parametrize("target", ["/a/_doc/%2E%2E", "/a/_doc/x%2Fy%20%2B%C3%A4?a=1%2C2&b=%2A", "/a%2Cb/_search", "/"])
async def test_an_address_arrives_as_it_is(
    open_backend: Callable[[str], ServerBackend], prefix: str, target: str
) -> None:
    asked: list[str] = []
    async with answering("200 OK", asked) as url:
        backend = open_backend(url + prefix)
        try:
            await backend.client.request("GET", target)
        finally:
            await backend.close()
    assert asked == [prefix.rstrip("/") + target]
