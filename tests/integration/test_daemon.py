"""The daemon as a process: what is in the folder is in the index, whatever happens to the daemon."""

from __future__ import annotations

import signal
from functools import partial
from itertools import pairwise
from pathlib import Path
from urllib.request import urlopen

import pytest

from connectors.byoc import JobStatus
from connectors.sync.counters import Counters
from tests.support.workspace import FILES, Workspace, eventually

pytestmark = pytest.mark.process


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


def test_added_changed_and_deleted_files_show_within_a_schedule_period(workspace: Workspace) -> None:
    workspace.write("plan.md", "the heron lands")
    with workspace.daemon() as daemon:
        daemon.says("sync completed")
        assert workspace.hits("heron") == ["plan.md"]

        workspace.write("new.md", "a kestrel hovers")
        eventually(lambda: workspace.hits("kestrel") == ["new.md"], "the new file is found", within=5)

        workspace.write("plan.md", "the bittern booms")
        eventually(lambda: workspace.hits("bittern") == ["plan.md"], "the changed file is found", within=5)
        assert workspace.hits("heron") == []

        (workspace.docs / "new.md").unlink()
        eventually(lambda: workspace.hits("kestrel") == [], "the deleted file is gone", within=5)
        assert daemon.stop() == 0
    assert workspace.texts() == workspace.on_disk()


def test_it_says_what_it_is_and_where_its_page_is(workspace: Workspace) -> None:
    with workspace.daemon() as daemon:
        daemon.says("page: http://127.0.0.1:")
        assert f"configuration: {workspace.config}, 1 connector\n" in daemon.log
        assert "index: embedded, " in daemon.log
        address = daemon.log.split("page: ")[1].split()[0]
        eventually(lambda: '"status":"ok"' in fetched(f"{address}health"), "the daemon is healthy")


def fetched(address: str) -> str:
    with urlopen(address, timeout=5) as answer:  # noqa: S310 - our own daemon's address
        body: bytes = answer.read()
    return body.decode()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_is_clean_and_the_next_run_skips_what_is_unchanged(workspace: Workspace, number: signal.Signals) -> None:
    for position in range(20):
        workspace.write(f"{position}.txt", f"number {position}")
    with workspace.daemon() as daemon:
        daemon.says("sync completed")
        assert daemon.stop(number) == 0
        assert daemon.log.endswith("stopped\n")
        assert "Traceback" not in daemon.log
    again = workspace.run("run", "--once", "--json")
    counters = again.json["jobs"][0]["counters"]
    assert (counters["read"], counters["unchanged"], counters["indexed"]) == (20, 20, 0)


def test_a_stop_in_the_middle_suspends_and_the_next_start_goes_on(workspace: Workspace) -> None:
    workspace.fill_slowly()
    with workspace.daemon() as daemon:
        eventually(partial(workspace.has_read, more_than=0), "the sync is under way")
        assert daemon.stop() == 0
        assert "sync suspended" in daemon.log
    assert workspace.jobs()[-1].status == JobStatus.SUSPENDED
    done = workspace.run("run", "--once")
    assert done.code == 0, done.err
    first = workspace.jobs()[-1]
    assert first.status == JobStatus.COMPLETED
    counters = Counters.from_dict(first.metadata["counters"])
    assert counters.balanced
    assert counters.read == counters.indexed + counters.unchanged == FILES
    assert len(set(workspace.hits("common"))) == 1000  # as many as were asked for


def test_killed_again_and_again_in_mid_sync_it_ends_with_the_folder_in_the_index(workspace: Workspace) -> None:
    workspace.fill_slowly()
    progress = 0
    for _ in range(3):
        with workspace.daemon() as daemon:
            eventually(partial(workspace.has_read, more_than=progress), "the sync gets on")
            daemon.process.kill()
        progress = workspace.read_so_far()
        assert 0 < progress < FILES
    (workspace.docs / "0" / "00000.txt").unlink()
    workspace.write("1/00001.txt", "another text")
    with workspace.daemon() as daemon:
        # The killed process's lease is not waited for, though it has half a minute to go.
        daemon.says("full sync goes on", within=5)
        daemon.says("sync completed")
        eventually(lambda: workspace.hits("another") == ["1/00001.txt"], "the last change is in")
        eventually(lambda: "0/00000.txt" not in workspace.hits('path:"0/00000.txt"'), "the deleted file is gone")
        assert daemon.stop() == 0
    assert workspace.texts() == workspace.on_disk()


def test_a_broken_edit_is_told_and_the_last_good_one_stays_in_force(workspace: Workspace) -> None:
    workspace.write("a.txt", "first")
    with workspace.daemon() as daemon:
        daemon.says("sync completed")
        good = workspace.config.read_text("utf-8")
        workspace.config.write_text(good.replace("connectors:", "conectors:"), "utf-8")
        daemon.says("the last good one stays in force")
        assert 'conectors: there is no such key; did you mean "connectors"?' in daemon.log
        workspace.write("b.txt", "second")
        eventually(lambda: workspace.hits("second") == ["b.txt"], "it syncs as before")

        other = workspace.root / "other"
        other.mkdir()
        (other / "c.txt").write_text("third", "utf-8")
        more = workspace.connector("more", configuration={"directory": "other"})
        workspace.configure(connectors=[workspace.connector(), more])
        daemon.says("took up the edited configuration")
        eventually(lambda: workspace.hits("third", "more") == ["c.txt"], "the new connector syncs")
        assert daemon.stop() == 0


def test_two_daemons_on_one_index_run_each_job_once(workspace: Workspace) -> None:
    for position in range(300):
        workspace.write(f"{position}.txt", f"common {position}")
    names = [f"docs{number}" for number in range(4)]
    connectors = [workspace.connector(name, scheduling={"full": "every 2s"}) for name in names]
    workspace.configure(connectors=connectors, logging={"level": "DEBUG"})
    with workspace.daemon() as first, workspace.daemon() as second:
        eventually(lambda: len(completed(workspace)) >= 12, "a dozen jobs have run")
        assert (first.stop(), second.stop()) == (0, 0)
        logs = (first.log, second.log)
    jobs = workspace.jobs()
    workers = {job.worker_hostname for job in jobs if job.worker_hostname}
    assert len(workers) == 2, "both daemons take part"
    for name in names:
        own = sorted(
            (job.started_at, job.completed_at)
            for job in jobs
            if job.connector_id == name and job.started_at and job.completed_at
        )
        assert all(before[1] <= after[0] for before, after in pairwise(own)), "one after another"
    assert not [job for job in jobs if job.status == JobStatus.ERROR]
    ended = sum(log.count("sync completed") + log.count("nothing changed at the source") for log in logs)
    assert ended == len(completed(workspace)), "each job was run once, by one of them"
    assert not any("Traceback" in log for log in logs)


def completed(workspace: Workspace) -> list[str]:
    return [job.id for job in workspace.jobs() if job.status == JobStatus.COMPLETED]


def test_the_command_line_works_while_the_daemon_runs(workspace: Workspace) -> None:
    workspace.write("a.txt", "the first heron")
    workspace.configure(connectors=[workspace.connector(scheduling={"full": "every 1h"})])
    with workspace.daemon() as daemon:
        daemon.says("sync completed")
        assert workspace.run("status", "--json").json["daemon"] is True
        workspace.write("b.txt", "the second heron")
        synced = workspace.run("sync", "docs", "--json")
        assert synced.code == 0
        worker = synced.json["worker"]
        assert worker.endswith(f":{daemon.process.pid}"), "the daemon ran it, not the command"
        assert workspace.run("search", "docs", "heron", "--json").json["total"] == 2

        assert workspace.run("pause", "docs").code == 0
        assert workspace.run("status", "docs", "--json").json["connectors"][0]["paused"] is True
        assert workspace.run("resume", "docs").code == 0
        assert [job["status"] for job in workspace.run("jobs", "docs", "--json").json["jobs"]] == ["completed"] * 2
        purged = workspace.run("purge", "docs", "--yes", "--json").json
        assert purged == {"connector": "docs", "documents": 2, "left": None}
        assert workspace.hits("heron") == []
        assert daemon.stop() == 0
    assert workspace.run("status", "--json").json["daemon"] is False


def test_a_running_job_is_cancelled(workspace: Workspace) -> None:
    workspace.fill_slowly()
    with workspace.daemon() as daemon:
        eventually(partial(workspace.has_read, more_than=0), "the sync is under way")
        job_id = workspace.jobs()[0].id
        asked = workspace.run("cancel", job_id)
        assert (asked.code, job_id in asked.out) == (0, True)
        eventually(lambda: workspace.run("job", job_id, "--json").json["status"] == "canceled", "the job has ended")
        assert daemon.stop() == 0


def test_a_taken_port_is_one_clear_message(workspace: Workspace) -> None:
    with workspace.daemon() as daemon:
        daemon.says("page: http://127.0.0.1:")
        port = int(daemon.log.split("page: http://127.0.0.1:")[1].split("/")[0])
        workspace.configure(web={"port": port})
        refused = workspace.run("run")
    assert refused.code == 3
    assert f"port {port} on 127.0.0.1 is in use by another connectors daemon" in refused.err
    assert "Traceback" not in refused.err


def test_a_second_signal_ends_at_once(workspace: Workspace) -> None:
    workspace.fill_slowly()
    with workspace.daemon() as daemon:
        eventually(partial(workspace.has_read, more_than=0), "the sync is under way")
        # Of two kinds, since two of one kind may arrive as one; and at once, before the first has had its effect.
        daemon.process.send_signal(signal.SIGINT)
        daemon.process.send_signal(signal.SIGTERM)
        assert daemon.process.wait(10) == 130
        assert "stopped at once" in daemon.log
