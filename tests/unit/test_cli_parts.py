"""The parts of the command line: words, tables, presence, following, signals."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import sqlite3
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from connectors.app import _part
from connectors.backends.embedded import EmbeddedBackend
from connectors.byoc import Connector, JobStatus, SyncJob
from connectors.cli import signals
from connectors.cli.exits import Exit
from connectors.cli.following import Sight, display_for
from connectors.cli.output import marked, print_table
from connectors.cli.presence import Enrolled, daemon_runs, enrolled, present, workers_here
from connectors.cli.signals import stop_on_signals
from connectors.cli.words import ago, clock, counters_in_words, how_many, outcome, until
from connectors.errors import ConfigurationError
from tests.support.inprocess import CommandLine, Terminal, command_line
from tests.support.workspace import Workspace, eventually

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def cli(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[CommandLine]:
    workspace = Workspace(tmp_path)
    workspace.write("a.txt", "the heron lands")
    with command_line(workspace, capsys, monkeypatch) as commands:
        yield commands


# Words


def test_counters_in_words() -> None:
    assert counters_in_words({"read": 1234, "indexed": 2, "vanished": 1, "bytes": 7, "filtered": 0}) == (
        "1,234 read, 2 indexed, 1 removed since they are gone"
    )
    assert counters_in_words({}) == "no documents"


def test_how_many() -> None:
    assert [how_many(number, "index", "indices") for number in (0, 1, 1000)] == [
        "0 indices",
        "1 index",
        "1,000 indices",
    ]
    assert how_many(2, "rule") == "2 rules"


def test_times_in_words() -> None:
    assert ago(NOW - timedelta(minutes=2), NOW) == "2m ago"
    assert ago(NOW + timedelta(minutes=2), NOW) == "0s ago", "clocks differ"
    assert until(NOW + timedelta(seconds=30), NOW) == "in 30s"
    assert until(NOW, NOW) == "now"
    assert (ago(None, NOW), until(None, NOW), clock(None)) == ("-", "-", "-")


@pytest.mark.parametrize(
    ("job", "words"),
    [
        (SyncJob(id="1"), "pending"),
        (SyncJob(id="1", status="error", error="no such folder"), "error: no such folder"),
        (
            SyncJob(id="1", status="completed", started_at=NOW, completed_at=NOW + timedelta(seconds=2)),
            "completed in 2s: no documents",
        ),
        (SyncJob(id="1", status="completed", metadata={"unchanged": True}), "completed: nothing changed at the source"),
        (SyncJob(id="1", status="in_progress", metadata={"counters": {"read": 5}}), "in_progress: 5 read"),
    ],
)
def test_outcome_of_a_job(job: SyncJob, words: str) -> None:
    assert outcome(job) == words


# Tables and marks


def test_a_table_goes_whole_into_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    long = "word " * 100
    print_table(("name", "number"), [(f"{long}\x1b[2J", 1), ("b", 12345)], empty="nothing")
    header, first, second = capsys.readouterr().out.splitlines()
    assert header.split() == ["name", "number"]
    assert first.startswith(f"{long}\\x1b[2J")
    assert second.split() == ["b", "12,345"]
    assert len(first) > len(long)


def test_an_empty_table_is_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("name",), [], empty="there is nothing")
    assert capsys.readouterr().out == "there is nothing\n"


def test_marks_become_bold_and_forged_ones_nothing() -> None:
    text = marked("a \x02heron\x03 l\x1bands \x02half")
    assert text.plain == "a heron l\\x1bands half"
    assert [(span.start, span.end, span.style) for span in text.spans if span.style] == [(2, 7, "bold")]
    assert marked("\x03no mark\x03").plain == "no mark"


# Presence


def test_a_daemon_is_seen_while_it_lives(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    assert not daemon_runs(folder)
    with present(folder):
        assert daemon_runs(folder)
        with present(folder):
            assert daemon_runs(folder)
        assert daemon_runs(folder)
    assert not daemon_runs(folder)


def test_workers_are_seen_while_they_live(tmp_path: Path) -> None:
    with present(tmp_path), enrolled(tmp_path, "host:1", 1):
        assert workers_here(tmp_path) == [Enrolled(1, "host:1")]
        (tmp_path / "workers" / "999.json").write_text('{"number": 2, "name": "host:999"}')  # killed: nobody locks it
        assert workers_here(tmp_path) == [Enrolled(1, "host:1")]
        assert not (tmp_path / "workers" / "999.json").exists()
    assert workers_here(tmp_path) == []


def test_the_parts_of_a_limit_add_up_to_it() -> None:
    for total in range(1, 40):
        for of in range(1, 12):
            parts = [_part(total, number, of) for number in range(1, of + 1)]
            assert sum(parts) == max(total, of)
            assert max(parts) - min(parts) <= 1


def test_a_data_folder_that_cannot_be_made_is_a_configuration_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", "utf-8")
    with pytest.raises(ConfigurationError, match="cannot be written"), present(tmp_path / "file" / "data"):
        pass
    (tmp_path / "workers").write_text("", "utf-8")
    with pytest.raises(ConfigurationError, match="workers cannot be written"), enrolled(tmp_path, "host:1", 1):
        pass


# Following


def sight(status: JobStatus, note: str = "", **counters: int) -> Sight:
    return Sight(SyncJob(id="1", status=status, metadata={"counters": counters}), note, expected=100)


def test_lines_are_printed_when_there_is_something_new(capsys: pytest.CaptureFixture[str]) -> None:
    with display_for("docs", quiet=False) as display:
        for _ in range(3):
            display.show(sight(JobStatus.PENDING, "waits for somebody\x07"))
        display.show(sight(JobStatus.IN_PROGRESS))
        display.show(sight(JobStatus.IN_PROGRESS, read=10))
    assert capsys.readouterr().err.splitlines() == ["docs: waits for somebody\\x07", "docs: full sync: begins"]


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    stderr = Terminal()
    monkeypatch.setattr("sys.stderr", stderr)
    with display_for("docs", quiet=False) as display:
        display.show(sight(JobStatus.IN_PROGRESS, read=40, indexed=40))
        eventually(lambda: "40 read, 40 indexed" in stderr.getvalue(), "the bar is drawn")
        display.show(sight(JobStatus.IN_PROGRESS, read=140))
    assert "docs" in stderr.getvalue()


def test_quiet_shows_nothing(cli: CommandLine) -> None:
    done = cli("-q", "sync", "docs")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("✓ docs: completed")


def test_a_daemon_that_does_not_take_the_job_is_not_waited_for(cli: CommandLine) -> None:
    with present(cli.workspace.root / "data"):
        begun = time.monotonic()
        done = cli("sync", "docs", "--json")
    assert done.json["status"] == "completed"
    assert time.monotonic() - begun > 1.0, "it was given the time to"


def test_who_holds_the_connector_is_said(cli: CommandLine) -> None:
    assert cli("sync", "docs").code == 0

    async def hold() -> None:
        backend = await EmbeddedBackend.open(cli.workspace.root / "data" / "connectors.db")
        try:
            await backend.store.acquire("docs", "elsewhere:1", ttl=2.5, now=time.time())
        finally:
            await backend.close()

    asyncio.run(hold())
    done = cli("sync", "docs")
    assert done.code == 0
    assert "docs: waits for elsewhere:1, which holds the connector until " in done.err


def test_a_job_that_waits_for_a_person_ends_the_command(cli: CommandLine) -> None:
    """A suspended job is tried again by a daemon; whoever asked for it is told at once."""
    source = """
from connectors.source import BaseDataSource, SuspendSync


class LockedDataSource(BaseDataSource):
    service_type = "locked"

    async def ping(self):
        raise SuspendSync("the credentials expired; renew them")

    async def get_docs(self, filtering=None):
        yield {"_id": "1"}, None
"""
    cli.workspace.module("locked_source", source)
    cli.workspace.configure(
        connectors=[cli.workspace.connector(service_type="locked", configuration={})],
        sources={"locked": "locked_source:LockedDataSource"},
    )
    done = cli("sync", "docs")
    assert done.code == Exit.FAILED
    assert done.out == "✗ docs: suspended: the credentials expired; renew them\n"


# Signals


async def test_the_first_signal_asks_to_stop() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        with stop_on_signals() as stop:
            os.kill(os.getpid(), number)
            async with asyncio.timeout(5):
                await stop.wait()


@pytest.fixture
def hangup_heeded() -> Iterator[None]:
    """As in a terminal, also where this process itself was started by `nohup`."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("hangup_heeded")
@pytest.mark.parametrize(("follows_file", "on_terminal"), [(False, False), (False, True), (True, True)])
async def test_who_loses_the_terminal_stops_in_good_order(
    monkeypatch: pytest.MonkeyPatch, follows_file: bool, on_terminal: bool
) -> None:
    monkeypatch.setattr("sys.stderr", Terminal() if on_terminal else io.StringIO())
    with stop_on_signals(follows_file=follows_file) as stop:
        for _ in range(2):  # the shell may say it once more
            os.kill(os.getpid(), signal.SIGHUP)
            async with asyncio.timeout(5):
                await stop.wait()


@pytest.mark.usefixtures("hangup_heeded")
async def test_a_daemon_that_is_told_to_reload_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    told, heard = asyncio.Event(), ""

    def hear(line: str) -> None:
        nonlocal heard
        heard = line
        told.set()

    monkeypatch.setattr(signals._logger, "info", hear)
    with stop_on_signals(follows_file=True) as stop:
        os.kill(os.getpid(), signal.SIGHUP)
        async with asyncio.timeout(5):
            await told.wait()
        assert not stop.is_set()
    assert "taken up by themselves" in heard


async def test_nohup_is_heeded(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_on_signals() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            os.kill(os.getpid(), signal.SIGTERM)
            await stop.wait()
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_the_daemon_runs_until_it_is_told_to_stop(cli: CommandLine) -> None:
    seen: list[str] = []

    def watch() -> None:
        try:
            eventually(lambda: cli.workspace.hits("heron") == ["a.txt"], "the daemon syncs")
            seen.append("synced")
            seen.append("present" if daemon_runs(cli.workspace.root / "data") else "absent")
        finally:
            os.kill(os.getpid(), signal.SIGINT)

    watcher = threading.Thread(target=watch)
    watcher.start()
    done = cli("run")
    watcher.join()
    assert done.code == 0
    assert seen == ["synced", "present"]
    assert "page: http://127.0.0.1:" in done.err
    assert done.err.endswith("stopped\n")


def test_an_index_that_stays_locked_is_5(cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cli("sync", "docs").code == 0
    path = cli.workspace.root / "data" / "connectors.db"
    monkeypatch.setattr(EmbeddedBackend, "open", partial(EmbeddedBackend.open, busy_timeout=0.1))
    lock = sqlite3.connect(path, isolation_level=None)
    try:
        lock.execute("BEGIN IMMEDIATE")
        done = cli("pause", "docs")
    finally:
        lock.close()
    assert done.code == Exit.UNAVAILABLE
    assert "locked by another process" in done.err


# Records that are not of the file


def test_connectors_that_exist_only_as_records_are_seen_too(cli: CommandLine) -> None:
    async def add() -> None:
        backend = await EmbeddedBackend.open(cli.workspace.root / "data" / "connectors.db")
        try:
            record = {"service_type": "directory", "index_name": "other", "configuration": {"directory": "docs"}}
            await backend.store.put_connector(Connector.from_record("other", record))
        finally:
            await backend.close()

    asyncio.run(add())
    assert "other: directory can be read; no schedule, it syncs on demand" in cli("check").out
    assert cli("preview", "other", "--json").json["kept"] == 1
    assert cli("sync", "other").code == 0
    assert cli.workspace.hits("heron", "other") == ["a.txt"]
