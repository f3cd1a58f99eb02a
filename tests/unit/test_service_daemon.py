"""The daemon's loops: they outlive what passes, end loudly on what does not, and follow the configuration."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from connectors.byoc import JobStatus
from connectors.config import Config, ConfigError
from connectors.config.problems import Problem
from connectors.errors import ConfigurationError, RetryableError
from connectors.service.daemon import Daemon
from connectors.service.metrics import LoopMonitor
from tests.support.service import Service, connector, play
from tests.support.sources import checkpointed, documents


class Edits:
    """Stands for the config file: gives each edit once."""

    def __init__(self) -> None:
        self.waiting: list[Config | ConfigError] = []

    def poll(self) -> Config | ConfigError | None:
        return self.waiting.pop(0) if self.waiting else None


async def run_for(
    service: Service, daemon: Daemon, seconds: float, serve: Callable[[], Awaitable[None]] | None = None
) -> None:
    stop = asyncio.Event()
    running = asyncio.create_task(daemon.run(stop, serve))
    await asyncio.wait([running], timeout=seconds)
    stop.set()
    await running


def test_it_syncs_by_the_schedules_and_stops_cleanly(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        ended: list[str] = []

        async def serve() -> None:
            try:
                await asyncio.sleep(10_000)
            finally:
                ended.append("page")

        await run_for(service, service.daemon(), 150, serve)
        assert await service.statuses() == ["completed"] * 3
        assert ended == ["page"]
        assert set(service.site.closed) == set(service.site.made)

    play(scenario, tmp_path, connector("a", full="every 1m"))


def test_a_waiting_job_begins_when_another_one_ends_not_at_the_next_look(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        await run_for(service, service.daemon(), 10)
        assert await service.statuses() == ["completed"] * 20

    settings = {"poll_interval": "50s", "max_concurrent_syncs": 2}
    play(scenario, tmp_path, *(connector(f"c{number}", full="every 1h") for number in range(20)), service=settings)


def test_stopping_suspends_and_the_next_daemon_goes_on(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        service.site.scripts["a"] = checkpointed(documents(range(20)), 1, pause=1.0)
        await run_for(service, service.daemon(), 8)
        assert await service.statuses() == ["suspended"]
        await run_for(service, service.daemon(), 30)
        job = (await service.jobs())[0]
        assert job.status == "completed"
        assert job.metadata["counters"]["read"] == 20

    play(scenario, tmp_path, connector("a", full="every 1h"))


def test_a_passing_fault_is_told_once_and_tried_again_more_and_more_slowly(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(service: Service) -> None:
        tries: list[float] = []

        def fail(call: str) -> None:
            if call == "jobs":
                tries.append(service.runtime.monotonic())
                raise RetryableError("the store is locked")

        daemon = service.daemon()
        assert daemon.trouble() == "the daemon has not started yet"
        stop = asyncio.Event()
        service.store.before = fail
        running = asyncio.create_task(daemon.run(stop))
        await asyncio.sleep(200)
        gaps = [round(later - earlier) for earlier, later in pairwise(tries)]
        assert gaps[:7] == [2, 4, 8, 16, 30, 30, 30]
        assert daemon.trouble() is not None
        service.store.before = lambda _: None
        await asyncio.sleep(40)
        assert daemon.trouble() is None
        assert await service.statuses() == ["completed"]
        stop.set()
        await running

    with caplog.at_level(logging.INFO, "connectors"):
        play(scenario, tmp_path, connector("a"))
    told = [line for line in caplog.messages if line.startswith("work: ")]
    assert told == ["work: the store is locked (tried again)", "work: goes on, 3m 30s after it failed first"]


def test_a_defect_in_a_loop_ends_the_daemon_and_suspends_what_runs(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        service.site.scripts["a"] = checkpointed(documents(range(50)), 1, pause=1.0)

        def fail(call: str) -> None:
            if call == "connectors" and service.runtime.monotonic() > 10:
                raise ZeroDivisionError("a defect of ours")

        service.store.before = fail
        with pytest.raises(ExceptionGroup) as caught:
            await run_for(service, service.daemon(), 1000)
        assert caught.group_contains(ZeroDivisionError)
        service.store.before = lambda _: None
        assert await service.statuses() == ["suspended"]
        assert set(service.site.closed) == set(service.site.made)

    play(scenario, tmp_path, connector("a"))


def test_an_edit_is_taken_up_and_a_broken_one_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(service: Service) -> None:
        edits = Edits()
        daemon = service.daemon(edits)
        stop = asyncio.Event()
        running = asyncio.create_task(daemon.run(stop))
        await asyncio.sleep(5)
        edits.waiting = [ConfigError([Problem("config.yml", 3, 1, "connectors", f"problem {n}") for n in (1, 2)])]
        await asyncio.sleep(5)
        assert "problem 2" in (daemon.config_error or "")
        assert await service.statuses("a") == ["completed"]
        edits.waiting = [service.configured(connector("a"), connector("b"), web={"port": 9999})]
        await asyncio.sleep(5)
        assert daemon.config_error is None
        assert await service.statuses("b") == ["completed"]
        stop.set()
        await running

    with caplog.at_level(logging.WARNING, "connectors.daemon"):
        play(scenario, tmp_path, connector("a"))
    assert caplog.messages == [
        "the edited configuration is not used, the last good one stays in force:",
        "config.yml:3:1: connectors: problem 1",
        "config.yml:3:1: connectors: problem 2",
        "a change of web counts from the next start on",
    ]


def test_an_edit_that_a_failing_store_kept_out_is_applied_later(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        edits = Edits()
        stop = asyncio.Event()
        running = asyncio.create_task(service.daemon(edits).run(stop))
        await asyncio.sleep(5)

        def fail(call: str) -> None:
            if call == "put_connector":
                raise RetryableError("the store is locked")

        service.store.before = fail
        edits.waiting = [service.configured(connector("a"), connector("b"))]
        await asyncio.sleep(10)
        service.store.before = lambda _: None
        await asyncio.sleep(40)
        assert await service.statuses("b") == ["completed"]
        stop.set()
        await running

    play(scenario, tmp_path, connector("a"))


def test_a_foreign_edit_is_undone_while_the_daemon_runs(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        stop = asyncio.Event()
        running = asyncio.create_task(service.daemon().run(stop))
        await asyncio.sleep(5)
        await service.store.update_connector("a", {"index_name": "elsewhere"})
        await asyncio.sleep(61)
        assert (await service.record("a")).index_name == "shelf"
        stop.set()
        await running

    play(scenario, tmp_path, connector("a"))


def test_housekeeping(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        maintained = 0

        async def maintain() -> None:
            nonlocal maintained
            maintained += 1

        service.destination.maintain = maintain  # type: ignore[method-assign]  # to be counted
        old = await service.operations.sync_now("a")
        gone = {"status": JobStatus.COMPLETED, "completed_at": service.runtime.now()}
        await service.store.update_job(old.id, gone, statuses=list(JobStatus))
        edits = Edits()
        stop = asyncio.Event()
        running = asyncio.create_task(service.daemon(edits).run(stop))
        await asyncio.sleep(130)
        assert maintained == 3  # once a minute
        assert {job.id for job in await service.jobs()} >= {old.id}
        edits.waiting = [service.configured(connector("b"), service={"job_retention": "30m"})]
        await asyncio.sleep(100)
        # The source of a connector that left the file is closed.
        assert [source.name_of_connector for source in service.site.closed] == ["a"]
        await service.operations.purge("a")
        await asyncio.sleep(3600)
        page = service.metrics.render()[0].decode()
        assert 'connector="b"' in page
        assert 'connector="a"' not in page
        assert old.id not in {job.id for job in await service.jobs()}
        stop.set()
        await running

    play(scenario, tmp_path, connector("a"))


def test_the_last_success_is_known_after_a_restart_also_when_a_later_sync_failed(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        await service.sync("a")
        service.site.ping_errors["a"] = ValueError("a defect")
        await service.sync("a")
        await service.stop()
        service.metrics.forget("a")
        await run_for(service, service.daemon(), 5)
        assert "connectors_lag_seconds{" in service.metrics.render()[0].decode()

    play(scenario, tmp_path, connector("a"))


def test_the_loop_monitor_sees_a_blocked_loop(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        seen: list[float] = []
        service.metrics.loop_delay = seen.append  # type: ignore[method-assign,assignment]  # to be looked at
        task = asyncio.create_task(LoopMonitor(service.metrics).run())
        await asyncio.sleep(1)
        assert max(seen) < 0.001
        selector: Any = asyncio.get_running_loop()._selector  # type: ignore[attr-defined]  # of the virtual loop
        selector.now += 3
        await asyncio.sleep(0.5)
        assert 2.8 < max(seen) < 3.1
        task.cancel()
        await asyncio.wait([task])

    play(scenario, tmp_path)


# Once


def test_once_syncs_every_connector_that_is_not_paused(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        service.site.ping_errors["bad"] = ConfigurationError("wrong password")
        await service.operations.pause("held")
        jobs = await service.daemon().run_once(asyncio.Event())
        assert {(job.connector_id, job.status) for job in jobs} == {("a", "completed"), ("bad", "error")}
        assert set(service.site.closed) == set(service.site.made)

    play(scenario, tmp_path, connector("a"), connector("bad"), connector("held"), connector("off", paused=True))


def test_once_does_not_pause_when_jobs_end_while_it_looks_whether_all_are_over(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        daemon = service.daemon()

        async def until_nothing_runs() -> None:
            if running := daemon._worker.running.values():
                await asyncio.wait(running)

        service.store.before = lambda call: until_nothing_runs() if call == "job" else None
        began = service.runtime.time()
        jobs = await daemon.run_once(asyncio.Event())
        assert {job.status for job in jobs} == {"completed"}
        assert service.runtime.time() - began < 0.5

    play(scenario, tmp_path, *(connector(f"c{number:02}", index=f"i{number:02}") for number in range(12)))


def test_once_goes_on_with_what_was_suspended_and_waits_for_soon_tries(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        service.site.scripts["a"] = checkpointed(documents(range(20)), 1, pause=1.0)
        await run_for(service, service.daemon(), 8)
        service.site.ping_errors["b"] = RetryableError("busy")
        stop = asyncio.Event()
        running = asyncio.create_task(service.daemon().run_once(stop))
        await asyncio.sleep(3)
        del service.site.ping_errors["b"]
        jobs = await running
        assert [job.status for job in jobs] == ["completed", "completed"]
        assert len(await service.jobs("a")) == 1

    play(scenario, tmp_path, connector("a"), connector("b", index="other"))


def test_once_does_not_wait_for_a_person(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        service.site.ping_errors["a"] = RetryableError("in an hour", retry_after=3600)
        began = service.runtime.time()
        (job,) = await service.daemon().run_once(asyncio.Event())
        assert job.status == "suspended"
        assert service.runtime.time() - began < 5

    play(scenario, tmp_path, connector("a"))


def test_once_can_be_stopped_and_says_how_far_it_came(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        service.site.scripts["a"] = checkpointed(documents(range(50)), 1, pause=1.0)
        stop = asyncio.Event()
        running = asyncio.create_task(service.daemon().run_once(stop))
        await asyncio.sleep(10)
        stop.set()
        (job,) = await running
        assert job.status == "suspended"
        assert 5 < job.metadata["counters"]["read"] < 15

    play(scenario, tmp_path, connector("a"))


def test_once_bears_a_store_that_fails_in_passing(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        failures = 3

        def fail(call: str) -> None:
            nonlocal failures
            if call == "jobs" and failures and service.store.calls["create_job"]:
                failures -= 1
                raise RetryableError("the store is locked")

        service.store.before = fail
        (job,) = await service.daemon().run_once(asyncio.Event())
        assert (job.status, failures) == ("completed", 0)

    play(scenario, tmp_path, connector("a"))


def test_what_fails_is_seen_in_the_metrics_though_it_never_succeeded(tmp_path: Path) -> None:
    """Its lag cannot be told, so that an alert on that would never come."""

    async def scenario(service: Service) -> None:
        service.site.scripts["a"] = [ConfigurationError("wrong password")]
        stop = asyncio.Event()
        running = asyncio.create_task(service.daemon().run(stop))
        await asyncio.sleep(130)
        page = service.metrics.render()[0].decode()
        assert 'connectors_failing{connector="a"} 1.0' in page
        assert 'connectors_failing{connector="b"} 0.0' in page
        await service.operations.pause("a")
        await asyncio.sleep(70)
        assert 'connectors_failing{connector="a"} 0.0' in service.metrics.render()[0].decode()
        stop.set()
        await running

    play(scenario, tmp_path, connector("a"), connector("b"))
