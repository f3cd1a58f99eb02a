"""The comparison finds what differs, each kind of it, and leaves everything as it was."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from connectors.backends.ports import IndexHandle, Operation
from connectors.errors import LeaseLostError
from connectors.source import BaseDataSource, Skipped
from connectors.sync.compare import MOST_ALTERED, Comparison, Difference, _differing, compare
from connectors.sync.context import RECONCILE
from connectors.sync.encode import content_hash, id_digest
from tests.support.clock import run_virtual
from tests.support.sources import Download, ResumableSource, ScriptedSource, checkpointed, documents
from tests.support.world import World


async def compared(
    world: World, source: BaseDataSource, *, deep: bool = False, limit: int = 100, stop_after: float | None = None
) -> Comparison:
    """Compares, and sees that nothing was written or stored."""
    context = await world.context(source, await world.job())
    # A metadata key of the waiting job must not count: the comparison has a job of its own.
    before = copy.deepcopy((world.destination._indices, await world.letters(), await world.store.connectors()))
    requests, commits = len(world.destination.requests), len(world.store.commits)
    folder = world.folder / "comparison"
    running = asyncio.create_task(compare(context, folder=folder, deep=deep, limit=limit))
    if stop_after is not None:
        await asyncio.wait([running], timeout=stop_after)
        world.stop.set()
    found = await running
    assert (world.destination._indices, await world.letters(), await world.store.connectors()) == before
    assert (len(world.destination.requests), len(world.store.commits)) == (requests, commits)
    return found


async def plant(world: World, document_id: str, body: dict[str, Any] | None, **changes: Any) -> None:
    """Writes or deletes a document behind the back of the syncs."""
    assert world.lease is not None
    held = world.destination._indices["i"].documents.get(document_id)
    data = None if body is None else orjson.dumps(body)
    fingerprint = held[0].fingerprint if held else _fingerprint(world)
    handle = IndexHandle("i", world.handle.uuid, changes.pop("connector", "c"), fingerprint)
    version = changes.pop("version", (world.lease.epoch << 40) + 1_000_000)
    stamp = changes.pop("stamp", content_hash(data or b""))
    assert not changes
    await world.destination.write(handle, [Operation(document_id, id_digest(document_id), stamp, version, data)])


def _fingerprint(world: World) -> str:
    return next(handle.fingerprint for handle, _ in world.destination._indices["i"].documents.values())


def kinds(found: Comparison) -> dict[str, str]:
    return {each.id: each.kind for each in found.differences}


async def mended(world: World, source: BaseDataSource, again: Sequence[bytes] | None = ()) -> dict[str, int]:
    """Runs the job that makes the index equal again."""
    for job in await world.store.jobs():
        if not job.ended:
            await world.store.update_job(job.id, {"status": "canceled"}, statuses=[job.status])
    wish = {"again": None if again is None else [digest.hex() for digest in again]}
    metadata: dict[str, Any] = {RECONCILE: wish, "allow_deletes": 1000}
    return (await world.sync(source, **metadata)).counters.to_dict()


def test_what_is_equal_is_said_to_be_equal(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        file = Download({"body": "text"})
        script = [*documents(range(700)), ({"_id": "file", "_timestamp": "t"}, file)]
        await world.sync(ScriptedSource(script))
        found = await compared(world, ScriptedSource(script))
        assert found.equal
        assert (found.counters.read, found.counts.total(), found.stale) == (701, 0, 0)
        assert file.done == 1, "its stamp tells"
        found = await compared(world, ScriptedSource(script), deep=True)
        assert found.equal
        assert file.done == 2

    run_virtual(scenario())


def test_each_kind_of_difference(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        await world.sync(ScriptedSource(documents(range(10))))
        await plant(world, "d1", None)
        await plant(world, "d2", {"number": 2, "edition": 7, "more": True})
        await plant(world, "x", {"number": 1})
        await plant(world, "theirs", {"number": 1}, connector="another")
        await plant(world, "d3", {"number": 3, "edition": "1"}, stamp=world.stamps()[id_digest("d3")])
        listing = [*documents(range(9)), Skipped("locked", "d9")]
        found = await compared(world, ScriptedSource(listing))
        assert not found.equal
        assert kinds(found) == {"d1": "missing", "d2": "different", "x": "extra", "d9": "unreadable"}
        assert Difference("different", "d2", "in edition, more") in found.differences
        assert Difference("unreadable", "d9", "locked") in found.differences
        deep = await compared(world, ScriptedSource(listing), deep=True)
        assert kinds(deep) == {**kinds(found), "d3": "different"}
        assert deep.altered is not None
        assert set(deep.altered) == {id_digest("d2"), id_digest("d3")}
        # And the job that mends it, which has another epoch than what was planted.
        counters = await mended(world, ScriptedSource(documents(range(10))), deep.altered)
        assert (counters["indexed"], counters["vanished"], counters["unchanged"]) == (3, 1, 7)
        assert (await compared(world, ScriptedSource(documents(range(10))), deep=True)).equal
        assert world.indexed["d3"] == {"number": 3, "edition": 1}
        assert "theirs" in world.indexed

    run_virtual(scenario())


def test_the_stamps_in_the_index_count_and_not_the_ledger(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        await world.sync(ScriptedSource(documents(range(5))))
        await plant(world, "d1", None)
        assert await world.ledger() is not None
        assert (await world.sync(ScriptedSource(documents(range(5))))).counters.indexed == 0, "the ledger believes so"
        assert kinds(await compared(world, ScriptedSource(documents(range(5))))) == {"d1": "missing"}
        assert (await mended(world, ScriptedSource(documents(range(5)))))["indexed"] == 1
        assert (await compared(world, ScriptedSource(documents(range(5))))).equal

    run_virtual(scenario())


def test_the_sync_rules_count(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        await world.sync(ScriptedSource(documents(range(5))))
        world.rules = [{"id": "1", "order": 1, "policy": "exclude", "field": "number", "rule": "equals", "value": "3"}]
        found = await compared(world, ScriptedSource(documents(range(5))))
        assert (kinds(found), found.counters.filtered) == ({"d3": "extra"}, 1)

    run_virtual(scenario())


def test_what_a_source_need_not_list_is_not_extra(tmp_path: Path) -> None:
    class Series(ScriptedSource):
        lists_all = False

    async def scenario() -> None:
        world = World(tmp_path)
        await world.sync(Series([*documents(range(3)), ({"_id": "x", "draft": True}, None)]))
        world.rules = [
            {"id": "1", "order": 1, "policy": "exclude", "field": "draft", "rule": "equals", "value": "true"}
        ]
        drafts = [({"_id": document_id, "draft": True}, None) for document_id in ("x", "y")]
        assert kinds(await compared(world, Series([*documents([2]), *drafts]))) == {"x": "extra"}

    run_virtual(scenario())


def test_what_cannot_be_listed_leaves_extra_documents_open(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        await world.sync(ScriptedSource(documents(range(5))))
        found = await compared(world, ScriptedSource([*documents(range(3)), Skipped("a folder is locked")]))
        assert not found.equal
        assert (found.incomplete, found.counts.total()) == (["a folder is locked"], 0)

    run_virtual(scenario())


def test_all_are_counted_and_the_first_ones_listed(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        await world.sync(ScriptedSource(documents(range(10))))
        found = await compared(world, ScriptedSource(documents(range(10, 3000))), limit=7)
        assert (found.counts["missing"], found.counts["extra"], len(found.differences)) == (2990, 10, 7)
        found = await compared(world, ScriptedSource([]))
        assert found.counts["extra"] == 10, "the deletion guard is for those who delete"

    run_virtual(scenario())


def test_a_stamp_of_another_mapping_is_no_difference(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        await world.sync(ScriptedSource(documents(range(5))))
        world.fingerprint = "another mapping"
        found = await compared(world, ScriptedSource(documents(range(5))))
        assert (found.equal, found.stale) == (True, 5)

    run_virtual(scenario())


def test_a_file_without_a_timestamp_is_fetched_and_compared(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        await world.sync(ScriptedSource([({"_id": "file"}, Download({"body": "text"}))]))
        assert (await compared(world, ScriptedSource([({"_id": "file"}, Download({"body": "text"}))]))).equal
        found = await compared(world, ScriptedSource([({"_id": "file"}, Download({"body": "another"}))]))
        assert found.differences == [Difference("different", "file", "in body")]
        found = await compared(world, ScriptedSource([({"_id": "file"}, Download(error=OSError("gone")))]))
        assert kinds(found) == {"file": "unreadable"}

    run_virtual(scenario())


def test_behind_an_ingest_pipeline_only_stamps_tell(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        world.connector = replace(world.connector, pipeline={"name": "enrich"})
        script: Iterable[Any] = [*documents(range(3)), ({"_id": "file"}, Download({"body": "text"}))]
        await world.sync(ScriptedSource(script))
        await plant(world, "d1", {"enriched": True}, stamp=world.stamps()[id_digest("d1")])
        found = await compared(world, ScriptedSource(script))
        assert (found.counts.total(), found.unverified, found.equal) == (0, 1, False)
        found = await compared(world, ScriptedSource(documents(range(3), edition=2)))
        assert found.counts == {"different": 3, "extra": 1}

    run_virtual(scenario())


def test_numbers_and_truth_values_are_told_apart(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        source = ScriptedSource([({"_id": "a", "x": 1, "y": {"b": 1, "a": [1]}}, None)])
        await world.sync(source)
        stamp = world.stamps()[id_digest("a")]
        await plant(world, "a", {"y": {"a": [1], "b": 1}, "x": 1}, stamp=stamp)
        assert (await compared(world, source, deep=True)).equal
        await plant(world, "a", {"x": True, "y": {"b": 1, "a": [1]}}, stamp=stamp)
        assert [each.detail for each in (await compared(world, source, deep=True)).differences] == ["in x"]

    run_virtual(scenario())


@pytest.mark.parametrize(
    ("wanted", "there", "fields"),
    [
        ('{"a":1E+400,"b":1}', '{"a":1,"b":1}', ["a"]),
        ('{"a":1E+400}', '{"a":10E399}', []),
        ('{"a":1.50,"b":100}', '{"b":1e2, "a":1.5}', []),
        ('{"a":18446744073709551617}', '{"a":18446744073709551618}', ["a"]),
        ('{"a":[{"x":1,"y":[true]}]}', '{"a":[{"y":[1],"x":1}]}', ["a"]),
        ('{"a":[{"x":1,"y":[true]}]}', '{"a":[{"y":[true],"x":1.0}]}', []),
        ('{"a":[1],"b":{},"c":null}', '{"a":[1,2],"b":[],"d":null}', ["a", "b", "c", "d"]),
        ('{"a":"1","b":0,"c":""}', '{"a":1,"b":false,"c":null}', ["a", "b", "c"]),
    ],
)
def test_what_differs_whatever_the_numbers_are_like(wanted: str, there: str, fields: list[str]) -> None:
    assert _differing(wanted.encode(), there.encode()) == fields


def test_too_many_altered_documents_are_all_written_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        number = MOST_ALTERED + 5
        await world.sync(ScriptedSource(documents(range(number))))
        for position in range(number):
            await plant(world, f"d{position}", {}, stamp=world.stamps()[id_digest(f"d{position}")])
        found = await compared(world, ScriptedSource(documents(range(number))), deep=True, limit=3)
        assert (found.counts["different"], found.altered) == (number, None)
        assert (await mended(world, ScriptedSource(documents(range(number))), None))["indexed"] == number

    run_virtual(scenario())


def test_a_comparison_can_be_stopped(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        await world.sync(ResumableSource(documents(range(5))))
        slow = ResumableSource([item for pair in documents(range(5)) for item in (pair, 10.0)])
        found = await compared(world, slow, stop_after=25)
        assert found.stopped
        assert not found.equal

    run_virtual(scenario())


def test_an_error_of_the_source_and_a_lost_lease_end_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        await world.sync(ScriptedSource(documents(range(5))))
        with pytest.raises(OSError, match="unplugged"):
            await compared(world, ScriptedSource([*documents(range(3)), OSError("unplugged")]))
        world.lease = None

        def lose() -> None:
            world.lost = True

        with pytest.raises(LeaseLostError):
            await compared(world, ScriptedSource([lose, *documents(range(3), edition=2)]))

    run_virtual(scenario())


def test_a_job_that_mends_does_not_go_on_behind_a_checkpoint_of_before(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path, checkpoint_interval=0.01)
        script = checkpointed(documents(range(40)), 5, pause=1.0)
        await world.sync(ResumableSource(script))
        job = await world.job()
        assert (await world.sync(ResumableSource(script), job=job, stop_after=20)).suspended
        await plant(world, "d1", None)
        job = await world.store.job(job.id)
        wish = {**job.metadata, RECONCILE: {"again": []}}
        job = await world.store.update_job(job.id, {"metadata": wish}, statuses=[job.status])
        source = ResumableSource(script)
        result = await world.sync(source, job=job, stop_after=20)
        assert source.given_checkpoint is None
        assert result.suspended
        assert "d1" in world.indexed
        source = ResumableSource(script)
        await world.sync(source, job=await world.store.job(job.id))
        assert source.given_checkpoint is not None, "its own checkpoint counts"

    run_virtual(scenario())


@pytest.mark.parametrize("junk", [7, "x", [], {"again": 7}, {"again": ["zz"]}, {"again": ["ab"]}, {"again": [3]}])
def test_junk_in_the_wish_costs_nothing_but_writes(tmp_path: Path, junk: Any) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        await world.sync(ScriptedSource(documents(range(3))))
        counters = (await world.sync(ScriptedSource(documents(range(3))), **{RECONCILE: junk})).counters
        assert counters.indexed == (3 if isinstance(junk, dict) else 0)

    run_virtual(scenario())
