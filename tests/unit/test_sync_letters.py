"""Documents that end as dead letters, and what becomes of the letters."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from connectors.backends.ports import FailureKind
from connectors.byoc import JobType
from connectors.errors import DeadLetterLimitError, RetryableError, SkippableError
from connectors.source import Skipped
from tests.support.clock import run_virtual
from tests.support.sources import Download, ResumableSource, ScriptedSource, documents
from tests.support.world import World, counted


@pytest.mark.parametrize(
    ("download", "reason"),
    [
        (Download(error=SkippableError("the file is broken")), "the file is broken"),
        (Download(error=ValueError("oops")), "ValueError: oops"),
        (Download(error=TimeoutError("slow server")), "TimeoutError: slow server"),
        (Download(seconds=1000), "the download took longer than 10m"),
    ],
)
def test_a_failing_download_is_a_dead_letter_until_it_is_healed(
    tmp_path: Path, download: Download, reason: str
) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        await world.sync(ScriptedSource([({"_id": "a", "_timestamp": 1}, Download({"body": "old"}))]))
        result = await world.sync(ScriptedSource([({"_id": "a", "_timestamp": 2}, download), *documents([1])]))
        assert counted(result) == {"read": 2, "dead_lettered": 1, "indexed": 1}
        assert world.indexed["a"] == {"_timestamp": 1, "body": "old"}
        assert await world.letters() == {"a": reason}
        healed = Download({"body": "new"})
        result = await world.sync(ScriptedSource([({"_id": "a", "_timestamp": 2}, healed), *documents([1])]))
        assert counted(result) == {"read": 2, "unchanged": 1, "indexed": 1}
        assert await world.letters() == {}
        assert world.indexed["a"] == {"_timestamp": 2, "body": "new"}

    run_virtual(scenario())


def test_a_letter_is_withdrawn_when_the_document_goes_back_or_vanishes(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        good = Download({"body": "old"})
        bad = Download(error=SkippableError("broken"))
        await world.sync(ScriptedSource([({"_id": "a", "_timestamp": 1}, good), ({"_id": "b", "_timestamp": 1}, bad)]))
        await world.sync(ScriptedSource([({"_id": "a", "_timestamp": 2}, bad), ({"_id": "b", "_timestamp": 1}, bad)]))
        assert sorted(await world.letters()) == ["a", "b"]
        await world.sync(ScriptedSource([({"_id": "a", "_timestamp": 1}, good)]))
        assert await world.letters() == {}
        assert sorted(world.indexed) == ["a"]

    run_virtual(scenario())


def test_what_has_no_json_form_or_is_too_large_is_a_dead_letter(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path, max_document_bytes=1000)
        result = await world.sync(ScriptedSource([
            ({"_id": "a", "x": object()}, None), ({"_id": "b", "x": "y" * 2000}, None), ({"_id": "c"}, None),
        ]))  # fmt: skip
        assert counted(result) == {"read": 3, "dead_lettered": 2, "indexed": 1}
        assert "JSON serializable: object" in (await world.letters())["a"]
        assert "max_document_bytes" in (await world.letters())["b"]

    run_virtual(scenario())


def test_refused_items_are_dead_letters_and_the_old_version_stays(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        await world.sync(ScriptedSource(documents(range(4))))
        world.destination.verdict = lambda _, op: FailureKind.REFUSED if op.id == "d1" else None
        result = await world.sync(ScriptedSource(documents(range(4), edition=2)))
        assert counted(result) == {"read": 4, "indexed": 3, "dead_lettered": 1}
        assert world.indexed["d1"]["edition"] == 1
        assert await world.ledger() == world.stamps()
        world.destination.verdict = lambda *_: None
        assert counted(await world.sync(ScriptedSource(documents(range(4), edition=2)))) == {
            "read": 4, "unchanged": 3, "indexed": 1,
        }  # fmt: skip
        assert await world.letters() == {}

    run_virtual(scenario())


@pytest.mark.parametrize("batch_documents", [1, 10])
def test_the_letter_of_a_newer_version_is_not_withdrawn_when_an_older_one_is_acknowledged(
    tmp_path: Path, batch_documents: int
) -> None:
    async def scenario() -> None:
        world = World(tmp_path, batch_documents=batch_documents)
        world.destination.answer_delay = lambda number: 0.0 if number else 2.0
        world.destination.verdict = lambda _, op: FailureKind.REFUSED if b'"edition":2' in (op.body or b"") else None
        result = await world.sync(ScriptedSource([*documents([0]), *documents([0], edition=2)]))
        assert result.counters.dead_lettered == 1
        assert world.indexed["d0"]["edition"] == 1
        assert list(await world.letters()) == ["d0"]
        world.destination.verdict = lambda *_: None
        await world.sync(ScriptedSource(documents([0], edition=2)))
        assert await world.letters() == {}

    run_virtual(scenario())


@pytest.mark.parametrize("job_type", [JobType.FULL, JobType.INCREMENTAL])
@pytest.mark.parametrize("known", [True, False])
def test_the_letter_of_the_last_copy_is_not_withdrawn_by_the_one_before_it(
    tmp_path: Path, job_type: JobType, known: bool
) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        good, bad = {"_id": "a", "x": 1}, {"_id": "a", "x": object()}
        operation = () if job_type is JobType.FULL else ("index",)
        if known:
            await world.sync(ScriptedSource([(dict(good), None)]))
        for _ in range(2):  # the second time the first copy is unchanged, and withdraws the letter of the time before
            await world.sync(ScriptedSource([(dict(good), None, *operation), (dict(bad), None, *operation)]), job_type)
            assert list(await world.letters()) == ["a"]
        await world.sync(ScriptedSource([(dict(bad), None, *operation), (dict(good), None, *operation)]), job_type)
        assert await world.letters() == {}
        assert world.indexed == {"a": {"x": 1}}

    run_virtual(scenario())


def test_a_letter_of_this_very_job_is_withdrawn_too(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        bad, good = Download(error=SkippableError("broken")), Download({"body": "x"}, seconds=0.5)
        await world.sync(ScriptedSource([({"_id": "a", "_timestamp": 1}, bad), ({"_id": "a", "_timestamp": 2}, good)]))
        assert await world.letters() == {}
        assert "a" in world.indexed

    run_virtual(scenario())


def test_the_letter_of_a_document_that_is_still_listed_stays(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        world.destination.verdict = lambda _, op: FailureKind.REFUSED if op.id == "d1" else None
        await world.sync(ScriptedSource(documents(range(3))))
        world.destination.verdict = lambda _, op: FailureKind.SUPERSEDED if op.id == "d1" else None
        await world.sync(ScriptedSource(documents(range(3))))
        assert list(await world.letters()) == ["d1"]

    run_virtual(scenario())


def test_too_many_dead_letters_stop_the_sync(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path, max_dead_letters=300, batch_documents=50)
        world.destination.verdict = lambda *_: FailureKind.REFUSED
        with pytest.raises(DeadLetterLimitError, match=r"max_dead_letters \(300\)"):
            await world.sync(ScriptedSource(documents(range(5000))))
        assert 300 < len(await world.letters()) < 1500, "it stops soon, and drops none of those that it has"
        job = (await world.store.jobs())[0]
        await world.store.update_job(job.id, {"status": "error"}, statuses=["pending"])
        world.destination.verdict = lambda *_: None
        assert (await world.sync(ScriptedSource(documents(range(5000))))).counters.indexed == 5000
        assert await world.letters() == {}

    run_virtual(scenario())


def test_a_document_that_fails_again_and_again_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        source = [
            ({"_id": "a.pdf", "_timestamp": 1}, Download(error=SkippableError("a.pdf: it is broken"))),
            Skipped("b.pdf: it is locked", _id="b.pdf"),
        ]
        for _ in range(3):
            assert counted(await world.sync(ScriptedSource(source))) == {"read": 2, "dead_lettered": 2}
        told = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
        assert [message for message in told if "pdf" in message] == ["b.pdf: it is locked", "a.pdf: it is broken"]

    run_virtual(scenario())


def test_dead_letters_survive_a_store_that_fails_for_a_while(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        failures, add = [RetryableError("busy")] * 3, world.store.add_dead_letters

        async def failing(letters: Any) -> None:
            if failures:
                raise failures.pop()
            await add(letters)

        world.store.add_dead_letters = failing  # type: ignore[method-assign]  # a fault, put in on purpose
        world.destination.verdict = lambda _, op: FailureKind.REFUSED if op.id == "d1" else None
        result = await world.sync(ResumableSource([*documents(range(3)), 30]))
        assert counted(result) == {"read": 3, "indexed": 2, "dead_lettered": 1}
        assert sorted(await world.letters()) == ["d1"]

    run_virtual(scenario())
