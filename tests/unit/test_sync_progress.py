"""Checkpoints, suspending, resuming, killing, failing sources: progress never runs ahead of acknowledged writes."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from connectors.backends.ports import DeadLetter
from connectors.errors import RetryableError
from connectors.source import Checkpoint, Skipped
from connectors.sync.counters import Counters
from connectors.sync.deadletters import DeadLetters
from connectors.sync.engine import run_sync
from tests.support.clock import InlineRuntime, run_virtual
from tests.support.sources import Download, ResumableSource, ScriptedSource, checkpointed, documents
from tests.support.world import RecordingStore, World


def checkpoints_of(world: World) -> list[int]:
    """Positions in the script that were stored."""
    states = [commit["state"] for commit in world.store.commits if commit["state"] and commit["state"].get("progress")]
    return [state["progress"]["checkpoint"] for state in states]


def test_a_checkpoint_is_never_ahead_of_acknowledgements(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path, batch_documents=7, writes_in_flight=4, concurrent_downloads=3)
        # Requests end in another order than they began, and every fifth document is slow to fetch.
        world.destination.delay = lambda number: (number * 37 % 11) / 3
        world.destination.answer_delay = lambda number: (number * 17 % 7) / 2
        lazies = {n: Download({"body": "x"}, seconds=n % 13) for n in range(0, 300, 5)}
        script = checkpointed(documents(range(300), lazy=lazies.get), 10, pause=0.03)

        def check(changes: dict[str, Any]) -> None:
            progress = (changes["state"] or {}).get("progress")
            if progress:
                before = [item[0]["_id"] for item in script[: progress["checkpoint"]] if isinstance(item, tuple)]
                assert set(before) <= world.destination.acknowledged.keys()
                assert Counters.from_dict(progress["counters"]).read == len(before)
                assert Counters.from_dict(progress["counters"]).balanced
                seen = next((tmp_path / "seen").iterdir()).stat().st_size - 16
                assert seen >= progress["seen"] * 16 >= len(before) * 16

        world.store.on_commit = check
        result = await world.sync(ResumableSource(script))
        assert result.counters.indexed == 300
        assert len(set(checkpoints_of(world))) > 5
        assert world.destination.most_in_flight == 4

    run_virtual(scenario())


def test_suspended_and_resumed_the_counters_add_up_and_vanished_documents_go(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        await world.sync(ResumableSource(documents([*range(100), 5000, 5001])))
        script = checkpointed(documents(range(200)), 10, pause=0.1)
        job = await world.job()
        suspended = 0
        while True:
            source = ResumableSource(script)
            result = await world.sync(source, job=job, stop_after=7.0)
            assert result.counters.balanced
            if not result.suspended:
                break
            suspended += 1
            assert not source.given_checkpoint or source.given_checkpoint > 0
            assert source.closed
            assert len(world.indexed) > 100
            assert await world.ledger() == world.stamps()
        assert suspended >= 2
        assert source.given_checkpoint
        counters = result.counters
        assert (counters.read, counters.vanished, counters.dead_lettered) == (200, 2, 0)
        assert counters.unchanged >= 100
        assert counters.unchanged + counters.indexed == 200
        assert sorted(world.indexed) == sorted(f"d{n}" for n in range(200))
        assert (await world.store.state("c")).data["configuration"] == world.configuration
        assert "progress" not in (await world.store.state("c")).data

    run_virtual(scenario())


def test_after_a_write_whose_answer_was_not_awaited_the_ledger_is_not_trusted(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        await world.sync(ScriptedSource(documents(range(5))))
        world.destination.answer_delay = lambda _: 1000.0
        result = await world.sync(ScriptedSource([*documents(range(5), edition=2), 100]), stop_after=5)
        assert (result.suspended, result.counters.read) == (True, 0)
        assert world.indexed["d0"]["edition"] == 2  # though nobody knows
        world.destination.answer_delay = lambda _: 0.0
        result = await world.sync(ScriptedSource(documents(range(5))))
        assert world.indexed["d0"]["edition"] == 1

    run_virtual(scenario())


@pytest.mark.parametrize("after", [0.0, 0.4, 1.3, 2.2, 5.1, 9.7, 14.9])
def test_a_killed_sync_goes_on_behind_its_last_checkpoint(tmp_path: Path, after: float) -> None:
    async def scenario() -> None:
        world = World(tmp_path, batch_documents=6, writes_in_flight=3)
        world.destination.answer_delay = lambda number: number % 5 / 4
        await world.sync(ResumableSource(documents([1, 2, 3, 900])))
        script = checkpointed(documents(range(150)), 10, pause=0.1)
        job = await world.job()
        assert await world.kill(ResumableSource(script), after=after, job=job)
        stored = checkpoints_of(world)
        source = ResumableSource(script)
        result = await world.sync(source, job=job)
        assert source.given_checkpoint == (stored[-1] if stored else None)
        assert bool(stored) == (after > 2)
        assert (result.counters.read, result.counters.vanished) == (150, 1)
        assert sorted(world.indexed) == sorted(f"d{n}" for n in range(150))

    run_virtual(scenario())


@pytest.mark.parametrize("damage", ["gone", "short", "other"])
def test_without_the_seen_log_nothing_is_deleted_and_a_full_sync_is_due(tmp_path: Path, damage: str) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        await world.sync(ResumableSource(documents([*range(50), 900])))
        script = [*documents(range(30)), Checkpoint(31), 2, *documents(range(30, 60)), Checkpoint(63), 13]
        script += [*documents(range(60, 70)), Checkpoint(75), 50]
        job = await world.job()
        assert (await world.sync(ResumableSource(script), job=job, stop_after=10)).suspended
        seen = next((tmp_path / "seen").iterdir())
        if damage == "gone":
            shutil.rmtree(tmp_path / "seen")
        elif damage == "short":
            os.truncate(seen, 16 + 16 * 59)
        else:
            seen.write_bytes(b"?" * (16 + 16 * 100))
        source = ResumableSource(script)
        assert (await world.sync(source, job=job, stop_after=20)).suspended
        assert source.given_checkpoint == 63
        source = ResumableSource(script)  # that part of the seen set was lost is not forgotten at the next checkpoint
        result = await world.sync(source, job=job)
        assert source.given_checkpoint == 75
        assert (result.counters.read, result.counters.vanished, result.needs_full) == (70, 0, True)
        assert "d900" in world.indexed
        result = await world.sync(ResumableSource(script))
        assert (result.counters.vanished, result.needs_full) == (1, False)

    run_virtual(scenario())


@pytest.mark.parametrize("change", ["configuration", "job", "uuid"])
def test_a_checkpoint_is_used_only_for_the_same_job_configuration_and_index(tmp_path: Path, change: str) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        script = [*documents(range(30)), Checkpoint(31), 2, *documents(range(30, 60)), 50]
        job = await world.job()
        assert (await world.sync(ResumableSource(script), job=job, stop_after=5)).suspended
        if change == "configuration":
            world.configuration = "configuration-2"
        elif change == "uuid":
            await world.destination.delete_index("i")
        else:
            await world.store.update_job(job.id, {"status": "canceled"}, statuses=["suspended"])
            job = await world.job()
        source = ResumableSource(script)
        result = await world.sync(source, job=job)
        assert source.given_checkpoint is None
        assert result.counters.read == 60
        assert len(world.indexed) == 60

    run_virtual(scenario())


def test_a_part_that_could_not_be_read_before_the_interruption_still_deletes_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        await world.sync(ResumableSource(documents([1, 2, 900])))
        script = [*documents([1]), Skipped("the folder b"), Checkpoint(3), 2, *documents([2]), 50]
        job = await world.job()
        assert (await world.sync(ResumableSource(script), job=job, stop_after=5)).suspended
        result = await world.sync(ResumableSource(script), job=job)
        assert result.counters.vanished == 0
        assert "d900" in world.indexed

    run_virtual(scenario())


@pytest.mark.parametrize(
    "error", [OSError("the share is gone"), RetryableError("busy"), ExceptionGroup("g", [OSError()])]
)
def test_after_an_error_of_the_source_what_was_read_is_kept_and_nothing_deleted(
    tmp_path: Path, error: Exception
) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        await world.sync(ResumableSource(documents([*range(20), 900])))
        lazy = Download({"body": "x"}, seconds=5)
        script = [*documents(range(300)), Checkpoint(301), ({"_id": "slow"}, lazy), *documents([400]), error]
        expected = OSError if isinstance(error, ExceptionGroup) else type(error)
        with pytest.raises(expected):
            await world.sync(ResumableSource(script))
        assert world.indexed.keys() == {*(f"d{n}" for n in range(300)), "d900", "d400", "slow"}
        assert checkpoints_of(world)[-1] == 301
        assert await world.ledger() == world.stamps()
        counters = Counters.from_dict((await world.store.jobs())[0].metadata["counters"])
        assert counters.balanced
        assert counters.read == 302

    run_virtual(scenario())


def test_a_store_that_fails_for_a_while_does_not_end_the_sync(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        failures = [RetryableError("busy")] * 5

        def failing(_: dict[str, Any]) -> None:
            if failures:
                raise failures.pop()

        world.store.on_commit = failing
        result = await world.sync(ResumableSource([*documents(range(5)), Checkpoint(6), 60, *documents([9])]))
        assert result.counters.indexed == 6
        assert not failures
        assert checkpoints_of(world) == [6]

    run_virtual(scenario())


def test_killed_after_the_last_deletion_and_before_its_end_is_stored_a_job_is_only_finished(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        await world.sync(ResumableSource(documents([*range(50), 900])))
        script = [*documents(range(50)), Checkpoint(51), 3, *documents([50])]
        job = await world.job()
        await run_sync(await world.context(ResumableSource(script), job))  # and its result is lost
        requests = len(world.destination.requests)
        source = ResumableSource(script)
        result = await world.sync(source, job=job)
        assert source.given_checkpoint == 51
        assert (result.counters.read, result.counters.unchanged, result.needs_full) == (51, 51, False)
        assert len(world.destination.requests) == requests

    run_virtual(scenario())


def test_a_commit_under_way_is_not_overtaken_by_the_last_one(tmp_path: Path) -> None:
    async def scenario() -> None:
        for pause in range(8):
            world = World(tmp_path / str(pause))
            world.store.seconds = 1.5
            script = [*documents(range(5)), Checkpoint(6), 3 + pause / 3, *documents([9])]
            await world.sync(ResumableSource(script))
            assert not world.store.cut_short

    run_virtual(scenario())


async def test_who_flushes_dead_letters_may_rely_on_those_that_another_is_storing() -> None:
    gate, store = asyncio.Event(), RecordingStore()
    add = store.add_dead_letters

    async def slow(letters: Sequence[DeadLetter]) -> None:
        await gate.wait()
        await add(letters)

    store.add_dead_letters = slow  # type: ignore[method-assign]  # a fault, put in on purpose
    letters = DeadLetters(store, "c", "job", limit=10, patience=1.0, runtime=InlineRuntime())
    letters.add("a", "index", "reason", b"{}")
    cancelled = asyncio.create_task(letters.flush())
    await asyncio.sleep(0)
    cancelled.cancel()
    await asyncio.wait([cancelled])
    first, second = asyncio.create_task(letters.flush()), asyncio.create_task(letters.flush())
    await asyncio.wait([first, second], timeout=0.01)
    assert not first.done()
    assert not second.done()
    gate.set()
    await asyncio.gather(first, second)
    gate.clear()
    letters.add("b", "index", "reason", b"{}")
    first = asyncio.create_task(letters.flush())
    await asyncio.sleep(0)
    letters.healed("b")  # while its letter is on its way to the store
    second = asyncio.create_task(letters.flush())
    await asyncio.wait([first, second], timeout=0.01)
    gate.set()
    await asyncio.gather(first, second)
    assert await store.dead_letter_ids("c") == {"a": "job"}
