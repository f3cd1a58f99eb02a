"""What operators do: reset, purge, look, cancel."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from connectors.byoc import Connector, JobStatus, JobType, TriggerMethod
from connectors.errors import ConfigurationError, ConflictError, LeaseLostError, NotFoundError, RetryableError
from connectors.service.scheduler import Scheduler
from connectors.source import Skipped
from tests.support.service import Service, connector, play
from tests.support.sources import checkpointed, documents


def test_after_a_reset_everything_is_written_once_more(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        service.site.scripts["a"] = documents(range(5))
        await service.sync("a")
        await service.store.update_connector("a", {"sync_cursor": {"at": 1}})
        await service.operations.reset("a")
        assert (await service.record("a")).sync_cursor is None
        assert len(service.indexed()) == 5
        for wanted in ({"indexed": 5, "unchanged": 0}, {"indexed": 0, "unchanged": 5}):
            counters = (await service.sync("a")).metadata["counters"]
            assert {key: counters[key] for key in wanted} == wanted

    play(scenario, tmp_path, connector("a"))


def test_after_a_reset_no_incremental_sync_before_a_full_one(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        await service.run(5)
        before = [job.id for job in await service.jobs()]
        await service.operations.reset("a")
        await asyncio.sleep(120)
        await Scheduler(service.store, service.runtime).tick()
        assert [job.id for job in await service.jobs()] == before
        with pytest.raises(ConfigurationError, match="needs a full one"):
            await service.operations.sync_now("a", JobType.INCREMENTAL)

    play(scenario, tmp_path, connector("a", full="every 1h", incremental="every 1m"))


def test_purge_takes_documents_and_dead_letters_and_the_next_sync_brings_them_back(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        service.site.scripts["a"] = [*documents(range(3)), Skipped("cannot be read", "d9")]
        await service.sync("a")
        await service.sync("b")
        assert await service.operations.purge("a") == 3
        assert service.indexed() == {}
        assert len(service.indexed("other")) == 3
        assert await service.operations.dead_letters("a") == []
        assert (await service.record("a")).last_synced is None
        job = await service.sync("a")
        assert job.metadata["counters"]["indexed"] == 3
        assert len(service.indexed()) == 3

    play(scenario, tmp_path, connector("a"), connector("b", index="other"))


def test_purge_of_a_connector_that_left_the_file_takes_its_record_too(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        await service.sync("a")
        await service.apply(connector("b"))
        assert await service.operations.purge("a") == 3
        with pytest.raises(NotFoundError):
            await service.record("a")
        assert await service.jobs("a") == []

    play(scenario, tmp_path, connector("a"))


def test_what_a_connector_left_in_a_former_index_can_be_purged_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(service: Service) -> None:
        service.site.scripts["a"] = [*documents(range(3)), Skipped("cannot be read", "d9")]
        await service.sync("a")
        former = (await service.record("a")).index_name
        await service.apply(connector("a", index="other"))
        assert f"its documents in {former} stay (remove them: connectors purge a --index {former})" in caplog.text
        await service.sync("a")
        with pytest.raises(ConfigurationError, match="is the index that a writes to"):
            await service.operations.purge_index("a", "other")
        for pattern in ("*", "oth*", "_all", f"other,{former}"):
            with pytest.raises(ConfigurationError, match="is not an index name"):
                await service.operations.purge_index("a", pattern)
        with pytest.raises(NotFoundError, match='there is no index "fromer"'):
            await service.operations.purge_index("a", "fromer")
        assert (len(service.indexed()), len(service.indexed("other"))) == (3, 3)
        assert await service.operations.purge_index("a", former) == 3
        assert (len(service.indexed()), len(service.indexed("other"))) == (0, 3)
        assert len(await service.operations.dead_letters("a")) == 1
        assert (await service.sync("a")).metadata["counters"]["unchanged"] == 3

    with caplog.at_level(logging.INFO, "connectors.registry"):
        play(scenario, tmp_path, connector("a"))


def test_a_former_index_is_not_purged_while_a_sync_writes_there(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        worker = service.worker("one")
        service.site.scripts["a"] = [*documents(range(3)), 50.0]
        await service.operations.sync_now("a")
        await worker.tick()
        await asyncio.sleep(5)
        former = (await service.record("a")).index_name
        await service.apply(connector("a", index="other"))
        with pytest.raises(ConflictError, match="still writes to"):
            await service.operations.purge_index("a", former)
        await asyncio.sleep(60)
        assert await service.operations.purge_index("a", former) == 3

    play(scenario, tmp_path, connector("a"))


@pytest.mark.parametrize("action", ["reset", "purge"])
def test_neither_runs_beside_a_sync_nor_harms_what_waits(tmp_path: Path, action: str) -> None:
    async def scenario(service: Service) -> None:
        # In the same process, as the page would do it.
        service.operations._worker = "one"
        worker = service.worker("one")
        service.site.scripts["a"] = [*documents(range(3)), 50.0]
        await service.operations.sync_now("a")
        await worker.tick()
        await asyncio.sleep(5)
        waiting = await service.operations.sync_now("a")
        with pytest.raises(ConflictError, match="a sync of a is running; cancel it"):
            await getattr(service.operations, action)("a")
        assert (await service.store.job(waiting.id)).status == JobStatus.PENDING
        assert worker.running
        assert len(service.indexed()) == 3
        await asyncio.sleep(60)
        await getattr(service.operations, action)("a")
        assert await service.statuses() == ["completed", "canceled"]
        with pytest.raises(ConflictError):
            await asyncio.gather(*(getattr(service.operations, action)("a") for _ in range(2)))

    play(scenario, tmp_path, connector("a"))


def test_a_long_purge_keeps_its_lease(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        await service.sync("a")
        purge = service.destination.purge

        async def slow(index: str, connector_id: str, *, guard: Callable[[], object]) -> int:
            await asyncio.sleep(1000)
            return await purge(index, connector_id, guard=guard)

        service.destination.purge = slow  # type: ignore[method-assign,assignment]  # as with millions of documents
        failures = iter([True])

        def fail_once(call: str) -> None:
            if call == "renew" and next(failures, False):
                raise RetryableError("the store is locked")

        service.store.before = fail_once
        purging = asyncio.create_task(service.operations.purge("a"))
        await asyncio.sleep(1)
        await service.operations.sync_now("a")
        await service.run(900, schedule=False)
        assert await service.statuses() == ["completed", "pending"]
        assert await purging == 3
        await service.run(10, schedule=False)
        assert len(service.indexed()) == 3

    play(scenario, tmp_path, connector("a"))


def test_a_purge_that_lost_its_lease_deletes_no_more(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        await service.sync("a")
        purge = service.destination.purge

        async def stand_still(index: str, connector_id: str, *, guard: Callable[[], object]) -> int:
            service.store.before = refuse_to_renew
            await asyncio.sleep(70)
            return await purge(index, connector_id, guard=guard)

        def refuse_to_renew(call: str) -> None:
            if call == "renew":
                raise RetryableError("the store is locked")

        service.destination.purge = stand_still  # type: ignore[method-assign,assignment]  # the process is stopped
        with pytest.raises(LeaseLostError):
            await service.operations.purge("a")
        assert len(service.indexed()) == 3

    play(scenario, tmp_path, connector("a"))


def test_a_purge_that_fails_gives_the_connector_back(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        await service.sync("a")

        async def fail(*_: Any, **__: Any) -> int:
            raise RetryableError("the destination is away")

        purge = service.destination.purge
        service.destination.purge = fail  # type: ignore[method-assign]  # in passing
        with pytest.raises(RetryableError):
            await service.operations.purge("a")
        service.destination.purge = purge  # type: ignore[method-assign]
        assert (await service.sync("a")).status == "completed"

    play(scenario, tmp_path, connector("a"))


def test_reset_ends_a_job_whose_worker_died_and_its_checkpoint_is_not_used(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        service.site.scripts["a"] = checkpointed(documents(range(20)), 1, pause=1.0)
        await service.operations.sync_now("a")
        await service.run(10, schedule=False)
        await service.stop()
        await service.operations.reset("a")
        assert await service.statuses() == ["canceled"]
        job = await service.sync("a")
        assert job.metadata["counters"]["indexed"] == 20
        assert service.site.checkpoints == [None, None]

    play(scenario, tmp_path, connector("a"))


def test_a_sync_that_was_asked_for_is_so_though_the_scheduler_was_faster(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        record = await service.record("a")

        async def schedule_first(call: str) -> None:
            if call == "create_job":
                service.store.before = lambda _: None
                now = service.runtime.now()
                await service.store.create_job(record, JobType.FULL, TriggerMethod.SCHEDULED, now=now)

        service.store.before = schedule_first
        job = await service.operations.sync_now("a", allow_deletes=7)
        assert (job.trigger_method, job.metadata["allow_deletes"]) == ("on_demand", 7)
        assert len(await service.jobs()) == 1

    play(scenario, tmp_path, connector("a"))


def test_a_job_that_ended_cannot_be_cancelled(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        job = await service.sync("a")
        with pytest.raises(ConflictError):
            await service.operations.cancel(job.id)
        with pytest.raises(NotFoundError):
            await service.operations.cancel("no-such-job")
        assert await service.statuses() == ["completed"]

    play(scenario, tmp_path, connector("a"))


def test_names_that_do_not_exist_meet_their_nearest(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        await service.sync("handbook")
        for call in (
            service.operations.sync_now("handbok"),
            service.operations.pause("handbok"),
            service.operations.reset("handbok"),
            service.operations.purge("handbok"),
            service.operations.jobs("handbok"),
            service.operations.dead_letters("handbok"),
        ):
            with pytest.raises(NotFoundError, match='did you mean "handbook"'):
                await call
        with pytest.raises(NotFoundError, match='did you mean "shelf"'):
            await service.operations.search("shelve", "x")
        assert (await service.operations.search("shelf", "d0")).total >= 0

    play(scenario, tmp_path, connector("handbook"))


def test_a_source_without_incremental_sync_is_not_asked_for_one(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        service.source_class.incremental_sync_enabled = False
        await service.apply()
        await service.sync("a")
        with pytest.raises(ConfigurationError, match="has no incremental"):
            await service.operations.sync_now("a", JobType.INCREMENTAL)
        await service.store.put_connector(Connector(id="begun"))
        with pytest.raises(ConfigurationError, match="not complete"):
            await service.operations.sync_now("begun")

    play(scenario, tmp_path, connector("a"))


def test_views_of_many_connectors_list_the_jobs_once(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        await service.run(20)
        service.store.calls.clear()
        assert len(await service.operations.views()) == 20
        assert service.store.calls["jobs"] == 2, "one of those that run, one of the latest"
        assert sum(service.store.calls.values()) == 4, "the connectors and all dead letters besides"
        for _ in range(105):  # so many that those of the others are not among the latest
            await service.operations.sync_now("c0")
            await service.run(1, schedule=False)
        service.site.scripts["c1"] = [*documents(range(3)), 500.0]
        await service.operations.sync_now("c1")
        await service.run(2, schedule=False)
        views = await service.operations.views()
        assert [view.connector.id for view in views] == sorted(f"c{number}" for number in range(20))
        assert {view.connector.id for view in views if view.running} == {"c1"}
        assert all(view.last_job is not None and view.last_job.status == "completed" for view in views)
        singly = [await service.operations.view(view.connector) for view in views]
        assert singly == views

    play(scenario, tmp_path, *(connector(f"c{number}", full="every 1h") for number in range(20)))


def test_views_show_what_is_and_what_comes_whatever_records_hold(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        bad = {"scheduling": {"full": {"enabled": True, "interval": "often"}, "access_control": {"enabled": True}}}
        await service.store.put_connector(Connector.from_record("z", {**bad, "index_name": "none"}))
        service.site.scripts["a"] = [*documents(range(3)), 50.0]
        before = {view.connector.id: view for view in await service.operations.views()}
        assert before["a"].next_syncs == {"full": service.runtime.now()}
        assert before["z"].next_syncs == {}
        await service.run(5)
        running = {view.connector.id: view for view in await service.operations.views()}["a"]
        assert running.running is not None
        assert running.documents == 3
        assert running.next_syncs["full"] > service.runtime.now()
        await service.run(60)
        view = await service.operations.view(await service.record("a"))
        assert (view.running, view.orphaned, view.dead_letters) == (None, False, 0)
        assert view.last_job is not None
        assert view.last_job.status == "completed"
        await service.operations.pause("a")
        assert (await service.operations.view(await service.record("a"))).next_syncs == {}

    play(scenario, tmp_path, connector("a"))
