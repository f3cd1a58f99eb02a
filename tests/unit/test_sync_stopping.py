"""Suspending and cancelling a sync, at whatever moment: nothing is left behind."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import pytest

from connectors.backends.ports import FailureKind
from connectors.errors import RetryableError, SkippableError, SuspendSync
from connectors.runtime import Runtime
from connectors.source import Checkpoint
from connectors.sync.context import SyncResult
from connectors.sync.engine import run_sync
from tests.support.clock import InlineRuntime, run_virtual
from tests.support.sources import Download, ResumableSource, ScriptedSource, checkpointed, documents
from tests.support.world import World

P = ParamSpec("P")
T = TypeVar("T")


def suffixes(folder: Path) -> set[str]:
    return {path.suffix for path in folder.iterdir() if path.is_file()}


def open_files(folder: Path) -> list[str]:
    """Returns the files of the folder that this process has open."""
    found = []
    for link in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # the listing's own is gone by now
            found.append(str(link.readlink()))
    return [name for name in found if name.startswith(f"{folder}/")]


def test_asked_to_stop_before_it_began_a_sync_reads_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        source = ResumableSource([0.1, *documents(range(5))])
        context = await world.context(source, await world.job())
        context.stop.set()
        result = await run_sync(context)
        assert result.suspended
        assert (result.counters.read, source.yielded) == (0, 0)

    run_virtual(scenario())


def test_suspending_sends_on_what_was_read(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        lazy = Download({"body": "x"}, seconds=3)
        script = [*documents(range(10)), ({"_id": "slow"}, lazy), 0.5, *documents([11]), 1000]
        result = await world.sync(ScriptedSource(script), stop_after=0.7)
        assert result.suspended
        assert (result.counters.read, result.counters.indexed) == (12, 12)
        assert len(world.indexed) == 12
        assert suffixes(tmp_path) == {".json", ".bin"}

    run_virtual(scenario())


@pytest.mark.parametrize("stuck", ["writes", "downloads"])
def test_suspending_takes_no_longer_than_the_drain_timeout(tmp_path: Path, stuck: str) -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        world = World(tmp_path, batch_documents=10, concurrent_downloads=2)
        world.destination.delay = lambda number: 1000 if number and stuck == "writes" else 0
        lazies = {n: Download({"body": "x"}, seconds=500) for n in range(50, 100)}
        source = ResumableSource(
            [*documents(range(50)), Checkpoint(51), 2, *documents(range(50, 100), lazy=lazies.get)]
        )
        started = loop.time()
        result = await world.sync(source, stop_after=5)
        assert result.suspended
        assert result.counters.balanced
        assert loop.time() - started < 5 + world.drain_timeout + 1
        assert len(asyncio.all_tasks()) == 1
        world.destination.delay = lambda _: 0
        lazies.clear()
        await world.sync(ResumableSource(documents(range(100))))
        assert len(world.indexed) == 100

    run_virtual(scenario())


def test_a_stop_during_the_deletion_suspends_and_the_vanished_are_counted_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path, max_delete_ratio=1.0, batch_documents=500)
        await world.sync(ResumableSource(documents(range(6000))))
        world.destination.delay = lambda _: 4.0
        world.drain_timeout = 0.5
        script = [*documents(range(1000)), Checkpoint(1001)]
        job = await world.job()
        results: list[SyncResult] = []
        while not results or results[-1].suspended:
            results.append(await world.sync(ResumableSource(script), job=job, stop_after=5))
        assert len(results) >= 5
        assert results[-1].counters.balanced
        assert (results[-1].counters.read, results[-1].counters.vanished) == (1000, 5000)
        assert len(world.indexed) == 1000

    run_virtual(scenario())


class Deaf(ResumableSource):
    """A library swallows its first cancellations, as `wait_for` of Python 3.11 may."""

    def __init__(self, swallowed: int) -> None:
        super().__init__(
            [*documents(range(5)), self._hear_nothing, *documents(range(5, 500), lazy=lambda _: Download())]
        )
        self.swallowed = swallowed

    async def _hear_nothing(self) -> None:
        while self.swallowed:
            try:
                await asyncio.sleep(1000)
            except asyncio.CancelledError:
                self.swallowed -= 1
        await asyncio.sleep(1000)


def test_a_source_that_swallows_a_cancellation_does_not_hold_up_suspending(tmp_path: Path) -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        world = World(tmp_path)
        world.drain_timeout = 100.0
        result = await world.sync(Deaf(2), stop_after=5)
        assert result.suspended
        assert (result.counters.read, result.counters.indexed) == (5, 5)
        assert loop.time() < 5 + 3

    run_virtual(scenario())


def test_a_source_that_swallows_a_cancellation_does_not_hold_up_a_cancelled_sync(tmp_path: Path) -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        world = World(tmp_path)
        assert await world.kill(Deaf(3), after=5)
        assert loop.time() < 5 + 4
        assert len(asyncio.all_tasks()) == 1

    run_virtual(scenario())


@pytest.mark.parametrize("seed", range(12))
def test_cancelled_anywhere_nothing_is_left_behind_and_the_next_sync_converges(tmp_path: Path, seed: int) -> None:
    async def scenario() -> None:
        world = World(tmp_path, batch_documents=8, writes_in_flight=3, concurrent_downloads=2, max_delete_ratio=1.0)
        world.runtime.random.seed(seed)
        random = world.runtime.random
        world.destination.delay = lambda _: random.random()
        world.destination.verdict = lambda *_: FailureKind.OVERLOADED if random.random() < 0.2 else None
        await world.sync(ResumableSource(documents(range(40))))
        bad = SkippableError("broken")
        for edition in range(2, 8):
            lazies = {
                n: Download({"e": edition}, seconds=random.random(), error=[None, bad][n % 9 == 0]) for n in range(20)
            }
            listing = documents(range(edition, 40 + edition * 5), edition=edition, lazy=lazies.get)
            script = checkpointed(listing, 9, pause=random.random() / 10)
            await world.kill(ResumableSource(script), after=random.random() * 8)
            assert len(asyncio.all_tasks()) == 1
            assert not [name for name in open_files(tmp_path) if name.endswith((".log", ".seen", ".stamps"))]
        result = await world.sync(ResumableSource(documents(range(10, 50), edition=9)))
        assert result.counters.balanced
        assert {id_: document["edition"] for id_, document in world.indexed.items()} == {
            f"d{n}": 9 for n in range(10, 50)
        }
        assert await world.ledger() == world.stamps()
        assert suffixes(tmp_path) == {".json", ".bin"}

    run_virtual(scenario())


def test_a_store_that_is_away_does_not_hold_up_suspending(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        started = asyncio.get_running_loop().time()

        def failing(_: dict[str, Any]) -> None:
            if world.stop.is_set():
                raise RetryableError("busy")

        world.store.on_commit = failing
        with pytest.raises(SuspendSync, match="storing the progress of c failed for 10s: busy"):
            await world.sync(ResumableSource([*documents(range(5)), 100]), stop_after=5)
        assert asyncio.get_running_loop().time() - started < 5 + world.drain_timeout + 1

    run_virtual(scenario())


def test_cancelled_while_a_thread_merges_the_ledger_the_sync_waits_for_its_end(tmp_path: Path) -> None:
    started, gate, ended = asyncio.Event(), threading.Event(), threading.Event()

    class Gated(InlineRuntime):
        async def in_thread(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
            def work() -> T:
                gate.wait(10)
                try:
                    return function(*args, **kwargs)
                finally:
                    ended.set()

            if function.__name__ != "merge":
                return function(*args, **kwargs)
            started.set()
            return await asyncio.to_thread(work)

    async def scenario() -> None:
        world = World(tmp_path)
        world.runtime = Gated()
        running = asyncio.create_task(world.sync(ScriptedSource(documents(range(5)))))
        await started.wait()
        for _ in range(2):  # a second wish changes nothing
            running.cancel()
            await asyncio.wait([running], timeout=0.05)
            assert not running.done()
        gate.set()
        await asyncio.wait([running])
        assert running.cancelled()
        assert ended.is_set()
        assert await world.ledger() == world.stamps()

    asyncio.run(scenario())


def test_cancelled_while_real_threads_work_the_next_sync_converges(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path, batch_documents=20, checkpoint_interval=0.001, flush_interval=0.01)
        world.runtime = Runtime()
        for edition in range(1, 13):
            script = checkpointed(documents(range(200), edition=edition), 10, pause=0.0001)
            await world.kill(ResumableSource(script), after=edition / 200)
        result = await world.sync(ResumableSource(documents(range(150), edition=99)), allow_deletes=200)
        assert result.counters.balanced
        assert {document["edition"] for document in world.indexed.values()} == {99}
        assert len(world.indexed) == 150
        assert await world.ledger() == world.stamps()
        assert suffixes(tmp_path) == {".json", ".bin"}

    asyncio.run(scenario())
