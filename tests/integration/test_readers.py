"""`sync.readers`: one folder that several processes read, whatever happens to one of them."""

from __future__ import annotations

import os
import signal
from functools import partial
from pathlib import Path

import pytest

from connectors.byoc import JobStatus, SyncJob
from tests.support.workspace import Daemon, Workspace, eventually

pytestmark = pytest.mark.process

FILES = 2000
SLOW = """
import asyncio
from contextlib import aclosing

from connectors.sources.directory import DirectoryDataSource
from connectors.sources.directory import source

source._BATCH = 50


class SlowDataSource(DirectoryDataSource):
    service_type = "slow"
    downloads = {downloads}

    async def get_docs(self, filtering=None, *, checkpoint=None, partition=None):
        async with aclosing(super().get_docs(filtering, checkpoint=checkpoint, partition=partition)) as items:
            async for item in items:
                if isinstance(item, tuple) and not self.downloads:
                    item = ({{**item[0], "body": "a common text"}}, None)
                yield item
                await asyncio.sleep(0.003)
"""


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    workspace = Workspace(tmp_path)
    for number in range(FILES):
        workspace.write(f"{number % 40:02}/{number:04}.txt", "a common text")
    return workspace


def slow(workspace: Workspace, *, downloads: bool, readers: int = 2) -> None:
    workspace.module("slow_source", SLOW.format(downloads=downloads))
    workspace.configure(
        connectors=[workspace.connector(service_type="slow", scheduling={"full": "every 1h"})],
        sources={"slow": "slow_source:SlowDataSource"},
        sync={"readers": readers, "checkpoint_interval": "100ms"},
        # What is extracted is not at issue, and no other processes shall be there.
        extraction={"enabled": downloads},
    )


def readers_of(pid: int) -> list[int]:
    """The processes that a process started afresh, but for the tracker that Python has for them."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
            if int(parent) == pid and state != "Z" and b"spawn_main" in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def begun(workspace: Workspace, daemon: Daemon) -> list[int]:
    """Waits until the sync is under way; returns the process ids of its readers."""
    daemon.says("2 processes read what is left of 16 partitions")
    eventually(partial(workspace.has_read, more_than=FILES // 2), "so much was read that a part of it is written")
    found = readers_of(daemon.process.pid)
    assert len(found) == 2
    return found


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def only_job(workspace: Workspace) -> SyncJob:
    [job] = workspace.jobs()
    return job


def test_files_and_their_texts_come_through_whole(workspace: Workspace) -> None:
    workspace.write("00/café.txt", "ein Käuzchen ruft")
    workspace.configure(sync={"readers": 3})
    done = workspace.run("--verbose", "run", "--once", "--json")
    counters = done.json["jobs"][0]["counters"]
    assert (counters["read"], counters["indexed"]) == (FILES + 1, FILES + 1)
    assert "3 processes read what is left of 16 partitions" in done.err
    assert workspace.texts() == workspace.on_disk()
    again = workspace.run("run", "--once", "--json")
    assert again.json["jobs"][0]["counters"]["unchanged"] == FILES + 1


def test_a_reader_that_is_killed_is_replaced(workspace: Workspace) -> None:
    slow(workspace, downloads=False)
    with workspace.daemon() as daemon:
        for pid in begun(workspace, daemon):
            os.kill(pid, signal.SIGKILL)
        daemon.says("is lost, another one goes on: ended by SIGKILL", times=2)
        daemon.says("docs: sync completed")
        assert readers_of(daemon.process.pid) == []
        assert daemon.stop() == 0
        assert "Traceback" not in daemon.log
    counters = only_job(workspace).counters
    assert counters["indexed"] == FILES
    assert counters["indexed"] + counters["duplicate"] == counters["read"]
    assert workspace.texts() == workspace.on_disk()


def test_a_reader_that_is_killed_with_files_in_hand_costs_none(workspace: Workspace) -> None:
    slow(workspace, downloads=True)
    with workspace.daemon() as daemon:
        daemon.says("2 processes read what is left of 16 partitions")
        eventually(partial(workspace.has_read, more_than=FILES // 8), "the sync is under way")
        for pid in readers_of(daemon.process.pid):  # the extraction's processes too, which come back
            os.kill(pid, signal.SIGKILL)
        daemon.says("docs: sync completed", within=60)
        assert daemon.stop() == 0
    assert only_job(workspace).counters["dead_lettered"] == 0
    assert workspace.texts() == workspace.on_disk()


def test_readers_end_with_their_owner_and_the_next_start_goes_on(workspace: Workspace) -> None:
    slow(workspace, downloads=False)
    with workspace.daemon() as daemon:
        pids = begun(workspace, daemon)
        daemon.process.kill()
        daemon.process.wait(5)
        eventually(lambda: not any(map(is_alive, pids)), "no reader is left")
    # With the setting taken away, what was begun by several is still read in its parts.
    slow(workspace, downloads=False, readers=1)
    done = workspace.run("--verbose", "run", "--once", "--json")
    assert "goes on behind" in done.err
    assert "one process reads what is left of 16 partitions" in done.err
    assert [job.counters["read"] for job in workspace.jobs()] == [FILES, FILES]
    assert workspace.texts() == workspace.on_disk()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_suspends_and_leaves_no_reader(workspace: Workspace, number: signal.Signals) -> None:
    slow(workspace, downloads=False)
    with workspace.daemon() as daemon:
        pids = begun(workspace, daemon)
        for pid in pids:  # as a terminal or a service manager does
            os.kill(pid, number)
        assert daemon.stop(number) == 0
        assert "Traceback" not in daemon.log
    assert not any(map(is_alive, pids))
    assert only_job(workspace).status == JobStatus.SUSPENDED
    done = workspace.run("run", "--once", "--json")
    counters = done.json["jobs"][0]["counters"]
    assert counters["read"] == FILES
    assert counters["indexed"] + counters["unchanged"] == FILES
    assert workspace.texts() == workspace.on_disk()
