"""Writes, stamps and records stay exact while a proxy drops, cuts, refuses and garbles what passes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from itertools import chain
from pathlib import Path
from random import Random
from typing import Final, TypeVar

import orjson
import pytest
from xxhash import xxh3_64_digest, xxh3_128_digest

from connectors.backends.ports import DIGEST_SIZE, FailureKind, IndexHandle, IndexSpec, Operation
from connectors.backends.server import ServerBackend
from connectors.backends.server.stamps import AT_ONCE, PAGE
from connectors.byoc import Connector, JobType, TriggerMethod
from connectors.errors import RetryableError
from connectors.runtime import Runtime
from tests.servers.faults import Cut, Delay, Drop, Fault, Garbage, RefuseItems, Respond, Rule, any_request, bulk
from tests.servers.fixtures import SearchServers
from tests.servers.proxy import FaultProxy
from tests.servers.search import SearchServer
from tests.servers.tls import Certificates, TlsProxy
from tests.support.backends import open_backend

pytestmark = pytest.mark.server

T = TypeVar("T")
BATCH: Final = 100
DOCUMENTS: Final = 1500
HTML: Final = "<html>Bad Gateway</html>"


@pytest.fixture(params=["es8", "os2"])
def server(request: pytest.FixtureRequest, search_servers: SearchServers) -> SearchServer:
    return search_servers.get(request.param)


@asynccontextmanager
async def through(server: SearchServer, proxy: FaultProxy, **settings: object) -> AsyncIterator[ServerBackend]:
    async with proxy, open_backend(server, url=proxy.url, **settings) as backend:
        yield backend


async def again(call: Callable[[], Awaitable[T]], tries: int = 40) -> T:
    """Makes a call until no passing fault is met."""
    for _ in range(tries):
        try:
            return await call()
        except RetryableError:
            continue
    raise AssertionError(f"{tries} tries failed")


def document(n: int) -> Operation:
    id_, body = f"document {n}", orjson.dumps({"n": n, "text": f"text of {n}"})
    return Operation(id_, xxh3_128_digest(id_.encode()), xxh3_64_digest(body), 7, body)


async def write_all(backend: ServerBackend, handle: IndexHandle, operations: list[Operation]) -> list[Operation]:
    """Writes as a sync does it, and returns what was refused for good."""
    refused: list[Operation] = []
    for start in range(0, len(operations), BATCH):
        batch = operations[start : start + BATCH]
        while batch:
            result = await again(partial(backend.destination.write, handle, batch))
            kinds = {at: failure.kind for at, failure in result.failures.items()}
            refused += [batch[at] for at, kind in kinds.items() if kind is FailureKind.REFUSED]
            assert FailureKind.SUPERSEDED not in kinds.values()
            batch = [batch[at] for at, kind in kinds.items() if kind is FailureKind.OVERLOADED]
    return refused


FAULTS: Final[dict[str, Fault]] = {
    "dropped before": Drop("before"),
    "dropped midway": Drop("midway"),
    "answer lost": Drop("after"),
    "429": Respond(429, retry_after=0),
    "503": Respond(503),
    "502 of a proxy": Respond(502, body=HTML),
    "cut short": Cut(),
    "garbage": Garbage(),
    "no HTTP": Garbage(http=False),
    "items overloaded": RefuseItems(429, share=0.2),
    "delayed": Delay(0.05),
}


@pytest.mark.parametrize("compress", [False, True])
async def test_every_document_arrives_once_whatever_happens_on_the_way(server: SearchServer, compress: bool) -> None:
    proxy = FaultProxy(server.url, [Rule(fault, bulk, times=None, chance=0.08) for fault in FAULTS.values()], seed=3)
    async with through(server, proxy, compress=compress) as backend:
        info = await backend.destination.prepare(IndexSpec("things"))
        handle = IndexHandle("things", info.uuid, "one", info.fingerprint)
        operations = [document(n) for n in range(DOCUMENTS)]
        assert not await write_all(backend, handle, operations)
        proxy.clear()
        assert sum(proxy.counts.values()) > proxy.counts["forwarded"]  # something did go wrong
        stamps: dict[bytes, bytes] = {}
        async for page in backend.destination.stamps(handle):
            for n in range(len(page.hashes) // 8):
                stamps[page.digests[16 * n : 16 * n + 16]] = page.hashes[8 * n : 8 * n + 8]
        assert stamps == {operation.digest: operation.content_hash for operation in operations}
        found = await backend.destination.fetch("things", [operation.id for operation in operations])
        assert found == {operation.id: operation.body for operation in operations}
        assert await backend.destination.count("things") == DOCUMENTS


async def test_items_that_are_refused_for_good_are_named(server: SearchServer) -> None:
    refusing = RefuseItems(400, share=0.1, each=None)
    proxy = FaultProxy(server.url, [Rule(refusing, bulk, times=None)])
    async with through(server, proxy) as backend:
        info = await backend.destination.prepare(IndexSpec("things"))
        handle = IndexHandle("things", info.uuid, "one", info.fingerprint)
        operations = [document(n) for n in range(300)]
        refused = await write_all(backend, handle, operations)
        assert {operation.id for operation in refused} == {each.id for each in operations if refusing.refuses(each.id)}
        assert await backend.destination.count("things") == 300 - len(refused)


@pytest.mark.parametrize(
    "name", ["dropped before", "answer lost", "429", "503", "502 of a proxy", "cut short", "no HTTP"]
)
async def test_each_fault_is_one_that_passes(server: SearchServer, name: str) -> None:
    proxy = FaultProxy(server.url)
    async with through(server, proxy) as backend:
        await backend.destination.prepare(IndexSpec("things"))
        proxy.add(Rule(FAULTS[name], any_request, times=None))
        for call in (
            lambda: backend.destination.count("things"),
            lambda: backend.destination.fetch("things", ["a"]),
            lambda: backend.destination.prepare(IndexSpec("things")),
            backend.store.connectors,
        ):
            with pytest.raises(RetryableError, match=r"127\.0\.0\.1"):
                await call()


async def test_a_server_that_does_not_answer_is_given_up_in_time(server: SearchServer) -> None:
    proxy = FaultProxy(server.url)
    async with through(server, proxy, request_timeout="300ms") as backend:
        await again(lambda: backend.destination.prepare(IndexSpec("things")))
        proxy.pause()
        begun = time.monotonic()
        with pytest.raises(RetryableError, match=r"within 0\.3 s"):
            await backend.destination.info("things")
        assert time.monotonic() - begun < 5
        proxy.resume()


async def test_a_server_that_is_not_there(server: SearchServer) -> None:
    async with FaultProxy(server.url) as proxy:
        url = proxy.url
    async with open_backend(server, url=url) as backend:
        with pytest.raises(RetryableError, match="cannot be reached"):
            await backend.destination.info("things")


def searching(method: str, path: str) -> bool:
    return "_search" in path or "_pit" in path


async def test_stamps_are_never_half_read(server: SearchServer) -> None:
    proxy = FaultProxy(server.url)
    async with through(server, proxy) as backend:
        info = await backend.destination.prepare(IndexSpec("things"))
        handle = IndexHandle("things", info.uuid, "one", info.fingerprint)
        operations = [document(n) for n in range(PAGE + AT_ONCE * PAGE // 2)]  # the slices have work, each of them
        for start in range(0, len(operations), PAGE // 2):
            assert not (await backend.destination.write(handle, operations[start : start + PAGE // 2])).failures
        wanted = sorted(operation.digest for operation in operations)
        faults: tuple[Fault, ...] = (Drop("after"), Cut(), Respond(503))
        proxy.add(*(Rule(fault, searching, times=None, chance=0.04) for fault in faults))

        async def read() -> list[bytes]:
            pages = [page.digests async for page in backend.destination.stamps(handle)]
            return sorted(page[at : at + DIGEST_SIZE] for page in pages for at in range(0, len(page), DIGEST_SIZE))

        for _ in range(5):
            assert await again(read) == wanted
        assert proxy.counts.total() > proxy.counts["forwarded"]


async def test_records_stay_true_under_faults(server: SearchServer) -> None:
    faults = (Drop("before"), Drop("after"), Respond(503), Respond(429), Cut(), Garbage())
    proxy = FaultProxy(server.url, seed=5)
    async with through(server, proxy) as backend:
        store, now = backend.store, Runtime().now()
        connector = await store.put_connector(Connector(id="one", service_type="directory", index_name="things"))
        proxy.add(*(Rule(fault, any_request, times=None, chance=0.05) for fault in faults))
        job = await again(lambda: store.create_job(connector, JobType.FULL, TriggerMethod.SCHEDULED, now=now))
        assert (
            await again(lambda: store.create_job(connector, JobType.FULL, TriggerMethod.SCHEDULED, now=now))
        ).id == job.id
        lease = await again(lambda: store.acquire("one", "w", ttl=60, now=1000))
        assert lease is not None
        for n in range(1, 21):
            count = {"indexed_document_count": n}
            step = partial(store.commit, lease, job_id=job.id, job=count, connector={"sync_cursor": n}, state={"at": n})
            await again(step)
            state = await again(lambda: store.state("one"))
            assert state.data == {"at": n}
        proxy.clear()
        assert (await store.job(job.id)).indexed_document_count == 20
        assert (await store.connector("one")).sync_cursor == 20
        assert len(await store.jobs()) == 1


async def test_many_workers_claim_each_connector_once_under_faults(server: SearchServer) -> None:
    proxy = FaultProxy(server.url, [Rule(Delay(0.02, "answer"), any_request, times=None, chance=0.3)], seed=1)
    async with through(server, proxy) as backend:
        names = [f"c{n}" for n in range(8)]
        draws = Random(1)

        async def worker(name: str) -> list[str]:
            acquire = partial(backend.store.acquire, worker=name, ttl=60, now=1000)
            return [each for each in draws.sample(names, len(names)) if await acquire(each) is not None]

        claimed = await asyncio.gather(*(worker(f"w{n}") for n in range(5)))
        assert sorted(chain.from_iterable(claimed)) == names


@pytest.mark.parametrize("slash", ["", "/"])
async def test_a_proxy_that_serves_below_a_path(server: SearchServer, slash: str, tmp_path: Path) -> None:
    certificates = Certificates(tmp_path)
    async with (
        FaultProxy(server.url, prefix="/search/here") as proxy,
        TlsProxy(proxy.url, certificates) as tls,
        open_backend(server, url=tls.url + slash, ca_certs=certificates.ca) as backend,
    ):
        assert tls.url.startswith("https:")
        assert tls.url.endswith("/search/here")
        info = await backend.destination.prepare(IndexSpec("things"))
        handle = IndexHandle("things", info.uuid, "one", info.fingerprint)
        assert not (await backend.destination.write(handle, [document(1)])).failures
        assert await backend.destination.count("things") == 1
        assert len([page async for page in backend.destination.stamps(handle)]) == 1
        connector = await backend.store.put_connector(Connector(id="one", service_type="d", index_name="things"))
        job = await backend.store.create_job(connector, JobType.FULL, TriggerMethod.SCHEDULED, now=Runtime().now())
        lease = await backend.store.acquire("one", "w", ttl=60, now=1000)
        assert lease is not None
        await backend.store.commit(lease, job_id=job.id, job={"error": "x"}, state={"at": 1})
        assert [each.error for each in await backend.store.jobs()] == ["x"]
        assert proxy.counts["elsewhere"] == 0
    async with (
        FaultProxy(server.url, prefix="/search") as proxy,
        open_backend(server, url=proxy.url.removesuffix("/search")) as backend,
    ):
        with pytest.raises(RetryableError, match="path that a proxy puts in front"):
            await backend.destination.info("things")
