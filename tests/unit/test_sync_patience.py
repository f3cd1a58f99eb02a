"""An overloaded destination slows a sync, and never fails it before the patience ends."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from connectors.backends.ports import FailureKind, Operation
from connectors.errors import RetryableError, SuspendSync
from connectors.sync.limits import FlightLimit
from tests.support.clock import run_virtual
from tests.support.sources import ScriptedSource, documents
from tests.support.world import World


@pytest.mark.parametrize("kind", ["refuses requests", "refuses items"])
def test_a_destination_that_takes_little_for_hours_gets_everything(tmp_path: Path, kind: str) -> None:
    """It takes something, slowly, for forty seconds, and then nothing for eight minutes."""

    async def scenario() -> None:
        world = World(tmp_path, batch_documents=5)
        loop = asyncio.get_running_loop()
        world.destination.delay = lambda _: 10.0 if open_now() else 0.0

        def open_now() -> bool:
            return 200 <= loop.time() % 540 < 240

        if kind == "refuses requests":
            world.destination.down = lambda _: not open_now()
        else:
            world.destination.verdict = lambda *_: None if open_now() else FailureKind.OVERLOADED
        result = await world.sync(ScriptedSource(documents(range(400))))
        assert (result.counters.indexed, result.counters.balanced) == (400, True)
        assert loop.time() > 3600

    run_virtual(scenario())


def test_what_the_destination_takes_of_others_renews_the_patience(tmp_path: Path) -> None:
    """One document is refused for half an hour, while others come and are taken."""

    async def scenario() -> None:
        world = World(tmp_path, batch_documents=1)
        loop = asyncio.get_running_loop()

        def verdict(_: int, operation: Operation) -> FailureKind | None:
            return FailureKind.OVERLOADED if operation.id == "d0" and loop.time() < 1800 else None

        world.destination.verdict = verdict
        script = [item for pair in documents(range(60)) for item in (pair, 30.0)]
        result = await world.sync(ScriptedSource(script))
        assert result.counters.indexed == 60

    run_virtual(scenario())


def test_it_ends_when_nothing_at_all_is_taken_any_more(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path, batch_documents=1)
        loop = asyncio.get_running_loop()
        world.destination.verdict = lambda *_: FailureKind.OVERLOADED if loop.time() > 100 else None
        script = [item for pair in documents(range(60)) for item in (pair, 30.0)]
        with pytest.raises(SuspendSync, match="writing to i failed for 10m"):
            await world.sync(ScriptedSource(script))
        assert 690 <= loop.time() <= 760

    run_virtual(scenario())


def test_a_request_that_is_not_sent_says_what_it_waits_for() -> None:
    async def scenario() -> None:
        limit = FlightLimit(1, 1000)
        async with limit.slot("a", 10):
            waiting = asyncio.create_task(limit.slot("b", 10).__aenter__())
            await asyncio.sleep(1)
            assert limit.why_waiting() == "waiting for its turn while 1 of 1 requests are in flight"
        await waiting
        with pytest.raises(RetryableError):
            async with limit.slot("a", 10):
                raise RetryableError("too many requests", retry_after=90.0)
        await asyncio.sleep(30)
        assert limit.why_waiting() == "paused for 1m more, as the destination asked"

    run_virtual(scenario())
