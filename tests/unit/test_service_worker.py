"""Workers claim jobs, run each in one place and once, and end them when they are asked to."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from connectors.byoc import Connector, JobStatus, JobType, SyncJob, TriggerMethod
from connectors.errors import RetryableError
from connectors.service.worker import Worker
from connectors.source import Skipped
from tests.support.service import Service, connector, play
from tests.support.sources import checkpointed, documents

FORTY = [connector(f"c{number:02}", index=f"i{number:02}") for number in range(40)]


async def until_all_ended(service: Service, *workers: Worker, seconds: float = 600.0) -> None:
    """Lets workers look for work until every job has ended."""
    async with asyncio.timeout(seconds):
        while not all(job.ended for job in await service.jobs()):
            await asyncio.gather(*(worker.tick() for worker in workers))
            await asyncio.sleep(0.5)


def test_two_workers_run_forty_connectors_each_once(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        for item in FORTY:
            service.site.scripts[item["id"]] = [*documents(range(5)), 2.0]

        async def give_way() -> None:
            await asyncio.sleep(0)

        service.store.before = lambda _: give_way()
        workers = [service.worker("one"), service.worker("two")]
        for item in FORTY:
            await service.operations.sync_now(item["id"])
        await until_all_ended(service, *workers)
        jobs = await service.jobs()
        assert [job.status for job in jobs] == ["completed"] * 40
        assert {job.worker_hostname for job in jobs} == {"one", "two"}
        assert sorted(service.site.pings) == sorted(item["id"] for item in FORTY)
        # No claim in vain, which would make a ledger invalid.
        assert {(await service.store.state(item["id"])).epoch for item in FORTY} == {1}

    play(scenario, tmp_path, *FORTY)


def test_no_more_jobs_at_once_than_configured(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        worker, most = service.worker(), 0
        for item in FORTY[:10]:
            service.site.scripts[item["id"]] = [5.0, *documents(range(2))]
            await service.operations.sync_now(item["id"])
        while not all(job.ended for job in await service.jobs()):
            await worker.tick()
            most = max(most, len(worker.running))
            await asyncio.sleep(0.5)
        assert most == 3

    play(scenario, tmp_path, *FORTY, service={"max_concurrent_syncs": 3})


def test_a_long_queue_is_worked_off_without_looking_through_all_of_it_for_each_job(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        for item in queue:
            await service.operations.sync_now(item["id"])
        asyncio.get_running_loop().call_later(10, stop.set)
        service.store.calls.clear()
        await service.daemon().run(stop)
        jobs = await service.jobs()
        assert [job.status for job in jobs] == ["completed"] * 40
        ended = [job.completed_at for job in jobs if job.completed_at is not None]
        assert (max(ended) - min(ended)).total_seconds() < 1
        # One look of the scheduler and one of the worker each second, and a few where the queue has been worked off.
        assert service.store.calls["jobs"] < 30

    stop = asyncio.Event()
    queue = [connector(item["id"], full=None) for item in FORTY]
    play(scenario, tmp_path, *queue, service={"max_concurrent_syncs": 2})


def test_what_was_found_before_is_looked_at_anew_when_it_is_claimed(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        worker = service.worker()
        for name in "abcd":
            await service.sync(name)
        service.site.scripts["a"] = [0.4, *documents(range(3))]
        jobs = [await service.operations.sync_now("a")]
        jobs += [await service.operations.sync_now(name, JobType.INCREMENTAL) for name in "bcd"]
        await worker.tick()
        assert list(worker.running) == ["a"]
        # In the meantime a full sync of one is suspended, one is cancelled, and one goes to another index.
        full = await service.operations.sync_now("b")
        suspended = {"status": JobStatus.SUSPENDED, "metadata": {"resume_at": 1e12}}
        await service.store.update_job(full.id, suspended, statuses=list(JobStatus))
        await service.operations.cancel(jobs[2].id)
        await service.store.update_connector("d", {"index_name": "another"})
        service.site.scripts["d+"] = [({"_id": "late"}, None, "index")]
        while worker.running:
            await asyncio.wait(worker.running.values())
            await worker.claim_next()
        assert await _statuses(service, jobs) == ["completed", "pending", "canceled", "pending"]
        await worker.tick()  # a look that finds the other index
        await asyncio.wait(worker.running.values())
        assert await _statuses(service, jobs) == ["completed", "pending", "canceled", "completed"]
        assert "late" in service.written()
        assert service.indexed("another")

    async def _statuses(service: Service, jobs: list[SyncJob]) -> list[str]:
        return [(await service.store.job(job.id)).status for job in jobs]

    settings = {"max_concurrent_syncs": 1, "poll_interval": 10}
    play(scenario, tmp_path, *(connector(name, full=None) for name in "abcd"), service=settings)


def test_a_cancel_in_the_very_moment_in_which_the_job_is_suspended_is_not_lost(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        service.site.ping_errors["a"] = RetryableError("away", retry_after=10_000)
        job = await service.operations.sync_now("a")
        commits = 0

        async def cancel_at_the_last(call: str) -> None:
            nonlocal commits
            commits += call == "commit"
            if commits == 1:  # which says that it is suspended
                service.store.before = lambda _: None
                await service.operations.cancel(job.id)

        service.store.before = cancel_at_the_last
        await service.run(2, schedule=False)
        service.site.ping_errors.clear()
        await service.run(5, schedule=False)
        assert await service.statuses() == ["canceled"]
        assert len(service.site.pings) == 1
        assert (await service.record("a")).last_sync_status == "canceled"

    play(scenario, tmp_path, connector("a"))


@pytest.mark.parametrize("status", [JobStatus.PENDING, JobStatus.SUSPENDED])
def test_a_waiting_job_is_cancelled_at_once(tmp_path: Path, status: JobStatus) -> None:
    async def scenario(service: Service) -> None:
        job = await service.operations.sync_now("a")
        started = {"started_at": service.runtime.now()} if status is JobStatus.SUSPENDED else {}
        await service.store.update_job(job.id, {"status": status, **started}, statuses=list(JobStatus))
        assert (await service.operations.cancel(job.id)).status == JobStatus.CANCELED
        await service.run(5, schedule=False)
        assert await service.statuses() == ["canceled"]
        assert service.site.made == []
        assert (await service.record("a")).last_sync_status == ("canceled" if started else None)

    play(scenario, tmp_path, connector("a"))


def test_a_running_job_is_cancelled_within_a_poll_interval_also_in_another_worker(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        one, two = service.worker("one"), service.worker("two")
        service.site.scripts["a"] = [*documents(range(3)), 1000.0]
        job = await service.operations.sync_now("a")
        await one.tick()
        await asyncio.sleep(5)
        assert (await service.operations.cancel(job.id)).status == JobStatus.CANCELING
        await two.tick()
        await asyncio.sleep(1.5)
        assert not one.running
        assert not two.running
        job = await service.store.job(job.id)
        assert job.status == JobStatus.CANCELED
        assert job.canceled_at is not None
        record = await service.record("a")
        assert (record.last_sync_status, record.error) == ("canceled", None)

    play(scenario, tmp_path, connector("a"))


def test_a_job_that_is_cancelled_while_it_is_claimed_does_not_run(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        job = await service.operations.sync_now("a")

        async def cancel_once(call: str) -> None:
            if call == "claim":
                service.store.before = lambda _: None
                await service.operations.cancel(job.id)

        service.store.before = cancel_once
        await service.run(3, schedule=False)
        assert await service.statuses() == ["canceled"]
        assert service.site.pings == []

    play(scenario, tmp_path, connector("a"))


def test_a_cancel_that_meets_the_end_of_the_worker_is_not_lost(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        worker = service.worker()
        service.site.scripts["a"] = checkpointed(documents(range(30)), 1, pause=1.0)
        job = await service.operations.sync_now("a")
        await worker.tick()
        await asyncio.sleep(5.05)
        assert "progress" in (await service.store.state("a")).data
        await service.operations.cancel(job.id)
        await worker.shutdown()
        assert await service.statuses() == ["canceled"]
        assert "progress" not in (await service.store.state("a")).data

    play(scenario, tmp_path, connector("a"))


def test_shutdown_suspends_and_the_next_start_goes_on_with_counters_that_add_up(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        service.site.scripts["a"] = checkpointed(documents(range(30)), 3, pause=1.0)
        await service.operations.sync_now("a")
        for name in ("disk-1", "disk-2"):
            worker = service.worker(name)
            await service.run(11, worker, schedule=False)
            began = service.runtime.time()
            await worker.shutdown()
            assert service.runtime.time() - began < 3
            (job,) = await service.jobs()
            assert (job.status, job.error) == ("suspended", None)
        await service.run(30, service.worker("disk-3"), schedule=False)
        (job,) = await service.jobs()
        assert job.status == "completed"
        counters = job.metadata["counters"]
        assert counters["read"] == 30
        assert counters["read"] == counters["indexed"] + counters["unchanged"]
        assert len(service.indexed()) == 30
        record = await service.record("a")
        assert (record.status, record.error, record.last_sync_status) == ("connected", None, "completed")

    play(scenario, tmp_path, connector("a"))


def test_shutdown_before_the_first_read_suspends_at_once(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        worker = service.worker()

        async def hang(_: Any) -> None:
            await asyncio.sleep(10_000)

        service.source_class.ping = hang  # type: ignore[assignment,method-assign]  # a server that does not answer
        await service.operations.sync_now("a")
        await worker.tick()
        await asyncio.sleep(5)
        began = service.runtime.time()
        await worker.shutdown()
        assert service.runtime.time() - began < 1
        assert await service.statuses() == ["suspended"]
        assert (await service.store.state("a")).worker is None

    play(scenario, tmp_path, connector("a"))


def test_shutdown_waits_no_longer_than_the_time_to_drain(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        worker = service.worker()
        service.destination.delay = lambda _: 10_000.0
        service.site.scripts["a"] = [*documents(range(3)), 10_000.0]
        await service.operations.sync_now("a")
        await worker.tick()
        await asyncio.sleep(5)
        began = service.runtime.time()
        await worker.shutdown()
        assert service.runtime.time() - began < 20 + 10
        assert await service.statuses() == ["suspended"]

    play(scenario, tmp_path, connector("a"))


def test_a_source_that_swallows_every_cancellation_does_not_hold_up_its_connector(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        async def stubborn() -> None:
            ends = service.runtime.monotonic() + 10_000
            while (left := ends - service.runtime.monotonic()) > 0:
                with suppress(asyncio.CancelledError):
                    await asyncio.sleep(left)

        worker = service.worker()
        service.site.scripts["a"] = [stubborn, *documents(range(50, 53))]
        job = await service.operations.sync_now("a")
        await worker.tick()
        await asyncio.sleep(5)
        await service.operations.cancel(job.id)
        await asyncio.sleep(40)
        assert await service.statuses() == ["canceled"]
        assert not worker.running
        service.site.scripts["a"] = documents(range(3))
        assert (await service.sync("a")).status == "completed"
        assert len(service.site.made) == 2
        await asyncio.sleep(10_000)  # until the one that was left behind has ended
        assert set(service.indexed()) == {"d0", "d1", "d2"}

    play(scenario, tmp_path, connector("a"))


def test_a_sync_that_is_asked_for_while_one_runs_is_queued_and_run_after_it(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        service.site.scripts["a"] = [*documents(range(3)), 20.0]
        await service.run(5)
        jobs = [await service.operations.sync_now("a") for _ in range(3)]
        assert len({job.id for job in jobs}) == 1
        assert await service.statuses() == ["in_progress", "pending"]
        await service.run(60)
        first, second = await service.jobs()
        assert (first.status, second.status) == ("completed", "completed")
        assert first.completed_at is not None
        assert second.started_at is not None
        assert second.started_at >= first.completed_at

    play(scenario, tmp_path, connector("a"))


def test_a_sync_that_is_asked_for_runs_while_the_connector_is_paused(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        await service.store.create_job(
            await service.record("a"), JobType.FULL, TriggerMethod.SCHEDULED, now=service.runtime.now()
        )
        await service.operations.pause("a")
        await service.run(5)
        assert await service.statuses() == ["pending"]
        await service.operations.sync_now("a")
        await service.run(5)
        assert await service.statuses() == ["completed"]

    play(scenario, tmp_path, connector("a"))


def test_asking_for_a_sync_wakes_one_that_is_suspended(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        service.site.ping_errors["a"] = RetryableError("not now", retry_after=1000)
        await service.run(5)
        assert await service.statuses() == ["suspended"]
        del service.site.ping_errors["a"]
        await service.operations.sync_now("a")
        await service.run(5)
        assert await service.statuses() == ["completed"]

    play(scenario, tmp_path, connector("a"))


def test_an_incremental_sync_waits_for_a_suspended_full_one(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        await service.sync("a")
        service.site.ping_errors["a"] = RetryableError("not now", retry_after=100)
        await service.sync("a")
        del service.site.ping_errors["a"]
        await service.operations.sync_now("a", JobType.INCREMENTAL)
        await service.run(50, schedule=False)
        assert await service.statuses() == ["completed", "suspended", "pending"]
        await service.run(100, schedule=False)
        assert await service.statuses() == ["completed"] * 3

    play(scenario, tmp_path, connector("a"))


def test_jobs_that_cannot_run_end(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        ghost = Connector(id="ghost", service_type="script", index_name="x")
        now = service.runtime.now()
        await service.store.create_job(ghost, JobType.FULL, TriggerMethod.ON_DEMAND, now=now)
        record = await service.record("a")
        await service.store.create_job(record, JobType.ACCESS_CONTROL, TriggerMethod.SCHEDULED, now=now)
        await service.run(5, schedule=False)
        ghosts, access = await service.jobs()
        assert (ghosts.status, ghosts.error) == (
            "error",
            'there is no connector "ghost": it was removed, or its id is wrong',
        )
        assert access.status == "error"
        assert "access_control" in (access.error or "")
        assert service.site.made == []

    play(scenario, tmp_path, connector("a"))


def test_a_look_without_work_is_one_call(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        one, two = service.worker("one"), service.worker("two")
        for item in FORTY[:4]:
            service.site.scripts[item["id"]] = [*documents(range(3)), 100.0]
            await service.operations.sync_now(item["id"])
        await one.tick()
        await asyncio.sleep(15)
        calls = service.store.calls.copy()
        await two.tick()
        assert service.store.calls - calls == {"jobs": 1}  # no claims of what another one runs

    play(scenario, tmp_path, *FORTY[:4])


def test_skipped_parts_do_not_stop_a_connector(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        service.site.scripts["a"] = [*documents(range(3)), Skipped("a folder cannot be read")]
        job = await service.sync("a")
        assert (job.status, job.metadata["incomplete"]) == ("completed", ["a folder cannot be read"])

    play(scenario, tmp_path, connector("a"))
