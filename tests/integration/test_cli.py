"""The command line as a process: pipes, terminals, signals, and what it says about what is broken."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from connectors.byoc import JobStatus
from tests.support.workspace import FILES, Workspace, eventually

pytestmark = pytest.mark.process


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


def test_run_once_counts_what_is_on_disk(workspace: Workspace) -> None:
    for position in range(50):
        workspace.write(f"{position % 7}/{position}.md", f"# Number {position}\n\ncommon")
    done = workspace.run("run", "--once", "--json")
    assert done.code == 0, done.err
    (job,) = done.json["jobs"]
    assert (job["counters"]["read"], job["counters"]["indexed"], job["documents"]) == (50, 50, 50)
    assert set(workspace.texts()) == set(workspace.on_disk())


def test_a_hit_has_the_title_of_the_document_or_else_the_name_of_its_file(workspace: Workspace) -> None:
    workspace.write("a.md", "# A fine title\n\ncommon")
    workspace.write("b.html", "<title>Of a page</title><p>common")
    workspace.write("c.d.txt", "# common")
    assert workspace.run("run", "--once").code == 0
    hits = workspace.run("search", "docs", "common", "--json").json["hits"]
    assert {hit["id"]: hit["source"]["title"] for hit in hits} == {
        "a.md": "A fine title", "b.html": "Of a page", "c.d.txt": "c.d"
    }  # fmt: skip
    assert workspace.run("run", "--once", "--json").json["jobs"][0]["counters"]["unchanged"] == 3


@pytest.mark.parametrize("args", [("jobs", "--json"), ("status",), ("--help",), ("sources",), ("config", "schema")])
def test_a_closed_pipe_is_no_error(workspace: Workspace, args: tuple[str, ...]) -> None:
    with workspace.started(*args) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait(20) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_a_terminal_without_unicode_gets_words(workspace: Workspace) -> None:
    workspace.write("é.txt", "café heron")
    done = workspace.run("sync", "docs", PYTHONUTF8="0", PYTHONIOENCODING="ascii")
    assert (done.code, done.out[:9]) == (0, "ok: docs:")
    found = workspace.run("search", "docs", "heron", PYTHONUTF8="0", PYTHONIOENCODING="ascii")
    assert found.code == 0
    assert "caf\\xe9 heron" in found.out


def on_a_terminal(workspace: Workspace, *args: str, **environment: str) -> str:
    """Returns what a command prints when stdout and stderr are a terminal."""
    ours, theirs = pty.openpty()
    try:
        command = [sys.executable, "-m", "connectors", "--config", str(workspace.config), *args]
        known = {name: value for name, value in os.environ.items() if name not in {"NO_COLOR", "FORCE_COLOR"}}
        process = subprocess.Popen(
            command,
            cwd=workspace.root,
            env=known | {"TERM": "xterm-256color", "COLUMNS": "120"} | environment,
            stdin=subprocess.DEVNULL,
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)
        chunks: list[bytes] = []
        while chunk := _read(ours):
            chunks.append(chunk)
        assert process.wait(20) == 0
    finally:
        os.close(ours)
    return b"".join(chunks).decode()


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:  # how Linux says that the other end is closed
        return b""


def test_a_terminal_gets_colours_a_bar_and_bold_marks(workspace: Workspace) -> None:
    workspace.write("a.txt", "the heron lands")
    synced = on_a_terminal(workspace, "sync", "docs")
    assert "\x1b[32m✓" in synced
    assert "\x1b[?25l" in synced, "a progress bar hides the cursor"
    assert "\x1b[?25h" in synced, "and gives it back"
    assert "\x1b[1mheron\x1b[0m lands" in on_a_terminal(workspace, "search", "docs", "heron")
    assert "\x1b[32m" not in on_a_terminal(workspace, "check", NO_COLOR="1")


def test_ctrl_c_ends_a_comparison_and_leaves_no_trace(workspace: Workspace) -> None:
    workspace.fill_slowly()
    assert workspace.run("sync", "docs").code == 0
    with workspace.started("reconcile", "docs") as process:
        assert process.stderr is not None
        assert "documents compared" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "docs: stopped after" in out
    assert "Traceback" not in err
    assert [job.status for job in workspace.jobs()] == [JobStatus.COMPLETED]
    assert not list(workspace.root.glob("data/reconcile-*"))
    assert workspace.run("reconcile", "docs").code == 0


def test_ctrl_c_in_a_sync_suspends_it_and_the_next_one_goes_on(workspace: Workspace) -> None:
    workspace.fill_slowly()
    with workspace.started("sync", "docs") as process:
        eventually(partial(workspace.has_read, more_than=600), "the sync is under way")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "docs: suspended" in out
    assert "Traceback" not in err
    (suspended,) = workspace.jobs()
    assert suspended.status == JobStatus.SUSPENDED

    done = workspace.run("sync", "docs")
    assert done.code == 0, done.err
    first = workspace.jobs()[-1]
    assert (first.id, first.status) == (suspended.id, JobStatus.COMPLETED)
    assert first.metadata["counters"]["read"] == FILES
    assert workspace.texts() == workspace.on_disk()


def test_a_sync_whose_daemon_is_killed_goes_on_in_the_command(workspace: Workspace) -> None:
    workspace.fill_slowly()
    config = workspace.config.read_text("utf-8")
    workspace.config.write_text(config.replace("every 1s", "off"), "utf-8")
    with workspace.daemon() as daemon:
        daemon.says("page: ")
        with workspace.started("sync", "docs", "--json") as process:
            eventually(partial(workspace.has_read, more_than=600), "the daemon runs the sync")
            assert (workspace.jobs()[0].worker_hostname or "").endswith(f":{daemon.process.pid}")
            daemon.process.kill()
            daemon.process.wait()
            out, err = process.communicate(timeout=30)
            assert process.returncode == 0, err
    (job,) = workspace.jobs()
    assert job.id in out
    assert (job.worker_hostname or "").endswith(f":{process.pid}")
    assert workspace.texts() == workspace.on_disk()


def test_ctrl_c_while_following_a_daemon_leaves_the_job_to_it(workspace: Workspace) -> None:
    workspace.fill_slowly()
    config = workspace.config.read_text("utf-8")
    workspace.config.write_text(config.replace("every 1s", "off"), "utf-8")
    with workspace.daemon() as daemon:
        daemon.says("page: ")
        with workspace.started("sync", "docs") as process:
            eventually(partial(workspace.has_read, more_than=0), "the daemon runs the sync")
            process.send_signal(signal.SIGINT)
            out, _ = process.communicate(timeout=20)
        assert process.returncode == 130
        assert "the daemon goes on with it" in out
        daemon.says("sync completed")
        assert daemon.stop() == 0


# What is broken


def test_a_wrong_key_is_one_clear_message(workspace: Workspace) -> None:
    workspace.configure(service={"pol_interval": "1s"})
    done = workspace.run("run", "--once")
    assert done.code == 3
    (line,) = done.err.splitlines()
    assert line.startswith(f"Error: {workspace.config}:5:")
    assert 'service.pol_interval: there is no such key; did you mean "poll_interval"?' in line


def test_a_missing_folder_is_one_clear_message(workspace: Workspace) -> None:
    workspace.docs.rmdir()
    done = workspace.run("run", "--once")
    assert done.code == 1
    (told,) = [line for line in done.err.splitlines() if " INFO " not in line]
    assert "docs does not exist; create it, or mend the path" in told
    assert "error" in done.out


def test_a_broken_pdf_is_one_clear_message_and_one_dead_letter(workspace: Workspace) -> None:
    workspace.write("good.txt", "heron")
    (workspace.docs / "broken.pdf").write_bytes(b"%PDF-1.7\n1 0 obj\n<</Type /Catalog\nthis is the end")
    done = workspace.run("run", "--once", "--json")
    assert done.code == 0, done.err
    counters = done.json["jobs"][0]["counters"]
    assert (counters["indexed"], counters["dead_lettered"]) == (1, 1)
    assert done.err.count("broken.pdf: ") >= 1
    assert len([line for line in done.err.splitlines() if "broken.pdf" in line]) == 1
    assert "Traceback" not in done.err
    letters = workspace.run("dead-letters", "docs", "--json").json
    assert [letter["operation"] for letter in letters["dead_letters"]] == ["download"]
    assert "PDF" in letters["dead_letters"][0]["reason"]


def test_an_unreadable_file_is_one_clear_message(workspace: Workspace) -> None:
    workspace.write("good.txt", "heron")
    workspace.write("closed.txt", "nobody reads this").chmod(0)
    done = workspace.run("run", "--once", "--json", unprivileged=True)
    assert done.code == 0, done.err
    counters = done.json["jobs"][0]["counters"]
    assert (counters["indexed"], counters["dead_lettered"]) == (1, 1)
    (told,) = [line for line in done.err.splitlines() if "closed.txt" in line]
    assert "ermission denied" in told
    assert "Traceback" not in done.err


def test_nothing_of_an_unreadable_folder_is_deleted(workspace: Workspace) -> None:
    workspace.write("good.txt", "heron")
    workspace.write("closed/inside.txt", "kestrel")
    assert workspace.run("run", "--once").code == 0
    (workspace.docs / "good.txt").unlink()
    (workspace.docs / "closed").chmod(0)
    try:
        done = workspace.run("sync", "docs", unprivileged=True)
    finally:
        (workspace.docs / "closed").chmod(0o700)
    assert done.code == 0, done.err
    assert "not everything could be read, so nothing was deleted: " in done.out
    assert len([line for line in (done.out + done.err).splitlines() if "closed" in line]) == 1
    assert workspace.hits("kestrel") == ["closed/inside.txt"]
    assert workspace.hits("heron") == ["good.txt"], "who knows what is in the folder"
    assert workspace.run("sync", "docs").code == 0
    assert workspace.hits("heron") == []
