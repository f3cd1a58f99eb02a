"""Writing: batches, several in flight, back-pressure, patience, leases, and the loop that is given back."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from connectors.backends.ports import Failure, FailureKind, Operation
from connectors.errors import IndexChangedError, LeaseLostError, SuspendSync
from connectors.source import Checkpoint, Skipped
from connectors.sync.counters import Counters
from connectors.sync.engine import run_sync
from connectors.sync.page import PAGE_DOCUMENTS
from tests.support.clock import run_virtual
from tests.support.sources import Download, ResumableSource, ScriptedSource, documents
from tests.support.world import World


def size_of(operations: Sequence[Operation]) -> int:
    return sum(len(operation.body or b"") for operation in operations)


def test_batches_are_cut_by_bytes_and_by_number(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path, batch_bytes=50_000, batch_documents=100)
        large = [({"_id": f"l{n}", "x": "y" * 9_000}, None) for n in range(30)]
        await world.sync(ScriptedSource([*large, *documents(range(350))]))
        requests = world.destination.requests
        assert [len(request) for request in requests[:5]] == [5] * 5
        assert [len(request) for request in requests[6:-1]] == [100] * (len(requests) - 7)
        assert max(map(size_of, requests)) <= 50_000
        assert sum(map(len, requests)) == 380

    run_virtual(scenario())


def test_batches_are_as_large_as_the_pace_allows(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path, batch_bytes=5_000_000)
        world.destination.delay = lambda _: 1.0
        await world.sync(ScriptedSource([({"_id": f"d{n}", "x": "y" * 100_000}, None) for n in range(60)]))
        assert [len(request) for request in world.destination.requests] == [19, 19, 19, 3]

    run_virtual(scenario())


class Gauge:
    """An observer that keeps how many operations wait."""

    def __init__(self) -> None:
        self.queued: list[int] = []

    def begin(self, connector_id: str, counters: Counters) -> None:
        pass

    def progress(self, connector_id: str, counters: Counters, queued: int) -> None:
        self.queued.append(queued)

    def stalled(self, connector_id: str, seconds: float) -> None:
        pass


def test_what_waits_is_told_and_bounded(tmp_path: Path) -> None:
    async def scenario() -> None:
        world, gauge = World(tmp_path, batch_documents=100, writes_in_flight=1), Gauge()
        world.destination.delay = lambda _: 10.0
        context = await world.context(ScriptedSource(documents(range(1000))), await world.job())
        context.observer = gauge
        await run_sync(context)
        assert gauge.queued[0] == PAGE_DOCUMENTS - 100  # a page was read, and a batch of it is on its way
        assert max(gauge.queued) <= PAGE_DOCUMENTS + 200  # with less than two batches waiting, another page is read
        assert gauge.queued[-1] == 0

    run_virtual(scenario())


def test_a_document_that_is_larger_than_a_batch_goes_alone(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path, batch_bytes=5_000)
        items = [*documents(range(3)), ({"_id": "large", "x": "y" * 20_000}, None), *documents(range(3, 6))]
        await world.sync(ScriptedSource(items))
        assert [[operation.id for operation in request] for request in world.destination.requests] == [
            ["d0", "d1", "d2"], ["large"], ["d3", "d4", "d5"],
        ]  # fmt: skip

    run_virtual(scenario())


def test_a_batch_that_timed_out_is_sent_again_in_smaller_parts(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path, batch_bytes=5_000_000)
        world.destination.delay = lambda number: 60.0 if number == 0 else 0.1
        world.destination.down = lambda number: number == 0
        world.destination.verdict = lambda number, op: FailureKind.OVERLOADED if (number, op.id) == (1, "d3") else None
        result = await world.sync(ScriptedSource([({"_id": f"d{n}", "x": "y" * 100_000}, None) for n in range(18)]))
        assert result.counters.indexed == 18
        whole, *parts = world.destination.requests
        assert len(whole) == 18
        assert max(map(size_of, parts)) <= 1_000_000
        # One item of the first part is not taken for now, and goes with the rest, in parts that are smaller again.
        assert [len(part) for part in parts] == [9, 4, 4, 2]
        again = [operation.id for part in parts[1:] for operation in part]
        assert again == ["d3", *(f"d{n}" for n in range(9, 18))]

    run_virtual(scenario())


def test_only_the_items_that_were_not_taken_are_sent_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        world.destination.verdict = lambda number, op: (
            Failure(FailureKind.OVERLOADED, "429") if number < 3 and int(op.id[1:]) % 2 ** (number + 1) == 0 else None
        )
        result = await world.sync(ScriptedSource(documents(range(16))))
        assert [len(request) for request in world.destination.requests] == [16, 8, 4, 2]
        assert [operation.id for operation in world.destination.requests[3]] == ["d0", "d8"]
        assert result.counters.indexed == 16
        assert result.counters.balanced

    run_virtual(scenario())


def test_a_cut_connection_is_tried_again_as_it_was(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        world.destination.cut = lambda number: number < 3
        result = await world.sync(ScriptedSource(documents(range(5))))
        assert result.counters.indexed == 5
        assert world.destination.requests == [world.destination.requests[0]] * 4

    run_virtual(scenario())


def test_patience_outlasts_an_outage_that_is_shorter(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        loop = asyncio.get_running_loop()
        world.destination.down = lambda _: loop.time() < 590
        result = await world.sync(ScriptedSource(documents(range(5))))
        assert result.counters.indexed == 5
        assert 20 < len(world.destination.requests) < 200
        gaps = [
            later - sooner for sooner, later in zip(world.destination.times, world.destination.times[1:], strict=False)
        ]
        assert max(gaps) <= 30

    run_virtual(scenario())


@pytest.mark.parametrize("kind", ["down", "overloaded"])
def test_an_outage_that_is_longer_suspends_and_the_job_goes_on_later(tmp_path: Path, kind: str) -> None:
    async def scenario() -> None:
        world = World(tmp_path, batch_documents=10)
        loop = asyncio.get_running_loop()
        script = [*documents(range(50)), Checkpoint(51), 3, *documents(range(50, 1000))]
        if kind == "down":
            world.destination.down = lambda _: loop.time() > 2
        else:
            world.destination.verdict = lambda *_: FailureKind.OVERLOADED if loop.time() > 2 else None
        job = await world.job()
        with pytest.raises(SuspendSync, match="writing to i failed for 10m"):
            await world.sync(ResumableSource(script), job=job)
        assert 600 < loop.time() < 640
        assert len(world.indexed) == 50
        world.destination.down, world.destination.verdict = (lambda _: False), (lambda *_: None)
        source = ResumableSource(script)
        result = await world.sync(source, job=job)
        assert source.given_checkpoint == 51
        assert (result.counters.read, result.counters.indexed) == (1000, 1000)

    run_virtual(scenario())


def test_patience_begins_anew_with_each_success(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path, retry_patience=60)
        loop = asyncio.get_running_loop()
        # One document is taken a minute.
        world.destination.verdict = lambda _, op: FailureKind.OVERLOADED if loop.time() < 50 * int(op.id[1:]) else None
        result = await world.sync(ScriptedSource(documents(range(8))))
        assert result.counters.indexed == 8
        assert loop.time() > 300

    run_virtual(scenario())


def test_searching_what_vanished_is_tried_again_too(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        await world.sync(ScriptedSource(documents(range(5))))
        world.destination.failing_reads = 4
        assert (await world.sync(ScriptedSource(documents(range(3))))).counters.vanished == 2

    run_virtual(scenario())


def test_an_outage_bounds_how_far_the_source_is_read(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        world.destination.down = lambda _: True
        source = ScriptedSource([({"_id": f"d{n}", "x": "y" * 100_000}, None) for n in range(200)])
        await world.kill(source, after=500)
        # Two batches that were under way, two that wait, one that fills, of 19 each.
        assert source.yielded <= 5 * 19

    run_virtual(scenario())


@pytest.mark.parametrize("lazy", [False, True])
def test_a_slow_destination_bounds_how_far_the_source_is_read(tmp_path: Path, lazy: bool) -> None:
    async def scenario() -> None:
        world = World(tmp_path, batch_bytes=100_000, concurrent_downloads=4)
        world.destination.delay = lambda _: 1000.0
        text = "y" * 10_000
        items: list[Any] = [
            ({"_id": f"d{n}"}, Download({"body": text})) if lazy else ({"_id": f"d{n}", "x": text}, None)
            for n in range(5000)
        ]
        source = ScriptedSource(items)
        await world.kill(source, after=100)
        assert len(world.destination.requests) == 2
        # Two requests under way, two ready, one that fills, and a page (of which downloads count by their number).
        bound = 5 * 100_000 // 10_000 + (4 + 2 * 512 if lazy else 2 * 1_000_000 // 10_000)
        assert source.yielded <= bound
        fetched = sum(download.done for _, download in items if lazy)
        assert fetched <= 5 * 10 + 4

    run_virtual(scenario())


def test_several_writes_are_in_flight_but_no_more_than_allowed(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path, batch_documents=10, writes_in_flight=3)
        world.destination.delay = lambda _: 1.0
        await world.sync(ScriptedSource(documents(range(200))))
        assert world.destination.most_in_flight == 3

    run_virtual(scenario())


def test_downloads_are_bounded(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path, concurrent_downloads=5)
        running = most = 0

        async def lazy(*, doit: bool = True, timestamp: Any = None) -> None:
            nonlocal running, most
            running += 1
            most = max(most, running)
            await asyncio.sleep(1)
            running -= 1

        result = await world.sync(ScriptedSource(documents(range(40), lazy=lambda _: lazy)))
        assert result.counters.indexed == 40
        assert most == 5

    run_virtual(scenario())


def test_documents_of_a_slow_source_arrive_within_about_a_second(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        await world.sync(ScriptedSource(part for item in documents(range(20)) for part in (item, 0.7)))
        arrival = {
            operation.id: at
            for request, at in zip(world.destination.requests, world.destination.times, strict=True)
            for operation in request
        }
        assert max(arrival[f"d{n}"] - 0.7 * n for n in range(20)) < 1.3

    run_virtual(scenario())


def test_an_index_that_is_made_anew_ends_the_sync(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path)

        async def meddle() -> None:
            await asyncio.sleep(3)
            await world.destination.delete_index("i")

        with pytest.raises(IndexChangedError):
            await world.sync(ScriptedSource([*documents(range(5)), meddle, *documents([9]), 50]))
        result = await world.sync(ScriptedSource(documents(range(5))))
        assert result.counters.indexed == 5

    run_virtual(scenario())


def test_without_the_lease_nothing_more_is_sent(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path, checkpoint_interval=3600)

        def lose() -> None:
            world.lost = True

        with pytest.raises(LeaseLostError):
            await world.sync(ScriptedSource([*documents(range(5)), 5, lose, *documents(range(5, 10)), 50]))
        assert len(world.destination.requests) == 1
        assert sorted(world.indexed) == [f"d{n}" for n in range(5)]

    run_virtual(scenario())


class Greedy(ScriptedSource):
    """Never awaits."""

    def __init__(self, kind: str) -> None:
        super().__init__([])
        self.kind = kind

    async def get_docs(self, filtering: Any = None, *, checkpoint: Any = None) -> AsyncIterator[Any]:
        for number in range(20_000):
            if self.kind == "skipped":
                yield Skipped("unreadable", f"d{number}")
            elif self.kind == "checkpoints":
                yield Checkpoint(number)
            else:
                yield {"_id": f"d{number}", "number": number, "draft": self.kind == "filtered"}, None


@pytest.mark.parametrize("kind", ["documents", "filtered", "skipped", "checkpoints"])
def test_the_loop_is_given_back_by_a_source_that_never_awaits(tmp_path: Path, kind: str) -> None:
    async def scenario() -> float:
        world = World(tmp_path, max_dead_letters=30_000)
        world.rules = [
            {"id": "1", "order": 1, "policy": "exclude", "field": "draft", "rule": "equals", "value": "true"}
        ]
        longest, last = 0.0, time.thread_time()

        async def watch() -> None:
            nonlocal longest, last
            while True:
                await asyncio.sleep(0)
                longest, last = max(longest, (now := time.thread_time()) - last), now

        watching = asyncio.create_task(watch())
        await world.sync(Greedy(kind))
        watching.cancel()
        return longest

    # The time of this thread alone, and without collections of what the other tests left: the machine may be busy.
    gc.disable()
    try:
        assert asyncio.run(scenario()) < 0.05
    finally:
        gc.enable()
