"""A sync that does not get on is reported with where it hangs, and given up where the operator says so."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from connectors.backends.ports import Failure, FailureKind, WriteResult
from connectors.byoc import SyncJob
from connectors.config import ServiceConfig
from connectors.errors import RetryableError, StalledError
from connectors.logger import register_secrets
from connectors.service.watchdog import Watchdog
from connectors.sync.watch import Watch
from tests.support.clock import InlineRuntime, run_virtual
from tests.support.service import Service, connector, play
from tests.support.sources import Download, checkpointed, documents

DAY = 86_400.0


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


async def running_job(service: Service, seconds: float) -> SyncJob:
    """Starts the sync of `a`, and returns its job as it is after some seconds."""
    await service.operations.sync_now("a")
    worker = service.worker()
    await worker.tick()
    await asyncio.sleep(seconds)
    return (await service.jobs())[0]


def stalled_seconds(service: Service) -> float:
    page = service.metrics.render()[0].decode()
    (line,) = [line for line in page.splitlines() if line.startswith('connectors_stalled_seconds{connector="a"}')]
    return float(line.split()[1])


async def held(service: Service) -> dict[str, Any]:
    """`_id` → document, of all that the index holds."""
    found = await service.destination.fetch("shelf", [f"d{number}" for number in range(30)])
    return {document_id: orjson.loads(body) for document_id, body in found.items()}


def hanging(scenario: Callable[[Service], Awaitable[None]], folder: Path, **service: Any) -> None:
    async def stopped(world: Service) -> None:
        await scenario(world)
        await world.stop()

    play(stopped, folder, connector("a", full=None), service={"stall_timeout": "5m", "drain_timeout": "1s", **service})


# Where it hangs


def test_a_source_that_hangs_is_reported_with_the_lines_where_it_waits(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(service: Service) -> None:
        service.site.scripts["a"] = [*documents(range(3)), 1000, *documents([3]), 100, *documents([4, 5])]
        job = await running_job(service, 290)
        assert job.stalled is None
        assert stalled_seconds(service) == 0
        await asyncio.sleep(60)
        job = (await service.jobs())[0]
        assert job.status == "in_progress"
        assert job.stalled is not None
        assert job.stalled.startswith("no progress for 5m: waiting for the next document of the source script, at ")
        assert "support/sources.py:" in job.stalled
        assert "in _play < " in job.stalled
        assert 300 <= stalled_seconds(service) <= 350

        await asyncio.sleep(800)  # it gets on, to the end
        job = (await service.jobs())[0]
        assert (job.status, job.stalled, job.metadata["counters"]["indexed"]) == ("completed", None, 6)
        assert stalled_seconds(service) == 0
        assert warnings(caplog) == [text for text in warnings(caplog) if "no progress" in text]
        assert len(warnings(caplog)) == 1, "not at each look"

    caplog.set_level(logging.INFO)
    hanging(scenario, tmp_path)
    assert "gets on again, after 16m 15s without progress" in caplog.text


def test_a_slow_sync_is_not_taken_for_one_that_hangs(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(service: Service) -> None:
        service.site.scripts["a"] = [item for pair in documents(range(10)) for item in (pair, 280.0)]
        job = await running_job(service, 2900)
        assert job.status == "completed"

    hanging(scenario, tmp_path, stall_action="cancel")
    assert not warnings(caplog)


def test_a_destination_that_refuses_is_named_with_the_request_and_the_tries(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        register_secrets(["tr0ub4dor-queue"])
        busy = Failure(FailureKind.OVERLOADED, "429: the queue tr0ub4dor-queue is full")
        service.destination.verdict = lambda *_: busy
        job = await running_job(service, 400)
        assert job.stalled is not None
        assert "writing 3 documents (" in job.stalled
        assert "to shelf, for 5m" in job.stalled
        assert " times, the last time: 429: the queue *** is full" in job.stalled
        assert "source" not in job.stalled, "that one waits for nothing"

    hanging(scenario, tmp_path)


def test_a_pause_that_the_destination_asked_for_is_named(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        async def write(*_: Any) -> WriteResult:
            raise RetryableError("too many requests", retry_after=500.0)

        service.destination.write = write  # type: ignore[method-assign, assignment]  # takes nothing
        job = await running_job(service, 320)
        assert job.stalled is not None
        assert "refused 1 time, the last time: too many requests" in job.stalled

    hanging(scenario, tmp_path)


def test_a_request_without_an_answer_is_named(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        service.destination.delay = lambda _: 1000.0
        job = await running_job(service, 320)
        assert job.stalled is not None
        assert job.stalled.startswith("no progress for 5m: writing 3 documents (")
        assert "refused" not in job.stalled

    hanging(scenario, tmp_path)


def test_a_download_that_hangs_is_named_with_its_document(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        slow = Download({"body": "text"}, seconds=500)
        service.site.scripts["a"] = documents([7], lazy=lambda _: slow)
        job = await running_job(service, 320)
        assert job.stalled is not None
        assert job.stalled.startswith("no progress for 5m: downloading d7, for 5m")

    hanging(scenario, tmp_path)


def test_a_text_that_is_never_extracted_is_named_with_its_document(tmp_path: Path) -> None:
    class Endless:
        async def extract(self, content: bytes, *, name: str, mime_type: str | None = None) -> None:
            await asyncio.sleep(DAY)

        def fingerprint(self) -> str:
            return "endless"

    async def scenario(service: Service) -> None:
        service.worker()._services.extractor = Endless()
        service.site.scripts["a"] = documents([7], lazy=lambda _: Download({"_attachment": b"text"}))
        await service.operations.sync_now("a")
        await service.workers[0].tick()
        await asyncio.sleep(320)
        (job,) = await service.jobs()
        assert job.stalled is not None
        assert job.stalled.startswith("no progress for 5m: extracting the text of d7, for 5m")

    hanging(scenario, tmp_path)


def test_a_source_that_cannot_be_reached_nor_says_so_is_named(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        async def ping(_: Any) -> None:
            await asyncio.sleep(DAY)

        service.source_class.ping = ping  # type: ignore[method-assign, assignment]  # of a class of this test alone
        await running_job(service, 320)
        await asyncio.sleep(60)
        (job,) = await service.jobs()
        assert (job.status, job.stalled) == ("error", None)
        assert job.error is not None
        assert job.error.startswith("no progress for 5m: reaching the source script, at ")
        assert "in ping" in job.error

    hanging(scenario, tmp_path, stall_action="cancel")


def test_switched_off_it_says_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(service: Service) -> None:
        service.site.scripts["a"] = [*documents(range(3)), DAY]
        job = await running_job(service, 2000)
        assert (job.status, job.stalled) == ("in_progress", None)

    hanging(scenario, tmp_path, stall_timeout=0)
    assert not warnings(caplog)


# Giving up


def test_a_sync_that_is_given_up_deletes_nothing_and_the_next_one_goes_on(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        everything = documents(range(20))
        service.site.scripts["a"] = everything
        await running_job(service, 10)

        # d19 is gone; and behind the tenth document the source hangs.
        docs = checkpointed(documents(range(19), edition=2), 2, pause=1.0)
        service.site.scripts["a"] = [*docs[:25], DAY]
        await running_job(service, 10)
        await asyncio.sleep(400)
        hung = (await service.jobs())[-1]
        assert (hung.status, hung.metadata["counters"]["indexed"]) == ("error", 10)
        assert hung.error is not None
        assert "waiting for the next document of the source script" in hung.error
        assert len(await held(service)) == 20

        service.site.scripts["a"] = docs
        await service.operations.sync_now("a")
        await service.workers[-1].tick()
        await asyncio.sleep(60)
        job = (await service.jobs())[-1]
        assert service.site.checkpoints[-1] == 25, "behind the last checkpoint, which covers ten documents"
        counters = job.metadata["counters"]
        assert (job.status, counters["read"], counters["vanished"]) == ("completed", 9, 1)
        documents_now = await held(service)
        assert documents_now.keys() == {f"d{number}" for number in range(19)}
        assert {document["edition"] for document in documents_now.values()} == {2}
        assert "goes_on" not in (await service.store.state("a")).data

    hanging(scenario, tmp_path, stall_action="cancel")


def test_a_cancelled_job_leaves_its_checkpoint_to_nobody(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        docs = checkpointed(documents(range(20)), 2, pause=1.0)
        service.site.scripts["a"] = docs
        job = await running_job(service, 8)
        await service.operations.cancel(job.id)
        await asyncio.sleep(10)
        assert await service.statuses() == ["canceled"]
        await service.operations.sync_now("a")
        await service.workers[-1].tick()
        await asyncio.sleep(60)
        assert service.site.checkpoints == [None, None]

    hanging(scenario, tmp_path)


def test_a_source_that_swallows_the_cancellation_is_left_behind(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        async def stubborn() -> None:
            ends = asyncio.get_running_loop().time() + 1000
            while asyncio.get_running_loop().time() < ends:
                try:
                    await asyncio.sleep(100)
                except asyncio.CancelledError:
                    continue

        service.site.scripts["a"] = [*documents(range(3)), stubborn]
        await running_job(service, 400)
        job = (await service.jobs())[0]
        assert job.status == "error"
        assert "waiting for the next document" in (job.error or "")
        await asyncio.sleep(1000)

    hanging(scenario, tmp_path, stall_action="cancel")


def test_a_defect_of_the_watchdog_leaves_no_sync_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def where(_: Watch) -> str:
        raise RuntimeError("a defect")

    async def scenario(service: Service) -> None:
        service.site.scripts["a"] = [*documents(range(3)), DAY]
        await running_job(service, 400)
        assert service.site.made[0].closed, "its source is read no more"
        assert (await service.store.state("a")).worker is None
        assert "a defect" in caplog.text

    monkeypatch.setattr(Watch, "where", where)
    hanging(scenario, tmp_path)


# Time


class Sleepy(InlineRuntime):
    """The machine sleeps for a day in the middle of a pause."""

    __slots__ = ()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(DAY if 100 < asyncio.get_running_loop().time() < 200 else seconds)


def test_a_machine_that_slept_is_no_stall() -> None:
    noted: list[str | None] = []

    async def record(text: str | None) -> None:
        noted.append(text)

    async def scenario() -> StalledError:
        config = ServiceConfig(stall_timeout=300.0, stall_action="cancel")
        dog = Watchdog(
            Watch(), config, runtime=Sleepy(), record=record, measure=lambda _: None, logger=logging.getLogger("test")
        )
        error = await dog.run()
        assert asyncio.get_running_loop().time() > DAY + 150, "it counted from its looks"
        return error

    assert "no progress for 5m: nothing that is known" in str(run_virtual(scenario()))
    assert noted == []
