"""Real processes that are stopped, killed and frozen in the middle of a full sync, with each of the resumable sources.

What was read is logged by the source itself (`tests/support/counted.py`), so that what is read again can be counted.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from connectors.backends.embedded import EmbeddedBackend
from connectors.byoc import SyncJob
from connectors.sync.counters import Counters
from tests.ftest.__main__ import CASES
from tests.ftest.harness import CONNECTOR, INDEX, Case, compare
from tests.servers.java import MissingError
from tests.support.counted import SOURCES, Reading, read_log
from tests.support.workspace import eventually

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]

ROOT: Final = Path(__file__).parents[2]
DATABASES: Final = ("mariadb", "mongodb", "postgresql")
SIZE: Final = 3000
#: Seconds that the source dawdles after each document, so that a sync lasts longer than what may be done again.
PAUSE: Final = 0.005
#: Seconds of work that may be done again, by the promise, and of reading before a process is killed.
AGAIN: Final = 5.0
READING: Final = 8.0
SOME: Final = 200  # documents


class Site:
    """One source, one connector, one embedded index, and processes that work on it.

    Attributes:
        ended: process id → when it was interrupted.
    """

    def __init__(self, case: Case, folder: Path) -> None:
        self.case = case
        self.folder = folder
        self.reads = folder / "reads"
        self.reads.mkdir()
        self.database = folder / "data" / "connectors.db"
        self.ended: dict[int, float] = {}
        self.config = folder / "config.yml"

    def configure(self) -> None:
        kind = f"counted-{self.case.service_type}"
        settings = self.case.configuration()
        if self.case.service_type != "directory":
            settings["batch_size"] = 100  # a page, after which there is a checkpoint
        connector = {"id": CONNECTOR, "service_type": kind, "index": INDEX, "configuration": settings}
        config = {
            "service": {
                "data_dir": str(self.folder / "data"),
                "poll_interval": "100ms",
                "heartbeat_interval": "1s",
                "lease": "3s",
            },
            "web": {"enabled": False},
            "sources": {kind: SOURCES[kind]},
            "connectors": [connector],
        }
        self.config.write_text(yaml.safe_dump(config), "utf-8")

    def run(self, *command: str) -> None:
        """Runs a command to its end, without a pause and without a log."""
        elsewhere = self.folder / "first"
        elsewhere.mkdir(exist_ok=True)
        environment = {**os.environ, "COUNTED_LOG": str(elsewhere)}
        subprocess.run(self._command(*command), cwd=ROOT, env=environment, check=True, capture_output=True, timeout=60)

    @contextmanager
    def daemon(self) -> Iterator[subprocess.Popen[bytes]]:
        environment = {**os.environ, "COUNTED_LOG": str(self.reads), "COUNTED_PAUSE": str(PAUSE)}
        with (self.folder / "daemon.log").open("ab") as log:
            process = subprocess.Popen(self._command("run"), cwd=ROOT, env=environment, stdout=log, stderr=log)
        try:
            yield process
        finally:
            process.kill()
            process.wait(20)

    def _command(self, *command: str) -> list[str]:
        return [sys.executable, "-m", "connectors", "--config", str(self.config), *command]

    @property
    def log(self) -> str:
        """What all daemons have said."""
        return (self.folder / "daemon.log").read_text("utf-8")

    def reads_of(self, process: subprocess.Popen[bytes]) -> list[Reading]:
        return [reading for reading in read_log(self.reads) if reading.pid == process.pid]

    def await_documents(self, process: subprocess.Popen[bytes], number: int = SOME) -> None:
        """Waits until the process has read that many documents."""
        eventually(lambda: len(self.reads_of(process)) >= number, "the sync gets on", within=40)

    def await_seconds(self, process: subprocess.Popen[bytes], seconds: float) -> None:
        """Waits until the process has read for so long."""
        self.await_documents(process, 1)
        begun = self.reads_of(process)[0].at
        eventually(lambda: self.reads_of(process)[-1].at - begun >= seconds, "the sync gets on", within=40)

    def interrupted(self, process: subprocess.Popen[bytes]) -> None:
        """Notes that the process reads no more that counts."""
        self.ended[process.pid] = time.time()

    def job(self) -> SyncJob:
        """Returns the newest job."""

        async def look() -> SyncJob:
            backend = await EmbeddedBackend.open(self.database)
            try:
                return (await backend.store.jobs(limit=1))[0]
            finally:
                await backend.close()

        return asyncio.run(look())

    def freeze(self, process: subprocess.Popen[bytes]) -> None:
        """Stops the process at a moment at which it does not hold the database, which another one needs."""
        for _ in range(100):
            process.send_signal(signal.SIGSTOP)
            with closing(sqlite3.connect(self.database, timeout=0.2)) as connection:
                try:
                    connection.execute("BEGIN IMMEDIATE")
                except sqlite3.OperationalError:
                    process.send_signal(signal.SIGCONT)
                    time.sleep(0.01)
                    continue
                connection.rollback()
                return
        raise AssertionError("it holds the database all the time")

    def read_again(self) -> list[tuple[Reading, Reading]]:
        """Returns what a process read that an earlier one had read before its interruption: both times."""
        last: dict[int, Reading] = {}
        found = []
        for reading in read_log(self.reads):
            if reading.at > self.ended.get(reading.pid, reading.at):
                continue  # it thawed, and has not noticed yet that its job is another's
            before = last.get(reading.document)
            if before is not None and before.pid != reading.pid:
                found.append((before, reading))
            last[reading.document] = reading
        return found


@pytest.fixture(params=["directory", *(pytest.param(name, marks=pytest.mark.server) for name in DATABASES)])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    """The index holds what the source held before some hundred documents were added, changed and deleted."""
    module, _, name = CASES[request.param].partition(":")
    case: Case = getattr(import_module(module), name)(tmp_path, size=SIZE, seed=7)
    try:
        case.prepare()
        site = Site(case, tmp_path)
        site.configure()
        site.run("run", "--once")
        yield site
    except MissingError as missing:
        if os.environ.get("CI"):
            pytest.fail(str(missing), pytrace=False)
        pytest.skip(str(missing))
    finally:
        case.close()


def test_a_sync_that_is_stopped_killed_and_lost_goes_on_each_time(site: Site) -> None:
    changes: dict[str, Any] = site.case.mutate()
    site.run("sync", CONNECTOR, "--no-wait")

    with site.daemon() as stopped:
        site.await_documents(stopped)
        stopped.send_signal(signal.SIGTERM)
        assert stopped.wait(30) == 0
        site.interrupted(stopped)
    with site.daemon() as killed:
        site.await_seconds(killed, READING)
        killed.kill()
        site.interrupted(killed)
    with site.daemon() as frozen:
        site.await_documents(frozen)
        site.freeze(frozen)
        site.interrupted(frozen)
        with site.daemon() as other:
            site.await_documents(other)
            frozen.send_signal(signal.SIGCONT)
            eventually(lambda: site.job().ended, "the sync ends", within=60)
            eventually(lambda: "no longer holds the lease" in site.log, "the lost worker notices")
            for process in (frozen, other):
                process.send_signal(signal.SIGTERM)
                assert process.wait(30) == 0

    job = site.job()
    counters = Counters.from_dict(job.metadata["counters"])
    assert (job.status, counters.balanced, counters.dead_lettered) == ("completed", True, 0)
    expected = site.case.expected()
    assert counters.read == len(expected), "what was read again counts once"
    assert counters.vanished == changes["deleted"], "what was seen before the interruptions was not deleted"
    asyncio.run(compare(site.config, "after the interruptions", expected))

    again = site.read_again()
    late = [site.ended[before.pid] - before.at for before, _ in again]
    assert max(late, default=0.0) <= AGAIN, f"{len(again)} documents were read again"
    assert site.log.count("goes on behind") == 3
    assert not [line for line in site.log.splitlines() if "Traceback" in line]
