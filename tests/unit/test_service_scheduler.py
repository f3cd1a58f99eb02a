"""A due schedule becomes one job, whoever looks, however often, and whatever else there is in the store."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest

from connectors.byoc import Connector, JobStatus, JobType, TriggerMethod
from connectors.errors import RetryableError
from connectors.service.scheduler import Scheduler
from tests.support.service import Service, connector, play

FINISHED = {"status": JobStatus.COMPLETED}


async def finish(service: Service, **record: Any) -> None:
    """Ends all open jobs as completed, without a worker."""
    for job in await service.jobs():
        if not job.ended:
            await service.store.update_job(job.id, FINISHED, statuses=list(JobStatus))
            changes = {"last_synced": service.runtime.now(), **record}
            await service.store.update_connector(job.connector_id, changes)


def test_a_connector_that_never_synced_syncs_at_once(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        await Scheduler(service.store, service.runtime).tick()
        (job,) = await service.jobs()
        assert (job.job_type, job.trigger_method, job.status) == ("full", "scheduled", "pending")

    play(scenario, tmp_path, connector("a", full="0 0 2 1 1 ? 2090"))


def test_a_job_that_another_scheduler_created_may_have_ended_already(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        async def finish_first(call: str) -> None:
            await asyncio.sleep(0)
            if call == "create_job":
                await finish(service)  # the worker of the one that was faster

        service.store.before = finish_first
        await asyncio.gather(*(Scheduler(service.store, service.runtime).tick() for _ in range(3)))
        assert len(await service.jobs()) == 1

    play(scenario, tmp_path, connector("a", full="every 1m"))


def test_two_schedulers_on_one_store_create_one_job_a_tick(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        async def give_way() -> None:
            await asyncio.sleep(0)

        service.store.before = lambda _: give_way()  # so that their calls interleave
        schedulers = [Scheduler(service.store, service.runtime) for _ in range(3)]
        for _ in range(20):
            await asyncio.gather(*(scheduler.tick() for scheduler in schedulers))
            await finish(service)
            await asyncio.sleep(30)
        assert len(await service.jobs()) == 10

    play(scenario, tmp_path, connector("a", full="every 1m"))


def test_missed_ticks_coalesce(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        scheduler = Scheduler(service.store, service.runtime)
        await scheduler.tick()
        await finish(service)
        await asyncio.sleep(86_400)
        for _ in range(3):
            await scheduler.tick()
            await finish(service)
        assert len(await service.jobs()) == 2

    play(scenario, tmp_path, connector("a", full="every 1m"))


def test_ticks_that_overlap_a_running_job_are_caught_up_once(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        scheduler = Scheduler(service.store, service.runtime)
        for _ in range(50):
            await scheduler.tick()
            await asyncio.sleep(10)
        assert len(await service.jobs()) == 1
        await finish(service)
        await scheduler.tick()
        await scheduler.tick()
        assert len(await service.jobs()) == 2

    play(scenario, tmp_path, connector("a", full="every 1m"))


@pytest.mark.parametrize("status", [JobStatus.PENDING, JobStatus.IN_PROGRESS, JobStatus.SUSPENDED, JobStatus.CANCELING])
def test_no_incremental_sync_while_a_full_one_is_open(tmp_path: Path, status: JobStatus) -> None:
    async def scenario(service: Service) -> None:
        scheduler = Scheduler(service.store, service.runtime)
        await scheduler.tick()
        await finish(service)
        await asyncio.sleep(600)
        await scheduler.tick()
        full = (await service.jobs())[-1]
        assert full.job_type == JobType.FULL
        await service.store.update_job(full.id, {"status": status}, statuses=list(JobStatus))
        for _ in range(10):
            await asyncio.sleep(60)
            await scheduler.tick()
        assert (await service.jobs())[-1].id == full.id
        for _ in range(2):
            await finish(service)
            await scheduler.tick()
        assert [job.job_type for job in await service.jobs()][2:] == ["full", "incremental"]

    play(scenario, tmp_path, connector("a", full="every 10m", incremental="every 1m"))


def test_no_incremental_sync_before_the_first_full_one_completed(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        scheduler = Scheduler(service.store, service.runtime)
        for _ in range(3):
            await scheduler.tick()
            for job in await service.jobs():  # each full sync fails
                await service.store.update_job(job.id, {"status": JobStatus.ERROR}, statuses=list(JobStatus))
            await asyncio.sleep(300)
        assert {job.job_type for job in await service.jobs()} == {"full"}

    play(scenario, tmp_path, connector("a", full="every 10m", incremental="every 1m"))


def test_where_only_incremental_syncs_are_scheduled_the_first_is_a_full_one(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        scheduler = Scheduler(service.store, service.runtime)
        for _ in range(3):
            await scheduler.tick()
            await finish(service)
            await asyncio.sleep(60)
        assert [job.job_type for job in await service.jobs()] == ["full", "incremental", "incremental"]

    play(scenario, tmp_path, connector("a", full=None, incremental="every 1m"))


def test_a_paused_connector_starts_nothing_and_catches_up_once(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        scheduler = Scheduler(service.store, service.runtime)
        await service.operations.pause("a")
        for _ in range(5):
            await scheduler.tick()
            await asyncio.sleep(60)
        assert await service.jobs() == []
        await service.operations.pause("a", paused=False)
        for _ in range(2):
            await scheduler.tick()
            await finish(service)
        assert len(await service.jobs()) == 1

    play(scenario, tmp_path, connector("a", full="every 1m"))


def test_a_connector_that_left_the_file_runs_no_more_and_its_open_job_ends(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        scheduler = Scheduler(service.store, service.runtime)
        await scheduler.tick()
        await service.apply(connector("b"))
        await service.run(30)
        assert await service.statuses("a") == ["canceled"]
        assert await service.statuses("b") == ["completed"]
        assert service.site.pings == ["b"]

    play(scenario, tmp_path, connector("a", full="every 1m"))


def test_a_connector_that_exists_only_as_a_record_runs(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        record = {
            "service_type": "script",
            "index_name": "other",
            "configuration": {"name": {"value": "c"}},
            "scheduling": {"full": {"enabled": True, "interval": "0 0/5 * * * ?"}},
        }
        await service.store.put_connector(Connector.from_record("c", record))
        begun = {"scheduling": record["scheduling"]}  # by a tool that has not written the rest yet
        await service.store.put_connector(Connector.from_record("d", begun))
        await service.run(5)
        assert await service.statuses("c") == ["completed"]
        assert await service.statuses("d") == []
        assert len(service.indexed("other")) == 3

    play(scenario, tmp_path)


@pytest.mark.parametrize(
    "scheduling",
    [
        {"full": {"enabled": True, "interval": "every now and then"}},
        {"full": {"enabled": True, "interval": "every 5m"}, "timezone": "Mars/Olympus"},
        {"full": "every 5m"},
        {"full": {"enabled": True, "interval": 5}},
        ["full"],
    ],
)
def test_a_schedule_that_cannot_be_read_is_told_once_and_stops_no_other(
    tmp_path: Path, scheduling: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(service: Service) -> None:
        record = {"service_type": "script", "index_name": "other", "scheduling": scheduling}
        await service.store.put_connector(Connector.from_record("0-bad", record))
        await service.run(3)
        version = (await service.record("0-bad")).version
        await service.run(60)
        bad = await service.record("0-bad")
        assert bad.error
        assert (bad.status, bad.version) == ("error", version)
        assert await service.statuses("a") == ["completed"]
        good = {"full": {"enabled": True, "interval": "0 0 2 ? * MON"}}
        await service.store.update_connector(
            "0-bad", {"scheduling": good, "last_sync_scheduled_at": service.runtime.now()}
        )

    with caplog.at_level(logging.ERROR, "connectors.scheduler"):
        play(scenario, tmp_path, connector("a"))
    # Once by each of the two schedulers that looked.
    assert len([line for line in caplog.messages if "0-bad" in line]) == 2


def test_the_error_of_a_schedule_leaves_the_record_when_it_is_mended(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        scheduler = Scheduler(service.store, service.runtime)
        await service.store.update_connector("a", {"scheduling": {"full": {"enabled": True, "interval": "often"}}})
        await scheduler.tick()
        assert (await service.record("a")).error
        await service.apply()
        await scheduler.tick()
        record = await service.record("a")
        assert (record.error, record.status) == (None, "configured")

    play(scenario, tmp_path, connector("a"))


def test_a_kill_between_noting_the_tick_and_creating_the_job_loses_nothing(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        def die(call: str) -> None:
            if call == "create_job":
                raise RuntimeError("killed")

        service.store.before = die
        with pytest.raises(RuntimeError, match="killed"):
            await Scheduler(service.store, service.runtime).tick()
        service.store.before = lambda _: None
        assert (await service.record("a")).last_sync_scheduled_at is not None
        for _ in range(2):
            restarted = Scheduler(service.store, service.runtime)
            await restarted.tick()
            await restarted.tick()
            assert len(await service.jobs()) == 1
            await finish(service)

    play(scenario, tmp_path, connector("a", full="0 0 2 ? * MON"))


@pytest.mark.parametrize(("call", "done"), [("put_connector", True), ("create_job", False), ("create_job", True)])
def test_a_store_that_fails_while_a_job_is_created_loses_no_tick(tmp_path: Path, call: str, done: bool) -> None:
    async def scenario(service: Service) -> None:
        scheduler = Scheduler(service.store, service.runtime)
        await scheduler.tick()
        await finish(service)
        await asyncio.sleep(600)
        real = getattr(service.store, call)

        async def fail(*args: Any, **kwargs: Any) -> None:
            if done:
                await real(*args, **kwargs)
            raise RetryableError("cut off")

        with pytest.MonkeyPatch.context() as monkey:
            monkey.setattr(service.store, call, fail)
            with pytest.raises(RetryableError):
                await scheduler.tick()
        for _ in range(2):
            await scheduler.tick()
        assert [job.status for job in await service.jobs()] == ["completed", "pending"]

    play(scenario, tmp_path, connector("a", full="every 10m"))


def test_a_restart_runs_nothing_again(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        await service.run(5)
        await service.sync("a")
        await asyncio.sleep(5)
        service.site.ping_errors["a"] = ValueError("a defect")
        await service.run(700)
        before = await service.statuses("a")
        assert before[-1] == "error"
        await Scheduler(service.store, service.runtime).tick()
        assert await service.statuses("a") == before

    play(scenario, tmp_path, connector("a", full="every 10m"))


def test_many_connectors_cost_few_calls_a_look(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        scheduler = Scheduler(service.store, service.runtime)
        await scheduler.tick()
        await asyncio.sleep(120)  # all are due again, and all still wait
        service.store.calls.clear()
        await scheduler.tick()
        assert service.store.calls == {"connectors": 1, "jobs": 1}
        assert len(await service.jobs()) == 200
        assert {job.trigger_method for job in await service.jobs()} == {TriggerMethod.SCHEDULED}

    play(scenario, tmp_path, *(connector(f"c{number}", full="every 1m") for number in range(200)))
