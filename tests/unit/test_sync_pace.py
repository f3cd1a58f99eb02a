"""Syncs and the pace that they share: sizes that were refused, times that a destination names, and whose turn it is."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from connectors.backends.ports import Failure, FailureKind, IndexHandle, Operation, WriteResult
from connectors.byoc import SyncJob
from connectors.source import BaseDataSource
from connectors.sync.context import SyncContext
from connectors.sync.limits import FlightLimit
from tests.support.clock import run_virtual
from tests.support.destination import FaultyDestination
from tests.support.sources import ScriptedSource, documents
from tests.support.world import World


def size_of(operations: Sequence[Operation]) -> int:
    return sum(len(operation.body or b"") for operation in operations)


class SharingWorld(World):
    """Its syncs share a limit."""

    def __init__(self, folder: Path, *, limit: FlightLimit | None = None, **options: Any) -> None:
        super().__init__(folder, **options)
        self.limit = limit or FlightLimit(8, 64_000_000)

    async def context(self, source: BaseDataSource, job: SyncJob) -> SyncContext:
        return replace(await super().context(source, job), limit=self.limit)


class Narrow(FaultyDestination):
    """Takes no body above 60,000 bytes, and then does what the destination of a search server does."""

    too_large = 0

    async def write(self, handle: IndexHandle, operations: Sequence[Operation]) -> WriteResult:
        size, middle = size_of(operations), len(operations) // 2
        if size <= 60_000:
            return await super().write(handle, operations)
        self.too_large += 1
        if not middle:
            return WriteResult({0: Failure(FailureKind.REFUSED, "413")}, too_large=size)
        first, second = await self.write(handle, operations[:middle]), await self.write(handle, operations[middle:])
        failures = {**first.failures, **{middle + at: failure for at, failure in second.failures.items()}}
        return WriteResult(failures, too_large=min(filter(None, (first.too_large, second.too_large)), default=size))


def test_a_size_that_was_refused_is_not_tried_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        destination = Narrow()
        world = SharingWorld(tmp_path, destination=destination)
        items: list[Any] = [({"_id": f"d{n}", "x": "y" * 4_000}, None) for n in range(600)]
        items.insert(300, ({"_id": "huge", "x": "y" * 61_000}, None))
        result = await world.sync(ScriptedSource(items))
        assert (result.counters.indexed, result.counters.dead_lettered) == (600, 1)
        assert await world.letters() == {"huge": "413"}
        assert destination.too_large
        destination.too_large = 0
        edited = ScriptedSource([({"_id": f"d{n}", "x": "z" * 4_000}, None) for n in range(600)])
        assert (await world.sync(edited)).counters.indexed == 600
        assert not destination.too_large

    run_virtual(scenario())


class Naming(FaultyDestination):
    """Takes nothing of the first request and names the time at which to come back."""

    async def write(self, handle: IndexHandle, operations: Sequence[Operation]) -> WriteResult:
        result = await super().write(handle, operations)
        return replace(result, retry_after=100.0) if result.failures else result


def test_a_time_that_the_destination_names_holds_for_all_syncs(tmp_path: Path) -> None:
    async def scenario() -> None:
        busy = SharingWorld(tmp_path / "busy", destination=Naming())
        other = SharingWorld(tmp_path / "other", limit=busy.limit)
        busy.destination.verdict = lambda number, _: FailureKind.OVERLOADED if number == 0 else None
        syncing = asyncio.create_task(busy.sync(ScriptedSource(documents(range(5)))))
        await asyncio.sleep(5)
        await other.sync(ScriptedSource(documents(range(5))))
        assert other.destination.times == [pytest.approx(busy.destination.times[0] + 100)]
        await syncing
        assert asyncio.get_running_loop().time() < 110

    run_virtual(scenario())


def test_waiting_for_ones_turn_costs_no_patience(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = SharingWorld(tmp_path, retry_patience=60)
        async with world.limit.slot("other", 10**9):  # leaves no room for anything else
            syncing = asyncio.create_task(world.sync(ScriptedSource(documents(range(5)))))
            await asyncio.sleep(300)
        world.destination.down = lambda number: number < 3
        assert (await syncing).counters.indexed == 5

    run_virtual(scenario())
