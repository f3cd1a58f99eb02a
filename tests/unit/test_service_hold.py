"""A lease that is held outside a job: for a replay, a purge, a comparison."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from connectors.errors import ConflictError, RetryableError, SuspendSync
from connectors.service.hold import hold
from connectors.service.lease import acquire
from tests.support.service import Service, connector, play
from tests.support.sources import documents


def test_a_lease_that_is_held_is_renewed_and_given_back(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        async with hold(service.store, "a", "w", service.runtime) as lease:
            first = lease()
            await asyncio.sleep(600)
            assert lease().epoch == first.epoch
            assert lease().expires_at > service.runtime.time()
            with pytest.raises(ConflictError):
                async with hold(service.store, "a", "w", service.runtime):
                    pytest.fail("two hold it")
        assert (await service.store.state("a")).worker is None

    play(scenario, tmp_path, connector("a"))


@pytest.mark.parametrize("error", [RetryableError("not there"), SuspendSync("the disk is full")])
def test_a_lease_that_is_held_outlasts_a_store_that_fails_in_passing(tmp_path: Path, error: Exception) -> None:
    async def scenario(service: Service) -> None:
        failing: set[str] = set()

        def fail(call: str) -> None:
            if call in failing:
                raise error

        service.store.before = fail
        async with hold(service.store, "a", "w", service.runtime) as lease:
            failing.add("renew")
            await asyncio.sleep(30)
            failing.clear()
            await asyncio.sleep(600)
            assert lease().expires_at > service.runtime.time()
            if isinstance(error, RetryableError):
                failing.add("release")
        await asyncio.sleep(61)
        failing.clear()
        assert await acquire(service.store, "a", "other", ttl=60, now=service.runtime.time()) is not None

    play(scenario, tmp_path, connector("a"))


def test_a_running_sync_is_waited_for_as_long_as_is_said(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        service.site.scripts["a"] = [*documents(range(3)), 20]
        running = asyncio.create_task(service.sync("a"))
        await asyncio.sleep(5)
        with pytest.raises(ConflictError, match="a sync of a is running"):
            async with hold(service.store, "a", "w", service.runtime, patience=10.0):
                pytest.fail("two hold it")
        async with hold(service.store, "a", "w", service.runtime, patience=30.0):
            assert {job.status for job in await service.jobs("a")} == {"completed"}
        await running

    play(scenario, tmp_path, connector("a"))
