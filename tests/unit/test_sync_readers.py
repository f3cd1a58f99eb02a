"""Several readers of one source: their pages become one sync, with the same promises."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from connectors.errors import ConfigurationError, RetryableError, SkippableError, SyncError
from connectors.source import Skipped
from connectors.sync import readers
from connectors.sync.page import PAGE_DOCUMENTS
from connectors.sync.reading import Reader
from connectors.sync.split import Split
from tests.support.clock import run_virtual
from tests.support.readers import InLoopReaders, PartitionedSource
from tests.support.sources import Download, ResumableSource, checkpointed, documents
from tests.support.world import World

RULES = [{"id": "1", "order": 1, "policy": "exclude", "field": "draft", "rule": "equals", "value": "true"}]


@pytest.fixture(autouse=True)
def always_worthwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "_WORTHWHILE", 0)


def parts(number: int = 4, each: int = 300, *, every: int = 50, pause: float = 0.0, **more: Any) -> list[list[Any]]:
    return [
        checkpointed(documents(range(part * each, (part + 1) * each), **more), every, pause=pause)
        for part in range(number)
    ]


def world_of(folder: Path, source: PartitionedSource, number: int = 2, **config: Any) -> tuple[World, InLoopReaders]:
    world = World(folder, **config)
    staff = InLoopReaders(source, number, world.rules)
    world.readers = staff.plan
    return world, staff


def play(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    run_virtual(scenario())


def test_what_several_read_is_one_sync(tmp_path: Path) -> None:
    async def scenario() -> None:
        source = PartitionedSource(parts(), cursor={"lsn": 7})
        world, staff = world_of(tmp_path, source)
        result = await world.sync(source)
        assert (result.counters.read, result.counters.indexed, result.cursor) == (1200, 1200, {"lsn": 7})
        assert len(world.indexed) == 1200
        assert sorted(part for part, _ in source.begun) == [0, 1, 2, 3]
        assert len(staff.started) == 2
        assert not staff.alive
        again = await world.sync(source)
        assert (again.counters.read, again.counters.unchanged, again.counters.vanished) == (1200, 1200, 0)
        assert source.asked == 2

    play(scenario)


def test_what_vanished_goes_only_when_all_partitions_are_complete(tmp_path: Path) -> None:
    async def scenario() -> None:
        source = PartitionedSource(parts())
        world, _ = world_of(tmp_path, source, max_delete_ratio=1.0)
        await world.sync(source)
        source.scripts = parts(each=200)  # the last hundred of each are gone, and a part of them cannot be read
        source.scripts[3].append(Skipped("a folder is closed"))
        result = await world.sync(source)
        assert (result.counters.vanished, result.incomplete) == (0, ["a folder is closed"])
        source.scripts[3].pop()
        result = await world.sync(source)
        assert result.counters.vanished == len({*range(1200)} - {*range(800)})
        assert len(world.indexed) == 800

    play(scenario)


def test_rules_downloads_and_refusals_count_as_ever(tmp_path: Path) -> None:
    async def scenario() -> None:
        good, bad, idle = Download({"body": "text"}), Download(error=SkippableError("broken")), Download()
        scripts: list[list[Any]] = [
            [({"_id": "a", "_timestamp": 1, "draft": True}, idle), ({"_id": "b", "_timestamp": 1, "n": 1.5}, good)],
            [({"_id": "c", "_timestamp": 1}, bad), ({"_id": "d", "x": object()}, None), Skipped("closed", "e")],
            [({"_id": "f"}, None), ({"_id": "b", "_timestamp": 1, "n": 1.5}, good)],
        ]
        source = PartitionedSource(scripts)
        world, _ = world_of(tmp_path, source)
        world.rules = RULES
        world.readers = InLoopReaders(source, 2, world.rules).plan
        counters = (await world.sync(source)).counters
        assert counters.balanced
        assert (counters.read, counters.filtered, counters.dead_lettered) == (7, 1, 3)
        assert (counters.indexed, counters.duplicate) == (2, 1)
        assert world.indexed["b"] == {"_timestamp": 1, "n": 1.5, "body": "text"}
        assert await world.letters() == {
            "c": "broken",
            "d": "the document cannot be encoded: Type is not JSON serializable: object",
            "e": "closed",
        }
        assert (good.done, idle.done, idle.released) == (2, 0, 0)
        counters = (await world.sync(source)).counters
        assert (counters.unchanged, counters.duplicate, good.released) == (2, 1, 1)

    play(scenario)


def test_suspended_and_resumed_it_reads_the_same_parts_to_their_ends(tmp_path: Path) -> None:
    async def scenario() -> None:
        source = PartitionedSource(parts(pause=0.01), cursor=1)
        world, staff = world_of(tmp_path, source)
        job = await world.job()
        result = await world.sync(source, job=job, stop_after=2)
        assert result.suspended
        assert not staff.alive
        saved = (await world.store.state("c")).data["progress"]
        split = Split.of(saved["checkpoint"])
        assert split is not None
        assert split.open == [0, 1, 2, 3]
        assert {split.assignment(number)[1] is None for number in (0, 1, 2, 3)} == {True, False}
        # Another split, and another position, would be named now.
        later = PartitionedSource([*parts(pause=0.01), []], cursor=2)
        world.readers = InLoopReaders(later).plan
        result = await world.sync(later, job=job)
        assert (later.asked, result.cursor) == (0, 1)
        assert result.counters.balanced
        assert result.counters.read == 1200
        assert len(world.indexed) == 1200
        # What was under way, and about a second of work: it was written, and is met again.
        assert result.counters.indexed == 1200 - result.counters.unchanged
        assert result.counters.unchanged < 300
        assert any(checkpoint for _, checkpoint in later.begun)

    play(scenario)


def test_a_partition_whose_checkpoints_are_seldom_is_counted_once_all_the_same(tmp_path: Path) -> None:
    """What it read waits a second for a checkpoint, then is taken; till the checkpoint comes, none covers the whole."""

    async def scenario() -> None:
        scripts = [
            checkpointed(documents(range(40)), 20, pause=0.3),
            checkpointed(documents(range(100, 400)), 10, pause=0.03),
        ]
        source = PartitionedSource(scripts)
        world, _ = world_of(tmp_path, source)
        job = await world.job()
        for _ in range(3):
            result = await world.sync(source, job=job, stop_after=4)
            if not result.suspended:
                break
        else:
            result = await world.sync(source, job=job)
        assert result.counters.balanced
        assert (result.counters.read, result.counters.duplicate) == (340, 0)
        assert len(world.indexed) == 340

    play(scenario)


@pytest.mark.parametrize("seconds", [0.7, 2.5])  # a sync that ends is told so again every second
def test_what_is_being_fetched_at_a_stop_is_still_written(tmp_path: Path, seconds: float) -> None:
    async def scenario() -> None:
        lazy = Download({"body": "text"}, seconds=seconds)
        source = PartitionedSource(parts(2, 40, every=4, pause=0.1, lazy=lambda _: lazy))
        world, staff = world_of(tmp_path, source)
        result = await world.sync(source, stop_after=2)
        assert result.suspended
        assert asyncio.get_running_loop().time() < 3.3 + seconds, "nothing is waited for that will never come"
        assert result.counters.read == result.counters.indexed == len(world.indexed) == lazy.done
        assert not staff.alive

    play(scenario)


def test_no_checkpoint_runs_ahead_of_what_was_acknowledged(tmp_path: Path) -> None:
    async def scenario() -> None:
        source = PartitionedSource(parts(pause=0.01))
        world, _ = world_of(tmp_path, source)
        world.destination.answer_delay = lambda number: 3.0 if number % 3 else 0.0
        seen = 0

        def look(changes: dict[str, Any]) -> None:
            nonlocal seen
            progress = (changes["state"] or {}).get("progress")
            split = Split.of(progress["checkpoint"]) if progress else None
            if split is None:
                return
            seen += 1
            for part in range(4):
                script = source.scripts[part]
                reached = split.assignment(part)[1] or 0 if part in split.open else len(script)
                covered = {item[0]["_id"] for item in script[:reached] if isinstance(item, tuple)}
                assert covered <= world.indexed.keys()

        world.store.on_commit = look
        await world.sync(source)
        assert seen > 1

    play(scenario)


def test_a_killed_reader_is_replaced_and_goes_on_behind_its_last_checkpoint(tmp_path: Path) -> None:
    async def scenario() -> None:
        source = PartitionedSource(parts(pause=0.01))
        world, staff = world_of(tmp_path, source)
        killed = 0

        async def kill() -> None:
            nonlocal killed
            killed += 1
            await staff.alive[0].kill()

        source.scripts[1].insert(400, lambda: kill() if killed == 0 else None)
        source.scripts[2].insert(10, lambda: kill() if killed == 1 else None)
        counters = (await world.sync(source)).counters
        assert killed == 2
        assert counters.balanced
        assert counters.indexed + counters.duplicate == counters.read
        assert counters.indexed == len(world.indexed) == 1200
        assert counters.duplicate < 600
        assert len(staff.started) == 4
        assert any(checkpoint for _, checkpoint in source.begun)
        assert not staff.alive

    play(scenario)


def test_readers_that_die_again_and_again_end_the_sync_and_nothing_is_deleted(tmp_path: Path) -> None:
    async def scenario() -> None:
        source = PartitionedSource(parts(2))
        world, staff = world_of(tmp_path, source)
        await world.sync(source)

        async def kill() -> None:
            for reader in staff.alive:
                await reader.kill()

        source.scripts = [[], [1, kill]]
        with pytest.raises(RetryableError, match="part 2 of the source do not last: ended by SIGKILL"):
            await world.sync(source)
        assert source.begun.count((1, None)) == 1 + 3
        assert len(world.indexed) == 600
        assert not staff.alive

    play(scenario)


def test_a_reader_that_dies_with_files_to_be_fetched_costs_no_document(tmp_path: Path) -> None:
    async def scenario() -> None:
        slow = Download({"body": "text"}, seconds=60)
        source = PartitionedSource([documents(range(3), lazy=lambda _: slow), []])
        world, staff = world_of(tmp_path, source)
        source.scripts[0] += [5, lambda: [reader.task.cancel() for reader in staff.alive]]
        with pytest.raises(RetryableError, match="is lost with files yet to be fetched"):
            await world.sync(source)
        assert await world.letters() == {}

    play(scenario)


@pytest.mark.parametrize(
    "error",
    [RetryableError("away", retry_after=7.0), ConfigurationError("wrong", field="password"), SyncError("no")],
    ids=lambda error: type(error).__name__,
)
def test_an_error_of_the_source_comes_through_as_it_is(tmp_path: Path, error: Exception) -> None:
    async def scenario() -> None:
        source = PartitionedSource([*parts(3), [*documents(range(2000, 2010)), error]])
        world, staff = world_of(tmp_path, source)
        with pytest.raises(type(error), match=str(error)) as caught:
            await world.sync(source)
        assert vars(caught.value) == vars(error)
        assert "d2009" in world.indexed, "what was read before it is kept"
        assert not staff.alive

    play(scenario)


def test_a_defect_of_the_source_tells_its_name_and_its_place(tmp_path: Path) -> None:
    async def scenario() -> None:
        source = PartitionedSource([[], [KeyError("column")]])
        world, _ = world_of(tmp_path, source)
        with pytest.raises(Exception, match="column") as caught:
            await world.sync(source)
        assert type(caught.value).__name__ == "KeyError"
        assert "_play" in caught.value.__notes__[0]

    play(scenario)


def test_what_is_read_ahead_is_bounded(tmp_path: Path) -> None:
    async def scenario() -> None:
        source = PartitionedSource(parts(2, 20_000, every=1000))
        world, _ = world_of(tmp_path, source, batch_documents=100, writes_in_flight=1)
        world.destination.answer_delay = lambda _: 1.0
        result = await world.sync(source, stop_after=20)
        assert result.suspended
        assert source.yielded < PAGE_DOCUMENTS * (2 * 8 + 12) + 2000

    play(scenario)


def test_a_sync_that_began_alone_goes_on_alone(tmp_path: Path) -> None:
    async def scenario() -> None:
        script = checkpointed(documents(range(300)), 50, pause=0.01)
        world = World(tmp_path)
        job = await world.job()
        assert (await world.sync(ResumableSource(script), job=job, stop_after=1.5)).suspended
        source = PartitionedSource([script, []])
        world.readers = InLoopReaders(source).plan
        result = await world.sync(source, job=job)
        assert (source.asked, result.counters.read) == (0, 300)

    play(scenario)


NONSENSE = [b"", b"X", b"P\0\0\0\2{}", b"P\0\0\0\1[", b"S\0\0\0\4null", b"L\0\0\0\2[]", b"E\0\0\0\2{}"]


def test_a_source_that_cannot_be_made_there_ends_the_sync(tmp_path: Path) -> None:
    async def scenario() -> None:
        source = PartitionedSource(parts())
        world, staff = world_of(tmp_path, source)

        def build() -> Any:
            raise ConfigurationError("its library is missing", field="host")

        staff.job = replace(staff.job, build=build)
        with pytest.raises(ConfigurationError, match="its library is missing"):
            await world.sync(source)
        assert not staff.alive

    play(scenario)


def test_nothing_goes_on_where_a_part_of_a_reader_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        source = PartitionedSource(parts(pause=0.5))
        world, _ = world_of(tmp_path, source)

        async def fail(_: Any) -> None:
            raise RuntimeError("a page could not be sent")

        monkeypatch.setattr(Reader, "_tick", fail)
        with pytest.raises(RetryableError, match="do not last"):
            await world.sync(source)
        assert world.indexed == {}

    play(scenario)


@pytest.mark.parametrize("content", NONSENSE)
def test_a_reader_that_sends_nonsense_ends_the_sync(tmp_path: Path, content: bytes) -> None:
    async def scenario() -> None:
        source = PartitionedSource(parts())
        world, staff = world_of(tmp_path, source)
        await world.sync(source)
        source.scripts[0] = [lambda: staff.alive[0]._theirs.send(len(content).to_bytes(4, "big") + content), 5]
        with pytest.raises(SyncError, match="cannot be understood"):
            await world.sync(source)
        assert len(world.indexed) == 1200

    play(scenario)
