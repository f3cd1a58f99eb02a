"""On every backend: the comparison finds planted differences, a repair mends them, dead letters are sent again, and
nothing is deleted without leave."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import orjson
import pytest

from connectors.backends.ports import DeadLetter, IndexHandle, IndexSpec, Operation
from connectors.byoc import Connector, Filter, JobStatus, JobType, TriggerMethod
from connectors.config import SyncConfig
from connectors.errors import DeletionGuardError
from connectors.runtime import Runtime
from connectors.service.hold import hold
from connectors.service.letters import Letters
from connectors.source import BaseDataSource
from connectors.sync.compare import Comparison, compare
from connectors.sync.context import RECONCILE, SyncContext, SyncResult
from connectors.sync.encode import content_hash, id_digest
from connectors.sync.engine import Sync, run_sync
from connectors.sync.limits import FlightLimit
from tests.contract.conftest import Adapter
from tests.support.sources import ScriptedSource, documents

NAME: Final = "one"
INDEX: Final = "reconciled"


@dataclass
class Place:
    """One connector on a real backend, and a folder."""

    adapter: Adapter
    folder: Path
    connector: Connector
    runtime: Runtime
    handle: IndexHandle

    async def sync(self, source: BaseDataSource, **metadata: Any) -> SyncResult:
        async with _context(self, source, metadata) as context:
            return await run_sync(context)

    async def compare(self, source: BaseDataSource, *, deep: bool = False) -> Comparison:
        async with _context(self, source, {}) as context:
            return await compare(context, folder=self.folder / "comparison", deep=deep, limit=100)

    async def plant(
        self, document_id: str, body: dict[str, Any] | None, *, version: int, stamp: bytes = b"", connector: str = NAME
    ) -> None:
        data = None if body is None else orjson.dumps(body)
        operation = Operation(document_id, id_digest(document_id), stamp or content_hash(data or b""), version, data)
        handle = replace(self.handle, connector_id=connector)
        assert not (await self.adapter.destination.write(handle, [operation])).failures

    async def held(self, *ids: str) -> dict[str, Any]:
        found = await self.adapter.destination.fetch(INDEX, ids)
        return {document_id: orjson.loads(body) for document_id, body in found.items()}


@asynccontextmanager
async def _context(place: Place, source: BaseDataSource, metadata: dict[str, Any]) -> AsyncIterator[SyncContext]:
    store = place.adapter.store
    async with hold(store, NAME, "tester", place.runtime) as lease:
        info = await place.adapter.destination.prepare(IndexSpec(INDEX))
        now = place.runtime.now()
        job = await store.create_job(place.connector, JobType.FULL, TriggerMethod.ON_DEMAND, now=now, **metadata)
        job = await store.update_job(job.id, {"status": JobStatus.COMPLETED, "completed_at": now}, statuses=["pending"])
        yield SyncContext(
            connector=place.connector,
            job=job,
            source=source,
            filtering=Filter(),
            destination=place.adapter.destination,
            store=store,
            index=info,
            lease=lease,
            state=await store.state(NAME),
            config=SyncConfig(),
            runtime=place.runtime,
            folder=place.folder,
            stop=asyncio.Event(),
            limit=FlightLimit(4, 10_000_000),
            logger=logging.getLogger("connectors.test"),
            configuration_fingerprint="",
            max_delete_ratio=0.2,
            drain_timeout=10.0,
        )


@pytest.fixture
async def place(adapter: Adapter, tmp_path: Path) -> Place:
    connector = await adapter.store.put_connector(Connector(id=NAME, service_type="scripted", index_name=INDEX))
    info = await adapter.destination.prepare(IndexSpec(INDEX))
    found = Place(adapter, tmp_path / "ledger", connector, Runtime(), IndexHandle(INDEX, info.uuid, NAME, ""))
    await found.sync(ScriptedSource(documents(range(150))))
    # With the fingerprint of real documents, for stamps of another one tell nothing.
    async with _context(found, ScriptedSource([]), {}) as context:
        found.handle = Sync(context)._handle
    return found


def kinds(found: Comparison) -> dict[str, str]:
    return {each.id: each.kind for each in found.differences}


async def test_planted_differences_are_found_and_mended(place: Place) -> None:
    source = ScriptedSource(documents(range(150)))
    assert (await place.compare(source)).equal
    assert (await place.compare(source, deep=True)).equal
    epoch = (await place.adapter.store.state(NAME)).epoch << 40
    stamp = content_hash(orjson.dumps({"number": 4, "edition": 1}))
    await place.plant("d1", None, version=epoch)
    await place.plant("d2", {"number": 2, "edition": 5}, version=epoch)
    await place.plant("surplus", {"number": 0}, version=epoch)
    await place.plant("theirs", {"number": 0}, version=epoch, connector="two")
    await place.plant("d4", {"number": 4, "edition": "forged"}, version=epoch, stamp=stamp)
    found = await place.compare(source)
    assert kinds(found) == {"d1": "missing", "d2": "different", "surplus": "extra"}
    found = await place.compare(source, deep=True)
    assert kinds(found) == {"d1": "missing", "d2": "different", "surplus": "extra", "d4": "different"}
    assert found.altered is not None
    wish = {RECONCILE: {"again": [digest.hex() for digest in found.altered]}}
    counters = (await place.sync(source, **wish)).counters
    assert (counters.indexed, counters.vanished, counters.unchanged) == (3, 1, 147)
    assert (await place.compare(source, deep=True)).equal
    assert await place.held("d4", "theirs") == {"d4": {"number": 4, "edition": 1}, "theirs": {"number": 0}}


async def test_dead_letters_are_sent_again_and_never_over_something_newer(place: Place) -> None:
    store, destination = place.adapter.store, place.adapter.destination
    now, last = place.runtime.now(), (await store.state(NAME)).epoch << 40
    bodies = {name: orjson.dumps({"name": name}) for name in ("new", "d7", "gone")}

    def letter(name: str, version: int, operation: str = "index") -> DeadLetter:
        body = bodies.get(name)
        stamp = content_hash(body or b"")
        return DeadLetter(NAME, name, operation, "r", "j", now, body, version, stamp, place.handle.fingerprint)

    await place.plant("gone", {"x": 1}, version=last)
    await place.plant("gone", None, version=last + 1)
    await store.add_dead_letters(
        [letter("new", last), letter("d7", 5), letter("gone", last), letter("d8", last, "delete")]
    )
    letters = Letters(store, destination, place.runtime, "tester")
    outcomes = {each.id: each.outcome for each in await letters.replay(place.connector, None)}
    assert outcomes == {"new": "indexed", "d7": "superseded", "gone": "superseded", "d8": "deleted"}
    assert await store.count_dead_letters(NAME) == 0
    assert await place.held("new", "d7", "gone", "d8") == {"new": {"name": "new"}, "d7": {"number": 7, "edition": 1}}
    listing = [*documents(range(150)), ({"_id": "new", "name": "new"}, None)]
    counters = (await place.sync(ScriptedSource(listing))).counters
    assert (counters.unchanged, counters.indexed, counters.vanished) == (150, 1, 0), "the deleted one is back"


async def test_nothing_is_deleted_without_leave_and_then_just_that(place: Place) -> None:
    for listing in ([], documents(range(100)), [*documents(range(150)), OSError("unplugged")]):
        with pytest.raises((DeletionGuardError, OSError)):
            await place.sync(ScriptedSource(listing))
        assert await place.adapter.destination.count(INDEX, NAME) == 150
    with pytest.raises(DeletionGuardError, match="--allow-deletes 50"):
        await place.sync(ScriptedSource(documents(range(100))), allow_deletes=49)
    assert (await place.sync(ScriptedSource(documents(range(100))), allow_deletes=50)).counters.vanished == 50
    assert await place.adapter.destination.count(INDEX, NAME) == 100
    with pytest.raises(DeletionGuardError):
        await place.sync(ScriptedSource(documents(range(50))))
    assert await place.adapter.destination.count(INDEX, NAME) == 100, "the leave was for one run"
