"""The proxy and its faults, against a tiny server that does bulk requests in memory."""

from __future__ import annotations

import asyncio
import gzip
import json
import ssl
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.servers.faults import Cut, Delay, Drop, Garbage, RefuseItems, Respond, Rule, bulk
from tests.servers.proxy import FaultProxy, Passed
from tests.servers.tls import Certificates, TlsProxy


class Upstream:
    """Answers every request with what it got; a bulk request with one item for each document. Remembers them."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str]] = []
        self.stored: list[str] = []
        self.partial = 0
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                await self._answer(head.decode(), reader, writer)
        except asyncio.IncompleteReadError as cut:
            self.partial += bool(cut.partial)
        finally:
            writer.close()

    async def _answer(self, head: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first, *lines = head.strip().split("\r\n")
        method, target, _ = first.split()
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        self.requests.append((method, target))
        answer: dict[str, Any] = {"method": method, "target": target, "headers": headers, "length": len(body)}
        if "/_bulk" in target:
            actions = [json.loads(line) for line in body.splitlines()]
            ids = [next(iter(action.values()))["_id"] for action in actions if action.keys() & {"index", "delete"}]
            self.stored += ids
            answer = {"took": 1, "errors": False, "items": [{"index": {"_id": id_, "status": 201}} for id_ in ids]}
        raw = gzip.compress(json.dumps(answer).encode())
        kept = raw if method != "HEAD" else b""
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Encoding: gzip\r\nX-Server: tiny\r\n"
            + f"Content-Length: {len(kept)}\r\n\r\n".encode()
            + kept
            if "accept-encoding" in headers
            else b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: "
            + f"{len(json.dumps(answer))}\r\n\r\n{json.dumps(answer)}".encode()
        )
        await writer.drain()


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    tiny = Upstream()
    server = await asyncio.start_server(tiny.serve, "127.0.0.1", 0)
    tiny.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield tiny


@pytest.fixture(autouse=True)
def _nothing_reported_by_the_loop(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """An exception that nobody awaits, in a proxy's connection, is only logged by asyncio."""
    yield
    assert [record.getMessage() for record in caplog.records if record.name == "asyncio"] == []


def _bulk(*ids: str, deleted: tuple[str, ...] = ()) -> bytes:
    written = [line for id_ in ids for line in ({"index": {"_id": id_}}, {"of": id_})]
    lines = [*written, *({"delete": {"_id": id_}} for id_ in deleted)]
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


async def test_without_rules_everything_passes_as_it_is(upstream: Upstream) -> None:
    async with FaultProxy(upstream.url) as proxy, httpx.AsyncClient(base_url=proxy.url) as client:
        answer = await client.post("/a%20b/_doc?x=1&y=%2F", content=b"0123456789", headers={"X-Mine": "yes"})
        assert answer.headers["x-server"] == "tiny"
        assert answer.headers["content-encoding"] == "gzip"
        got = answer.json()
        assert (got["method"], got["target"], got["length"]) == ("POST", "/a%20b/_doc?x=1&y=%2F", 10)
        assert got["headers"]["x-mine"] == "yes"
        assert got["headers"]["user-agent"] == client.headers["user-agent"]
        assert (await client.head("/a")).status_code == 200
        assert proxy.passed == [Passed("POST", "/a%20b/_doc", None), Passed("HEAD", "/a", None)]
        assert proxy.counts == {"forwarded": 2}


@pytest.mark.parametrize(("when", "reached"), [("before", []), ("midway", []), ("after", ["a", "b"])])
async def test_a_dropped_connection(upstream: Upstream, when: Any, reached: list[str]) -> None:
    async with FaultProxy(upstream.url, [Rule(Drop(when), bulk)]) as proxy, httpx.AsyncClient() as client:
        with pytest.raises(httpx.TransportError):
            await client.post(f"{proxy.url}/_bulk", content=_bulk("a", "b"))
        assert upstream.stored == reached
        assert (await client.post(f"{proxy.url}/_bulk", content=_bulk("c"))).status_code == 200
        assert proxy.counts["Drop"] == 1
    assert upstream.partial == (when == "midway")


@pytest.mark.parametrize("what", ["request", "answer"])
async def test_a_delay_outlasts_an_impatient_client(upstream: Upstream, what: Any) -> None:
    rules = [Rule(Delay(5, what), bulk)]
    async with FaultProxy(upstream.url, rules) as proxy, httpx.AsyncClient(timeout=0.2) as client:
        with pytest.raises(httpx.ReadTimeout):
            await client.post(f"{proxy.url}/_bulk", content=_bulk("a"))
        assert upstream.stored == (["a"] if what == "answer" else [])


async def test_a_short_delay_only_delays(upstream: Upstream) -> None:
    async with FaultProxy(upstream.url, [Rule(Delay(0.01))]) as proxy, httpx.AsyncClient() as client:
        assert (await client.get(proxy.url + "/")).status_code == 200
        assert upstream.requests == [("GET", "/")]


async def test_answers_of_its_own_reach_no_server(upstream: Upstream) -> None:
    rules = [Rule(Respond(429, retry_after=7)), Rule(Respond(503, body="<h1>busy</h1>"))]
    async with FaultProxy(upstream.url, rules) as proxy, httpx.AsyncClient(base_url=proxy.url) as client:
        first, second = await client.get("/"), await client.get("/")
        assert (first.status_code, first.headers["retry-after"], first.json()["status"]) == (429, "7", 429)
        assert (second.status_code, second.text) == (503, "<h1>busy</h1>")
        assert "retry-after" not in second.headers
        assert upstream.requests == []


async def test_a_cut_answer_promises_more_than_comes(upstream: Upstream) -> None:
    async with FaultProxy(upstream.url, [Rule(Cut(0.5), bulk)]) as proxy, httpx.AsyncClient() as client:
        with pytest.raises(httpx.RemoteProtocolError, match="without sending complete message body"):
            await client.post(f"{proxy.url}/_bulk", content=_bulk("a"))
        assert upstream.stored == ["a"]


async def test_garbage(upstream: Upstream) -> None:
    rules = [Rule(Garbage(), bulk), Rule(Garbage(http=False), bulk)]
    async with FaultProxy(upstream.url, rules) as proxy, httpx.AsyncClient() as client:
        answer = await client.post(f"{proxy.url}/_bulk", content=_bulk("a"))
        assert answer.status_code == 200
        with pytest.raises(ValueError, match="Expecting value"):
            answer.json()
        with pytest.raises(httpx.RemoteProtocolError):
            await client.post(f"{proxy.url}/_bulk", content=_bulk("b"))
        assert upstream.stored == ["a", "b"]


@pytest.mark.parametrize("compressed", [False, True])
async def test_single_items_are_refused_in_their_places(upstream: Upstream, compressed: bool) -> None:
    body = _bulk("a", "b", "c", deleted=("d", "e"))
    headers = {"Content-Encoding": "gzip"} if compressed else {}
    content = gzip.compress(body) if compressed else body
    rules = [Rule(RefuseItems(429, ids={"b", "d"}), bulk, times=None)]
    async with FaultProxy(upstream.url, rules) as proxy, httpx.AsyncClient() as client:
        url = f"{proxy.url}/_bulk?filter_path=items.*.error&refresh=true"
        answer = (await client.post(url, content=content, headers=headers)).json()
        entries = [(verb, item["_id"], item["status"]) for entry in answer["items"] for verb, item in entry.items()]
        assert entries == [
            ("index", "a", 201),
            ("index", "b", 429),
            ("index", "c", 201),
            ("delete", "d", 429),
            ("index", "e", 201),
        ]
        assert answer["errors"] is True
        assert answer["items"][1]["index"]["error"]["type"] == "es_rejected_execution_exception"
        assert upstream.stored == ["a", "c", "e"]
        assert upstream.requests == [("POST", "/_bulk?refresh=true")]
        await client.post(url, content=content, headers=headers | {"Accept-Encoding": "identity"})


async def test_items_refused_for_good_and_batches_that_are_refused_whole(upstream: Upstream) -> None:
    refuse = RefuseItems(400, share=0.3, each=None, seed=5)
    ids = [f"doc{n}" for n in range(60)]
    chosen = [id_ for id_ in ids if refuse.refuses(id_)]
    assert 0 < len(chosen) < 40
    async with FaultProxy(upstream.url, [Rule(refuse, bulk, times=None)]) as proxy, httpx.AsyncClient() as client:
        for size in (60, 7):
            met = []
            for start in range(0, 60, size):
                body = _bulk(*ids[start : start + size])
                items = (await client.post(f"{proxy.url}/_bulk", content=body)).json()["items"]
                met += [item["index"]["_id"] for item in items if item["index"]["status"] == 400]
            assert met == chosen  # however they are batched
        before = len(upstream.requests)
        alone = (await client.post(f"{proxy.url}/_bulk", content=_bulk(chosen[0]))).json()
        assert alone["items"][0]["index"]["error"]["type"] == "mapper_parsing_exception"
        assert len(upstream.requests) == before
    assert set(upstream.stored) == set(ids) - set(chosen)


async def test_a_prefix_hides_the_rest(upstream: Upstream) -> None:
    async with FaultProxy(upstream.url, prefix="/search/") as proxy, httpx.AsyncClient() as client:
        assert proxy.url.endswith("/search")
        assert (await client.get(f"{proxy.url}/things/_doc/1")).json()["target"] == "/things/_doc/1"
        assert (await client.get(f"{proxy.url.removesuffix('/search')}/things")).status_code == 404
        assert upstream.requests == [("GET", "/things/_doc/1")]


async def test_rules_count_and_the_first_that_matches_applies(upstream: Upstream) -> None:
    rules = [Rule(Respond(503), bulk, skip=1, times=2), Rule(Respond(429), lambda method, _: method == "PUT")]
    async with FaultProxy(upstream.url, rules) as proxy, httpx.AsyncClient(base_url=proxy.url) as client:
        statuses = [(await client.post("/_bulk", content=_bulk("a"))).status_code for _ in range(5)]
        assert statuses == [200, 503, 503, 200, 200]
        assert [(await client.put("/x")).status_code for _ in range(2)] == [429, 200]
        proxy.add(Rule(Respond(413), times=None))
        assert (await client.get("/")).status_code == 413
        proxy.clear()
        assert (await client.get("/")).status_code == 200
    assert rules[0].times == 2, "the proxy counts on its own copy"


async def test_the_same_seed_gives_the_same_faults(upstream: Upstream) -> None:
    async def run(seed: int) -> list[int]:
        rules = [Rule(Respond(503), times=None, chance=0.3), Rule(Respond(429), times=None, chance=0.3)]
        async with FaultProxy(upstream.url, rules, seed=seed) as proxy, httpx.AsyncClient() as client:
            return [(await client.get(proxy.url + "/")).status_code for _ in range(40)]

    first = await run(1)
    assert {200, 429, 503} == set(first)
    assert first == await run(1) != await run(2)


async def test_a_black_hole_until_released(upstream: Upstream) -> None:
    async with FaultProxy(upstream.url) as proxy, httpx.AsyncClient(timeout=5) as client:
        proxy.pause()
        with pytest.raises(httpx.ReadTimeout):
            await client.get(proxy.url + "/", timeout=0.05)
        waiting = asyncio.create_task(client.get(proxy.url + "/"))
        await asyncio.sleep(0.05)
        assert upstream.requests == []
        proxy.resume()
        assert (await waiting).status_code == 200


async def test_hanging_up_on_everybody(upstream: Upstream) -> None:
    arrived = asyncio.Event()

    def first(method: str, path: str) -> bool:
        arrived.set()
        return True

    async with FaultProxy(upstream.url, [Rule(Delay(60), first)]) as proxy, httpx.AsyncClient() as client:
        slow = asyncio.create_task(client.get(proxy.url + "/"))
        await arrived.wait()
        proxy.disconnect()
        with pytest.raises(httpx.TransportError):
            await slow
        assert (await client.get(proxy.url + "/")).status_code == 200


async def test_a_server_that_is_gone_is_a_bad_gateway() -> None:
    async with FaultProxy("http://127.0.0.1:9") as proxy, httpx.AsyncClient() as client:
        assert (await client.get(proxy.url + "/")).status_code == 502
        assert proxy.counts == {"unreachable": 1}


async def test_tls_is_trusted_by_its_own_authority_only(upstream: Upstream, tmp_path: Path) -> None:
    ours, other = Certificates(tmp_path / "ours"), Certificates(tmp_path / "other")
    async with FaultProxy(upstream.url, prefix="/p") as inner, TlsProxy(inner.url, ours) as proxy:
        assert proxy.url.startswith("https://127.0.0.1:")
        async with httpx.AsyncClient(verify=ssl.create_default_context(cafile=str(ours.ca))) as client:
            assert (await client.get(proxy.url + "/x")).json()["target"] == "/x"
        async with httpx.AsyncClient(verify=ssl.create_default_context(cafile=str(other.ca))) as client:
            with pytest.raises(httpx.ConnectError, match="certificate verify failed"):
                await client.get(proxy.url + "/x")
    assert proxy.handshakes >= 1


async def test_a_client_certificate_can_be_demanded(upstream: Upstream, tmp_path: Path) -> None:
    ours = Certificates(tmp_path)
    context = ssl.create_default_context(cafile=str(ours.ca))
    async with TlsProxy(upstream.url, ours, demand_client=True) as proxy:
        async with httpx.AsyncClient(verify=context) as client:
            with pytest.raises(httpx.TransportError):
                await client.get(proxy.url + "/")
        context.load_cert_chain(ours.client_certificate, ours.client_key)
        async with httpx.AsyncClient(verify=context) as client:
            assert (await client.get(proxy.url + "/")).status_code == 200


async def test_the_fingerprint_is_the_certificates(upstream: Upstream, tmp_path: Path) -> None:
    ours = Certificates(tmp_path, names=("search.example.com",), expires=datetime.now(UTC) - timedelta(days=1))
    async with TlsProxy(upstream.url, ours) as proxy:
        host, port = proxy.url.removeprefix("https://").split(":")
        pem = await asyncio.to_thread(ssl.get_server_certificate, (host, int(port)))
    assert len(ours.fingerprint) == 64
    again = Certificates(tmp_path / "again")
    assert again.fingerprint != ours.fingerprint
    assert ssl.PEM_cert_to_DER_cert(pem)
    async with TlsProxy(upstream.url, ours) as proxy:
        context = ssl.create_default_context(cafile=str(ours.ca))
        async with httpx.AsyncClient(verify=context) as client:
            with pytest.raises(httpx.ConnectError, match="certificate"):
                await client.get(proxy.url + "/")
