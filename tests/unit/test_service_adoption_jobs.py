"""A job that another tool wrote runs, or ends, or waits, as it says; and its record and its connector's say how."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest

from connectors.byoc import SyncJob
from connectors.errors import ConfigurationError
from tests.support.foreign import READY, daemon_runs, edit, write_connector, write_job
from tests.support.service import Service, connector, play
from tests.support.sources import checkpointed, documents


def assert_filled(job: SyncJob, *, indexed: int, total: int) -> None:
    """Every documented field of a job that ran has a value."""
    for name in ("created_at", "started_at", "completed_at", "last_seen", "worker_hostname"):
        assert getattr(job, name), name
    assert (job.indexed_document_count, job.deleted_document_count, job.total_document_count) == (indexed, 0, total)
    assert job.indexed_document_volume > 0
    assert job.metadata["counters"]["indexed"] == indexed
    assert job.connector["index_name"] == "foreign"
    assert {"service_type", "language", "pipeline", "filtering", "configuration"} <= job.connector.keys()


def test_a_job_with_nothing_but_an_id_runs_with_the_present_record(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        await write_connector(service, "x", READY)
        await write_job(service, "by-hand")
        async with daemon_runs(service):
            await asyncio.sleep(10)
        (job,) = await service.jobs()
        assert job.status == "completed"
        assert_filled(job, indexed=3, total=3)
        record = await service.record("x")
        assert (record.status, record.last_sync_status, record.last_sync_error) == ("connected", "completed", None)
        assert (record.last_indexed_document_count, record.last_deleted_document_count) == (3, 0)
        assert record.last_synced is not None

    play(scenario, tmp_path)


@pytest.mark.parametrize("name", ["../../../escape", "{folder}/outside", "a/b", "j" * 300, "\0", "..", "ü"])
def test_no_id_of_a_job_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    async def scenario(service: Service) -> None:
        service.site.scripts["x"] = checkpointed(documents(range(4)), 2, pause=2.0)
        await write_connector(service, "x", READY)
        await write_job(service, name.format(folder=tmp_path))
        async with daemon_runs(service):
            await asyncio.sleep(5)
        assert await service.statuses() == ["suspended"]
        async with daemon_runs(service):
            await asyncio.sleep(30)
        assert await service.statuses() == ["completed"]

    play(scenario, tmp_path)
    folders = {path.parent for path in tmp_path.rglob("*") if path.is_file()}
    ledgers = next(folder for folder in folders if folder.name == "x")
    assert folders == {ledgers, ledgers / "seen"}


@pytest.mark.parametrize("name", ["*", "logs-*", "a,b", "_all", "-x", "<logs-{now/d}>", "a b"])
def test_an_index_whose_name_is_a_pattern_is_not_written_to(tmp_path: Path, name: str) -> None:
    async def scenario(service: Service) -> None:
        await write_connector(service, "x", {**READY, "index_name": name})
        await write_job(service, "j")
        async with daemon_runs(service):
            await asyncio.sleep(10)
        (job,) = await service.jobs()
        record = await service.record("x")
        assert (job.status, record.status) == ("error", "error")
        for error in (job.error, record.error):
            assert error is not None
            assert "is not an index name" in error
        assert not service.destination.requests

    play(scenario, tmp_path)


def test_the_snapshot_of_another_tool_stays_and_does_not_count(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        await write_connector(service, "x", READY)
        snapshot = {"id": "x", "index_name": "of-old", "configuration": {"name": {"value": "y"}}, "odd": 1}
        await write_job(service, "j", connector=snapshot)
        async with daemon_runs(service):
            await asyncio.sleep(10)
        (job,) = await service.jobs()
        assert (job.status, job.connector) == ("completed", snapshot)
        assert set(service.site.pings) == {"x"}
        assert len(service.indexed("foreign")) == 3

    play(scenario, tmp_path)


@pytest.mark.parametrize("failed", ["error", "canceled"])
def test_a_job_that_does_not_complete_says_how_far_it_came(tmp_path: Path, failed: str) -> None:
    async def scenario(service: Service) -> None:
        end: list[Any] = [ValueError("a broken page")] if failed == "error" else [10_000.0]
        service.site.scripts["x"] = [*checkpointed(documents(range(4)), 2, pause=2.0), *end]
        await write_connector(service, "x", READY)
        await write_job(service, "j")
        async with daemon_runs(service):
            await asyncio.sleep(30)
            if failed == "canceled":
                now = service.runtime.now()
                changes = {"status": "canceling", "cancelation_requested_at": now}
                await service.store.update_job("j", changes, statuses=["in_progress"])
                await asyncio.sleep(10)
        (job,) = await service.jobs()
        assert job.status == failed
        assert_filled(job, indexed=4, total=4)
        assert (job.canceled_at is not None) is (failed == "canceled")
        record = await service.record("x")
        assert (record.last_sync_status, record.last_sync_error) == (failed, job.error)
        assert (record.last_indexed_document_count, record.last_deleted_document_count) == (4, 0)

    play(scenario, tmp_path)


@pytest.mark.parametrize(
    ("given", "status", "words"),
    [
        ({"connector": {"id": "nobody"}}, "error", 'there is no connector "nobody"'),
        ({"connector": None}, "error", "the job names no connector"),
        ({"connector": "x"}, "error", "the job names no connector"),
        ({"job_type": "sideways"}, "error", 'no syncs of the kind "sideways"'),
        ({"job_type": "access_control"}, "error", 'no syncs of the kind "access_control"'),
        ({"job_type": "incremental"}, "error", "an incremental sync needs a full one before it"),
        ({"job_type": None}, "completed", None),
        ({"status": "canceling", "cancelation_requested_at": "2026-01-01T00:00:00Z"}, "canceled", None),
        ({"status": "suspended"}, "completed", None),
        ({"status": "suspended", "metadata": {"resume_at": "soon", "counters": "many"}}, "completed", None),
        ({"created_at": "1767225600000", "started_at": "yesterday", "last_seen": 5}, "completed", None),
        ({"status": "in_progress", "last_seen": "2025-12-31T00:00:00"}, "completed", None),
    ],
)  # fmt: skip
def test_what_becomes_of_a_job(
    tmp_path: Path, given: dict[str, Any], status: str, words: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(service: Service) -> None:
        await write_connector(service, "x", READY)
        await write_job(service, "j", **given)
        async with daemon_runs(service):
            await asyncio.sleep(60)
            (job,) = await service.jobs()
            assert (job.status, words is None or words in (job.error or "")) == (status, True), job.error
            assert job.completed_at is not None
            assert job.worker_hostname is not None
            assert job.last_seen is not None
            assert await service.statuses("a") == []
            await service.operations.sync_now("a")
            await asyncio.sleep(10)
            assert await service.statuses("a") == ["completed"], "others go on"

    with caplog.at_level(logging.ERROR, "connectors"):
        play(scenario, tmp_path, connector("a", full=None))
    assert len(caplog.messages) == (status == "error")


def test_an_incremental_job_of_a_source_that_has_none_is_refused(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        service.source_class.incremental_sync_enabled = False
        await write_connector(service, "x", {**READY, "last_synced": "2026-01-01T00:00:00Z"})
        await write_job(service, "j", job_type="incremental")
        async with daemon_runs(service):
            await asyncio.sleep(10)
        (job,) = await service.jobs()
        assert job.error == 'the source "scripted" has no incremental sync: run a full one'

    play(scenario, tmp_path)


def test_an_access_control_job_is_told_in_the_fields_of_its_kind(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        await write_connector(service, "x", READY)
        await write_job(service, "j", job_type="access_control")
        async with daemon_runs(service):
            await asyncio.sleep(10)
        record = await service.record("x")
        assert record.last_access_control_sync_status == "error"
        assert "access_control" in (record.last_access_control_sync_error or "")
        assert (record.last_sync_status, record.status) == (None, "connected")

    play(scenario, tmp_path)


def test_a_job_of_a_record_that_lacks_its_configuration_says_what_is_missing(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        await write_connector(service, "x", {**READY, "configuration": {}})
        await write_job(service, "j")
        async with daemon_runs(service):
            await asyncio.sleep(10)
            (job,) = await service.jobs()
            assert (job.status, job.error) == ("error", '"name" is required: give it a value')
            configuration = (await service.record("x")).configuration
            await edit(service, "x", configuration={**configuration, "name": {"value": "x"}})
            await asyncio.sleep(10)
            assert (await service.record("x")).status == "connected"

    play(scenario, tmp_path)


def test_jobs_of_other_tools_run_one_after_the_other_oldest_first(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        await write_connector(service, "x", READY)
        for name, created in (("a", 30), ("b", 10), ("c", 20)):
            await write_job(service, name, created_at=f"2026-01-01T00:00:{created}Z")
        async with daemon_runs(service):
            await asyncio.sleep(30)
        jobs = {job.id: job.started_at for job in await service.jobs() if job.started_at is not None}
        assert sorted(jobs, key=lambda name: jobs[name]) == ["b", "c", "a"]

    play(scenario, tmp_path)


def test_a_count_that_fails_does_not_keep_the_error_from_being_stored(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        async def fail(*args: Any) -> int:
            raise ConfigurationError("the index is blocked")

        service.destination.count = fail  # type: ignore[assignment,method-assign]  # one that is down
        service.site.scripts["x"] = [ValueError("a broken page")]
        await write_connector(service, "x", READY)
        await write_job(service, "j")
        async with daemon_runs(service):
            await asyncio.sleep(10)
        (job,) = await service.jobs()
        assert (job.status, job.total_document_count) == ("error", None)
        assert "a broken page" in (job.error or "")

    play(scenario, tmp_path)
