"""Incremental syncs: operations in their order, cursors behind acknowledgements."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import pytest

from connectors.backends.ports import FailureKind
from connectors.byoc import JobType
from connectors.errors import SkippableError, SuspendSync
from connectors.source import Checkpoint
from connectors.sync.context import SyncResult
from tests.support.clock import run_virtual
from tests.support.sources import Download, ScriptedSource, documents
from tests.support.world import World


async def changes(world: World, *items: Any, cursor: Any = None, stop_after: float | None = None) -> SyncResult:
    result = await world.sync(ScriptedSource(items, cursor=cursor), JobType.INCREMENTAL, stop_after=stop_after)
    assert result.counters.balanced
    return result


async def filled(folder: Path, number: int = 3, **config: Any) -> World:
    world = World(folder, **config)
    await world.sync(ScriptedSource(documents(range(number))))
    return world


async def cursor_of(world: World) -> Any:
    return (await world.store.connector("c")).sync_cursor


def test_an_update_leaves_the_numbers_of_other_fields_to_the_digit(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        await world.sync(ScriptedSource([({"_id": "a", "large": 2**70, "exact": Decimal("0.10"), "n": 1}, None)]))
        await world.sync(ScriptedSource([({"_id": "a", "n": 2}, None, "update")]), JobType.INCREMENTAL)
        (operation,) = world.destination.requests[-1]
        assert operation.body == b'{"large":1180591620717411303424,"exact":0.10,"n":2}'

    run_virtual(scenario())


def test_index_update_and_delete(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = await filled(tmp_path)
        result = await changes(
            world,
            ({"_id": "d0", "number": 0, "edition": 2}, None, "index"),
            ({"_id": "d1", "extra": True}, None, "update"),
            ({"_id": "d2"}, None, "delete"),
            ({"_id": "never"}, None, "delete"),
            ({"_id": "d9", "number": 9}, None, "update"),
        )
        assert world.indexed == {
            "d0": {"number": 0, "edition": 2},
            "d1": {"number": 1, "edition": 1, "extra": True},
            "d9": {"number": 9},
        }
        counters = result.counters
        assert (counters.read, counters.indexed, counters.deleted, counters.vanished) == (5, 3, 2, 0)
        assert await world.ledger() == world.stamps()

    run_virtual(scenario())


def test_what_the_index_holds_already_is_not_written(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = await filled(tmp_path)
        requests = len(world.destination.requests)
        result = await changes(
            world,
            ({"_id": "d0", "number": 0, "edition": 1}, None, "index"),
            ({"_id": "d1", "edition": 1}, None, "update"),
        )
        assert result.counters.unchanged == 2
        assert len(world.destination.requests) == requests

    run_virtual(scenario())


@pytest.mark.parametrize("apart", [0, 300])
def test_operations_on_one_document_take_effect_in_their_order(tmp_path: Path, apart: int) -> None:
    async def scenario() -> None:
        world = await filled(tmp_path, batch_documents=2, writes_in_flight=3)
        world.destination.delay = lambda number: 9.0 / (number % 7 + 1)
        between = [(item[0], None, "index") for item in documents(range(1000, 1000 + apart))]
        result = await changes(
            world,
            ({"_id": "d0"}, None, "delete"),
            ({"_id": "d1", "a": 1}, None, "update"),
            *between,
            ({"_id": "d0", "number": 0, "edition": 1}, None, "index"),  # as the ledger still knows it
            ({"_id": "d1", "b": 2}, None, "update"),
            *between,
            ({"_id": "d0", "c": 3}, None, "update"),
            ({"_id": "d1", "b": 3}, None, "update"),
            ({"_id": "d2", "x": 1}, None, "index"),
            ({"_id": "d2"}, None, "delete"),
        )
        assert world.indexed["d0"] == {"number": 0, "edition": 1, "c": 3}
        assert world.indexed["d1"] == {"number": 1, "edition": 1, "a": 1, "b": 3}
        assert "d2" not in world.indexed
        assert result.counters.read == 8 + 2 * apart
        assert await world.ledger() == world.stamps()

    run_virtual(scenario())


def test_a_slow_download_does_not_undo_a_later_delete(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = await filled(tmp_path)
        slow = Download({"body": "x"}, seconds=30)
        result = await changes(world, ({"_id": "d0", "n": 1}, slow, "index"), 2, ({"_id": "d0"}, None, "delete"), 2)
        assert "d0" not in world.indexed
        assert (result.counters.superseded, result.counters.deleted) == (1, 1)
        assert await world.ledger() == world.stamps()

    run_virtual(scenario())


def test_an_update_waits_for_a_download_that_fills_another_batch(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = await filled(tmp_path)
        slow = Download({"body": "x"}, seconds=30)
        await changes(
            world,
            ({"_id": "d0", "n": 1}, slow, "index"),
            2,
            ({"_id": "d0", "n": 2}, None, "update"),
            500,  # the page is flushed by the clock, not by the reader
            ({"_id": "d1", "n": 2}, None, "update"),
        )
        assert world.indexed["d0"] == {"n": 2, "body": "x"}

    run_virtual(scenario())


def test_rules_judge_an_update_by_the_whole_document(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = await filled(tmp_path)
        world.rules = [
            {"id": "1", "order": 1, "policy": "include", "field": "edition", "rule": "equals", "value": "1"},
            {"id": "DEFAULT", "policy": "exclude"},
        ]
        result = await changes(
            world,
            ({"_id": "d0", "views": 7}, None, "update"),
            ({"_id": "d1", "edition": 2}, None, "update"),
            ({"_id": "d2", "edition": 2}, None, "index"),
        )
        assert world.indexed["d0"]["views"] == 7
        assert not {"d1", "d2"} & world.indexed.keys()  # kept out now, they do not stay in their old version
        assert (result.counters.indexed, result.counters.filtered) == (1, 2)

    run_virtual(scenario())


def test_updates_with_downloads_and_those_that_cannot_be_encoded(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = await filled(tmp_path)
        world.destination.failing_reads = 3
        result = await changes(
            world,
            ({"_id": "d0", "e": 1}, Download({"body": "text"}), "update"),
            ({"_id": "d1", "e": object()}, None, "update"),
            ({"_id": "d2", "e": 1}, Download(error=SkippableError("broken")), "update"),
        )
        assert world.indexed["d0"] == {"number": 0, "edition": 1, "e": 1, "body": "text"}
        assert world.indexed["d1"] == {"number": 1, "edition": 1}
        assert (result.counters.indexed, result.counters.dead_lettered) == (1, 2)
        assert sorted(await world.letters()) == ["d1", "d2"]

    run_virtual(scenario())


def test_a_cursor_is_stored_only_behind_acknowledgements(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = await filled(tmp_path)
        world.destination.delay = lambda number: 20.0 if number == 1 else 0.0
        started = world.runtime.monotonic()
        late: list[float] = []

        def check(commit: dict[str, Any]) -> None:
            if (commit["connector"] or {}).get("sync_cursor"):
                late.append(world.runtime.monotonic() - started)
                assert "slow" in world.destination.acknowledged

        world.store.on_commit = check
        await changes(
            world, ({"_id": "slow"}, None, "index"), Checkpoint("1"), 5, ({"_id": "quick"}, None, "index"),
            Checkpoint("2"), 30, ({"_id": "last"}, None, "index"), Checkpoint("3"), 5, Checkpoint("4"),
        )  # fmt: skip
        assert late[0] >= 20
        assert len(late) >= 3
        assert await cursor_of(world) == "4"

    run_virtual(scenario())


@pytest.mark.parametrize("seed", range(3))
def test_a_cursor_overtakes_no_download_and_no_write_in_whatever_order_they_end(tmp_path: Path, seed: int) -> None:
    async def scenario() -> None:
        world = await filled(tmp_path, batch_documents=4, writes_in_flight=4, concurrent_downloads=5)
        random = Random(seed)
        world.destination.delay = lambda number: (number * 37 % 11) / 3
        world.destination.answer_delay = lambda number: (number * 17 % 7) / 2
        items: list[Any] = []
        before: dict[str, list[str]] = {}
        for number in range(200):
            lazy = Download({"body": "x"}, seconds=random.uniform(0, 9)) if random.random() < 0.4 else None
            items += [({"_id": f"n{number}"}, lazy, "index"), 0.1]
            if random.random() < 0.2:
                items.append(Checkpoint(str(number)))
                before[str(number)] = [f"n{earlier}" for earlier in range(number + 1)]
        stored: list[str] = []

        def check(commit: dict[str, Any]) -> None:
            cursor = (commit["connector"] or {}).get("sync_cursor")
            if cursor in before:
                stored.append(cursor)
                assert world.destination.acknowledged.keys() >= set(before[cursor])

        world.store.on_commit = check
        await changes(world, *items)
        assert len(set(stored)) > 5

    run_virtual(scenario())


@pytest.mark.parametrize("script", [["1"], ["1", "2", "3"]])
def test_the_last_checkpoint_of_a_short_job_is_stored(tmp_path: Path, script: list[str]) -> None:
    async def scenario() -> None:
        world = await filled(tmp_path)
        items: list[Any] = [part for mark in script for part in (({"_id": mark}, None, "index"), Checkpoint(mark))]
        await changes(world, *items, cursor="not this")
        assert await cursor_of(world) == script[-1]

    run_virtual(scenario())


def test_without_checkpoints_the_cursor_of_the_source_is_stored_at_the_end(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        await world.sync(ScriptedSource(documents(range(3)), cursor={"at": 1}))
        assert await cursor_of(world) == {"at": 1}
        source = ScriptedSource([({"_id": "x"}, None, "index")], cursor={"at": 2})
        await world.sync(source, JobType.INCREMENTAL)
        assert source.given_cursor == {"at": 1}
        assert await cursor_of(world) == {"at": 2}
        with pytest.raises(OSError, match="gone"):
            await changes(world, ({"_id": "y"}, None, "index"), OSError("gone"), cursor={"at": 3})
        assert await cursor_of(world) == {"at": 2}
        assert "y" in world.indexed

    run_virtual(scenario())


def test_suspended_it_goes_on_at_the_last_cursor_that_was_stored(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = await filled(tmp_path)
        result = await changes(
            world, ({"_id": "a"}, None, "index"), Checkpoint("1"), 3, ({"_id": "b"}, None, "index"), 100,
            Checkpoint("2"), stop_after=5,
        )  # fmt: skip
        assert result.suspended
        assert await cursor_of(world) == "1"
        assert {"a", "b"} < world.indexed.keys()

    run_virtual(scenario())


def test_no_cursor_is_stored_when_the_destination_stays_away(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = await filled(tmp_path)
        world.destination.verdict = lambda *_: FailureKind.OVERLOADED
        with pytest.raises(SuspendSync):
            await changes(world, ({"_id": "a"}, None, "index"), Checkpoint("1"))
        assert await cursor_of(world) is None

    run_virtual(scenario())


def test_an_incremental_sync_deletes_nothing_that_it_did_not_list(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = await filled(tmp_path)
        result = await changes(world)
        assert result.counters.read == 0
        assert len(world.indexed) == 3

    run_virtual(scenario())


def test_in_an_index_that_no_full_sync_filled_a_full_one_is_due(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = await filled(tmp_path)
        assert not (await changes(world, ({"_id": "a"}, None, "index"))).needs_full
        await world.destination.delete_index("i")
        assert (await changes(world, ({"_id": "b"}, None, "index"))).needs_full
        assert sorted(world.indexed) == ["b"]
        assert not (await world.sync(ScriptedSource(documents(range(3))), allow_deletes=1)).needs_full
        assert not (await changes(world, ({"_id": "c"}, None, "index"))).needs_full

    run_virtual(scenario())
