"""Records that somebody else writes with bare HTTP calls, and several stores on one server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from typing import Final

import orjson
import pytest

from connectors.backends.ports import DeadLetter
from connectors.backends.server import ServerBackend
from connectors.byoc import Connector, JobType, TriggerMethod
from connectors.errors import ConfigurationError, LeaseLostError, NotFoundError
from tests.servers.connectors_api import connectors_api_proxy
from tests.servers.fixtures import SearchServers
from tests.servers.search import SearchServer
from tests.support.backends import RECORDS, backend_on, open_backend

pytestmark = pytest.mark.server
NOW: Final = datetime(2026, 11, 24, 12, tzinfo=UTC)
CONNECTORS, JOBS, STATE = RECORDS.values()


@pytest.fixture(params=["es8", "os2"])
def server(request: pytest.FixtureRequest, search_servers: SearchServers) -> SearchServer:
    return search_servers.get(request.param)


@pytest.fixture
async def backend(server: SearchServer) -> AsyncIterator[ServerBackend]:
    async with open_backend(server) as opened:
        yield opened


async def put(backend: ServerBackend, path: str, body: dict[str, object]) -> None:
    await backend.client.call("PUT", path, body=body, params={"refresh": "true"})


async def test_a_connector_and_a_job_that_somebody_wrote_by_hand(backend: ServerBackend) -> None:
    store = backend.store
    assert await store.connectors() == []
    await put(backend, f"/{CONNECTORS}/_doc/theirs", {"name": "Theirs", "service_type": None, "unknown": {"kept": [1]}})
    (found,) = await store.connectors()
    assert (found.id, found.service_type, found.status) == ("theirs", "", "created")
    await put(backend, f"/{JOBS}/_doc/by-hand", {
        "connector": {"id": "theirs"}, "job_type": "full", "status": "pending", "trigger_method": "on_demand",
        "created_at": "2026-11-24T11:00:00Z",
    })  # fmt: skip
    (job,) = await store.jobs(statuses=["pending"])
    assert (job.id, job.connector_id, job.trigger_method) == ("by-hand", "theirs", "on_demand")
    assert (await store.create_job(found, JobType.FULL, TriggerMethod.SCHEDULED, now=NOW)).id == "by-hand"
    running = await store.update_job("by-hand", {"status": "in_progress", "started_at": NOW}, statuses=["pending"])
    assert running.started_at == NOW
    changed = await store.update_connector("theirs", {"status": "connected"})
    assert changed.extra == {"unknown": {"kept": [1]}}
    raw = await backend.client.call("GET", f"/{JOBS}/_doc/by-hand")
    assert raw["_source"]["connector"]["id"] == "theirs"
    assert raw["_source"]["status"] == "in_progress"


async def test_junk_among_the_records_hides_nothing(backend: ServerBackend) -> None:
    await backend.store.put_connector(Connector(id="good", service_type="directory", index_name="things"))
    await put(backend, f"/{CONNECTORS}/_doc/junk", {"configuration": "text", "name": [1], "scheduling": 3})
    await put(backend, f"/{JOBS}/_doc/junk", {"connector": {}, "error": {"deep": 1}})
    assert [connector.id for connector in await backend.store.connectors()] == ["good", "junk"]
    assert [job.id for job in await backend.store.jobs()] == ["junk"]


@pytest.mark.parametrize("deleted", [CONNECTORS, JOBS, STATE])
async def test_an_index_of_records_that_is_deleted_meanwhile_gets_its_mapping_again(
    server: SearchServer, backend: ServerBackend, deleted: str
) -> None:
    """The next write would create it with whatever mapping: nothing is found in it, and nothing can be mended."""
    store = backend.store
    connector = Connector(id="one", service_type="directory", index_name="things")
    await store.put_connector(connector)
    await backend.client.call("DELETE", f"/{deleted}")
    if not await store.connectors():
        await store.put_connector(connector)
    assert await store.acquire("one", "w", ttl=60, now=1000) is not None
    assert await store.jobs(connector_id="one") == []
    await store.create_job(connector, JobType.FULL, TriggerMethod.SCHEDULED, now=NOW)
    assert await store.dead_letters("one") == []
    mapping = await backend.client.call("GET", f"/{deleted}/_mapping")
    assert mapping[deleted]["mappings"]["dynamic"] == "false"
    other = backend_on(server)  # it starts on what it finds
    assert len(await other.store.jobs(connector_id="one")) == 1
    await other.close()


async def test_what_an_operator_does_meanwhile_is_kept(server: SearchServer, backend: ServerBackend) -> None:
    store = backend.store
    connector = await store.put_connector(Connector(id="one", service_type="directory", index_name="things"))
    job = await store.create_job(connector, JobType.FULL, TriggerMethod.SCHEDULED, now=NOW)
    lease = await store.acquire("one", "w", ttl=60, now=1000)
    assert lease is not None
    async with asyncio.TaskGroup() as both:
        for n in range(15):
            both.create_task(store.update_connector("one", {f"key{n}": n}))
            both.create_task(store.commit(lease, job_id=job.id, job={"total_document_count": n}, state={f"k{n}": n}))
            both.create_task(store.update_job(job.id, {f"note{n}": n}, statuses=["pending"]))
    assert set((await store.connector("one")).extra) == {f"key{n}" for n in range(15)}
    assert set((await store.job(job.id)).extra) == {f"note{n}" for n in range(15)}
    assert (await store.state("one")).data == {f"k{n}": n for n in range(15)}


async def test_two_stores_agree(server: SearchServer, backend: ServerBackend) -> None:
    async with open_backend(server) as other:
        connector = await backend.store.put_connector(
            Connector(id="one", service_type="directory", index_name="things")
        )
        jobs = await asyncio.gather(
            *(each.store.create_job(connector, JobType.FULL, TriggerMethod.SCHEDULED, now=NOW)
              for each in (backend, other) * 5)
        )  # fmt: skip
        assert len({job.id for job in jobs}) == 1
        first = await backend.store.acquire("one", "w1", ttl=30, now=1000)
        assert await other.store.acquire("one", "w2", ttl=30, now=1001) is None
        second = await other.store.acquire("one", "w2", ttl=30, now=1031)
        assert first is not None
        assert second is not None
        with pytest.raises(LeaseLostError):
            await backend.store.commit(first, job_id=jobs[0].id, job={"error": "late"}, state={"late": 1})
        assert (await other.store.job(jobs[0].id)).error is None


async def test_a_job_that_was_announced_and_never_written_is_written_by_the_next(backend: ServerBackend) -> None:
    connector = await backend.store.put_connector(Connector(id="one", service_type="directory", index_name="things"))
    announced = {"kind": "pending", "connector_id": "one", "job_id": "announced", "at": NOW.timestamp()}
    await put(backend, f"/{STATE}/_doc/pending-full:one", announced)
    job = await backend.store.create_job(connector, JobType.FULL, TriggerMethod.SCHEDULED, now=NOW)
    assert job.id == "announced"
    await put(backend, f"/{STATE}/_doc/pending-incremental:one", {**announced, "job_id": "purged", "at": 0})
    job = await backend.store.create_job(connector, JobType.INCREMENTAL, TriggerMethod.SCHEDULED, now=NOW)
    assert job.id != "purged"


async def test_a_connector_that_the_api_marked_as_removed_is_none(search_servers: SearchServers) -> None:
    server = search_servers.get("es8")
    proxy, _ = connectors_api_proxy(server.url, CONNECTORS, JOBS)
    async with proxy, open_backend(server, url=proxy.url) as backend:
        store = backend.store
        await backend.client.call("PUT", "/_connector/theirs", body={"service_type": "directory", "index_name": "x"})
        (found,) = await store.connectors()
        assert (found.id, found.service_type, found.status) == ("theirs", "directory", "created")
        job = await store.create_job(found, JobType.FULL, TriggerMethod.SCHEDULED, now=NOW)
        lease = await store.acquire("theirs", "w", ttl=60, now=1000)
        assert lease is not None
        await backend.client.call("DELETE", "/_connector/theirs")
        assert await store.connectors() == []
        with pytest.raises(NotFoundError):
            await store.update_connector("theirs", {"status": "connected"})
        with pytest.raises(NotFoundError):
            await store.commit(lease, job_id=job.id, connector={"sync_cursor": 1}, state={"at": 1})
        again = await store.put_connector(found.with_(version=0))
        assert await store.connectors() == [again]


async def test_a_state_index_that_is_somebody_elses(server: SearchServer) -> None:
    async with open_backend(server, state_index="contract-foreign") as backend:
        foreign: list[dict[str, object]] = [
            {"kind": {"type": "integer"}},
            {"data": {"properties": {"a": {"type": "long"}}}},
        ]
        for properties in foreign:  # servers refuse them with different answers
            await backend.client.call("PUT", "/contract-foreign", body={"mappings": {"properties": properties}})
            try:
                with pytest.raises(ConfigurationError, match="state_index"):
                    await backend.store.connectors()
            finally:
                await backend.client.call("DELETE", "/contract-foreign")


MANY: Final = 10_050


async def test_more_dead_letters_than_one_page(backend: ServerBackend) -> None:
    letters = [DeadLetter("one", f"{n:05}", "index", "r", "job", NOW) for n in range(MANY)]
    await backend.store.add_dead_letters(letters)
    assert await backend.store.count_dead_letters("one") == MANY
    assert await backend.store.dead_letter_ids("one") == dict.fromkeys((letter.id for letter in letters), "job")
    assert await backend.store.dead_letters("one", limit=MANY) == letters
    assert await backend.store.dead_letters("one", limit=2 * MANY, after="00019") == letters[20:]
    assert await backend.store.dead_letters("one", limit=10_001, after="00019") == letters[20:10_021]
    assert await backend.store.remove_dead_letters("one") == MANY


async def bulk(backend: ServerBackend, index: str, documents: Iterator[tuple[str, dict[str, object]]]) -> None:
    lines = b"".join(
        orjson.dumps({"index": {"_id": id_}}) + b"\n" + orjson.dumps(document) + b"\n" for id_, document in documents
    )
    await backend.client.call("POST", f"/{index}/_bulk", body=lines, params={"refresh": "true"})


async def test_more_connectors_and_jobs_than_one_page(backend: ServerBackend) -> None:
    assert await backend.store.connectors() == []  # and the indices are there
    names = [f"c{n:05}" for n in range(MANY)]
    await bulk(backend, CONNECTORS, ((name, {"service_type": "directory"}) for name in names))
    assert [connector.id for connector in await backend.store.connectors()] == names
    await bulk(backend, JOBS, (
        # All of one moment: nothing but their ids tells them apart.
        (name, {"connector": {"id": name}, "job_type": "full", "status": "pending", "created_at": NOW.isoformat()})
        for name in names
    ))  # fmt: skip
    jobs = await backend.store.jobs(statuses=["pending"], limit=2 * MANY)
    assert [job.id for job in jobs] == names[::-1]
    assert len(await backend.store.jobs(limit=10_000)) == 10_000
