"""What is kept from one sync to the next: the source object, its word that nothing changed, records and numbers."""

from __future__ import annotations

import asyncio
import errno
from pathlib import Path
from typing import Any

import pytest

from connectors.byoc import JobStatus, JobType
from connectors.errors import RetryableError
from connectors.source import Skipped
from connectors.sync.ledger import Ledger
from tests.support.service import Service, connector, play
from tests.support.sources import checkpointed, documents

RULE = {"policy": "exclude", "field": "number", "rule": "equals", "value": 1}


# The source that says that nothing changed


def test_an_unchanged_source_is_not_read_and_the_ledger_stays_valid(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        service.site.unchanged.add("a")
        await service.run(2000)
        jobs = await service.jobs()
        assert [job.status for job in jobs] == ["completed"] * 4
        assert [job.metadata.get("unchanged", False) for job in jobs] == [False, True, True, True]
        assert len(service.site.checkpoints) == 1
        assert service.site.asked == ["a"] * 3
        service.site.unchanged.clear()
        service.destination.stamps = _never  # type: ignore[method-assign,assignment]  # no ledger is rebuilt
        await service.run(600)
        job = (await service.jobs())[-1]
        assert job.metadata["counters"] == {**dict.fromkeys(job.metadata["counters"], 0), "read": 3, "unchanged": 3}
        assert len(service.written()) == 3

    play(scenario, tmp_path, connector("a"))


def _never(*_: Any) -> Any:
    raise AssertionError("the ledger is rebuilt")


async def _in_order(service: Service) -> None:
    """Does nothing that matters."""


async def _on_demand(service: Service) -> None:
    await asyncio.sleep(100)
    await service.operations.sync_now("a")
    await service.run(400, schedule=False)


async def _another_rule(service: Service) -> None:
    await service.apply(connector("a", filtering={"rules": [RULE]}))


async def _another_setting(service: Service) -> None:
    await service.apply(connector("a", configuration={"url": "https://example.org"}))


async def _another_secret(service: Service) -> None:
    await service.apply(connector("a", configuration={"password": "something-else"}))


async def _another_pipeline(service: Service) -> None:
    await service.apply(connector("a", pipeline={"name": "other"}))


async def _index_gone(service: Service) -> None:
    await service.destination.delete_index("shelf")


async def _reset(service: Service) -> None:
    await service.operations.reset("a")


async def _purge(service: Service) -> None:
    await service.operations.purge("a")


async def _another_worker(service: Service) -> None:
    await service.stop()
    service.worker("two")


async def _another_worker_between(service: Service) -> None:
    lease = await service.store.acquire("a", "two", ttl=60, now=service.runtime.time())
    assert lease is not None
    await service.store.release(lease)


async def _failed_since(service: Service) -> None:
    service.site.scripts["a"] = [*documents(range(3)), ValueError("a defect")]
    await service.sync("a")


async def _gaps(service: Service) -> None:
    service.site.scripts["a"] = [*documents(range(3)), Skipped("cannot be read")]
    await service.sync("a")


async def _dead_letter(service: Service) -> None:
    service.site.scripts["a"] = [*documents(range(3)), Skipped("cannot be read", "d9")]
    await service.sync("a")


async def _went_on(service: Service) -> None:
    """The part that went on did not list what the first part had."""
    service.site.scripts["a"] = [*documents(range(3)), RetryableError("cut off")]
    await service.sync("a")
    service.site.scripts["a"] = documents(range(3))
    await service.run(20, schedule=False)


@pytest.mark.parametrize(
    ("event", "asked"),
    [
        (_in_order, True),
        (_on_demand, False),
        (_another_rule, False),
        (_another_setting, False),
        (_another_secret, False),
        (_another_pipeline, False),
        (_index_gone, False),
        (_reset, False),
        (_purge, False),
        (_another_worker, False),
        (_another_worker_between, False),
        (_failed_since, False),
        (_gaps, False),
        (_dead_letter, False),
        (_went_on, False),
    ],
)
def test_changed_is_asked_only_when_its_answer_can_be_trusted(tmp_path: Path, event: Any, asked: bool) -> None:
    async def scenario(service: Service) -> None:
        service.site.unchanged.add("a")
        await service.run(10)
        assert len(service.indexed()) == 3
        await event(service)
        service.site.scripts["a"] = documents(range(3))
        service.site.asked.clear()
        if len(await service.jobs()) == 1 or event in {_failed_since, _gaps, _dead_letter, _went_on}:
            await service.run(600)
        assert bool(service.site.asked) is asked
        assert bool((await service.jobs())[-1].metadata.get("unchanged")) is asked
        assert len(service.indexed()) == (2 if event is _another_rule else 3)

    play(scenario, tmp_path, connector("a"))


# Source objects


@pytest.mark.parametrize(
    "change",
    [{}, {"url": "u"}, {"password": "only a secret"}, {"tags": ["one", "two"]}],
    ids=lambda change: str([*change]),
)
def test_a_source_object_lives_for_as_long_as_its_configuration(tmp_path: Path, change: dict[str, Any]) -> None:
    async def scenario(service: Service) -> None:
        for _ in range(3):
            await service.sync("a")
        assert len(service.site.made) == 1
        await service.apply(connector("a", configuration=change))
        await service.sync("a")
        made = 2 if change else 1
        assert (len(service.site.made), len(service.site.closed)) == (made, made - 1)
        await service.stop()
        assert set(service.site.closed) == set(service.site.made)

    play(scenario, tmp_path, connector("a"))


def test_a_source_that_cannot_be_closed_keeps_nobody_from_anything(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        service.site.close_errors["a"] = ValueError("it sticks")
        await service.sync("a")
        await service.sync("b")
        await service.apply(connector("a", configuration={"url": "u"}), connector("b"))
        assert (await service.sync("a")).status == "completed"
        await service.stop()
        assert len(service.site.closed) == 3

    play(scenario, tmp_path, connector("a"), connector("b"))


def test_a_running_job_keeps_the_configuration_that_it_started_with(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        service.site.scripts["a"] = [*documents(range(2)), 20.0, *documents(range(2, 4))]
        await service.run(5)
        await service.apply(connector("a", filtering={"rules": [RULE]}, configuration={"url": "new"}))
        await service.run(30)
        assert len(service.indexed()) == 4
        assert len(service.site.made) == 1
        await service.sync("a", allow_deletes=1)
        assert len(service.indexed()) == 3
        assert len(service.site.made) == 2

    play(scenario, tmp_path, connector("a", full="every 10m"))


# Counting


def test_the_deletion_guard_names_the_command_which_works_once(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        service.site.scripts["a"] = documents(range(200))
        await service.sync("a")
        service.site.scripts["a"] = documents(range(100))
        job = await service.sync("a")
        assert (job.status, len(service.indexed())) == ("error", 200)
        assert "connectors sync a --allow-deletes 100" in (job.error or "")
        assert (await service.record("a")).error == job.error
        job = await service.sync("a", allow_deletes=100)
        assert (job.status, len(service.indexed())) == ("completed", 100)
        assert (await service.record("a")).error is None
        service.site.scripts["a"] = documents(range(10))
        assert (await service.sync("a")).status == "error"
        await service.apply(connector("a", max_delete_ratio=1.0))
        assert (await service.sync("a")).status == "completed"

    play(scenario, tmp_path, connector("a"))


def _metric(service: Service, name: str, **labels: str) -> float:
    return service.metrics._registry.get_sample_value(f"connectors_{name}", labels) or 0.0


def test_metrics_add_up_over_several_and_resumed_jobs(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        service.site.scripts["a"] = checkpointed(documents(range(20)), 1, pause=1.0)
        await service.sync("a")
        await service.sync("a")
        for outcome in ("indexed", "unchanged"):
            assert _metric(service, "documents_total", connector="a", outcome=outcome) == 20
        service.site.scripts["a"] = checkpointed(documents(range(20), edition=2), 1, pause=1.0)
        await service.operations.sync_now("a")
        await service.run(10, schedule=False)
        assert _metric(service, "running_syncs", connector="a") == 1
        await service.stop()
        worker = service.worker("one")
        assert _metric(service, "running_syncs", connector="a") == 0
        await service.run(30, worker, schedule=False)
        assert _metric(service, "documents_total", connector="a", outcome="indexed") == 40
        bytes_each = _metric(service, "written_bytes_total", connector="a") / 40
        assert 20 < bytes_each < 60
        ended = _metric(service, "jobs_total", connector="a", job_type="full", status="completed")
        assert (ended, _metric(service, "sync_duration_seconds_count", job_type="full")) == (3, 3)
        assert _metric(service, "last_success_timestamp_seconds", connector="a") > 0
        assert _metric(service, "queued_operations", connector="a") == 0

    play(scenario, tmp_path, connector("a"))


def test_an_incremental_sync_stores_its_cursor(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        await service.sync("a")
        service.site.made[0].cursor = {"at": 7}
        service.site.scripts["a+"] = [({"_id": "d9", "number": 9}, None, "index"), ({"_id": "d0"}, None, "delete")]
        job = await service.sync("a", JobType.INCREMENTAL)
        assert (job.status, job.deleted_document_count, job.total_document_count) == ("completed", 1, 3)
        assert set(service.indexed()) == {"d1", "d2", "d9"}
        assert (await service.record("a")).sync_cursor == {"at": 7}

    play(scenario, tmp_path, connector("a"))


def test_the_record_tells_how_the_last_sync_ended(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        began = service.runtime.now()
        await service.sync("a")
        record = await service.record("a")
        assert record.last_synced is not None
        assert record.last_synced >= began
        assert (record.last_indexed_document_count, record.last_deleted_document_count) == (3, 0)
        synced = record.last_synced
        service.site.ping_errors["a"] = ValueError("a defect")
        await service.sync("a")
        record = await service.record("a")
        assert (record.last_sync_status, record.last_synced) == (JobStatus.ERROR, synced)

    play(scenario, tmp_path, connector("a"))


# What a job costs the store


def test_a_job_that_finds_nothing_writes_its_records_three_times(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        await service.sync("a")
        service.store.calls.clear()
        assert (await service.sync("a")).counters["unchanged"] == 3
        readers = {"connector", "connectors", "job", "jobs", "state", "dead_letter_ids"}
        writes = {name: number for name, number in service.store.calls.items() if name not in readers}
        assert writes == {"create_job": 1, "claim": 1, "commit": 1}
        assert (await service.store.state("a")).worker is None

    play(scenario, tmp_path, connector("a"))


def test_the_counters_are_kept_of_a_job_whose_ledger_cannot_be_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    async def scenario(service: Service) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(Ledger, "merge", full)
            job = await service.sync("a")
        assert (job.status, job.counters["read"], job.counters["indexed"]) == ("error", 3, 3)
        record = await service.record("a")
        assert (record.last_sync_status, record.last_indexed_document_count) == ("error", 3)
        assert (await service.sync("a")).counters["unchanged"] == 3  # from the stamps

    play(scenario, tmp_path, connector("a"))
