"""The page's server: the port it takes, what it leaves to others, and how it ends."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from connectors.byoc import Connector
from connectors.errors import ConfigurationError
from connectors.service.web import WebServer
from tests.support.site import Site


@asynccontextmanager
async def serving(server: WebServer) -> AsyncIterator[str]:
    """Serves, and ends as the daemon does: by cancelling."""
    url = await server.start()
    task = asyncio.create_task(server.serve())
    try:
        yield url
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()
        await server.close()


@asynccontextmanager
async def listening(answer: bytes) -> AsyncIterator[int]:
    """Another program on a port; it says `answer` to everybody."""

    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(reply, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def test_it_serves_at_the_address_that_it_names() -> None:
    async with serving(Site().server()) as url, httpx.AsyncClient() as client:
        assert url.startswith("http://127.0.0.1:")
        assert (await client.get(f"{url}health")).json()["status"] == "ok"
        answer = await client.get(url)
        assert "Search" in answer.text
        assert "server" not in answer.headers


async def test_visitors_wait_between_start_and_serve() -> None:
    server = Site().server()
    url = await server.start()
    async with httpx.AsyncClient(timeout=30) as client:
        early = asyncio.create_task(client.get(f"{url}health"))
        await asyncio.sleep(0.05)
        task = asyncio.create_task(server.serve())
        assert (await early).status_code == 200
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize(
    ("answer", "who"),
    [
        (b"HTTP/1.0 200 OK\r\n\r\nhello", "another program"),
        (b"SSH-2.0-OpenSSH\r\n" + b"x" * 200_000, "another program"),
        (b"", "another program"),
        (b'HTTP/1.0 503 x\r\n\r\n{"service":"connectors"}', "another connectors daemon"),
    ],
)
async def test_a_taken_port(answer: bytes, who: str) -> None:
    async with listening(answer) as port:
        with pytest.raises(
            ConfigurationError, match=rf"port {port} on 127.0.0.1 is in use by {who}; .* web.port"
        ) as info:
            await Site().server(port=port).start()
    assert info.value.field == "web.port"


async def test_a_second_daemon_is_recognised() -> None:
    async with serving(Site().server()) as url:
        port = int(url.rsplit(":")[-1].strip("/"))
        with pytest.raises(ConfigurationError, match="another connectors daemon"):
            await Site().server(port=port).start()


async def test_a_silent_port_holder_costs_a_second_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("connectors.service.web.server._PROBE_TIMEOUT", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(ConfigurationError, match="another program"):
        await Site().server(port=silent.getsockname()[1]).start()


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid", "a" * 300])
async def test_an_address_that_this_machine_has_not(host: str) -> None:
    with pytest.raises(ConfigurationError, match=r"web\.host: .* write 127\.0\.0\.1") as info:
        await Site().server(host=host, token="long-enough-token").start()
    assert info.value.field == "web.host"


async def test_the_port_is_given_back() -> None:
    first = Site().server()
    url = await first.start()
    await first.close()
    await first.close()
    port = int(url.rsplit(":")[-1].strip("/"))
    async with serving(Site().server(port=port)) as again:
        assert again == url
    async with serving(Site().server(port=port)):
        pass


async def test_a_failed_start_gives_the_port_back(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    site = Site()
    with monkeypatch.context() as patch:
        patch.setattr("connectors.service.web.application.Assets", lambda: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            await site.server(port=port).start()
    async with serving(site.server(port=port)):
        pass


async def test_serve_comes_after_start() -> None:
    with pytest.raises(RuntimeError, match="start"):
        await Site().server().serve()


async def test_signals_stay_with_the_daemon() -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    async with serving(Site().server()) as url, httpx.AsyncClient() as client:
        await client.get(f"{url}health")
        assert {number: signal.getsignal(number) for number in before} == before


async def test_requests_are_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        async with serving(Site().server()) as url, httpx.AsyncClient() as client:
            await client.get(f"{url}connectors?secret=1")
    told = [record for record in caplog.records if not record.name.startswith("http")]  # what the client says
    assert not [record for record in told if "secret" in record.getMessage() or record.name == "uvicorn.access"]


async def test_it_ends_soon_with_idle_visitors() -> None:
    loop = asyncio.get_running_loop()
    async with httpx.AsyncClient() as client:
        async with serving(Site().server()) as url:
            await client.get(f"{url}health")  # the connection stays open
            began = loop.time()
        assert loop.time() - began < 1.5


async def test_a_request_that_hangs_does_not_hold_the_end_up(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("connectors.service.web.server._GRACE", 0.2)
    site = Site()
    asked = asyncio.Event()

    async def hang() -> list[Connector]:
        asked.set()
        await asyncio.sleep(3600)
        return []

    monkeypatch.setattr(site.store, "connectors", hang)
    loop = asyncio.get_running_loop()
    async with httpx.AsyncClient() as client:
        async with serving(site.server()) as url:
            request = asyncio.create_task(client.get(f"{url}connectors"))
            await asked.wait()
            began = loop.time()
        assert loop.time() - began < 3
        with pytest.raises(httpx.HTTPError):
            (await request).raise_for_status()
    assert "Traceback" not in caplog.text  # a slow visitor is no fault of ours


async def test_a_request_under_way_is_answered_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site()
    asked = asyncio.Event()

    async def slow() -> list[Connector]:
        asked.set()
        await asyncio.sleep(0.3)
        return []

    monkeypatch.setattr(site.store, "connectors", slow)
    async with httpx.AsyncClient() as client:
        async with serving(site.server()) as url:
            request = asyncio.create_task(client.get(f"{url}connectors"))
            await asked.wait()
        assert (await request).status_code == 200


async def test_ipv6() -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return  # this machine has none
    async with serving(Site().server(host="::1")) as url, httpx.AsyncClient() as client:
        assert url.startswith("http://[::1]:")
        assert (await client.get(f"{url}health")).status_code == 200


async def test_everywhere_is_named_by_an_address_that_can_be_visited() -> None:
    everywhere = "0.0.0.0"  # noqa: S104 - what the test is about
    async with serving(Site().server(host=everywhere, token="long-enough-token")) as url, httpx.AsyncClient() as client:
        assert url.startswith("http://127.0.0.1:")
        assert (await client.get(f"{url}health")).status_code == 200


async def test_raw_requests_that_are_no_http() -> None:
    async with serving(Site().server()) as url:
        port = int(url.rsplit(":")[-1].strip("/"))
        for raw in (
            b"\x16\x03\x01\r\n\r\n",
            b"GET / HTTP/1.1\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        ):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(raw)
            assert (await reader.readline()).startswith(b"HTTP/1.1 400")
            writer.close()
            await writer.wait_closed()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 413")
        writer.close()
        await writer.wait_closed()
