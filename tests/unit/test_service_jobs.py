"""How a job ends: each kind of error, told from the others by what the caller should do."""

from __future__ import annotations

import asyncio
import logging
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from connectors.backends.ports import FailureKind, IndexInfo, IndexSpec
from connectors.byoc import JobType
from connectors.errors import ConfigurationError, FullSyncNeededError, RetryableError, SuspendSync
from connectors.logger import register_secrets
from connectors.source import Skipped
from tests.support.service import ScriptSource, Service, connector, play
from tests.support.sources import checkpointed, documents

RULE = {"policy": "exclude", "field": "number", "rule": "equals", "value": 1}


async def pauses(service: Service, seconds: float) -> list[float]:
    """Runs the service and returns the seconds between the tries of its one connector."""
    times: list[float] = []
    known = len(service.site.pings)
    ends = service.runtime.time() + seconds
    while service.runtime.time() < ends:
        await service.run(1, schedule=False)
        if len(service.site.pings) > known:
            known = len(service.site.pings)
            times.append(service.runtime.time())
    return [round(later - earlier) for earlier, later in pairwise(times)]


def test_a_passing_fault_is_tried_again_with_growing_pauses_and_ends_in_error(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        service.site.ping_errors["a"] = RetryableError("the server is busy")
        await service.operations.sync_now("a")
        found = await pauses(service, 400)
        assert len(found) == 5
        for pause, wanted in zip(found, (5, 10, 20, 40, 80), strict=True):
            assert wanted <= pause <= wanted + 2
        (job,) = await service.jobs()
        assert (job.status, job.error) == ("error", "the server is busy")
        record = await service.record("a")
        assert (record.status, record.error, record.last_sync_status) == ("error", "the server is busy", "error")
        assert record.last_synced is None

    play(scenario, tmp_path, connector("a", full=None))


def test_an_index_is_prepared_for_the_fields_that_the_source_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    types = {"host": {"type": "keyword"}}
    monkeypatch.setattr(ScriptSource, "field_types", lambda _: types)

    async def scenario(service: Service) -> None:
        specs: list[IndexSpec] = []
        prepare = service.destination.prepare

        async def noted(spec: IndexSpec) -> IndexInfo:
            specs.append(spec)
            return await prepare(spec)

        monkeypatch.setattr(service.destination, "prepare", noted)
        service.site.scripts["a"] = documents(range(2))
        await service.operations.sync_now("a")
        await service.run(3, schedule=False)
        assert [spec.fields for spec in specs] == [types]

    play(scenario, tmp_path, connector("a", full=None))


def test_the_time_that_the_other_side_names_is_waited_for(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        service.site.ping_errors["a"] = RetryableError("slow down", retry_after=100)
        await service.operations.sync_now("a")
        assert all(100 <= pause <= 102 for pause in await pauses(service, 350))

    play(scenario, tmp_path, connector("a", full=None))


def test_tries_count_anew_after_progress_and_only_then(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        docs: list[Any] = checkpointed(documents(range(20)), 2, pause=1.0)

        def fail_behind(position: int) -> None:
            service.site.scripts["a"] = [*docs[:position], RetryableError("cut off")]

        fail_behind(10)
        await service.operations.sync_now("a")
        attempts = []
        for position in (10, 10, 25, 25):
            fail_behind(position)
            await service.run(60, schedule=False)
            attempts.append((await service.jobs())[0].metadata["attempts"])
        assert attempts[0] < attempts[1]
        assert attempts[2] < attempts[1] + 2
        service.site.scripts["a"] = docs
        await service.run(200, schedule=False)
        (job,) = await service.jobs()
        assert (job.status, job.error) == ("completed", None)
        counters = job.metadata["counters"]
        assert counters["read"] == counters["indexed"] + counters["unchanged"] == 20

    play(scenario, tmp_path, connector("a", full=None))


def test_a_source_that_starts_over_and_never_gets_further_is_given_up(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        lengths = iter([5, 3, 4, 2, 4, 3, 4, 3, 4, 3, 4, 3])  # never further than the first time

        async def next_time(_: Any) -> None:
            service.site.scripts["a"] = [*documents(range(next(lengths))), RetryableError("cut off")]

        service.source_class.ping = next_time  # type: ignore[assignment,method-assign]  # called once a try
        service.source_class.resumable = False
        await service.operations.sync_now("a")
        await service.run(1000, schedule=False)
        (job,) = await service.jobs()
        assert job.status == "error"
        assert len(service.site.checkpoints) == 6

    play(scenario, tmp_path, connector("a", full=None))


def test_what_a_person_must_mend_suspends_for_good_and_goes_on_afterwards(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        service.site.ping_errors["a"] = SuspendSync("the disk is full")
        await service.operations.sync_now("a")
        found = await pauses(service, 4000)
        for pause, wanted in zip(found, (30, 60, 300, 900, 900, 900), strict=False):
            assert wanted <= pause <= wanted + 2
        (job,) = await service.jobs()
        assert (job.status, job.error) == ("suspended", "the disk is full")
        record = await service.record("a")
        assert (record.status, record.error, record.last_sync_status) == ("error", "the disk is full", "suspended")
        del service.site.ping_errors["a"]
        await service.run(901, schedule=False)
        record = await service.record("a")
        assert (record.status, record.error, record.last_sync_error) == ("connected", None, None)

    play(scenario, tmp_path, connector("a", full=None))


def test_a_wrong_configuration_ends_a_job_that_has_read_nothing(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        service.site.ping_errors["a"] = ConfigurationError("the password is wrong", field="password")
        await service.run(30)
        assert await service.statuses() == ["error"]
        await service.run(600)  # the next scheduled one tries again
        assert await service.statuses() == ["error", "error"]
        del service.site.ping_errors["a"]
        await service.run(600)
        assert await service.statuses() == ["error", "error", "completed"]

    play(scenario, tmp_path, connector("a"))


def test_wrong_credentials_suspend_a_job_that_was_under_way(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        docs = checkpointed(documents(range(20)), 2, pause=1.0)
        service.site.scripts["a"] = [*docs[:25], ConfigurationError("the password is no longer valid")]
        job = await service.sync("a")
        assert (job.status, job.error) == ("suspended", "the password is no longer valid")
        service.site.ping_errors["a"] = ConfigurationError("the password is wrong")
        await service.run(100, schedule=False)
        assert await service.statuses() == ["suspended"]
        # A mended secret leaves the checkpoint valid.
        del service.site.ping_errors["a"]
        service.site.scripts["a"] = docs
        await service.apply(connector("a", full=None, configuration={"password": "new-and-good"}))
        await service.sync("a")
        assert await service.statuses() == ["completed"]
        assert service.site.checkpoints[-1] is not None

    play(scenario, tmp_path, connector("a", full=None, configuration={"password": "old-and-bad"}))


def test_invalid_rules_refuse_to_run_and_touch_no_index(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        job = await service.sync("a")
        assert job.status == "error"
        assert "the sync rules of a are not valid" in (job.error or "")
        assert (service.written(), service.site.pings, await service.destination.indices()) == ([], [], [])
        await service.apply(connector("a"))
        assert (await service.sync("a")).status == "completed"

    play(scenario, tmp_path, connector("a", filtering={"rules": [{**RULE, "rule": "resembles"}]}))


@pytest.mark.parametrize("where", ["make", "ping", "read"])
def test_a_defect_of_a_source_costs_its_job_and_nothing_else(
    tmp_path: Path, where: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(service: Service) -> None:
        defect = KeyError("no such thing")
        if where == "make":
            service.site.make_errors["a"] = defect
        elif where == "ping":
            service.site.ping_errors["a"] = defect
        else:
            service.site.scripts["a"] = [*documents(range(2)), defect]
        await service.run(10)
        (job,) = await service.jobs("a")
        assert (job.status, job.error) == ("error", "KeyError: 'no such thing'")
        assert await service.statuses("b") == ["completed"]
        assert (await service.store.state("a")).worker is None

    with caplog.at_level(logging.ERROR, "connectors"):
        play(scenario, tmp_path, connector("a"), connector("b", index="other"))
    assert any(record.exc_info for record in caplog.records)  # the place is told


def test_a_source_that_cancels_itself_is_an_error_and_no_wish_of_the_operator(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        service.site.scripts["a"] = [*documents(range(2)), asyncio.CancelledError()]
        service.site.ping_errors["b"] = asyncio.CancelledError()  # type: ignore[assignment]  # a library's own
        for name in ("a", "b"):
            job = await service.sync(name)
            assert job.status == "error", name
            assert "nobody asked" in (job.error or "")

    play(scenario, tmp_path, connector("a"), connector("b"))


def test_records_hold_no_secret_of_an_error_and_no_book(tmp_path: Path) -> None:
    register_secrets(["tell-nobody-this"])

    async def scenario(service: Service) -> None:
        service.site.ping_errors["a"] = ValueError("login tell-nobody-this failed " + "x" * 50_000)
        job = await service.sync("a")
        assert "login *** failed" in (job.error or "")
        assert len(job.error or "") <= 2000
        record = await service.record("a")
        assert "tell-nobody-this" not in f"{record}"
        del service.site.ping_errors["a"]
        service.site.scripts["a"] = [*documents(range(2)), Skipped("https://joe:tell-nobody-this@host is away")]
        job = await service.sync("a")
        assert job.metadata["incomplete"] == ["https://joe:***@host is away"]

    play(scenario, tmp_path, connector("a"))


def test_the_end_of_a_job_is_stored_though_the_store_fails_for_a_while(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        failures = 5

        def fail(call: str) -> None:
            nonlocal failures
            if call == "commit" and service.indexed() and failures:
                failures -= 1
                raise RetryableError("the store is locked")

        service.store.before = fail
        assert (await service.sync("a")).status == "completed"
        assert failures == 0
        assert len(service.site.pings) == 1

    play(scenario, tmp_path, connector("a"))


def _failing(service: Service, name: str, times: int) -> None:
    """Lets so many calls of this name fail in passing."""
    left = times

    def fail(call: str) -> None:
        nonlocal left
        if call == name and left:
            left -= 1
            raise RetryableError("the store is busy")

    service.store.before = fail


def test_a_lease_is_given_back_though_the_store_fails_for_a_moment(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(service: Service) -> None:
        _failing(service, "release", 3)
        assert (await service.sync("a")).status == "completed"
        assert (await service.store.state("a")).worker is None
        _failing(service, "release", 1000)
        assert (await service.sync("a")).status == "completed", "it ends by itself"

    play(scenario, tmp_path, connector("a"))
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_the_full_sync_that_is_needed_is_queued_though_the_store_fails_for_a_while(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        await service.sync("a")
        service.site.scripts["a+"] = [FullSyncNeededError("the log was cut off")]
        await service.operations.sync_now("a", JobType.INCREMENTAL)
        _failing(service, "create_job", 4)
        await service.run(20, schedule=False)
        assert [(job.job_type, job.status) for job in await service.jobs()] == [
            ("full", "completed"), ("incremental", "error"), ("full", "completed"),
        ]  # fmt: skip

    play(scenario, tmp_path, connector("a", full=None))


def test_a_job_whose_end_cannot_be_stored_is_taken_up_again_after_a_while(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        service.store.before = _fail_commits
        await service.operations.sync_now("a")
        await service.run(300, schedule=False)
        assert 1 <= len(service.site.made) + service.store.calls["acquire"] < 60  # no busy loop
        service.store.before = lambda _: None
        await service.run(120, schedule=False)
        assert (await service.statuses())[0] in {"completed", "error"}

    play(scenario, tmp_path, connector("a"))


def _fail_commits(call: str) -> None:
    if call == "commit":
        raise RetryableError("the store is locked")


def test_an_incremental_sync_that_lost_its_position_queues_a_full_one(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        await service.sync("a")
        service.site.scripts["a+"] = [FullSyncNeededError("the log was cut off")]
        job = await service.sync("a", JobType.INCREMENTAL)
        assert (job.status, "the log was cut off: only a full sync" in str(job.error)) == ("error", True)
        assert [(job.job_type, job.status) for job in await service.jobs()][-1] == ("full", "pending")

    play(scenario, tmp_path, connector("a", full=None))


def test_a_failure_is_one_line_and_the_same_one_again_a_short_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    long = "the folder is not there: " + "mend it. " * 20

    async def scenario(service: Service) -> None:
        for error in (long, long, "something else", long):
            service.site.ping_errors["a"] = ConfigurationError(error)
            await service.operations.sync_now("a")
            await service.run(2, schedule=False)
        service.site.ping_errors.clear()
        for error in ("", long):
            if error:
                service.site.ping_errors["a"] = ConfigurationError(error)
            await service.operations.sync_now("a")
            await service.run(2, schedule=False)

    caplog.set_level(logging.INFO)
    play(scenario, tmp_path, connector("a", full=None))
    told = [record.getMessage() for record in caplog.records if record.name == "connectors.sync"]
    failed = [text for text in told if text.startswith("sync failed")]
    whole = f"sync failed: {long.strip()}"
    assert failed[0] == whole
    assert failed[1].startswith("sync failed: as before: the folder is not there")
    assert len(failed[1]) < 110
    assert failed[2:] == ["sync failed: something else", whole, whole], "it was well in between"
    assert told[:4] == failed[:4], "one line each"


def test_documents_that_the_index_holds_newer_versions_of_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Else an index would stay behind its source, and nobody would know."""

    async def scenario(service: Service) -> None:
        service.destination.verdict = lambda _, op: FailureKind.SUPERSEDED if op.id == "d1" else None
        assert (await service.sync("a")).counters["superseded"] == 1

    play(scenario, tmp_path, connector("a"))
    (told,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert told.getMessage().startswith("1 documents were left as they are, for the index holds newer versions")
