"""A lease is given out only while it is surely ours."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from connectors.byoc import JobStatus
from connectors.errors import LeaseLostError, RetryableError, SuspendSync
from connectors.service.lease import LeaseKeeper
from tests.support.service import Service, connector, play


async def keeper(service: Service) -> LeaseKeeper:
    """Keeps the lease of a running job: 60 seconds long, renewed every 10."""
    job = await service.operations.sync_now("a")
    await service.store.update_job(job.id, {"status": JobStatus.IN_PROGRESS}, statuses=list(JobStatus))
    lease = await service.store.acquire("a", "me", ttl=60, now=service.runtime.time())
    assert lease is not None
    return LeaseKeeper(service.store, lease, job.id, ttl=60, interval=10, runtime=service.runtime)


def test_it_is_renewed(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        kept = await keeper(service)
        running = asyncio.create_task(kept.run(1.0))
        await asyncio.sleep(600)
        assert kept.lease().expires_at - service.runtime.time() > 48
        assert 50 <= service.store.calls["renew"] <= 60
        assert not kept.cancel_requested.is_set()
        running.cancel()
        await asyncio.wait([running])

    play(scenario, tmp_path, connector("a"))


@pytest.mark.parametrize("error", [RetryableError("locked"), SuspendSync("the disk is full")])
def test_it_is_given_out_no_more_before_it_ends(tmp_path: Path, error: Exception) -> None:
    async def scenario(service: Service) -> None:
        kept = await keeper(service)

        def fail(call: str) -> None:
            if call == "renew":
                raise error

        service.store.before = fail
        running = asyncio.create_task(kept.run(1.0))
        await asyncio.sleep(47)
        kept.lease()
        await asyncio.sleep(3)
        assert kept.lost.is_set()
        with pytest.raises(LeaseLostError, match="could not be renewed in time"):
            kept.lease()
        await asyncio.wait([running], timeout=5)
        assert running.done()

    play(scenario, tmp_path, connector("a"))


def test_it_is_given_out_no_more_though_nobody_renews(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        kept = await keeper(service)
        await asyncio.sleep(50)  # the loop was blocked, say
        with pytest.raises(LeaseLostError):
            kept.lease()

    play(scenario, tmp_path, connector("a"))


@pytest.mark.parametrize("how", ["taken", "removed"])
def test_a_lease_that_somebody_else_has_or_whose_job_is_gone_is_lost(tmp_path: Path, how: str) -> None:
    async def scenario(service: Service) -> None:
        kept = await keeper(service)
        if how == "taken":
            service.store._states["a"] = replace(await service.store.state("a"), expires_at=0.0)
            assert await service.store.acquire("a", "other", ttl=60, now=service.runtime.time())
        else:
            await service.store.remove_connector("a")
        running = asyncio.create_task(kept.run(1.0))
        await asyncio.sleep(12)
        assert kept.lost.is_set()
        with pytest.raises(LeaseLostError):
            kept.lease()
        assert running.done()

    play(scenario, tmp_path, connector("a"))


def test_the_wish_to_cancel_is_noticed(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        kept = await keeper(service)
        running = asyncio.create_task(kept.run(1.0))
        (job,) = await service.jobs()
        await asyncio.sleep(5.5)
        await service.operations.cancel(job.id)
        await asyncio.sleep(1)
        assert kept.cancel_requested.is_set()
        kept.lease()  # for what is left to store
        kept.end()
        with pytest.raises(LeaseLostError, match="is over"):
            kept.lease()
        running.cancel()
        await asyncio.wait([running])

    play(scenario, tmp_path, connector("a"))
