"""`service.workers`: one daemon of several processes, whatever happens to one of them."""

from __future__ import annotations

import json
import os
import re
import signal
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from connectors.byoc import JobStatus
from tests.support.workspace import FILES, Daemon, Workspace, eventually

pytestmark = pytest.mark.process


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


def workers(workspace: Workspace) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = workspace.run("status", "--json").json["workers"]
    return found


def pid_of(worker: dict[str, Any]) -> int:
    return int(worker["name"].rpartition(":")[2])


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and that nobody has asked for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def completed(workspace: Workspace) -> list[Any]:
    return [job for job in workspace.jobs() if job.status == JobStatus.COMPLETED]


def page_of(daemon: Daemon) -> str:
    daemon.says("page: http://")
    return daemon.log.split("page: ")[1].split()[0]


def fetch(address: str) -> str:
    with urlopen(address, timeout=5) as answer:  # noqa: S310 - our own daemon's address
        body: bytes = answer.read()
    return body.decode()


def test_three_workers_share_the_connectors_and_run_each_job_once(workspace: Workspace) -> None:
    for number in range(50):
        workspace.write(f"{number}.txt", f"the heron number {number}")
    names = [f"docs{number}" for number in range(6)]
    workspace.configure(
        connectors=[workspace.connector(name, scheduling={"full": "every 1s"}) for name in names],
        service={"workers": 3},
    )
    with workspace.daemon() as daemon:
        eventually(lambda: len(workers(workspace)) == 3, "all are there")
        known = workers(workspace)
        assert [worker["number"] for worker in known] == [1, 2, 3]
        assert pid_of(known[0]) == daemon.process.pid
        everybody = {worker["name"] for worker in known}
        eventually(lambda: {job.worker_hostname for job in completed(workspace)} == everybody, "all take part")
        address = page_of(daemon)
        health = json.loads(fetch(f"{address}health"))
        assert health["status"] == "ok"
        assert {worker["name"] for worker in health["workers"]} == everybody
        assert all(worker["name"] in fetch(f"{address}connectors") for worker in known)
        eventually(
            lambda: len(set(re.findall(r'connectors_jobs_total{.*worker="(\d)"', fetch(f"{address}metrics")))) == 3,
            "the metrics tell them apart",
        )
        assert daemon.stop() == 0
    assert daemon.log.endswith("stopped\n")
    assert "Traceback" not in daemon.log
    assert "[2] docs" in daemon.log
    for name in names:
        own = sorted((job.started_at, job.completed_at) for job in completed(workspace) if job.connector_id == name)
        assert all(before[1] <= after[0] for before, after in pairwise(own)), "one after another"
    assert not any(is_alive(pid_of(worker)) for worker in known)
    assert workers(workspace) == []


def started(workspace: Workspace, daemon: Daemon) -> tuple[dict[str, Any], dict[str, Any]]:
    """Waits until the sync is under way; returns who runs it, and the other one."""
    eventually(partial(workspace.has_read, more_than=FILES // 8), "the sync is under way")
    known: list[dict[str, Any]] = []

    def seen() -> bool:
        known[:] = sorted(workers(workspace), key=lambda worker: not worker["running"])
        return len(known) == 2 and bool(known[0]["running"])

    eventually(seen, "both are there, and one of them runs it")
    assert daemon.process.poll() is None
    busy, idle = known
    return busy, idle


def slow(workspace: Workspace, **service: Any) -> None:
    workspace.fill_slowly()
    source = workspace.root / "slow_source.py"
    source.write_text(source.read_text().replace("sleep(0.001)", "sleep(0.004)"))  # time to look, and to do something
    text = json.loads(json.dumps({"service": {"workers": 2, **service}}))
    workspace.configure(
        connectors=[workspace.connector(service_type="slow", scheduling={"full": "every 1h"})],
        sources={"slow": "slow_source:SlowDataSource"},
        sync={"checkpoint_interval": "100ms"},
        **text,
    )


def test_a_killed_worker_is_started_again_and_its_job_goes_on_elsewhere(workspace: Workspace) -> None:
    slow(workspace)
    with workspace.daemon() as daemon:
        busy, _ = started(workspace, daemon)
        assert busy["number"] == 2, "the first one has other work too"
        os.kill(pid_of(busy), signal.SIGKILL)
        daemon.says("worker 2: ended by SIGKILL; it is started again in 1s")
        daemon.says("docs: sync completed", within=40)
        eventually(lambda: len(workers(workspace)) == 2, "it is there again")
        assert daemon.stop() == 0
    assert workspace.texts() == workspace.on_disk()
    job = completed(workspace)[0]
    assert job.counters["read"] == FILES
    assert "docs: full sync goes on" in daemon.log


def test_no_worker_outlives_the_first_one(workspace: Workspace) -> None:
    slow(workspace, drain_timeout="2s")
    with workspace.daemon() as daemon:
        known = started(workspace, daemon)
        daemon.process.kill()
        daemon.process.wait(5)
        eventually(lambda: not any(is_alive(pid_of(worker)) for worker in known), "all have ended")
    assert workspace.run("status", "--json").json["daemon"] is False
    assert workspace.run("run", "--once").code == 0
    assert workspace.texts() == workspace.on_disk()


@pytest.mark.parametrize("to_all", [False, True], ids=["to the first", "to all, as a terminal does"])
def test_a_stop_suspends_wherever_the_sync_runs(workspace: Workspace, *, to_all: bool) -> None:
    slow(workspace)
    with workspace.daemon() as daemon:
        known = started(workspace, daemon)
        if to_all:
            for worker in known:
                if worker["number"] != 1:
                    os.kill(pid_of(worker), signal.SIGTERM)
                    os.kill(pid_of(worker), signal.SIGINT)
        assert daemon.stop(signal.SIGTERM) == 0
        assert "Traceback" not in daemon.log
    assert not any(is_alive(pid_of(worker)) for worker in known)
    job = workspace.jobs()[0]
    assert job.status == JobStatus.SUSPENDED
    assert workspace.run("run", "--once").code == 0
    assert workspace.texts() == workspace.on_disk()
    assert completed(workspace)[0].counters["read"] == FILES
