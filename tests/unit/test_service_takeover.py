"""A job outlives the worker that began it, and the one that lost it stores nothing more."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from connectors.backends.ports import Lease
from connectors.byoc import JobStatus
from connectors.errors import RetryableError
from connectors.service import lease as leases
from connectors.service.lease import acquire, died_here, own_name
from connectors.service.worker import Worker
from connectors.testing.memory import MemoryStore
from tests.support.service import Service, connector, play
from tests.support.sources import checkpointed, documents


async def until_all_ended(service: Service, *workers: Worker, seconds: float = 600.0) -> None:
    """Lets workers look for work until every job has ended."""
    async with asyncio.timeout(seconds):
        while not all(job.ended for job in await service.jobs()):
            await asyncio.gather(*(worker.tick() for worker in workers))
            await asyncio.sleep(0.5)


async def kill(worker: Worker) -> None:
    """Ends a worker as `kill -9` does: nothing that it would do on its way out reaches the store."""
    for task in worker.running.values():
        task.cancel()
    await asyncio.wait(list(worker.running.values()))


def test_a_job_whose_worker_died_is_taken_over_and_resumed(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        service.site.scripts["a"] = checkpointed(documents(range(20)), 1, pause=1.0)
        dead, heir = service.worker("dead"), service.worker("heir")
        await service.operations.sync_now("a")
        await dead.tick()
        await asyncio.sleep(10)
        service.store.before = _unreachable
        await kill(dead)
        service.store.before = lambda _: None
        (job,) = await service.jobs()
        assert (job.status, job.worker_hostname) == ("in_progress", "dead")
        await heir.tick()
        assert not heir.running  # the lease of the dead one has not ended
        began = service.runtime.time()
        await until_all_ended(service, heir)
        assert 20 < service.runtime.time() - began < 120
        job, again = await service.jobs()
        assert (job.status, job.worker_hostname) == ("completed", "heir")
        # The other disk has no seen set, so that it deleted nothing and another full sync followed.
        assert again.metadata["counters"]["unchanged"] == 20
        counters = job.metadata["counters"]
        assert counters["read"] == counters["indexed"] + counters["unchanged"] == 20
        assert len(service.indexed()) == 20
        assert service.site.checkpoints[1] is not None

    play(scenario, tmp_path, connector("a"))


def _unreachable(call: str) -> None:
    raise RetryableError("the store is not there")


def test_what_a_dead_process_of_this_machine_held_is_taken_at_once(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        store, now = service.store, service.runtime.time()
        gone = f"blue@{socket.gethostname()}:{2**22 + 1}"  # beyond the highest process id
        assert await store.acquire("a", gone, ttl=60, now=now)
        lease = await acquire(store, "a", "me", ttl=60, now=now)
        assert lease is not None
        assert (lease.worker, (await store.state("a")).worker) == ("me", "me")
        for alive in (f"{socket.gethostname()}:{os.getpid()}/0f0f", f"elsewhere:{2**22 + 1}", "somebody", "x:0"):
            await store.release(lease)
            lease = await store.acquire("a", alive, ttl=60, now=now)
            assert lease is not None
            assert await acquire(store, "a", "me", ttl=60, now=now) is None

    play(scenario, tmp_path)


def test_a_job_whose_worker_died_goes_on_before_another_one_of_its_connector_begins(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        service.site.scripts["a"] = checkpointed(documents(range(20)), 1, pause=1.0)
        dead, heir = service.worker(f"{socket.gethostname()}:{2**22 + 1}"), service.worker("heir")
        begun = await service.operations.sync_now("a")
        await dead.tick()
        await asyncio.sleep(10)
        await service.operations.sync_now("a")
        service.store.before = _unreachable
        await kill(dead)
        service.store.before = lambda _: None
        await heir.tick()
        await asyncio.sleep(1)
        assert heir.running, "it is known to be dead: no time is lost"
        assert (await service.store.job(begun.id)).worker_hostname == "heir"
        await until_all_ended(service, heir)

    play(scenario, tmp_path, connector("a"))


def test_a_job_that_somebody_has_just_said_to_run_holds_up_the_others_of_its_connector(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        service.site.scripts["a"] = checkpointed(documents(range(20)), 1, pause=1.0)
        dead, heir = service.worker("dead"), service.worker("heir")
        begun = await service.operations.sync_now("a")
        await dead.tick()
        await asyncio.sleep(10)
        waiting = await service.operations.sync_now("a")
        service.store.before = _unreachable
        await kill(dead)
        service.store.before = lambda _: None
        await service.store.release(Lease("a", "dead", (await service.store.state("a")).epoch, 0.0))
        await heir.tick()
        assert not heir.running
        await until_all_ended(service, heir)
        first, second = await service.store.job(begun.id), await service.store.job(waiting.id)
        assert first.completed_at is not None
        assert second.started_at is not None
        assert first.completed_at <= second.started_at

    play(scenario, tmp_path, connector("a"))


def test_processes_that_share_a_name_are_told_apart() -> None:
    assert own_name("blue") == f"blue@{own_name()}"
    assert own_name().startswith(f"{socket.gethostname()}:{os.getpid()}")


def test_nobody_is_dead_because_of_his_number_in_another_container(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = 2**22 + 1  # more than any process has
    names = []
    for space in ("", ".4026532201", ".4026532202"):
        monkeypatch.setattr(leases, "_space", lambda space=space: space)
        names.append(own_name("blue"))
        dead = f"blue@{socket.gethostname()}:{gone}"
        assert died_here(dead + space)
        assert died_here(f"{dead}{space}/a1b2c3d4")
        assert not any(died_here(dead + other) for other in (".1", "" if space else ".2"))
        assert not died_here(own_name())
    assert len(set(names)) == len(names)


def test_a_container_has_a_number_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    number = Path("/proc/self/ns/pid").stat().st_ino
    monkeypatch.setattr(leases, "_OUTERMOST", number)
    assert leases._space() == ""
    monkeypatch.setattr(leases, "_OUTERMOST", number + 1)
    assert leases._space() == f".{number}"


def test_a_worker_that_lost_its_lease_stores_nothing_more(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        service.site.scripts["a"] = checkpointed(documents(range(100)), 1, pause=1.0)
        old, new = service.worker("old"), service.worker("new")
        await service.operations.sync_now("a")
        await old.tick()
        await asyncio.sleep(10)
        epoch = (await service.store.state("a")).epoch
        # Its lease ended without its noticing, and the other one began.
        await service.store.release(Lease("a", "old", epoch, 0.0))
        taken = await service.store.acquire("a", "new", ttl=60, now=service.runtime.time())
        assert taken is not None
        await service.store.commit(taken, job_id=(await service.jobs())[0].id, job={"worker_hostname": "new"})
        before, requests = await service.jobs(), len(service.destination.requests)
        await asyncio.sleep(30)
        assert not old.running
        assert await service.jobs() == before
        assert len(service.destination.requests) <= requests + 2  # those that were on their way
        await service.store.release(taken)
        await until_all_ended(service, new)
        # The other disk has no seen set, so that it deleted nothing and another full sync followed.
        assert await service.statuses() == ["completed", "completed"]

    play(scenario, tmp_path, connector("a"))


def test_a_store_that_is_away_for_longer_than_the_lease_ends_the_job_here(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        worker = service.worker()
        service.site.scripts["a"] = [*documents(range(3)), 500.0]
        await service.operations.sync_now("a")
        await worker.tick()
        await asyncio.sleep(5)

        def away(call: str) -> None:
            if call in {"renew", "job"}:
                raise RetryableError("the store is not there")

        service.store.before = away
        await asyncio.sleep(30)
        assert worker.running  # not at once
        await asyncio.sleep(31)
        assert not worker.running
        service.store.before = lambda _: None
        assert await service.statuses() == ["in_progress"]
        service.site.scripts["a"] = documents(range(3))
        await until_all_ended(service, worker)
        assert await service.statuses() == ["completed"]

    play(scenario, tmp_path, connector("a"))


def test_a_job_that_another_worker_just_ran_is_not_claimed_in_vain(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        job = await service.operations.sync_now("a")

        async def run_first(call: str) -> None:
            if call == "connectors":  # the list of jobs has been read
                await service.store.update_job(job.id, {"status": JobStatus.COMPLETED}, statuses=list(JobStatus))

        service.store.before = run_first
        await service.worker().tick()
        # Each claim has an epoch of its own, and one in vain would cost the other worker its ledger.
        assert (await service.store.state("a")).epoch == 0

    play(scenario, tmp_path, connector("a"))


def test_a_cancelled_job_whose_worker_died_ends(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        job = await service.operations.sync_now("a")
        await service.store.update_job(job.id, {"status": JobStatus.CANCELING}, statuses=list(JobStatus))
        await service.operations.pause("a")
        await service.run(30)
        assert await service.statuses() == ["canceled"]
        assert (await service.store.state("a")).worker is None

    play(scenario, tmp_path, connector("a"))


def test_a_job_that_ended_while_it_was_claimed_stays_ended_though_the_store_fails_then(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        job = await service.operations.sync_now("a")
        claimed = False

        async def end_it(call: str) -> None:
            nonlocal claimed
            if call == "claim" and not claimed:
                claimed = True
                await MemoryStore.update_job(
                    service.store, job.id, {"status": JobStatus.COMPLETED}, statuses=list(JobStatus)
                )
            elif call == "state" and claimed:
                service.store.before = lambda _: None
                raise RetryableError("the store is away")

        service.store.before = end_it
        with pytest.raises(RetryableError):
            await service.run(30, schedule=False)
        assert claimed
        await service.run(30, schedule=False)
        assert await service.statuses() == ["completed"]
        assert service.site.pings == []

    play(scenario, tmp_path, connector("a"))


def test_a_job_that_could_not_be_claimed_is_claimed_at_the_next_look(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        def fail(call: str) -> None:
            if call == "claim":
                service.store.before = lambda _: None
                raise RetryableError("the store is away")

        await service.operations.sync_now("a")
        service.store.before = fail
        with pytest.raises(RetryableError):
            await service.run(10, schedule=False)
        assert await service.statuses() == ["pending"]
        await service.run(10, schedule=False)
        assert await service.statuses() == ["completed"]

    play(scenario, tmp_path, connector("a"))


def test_a_claim_whose_answer_was_lost_is_taken_up_when_nobody_says_that_he_runs_the_job(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        await service.operations.sync_now("a")
        claim = service.store.claim

        async def lose(*args: Any, **kwargs: Any) -> None:
            monkey.undo()
            assert await claim(*args, **kwargs) is not None
            raise RetryableError("cut off")

        with pytest.MonkeyPatch.context() as monkey:
            monkey.setattr(service.store, "claim", lose)
            with pytest.raises(RetryableError):
                await service.run(5, schedule=False)
        await service.run(service.config.service.heartbeat_interval / 2, schedule=False)
        assert await service.statuses() == ["in_progress"]
        await service.run(2 * service.config.service.heartbeat_interval, schedule=False)
        assert await service.statuses() == ["completed"]
        assert (await service.store.state("a")).worker is None

    play(scenario, tmp_path, connector("a"))


def test_a_full_disk_does_not_keep_a_lease_from_being_given_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    async def scenario(service: Service) -> None:
        await service.run(30)
        job = await service.operations.sync_now("a")
        await service.store.update_job(job.id, {"status": JobStatus.CANCELING}, statuses=list(JobStatus))
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            await service.run(30, schedule=False)
        assert await service.statuses() == ["completed", "canceled"]
        assert (await service.store.state("a")).worker is None
        assert (await service.sync("a")).counters["unchanged"] == 3  # from the stamps

    play(scenario, tmp_path, connector("a"))


def test_a_job_of_a_dead_worker_waits_suspended_while_its_connector_is_paused(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        await service.run(1)
        (job,) = await service.jobs()
        await service.idle()
        await service.store.update_job(job.id, {"status": JobStatus.IN_PROGRESS}, statuses=list(JobStatus))
        await service.operations.pause("a")
        await service.run(30)
        assert await service.statuses() == ["suspended"]
        await service.operations.pause("a", paused=False)
        await service.run(30)
        assert await service.statuses() == ["completed"]

    play(scenario, tmp_path, connector("a"))


def test_a_defect_in_the_keeping_of_the_lease_ends_the_run_loudly(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(service: Service) -> None:
        worker = service.worker()
        service.site.scripts["a"] = [*documents(range(3)), 1000.0]
        await service.operations.sync_now("a")
        await worker.tick()
        await asyncio.sleep(5)

        def fail(call: str) -> None:
            if call == "renew":
                raise ZeroDivisionError("a defect of ours")

        service.store.before = fail
        await asyncio.sleep(10)
        assert not worker.running
        assert await service.statuses() == ["in_progress"]
        service.store.before = lambda _: None
        service.site.scripts["a"] = documents(range(3))
        await until_all_ended(service, worker)
        assert await service.statuses() == ["completed"]

    play(scenario, tmp_path, connector("a"))
    assert "a defect of ours" in caplog.text


def test_a_clock_that_was_wrong_keeps_no_job_from_being_taken_over(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        job = await service.operations.sync_now("a")
        future = {"status": JobStatus.IN_PROGRESS, "last_seen": service.runtime.now() + timedelta(days=400)}
        await service.store.update_job(job.id, future, statuses=list(JobStatus))
        await service.run(5, schedule=False)
        assert await service.statuses() == ["completed"]

    play(scenario, tmp_path, connector("a"))
