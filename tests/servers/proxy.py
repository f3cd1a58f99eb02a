"""A proxy between a client and a search server that makes things go wrong, as often and when a test says."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from dataclasses import replace
from random import Random
from typing import Final, NamedTuple, Self
from urllib.parse import urlsplit

import h11
import httpx

from tests.servers.faults import Dropped, Exchange, Fault, Reply, Request, Respond, Rule

__all__ = ["FaultProxy", "Passed"]

#: Headers that belong to one connection, or that whoever sends the message writes anew.
_OF_A_CONNECTION: Final = frozenset({b"connection", b"keep-alive", b"transfer-encoding", b"content-length", b"host"})
_READ: Final = 64 * 1024  # bytes


class Passed(NamedTuple):
    """One request that came: what it was, and the name of the fault that it met, if any."""

    method: str
    path: str
    fault: str | None


class _Forwarded:
    """One request on its way to the server."""

    def __init__(self, proxy: FaultProxy, request: Request) -> None:
        self._proxy = proxy
        self.request = request

    async def forward(self, request: Request | None = None) -> Reply:
        sent = request or self.request
        return await self._proxy._send(sent, sent.body)

    async def forward_half(self) -> None:
        with suppress(_HalfSent):
            await self._proxy._send(self.request, _half(self.request.body))


class _HalfSent(Exception):  # noqa: N818 - breaks off a request's body
    pass


async def _half(body: bytes) -> AsyncIterator[bytes]:
    yield body[: len(body) // 2]
    raise _HalfSent


class FaultProxy:
    """`async with FaultProxy(server.url, [Rule(Drop("after"), bulk, times=3)]) as proxy:` and connect to `proxy.url`.

    The first rule that matches a request applies. With the same rules, seed and order of requests, the same happens.

    Args:
        upstream: address of the server.
        rules: what goes wrong; `add()` and `clear()` change them in mid-flight.
        seed: of the rules' chances.
        prefix: serve below this path, as a reverse proxy may: `/search`. Elsewhere the answer is 404.

    Attributes:
        passed: all requests so far, in order of arrival.
        counts: how often each fault happened, by its class's name; `forwarded` is what the server got whole,
            `unreachable` how often it did not answer.
    """

    def __init__(self, upstream: str, rules: Iterable[Rule] = (), *, seed: int = 0, prefix: str = "") -> None:
        self.passed: list[Passed] = []
        self.counts: Counter[str] = Counter()
        self._upstream = upstream.rstrip("/")
        self._prefix = prefix.rstrip("/")
        self._rules = [replace(rule) for rule in rules]  # they count
        self._random = Random(seed)
        self._open = asyncio.Event()
        self._open.set()
        self._connections: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._server: asyncio.Server | None = None
        self._client: httpx.AsyncClient | None = None

    @property
    def url(self) -> str:
        """Where it listens, with the prefix."""
        assert self._server is not None, "the proxy was not entered"
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}{self._prefix}"

    def add(self, *rules: Rule) -> None:
        """Adds rules behind those that are there."""
        self._rules += [replace(rule) for rule in rules]

    def clear(self) -> None:
        """Removes all rules: from now on all is well."""
        self._rules.clear()

    def pause(self) -> None:
        """Makes the proxy a black hole: it takes connections and requests, and neither forwards nor answers them."""
        self._open.clear()

    def resume(self) -> None:
        """Ends the pause; what waited goes on, if its client still does."""
        self._open.set()

    def disconnect(self) -> None:
        """Hangs up on all connections, idle ones included."""
        for writer in self._connections.values():
            writer.transport.abort()

    async def __aenter__(self) -> Self:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=100)
        self._client = httpx.AsyncClient(timeout=None, trust_env=False, limits=limits)  # noqa: S113 - the client's ends it
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        assert self._client is not None
        self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        await self._server.wait_closed()
        await self._client.aclose()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections[task] = writer
        try:
            with suppress(ConnectionError, h11.RemoteProtocolError):  # the client hung up
                await self._converse(reader, writer)
                writer.close()
                await writer.wait_closed()  # what was answered goes out first
        except asyncio.CancelledError:
            pass  # by __aexit__, and by nobody else; the loop would report a task that ends cancelled
        finally:
            del self._connections[task]
            writer.transport.abort()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answers one request after the other until one side hangs up."""
        state = h11.Connection(h11.SERVER)
        while (request := await _next_request(state, reader)) is not None:
            await self._open.wait()
            try:
                reply = await self._answer(request)
            except Dropped as dropped:
                writer.write(dropped.sent)
                return
            length = (b"content-length", str(len(reply.body)).encode())
            head = h11.Response(status_code=reply.status, headers=[*reply.headers, length])
            for event in (head, h11.Data(data=reply.body), h11.EndOfMessage()):
                writer.write(state.send(event) or b"")
            await writer.drain()
            if state.our_state is not h11.DONE:
                return
            state.start_next_cycle()

    async def _answer(self, request: Request) -> Reply:
        if not request.target.startswith(self._prefix + "/"):
            self.counts["elsewhere"] += 1
            return await Respond(404, body="<h1>Not here</h1>").apply(_Forwarded(self, request))
        request = request._replace(target=request.target.removeprefix(self._prefix))
        path = urlsplit(request.target).path
        fault = self._fault(request.method, path)
        self.passed.append(Passed(request.method, path, None if fault is None else type(fault).__name__))
        exchange: Exchange = _Forwarded(self, request)
        if fault is None:
            return await exchange.forward()
        self.counts[type(fault).__name__] += 1
        return await fault.apply(exchange)

    def _fault(self, method: str, path: str) -> Fault | None:
        return next((rule.fault for rule in self._rules if rule.applies(method, path, self._random)), None)

    async def _send(self, request: Request, content: bytes | AsyncIterator[bytes]) -> Reply:
        """Sends a request to the server and returns its answer as it came, compressed if it is; 502 without one."""
        assert self._client is not None
        headers = [header for header in request.headers if header[0] not in _OF_A_CONNECTION]
        if request.body:
            headers.append((b"content-length", str(len(request.body)).encode()))
        sent = httpx.Request(  # not built by the client, which would add headers of its own
            request.method, self._address(request.target), headers=headers, content=content or None
        )
        try:
            answer = await self._client.send(sent, stream=True)
            try:
                body = b"".join([chunk async for chunk in answer.aiter_raw()])
            finally:
                await answer.aclose()
        except httpx.TransportError:
            self.counts["unreachable"] += 1
            return Reply(502, ((b"content-type", b"text/html"),), b"<h1>Bad gateway</h1>")
        self.counts["forwarded"] += 1
        kept = tuple((name.lower(), value) for name, value in answer.headers.raw)
        return Reply(answer.status_code, tuple(pair for pair in kept if pair[0] not in _OF_A_CONNECTION), body)

    def _address(self, target: str) -> httpx.URL:
        base = httpx.URL(self._upstream)
        return base.copy_with(raw_path=base.raw_path.rstrip(b"/") + target.encode())


async def _next_request(state: h11.Connection, reader: asyncio.StreamReader) -> Request | None:
    """Reads one whole request; None when the client hung up between two."""
    head: h11.Request | None = None
    body: list[bytes] = []
    while True:
        event = state.next_event()
        if event is h11.NEED_DATA:
            state.receive_data(await reader.read(_READ))
        elif isinstance(event, h11.Request):
            head = event
        elif isinstance(event, h11.Data):
            body.append(bytes(event.data))
        elif isinstance(event, h11.EndOfMessage) and head is not None:
            return Request(head.method.decode(), head.target.decode(), tuple(head.headers), b"".join(body))
        else:
            return None
