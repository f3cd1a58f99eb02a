"""The commands, one by one, on an embedded index in a temporary folder."""

from __future__ import annotations

import re

import pytest

from connectors.cli.exits import Exit
from tests.support.inprocess import CommandLine, Terminal
from tests.support.workspace import Workspace

ESCAPE = "\x1b[31m"


# run --once


def test_run_once_counts_what_is_on_disk(cli: CommandLine) -> None:
    done = cli("run", "--once")
    assert done.code == 0
    header, row = done.out.splitlines()
    assert header.split() == ["connector", "outcome", "read", "indexed", "unchanged", "filtered", "vanished", "took"]
    assert row.split()[:7] == ["docs", "completed", "2", "2", "0", "0", "0"]
    assert "index: embedded" in done.err


def test_run_once_as_json_prints_nothing_else(cli: CommandLine) -> None:
    job = cli("run", "--once", "--json").json["jobs"][0]
    assert set(job) == {
        "id", "connector", "index", "type", "trigger", "status", "error", "stalled", "created_at", "started_at",
        "ended_at", "seconds", "worker", "unchanged_source", "counters", "incomplete", "documents",
    }  # fmt: skip
    assert (job["status"], job["documents"], job["counters"]["indexed"]) == ("completed", 2, 2)


def test_run_once_fails_if_one_connector_fails(cli: CommandLine, workspace: Workspace) -> None:
    missing = workspace.connector("missing", configuration={"directory": "nowhere"})
    workspace.configure(connectors=[workspace.connector(), missing])
    done = cli("run", "--once", "--json")
    assert done.code == Exit.FAILED
    outcomes = {job["connector"]: job["status"] for job in done.json["jobs"]}
    assert outcomes["docs"] == "completed"
    assert outcomes["missing"] != "completed"
    assert done.err.count("does not exist") == 1
    assert "Traceback" not in done.err


def test_run_once_without_connectors(cli: CommandLine, workspace: Workspace) -> None:
    workspace.configure(connectors=[])
    done = cli("run", "--once")
    assert done.code == 0
    assert "there is no connector to sync" in done.out


# sync


def test_sync_runs_here_when_no_daemon_does(cli: CommandLine) -> None:
    done = cli("sync", "docs")
    assert done.code == 0
    assert done.out.startswith("✓ docs: completed in ")
    assert done.out.endswith(": 2 read, 2 indexed\n")
    assert cli("sync", "docs").out.endswith(": 2 read, 2 unchanged\n")


def test_sync_as_json(cli: CommandLine) -> None:
    done = cli("sync", "docs", "--json")
    assert done.json["counters"]["indexed"] == 2
    assert done.json["trigger"] == "on_demand"
    assert done.err == ""


def test_a_failed_sync_is_one_message(cli: CommandLine, workspace: Workspace) -> None:
    workspace.configure(connectors=[workspace.connector(configuration={"directory": "nowhere"})])
    done = cli("sync", "docs")
    assert done.code == Exit.FAILED
    assert done.out.startswith("✗ docs: ")
    assert (done.out + done.err).count("does not exist") == 1


def test_sync_asks_before_it_deletes_much_and_says_how_to_allow_it(cli: CommandLine, workspace: Workspace) -> None:
    for position in range(120):
        workspace.write(f"{position}.txt", f"number {position}")
    assert cli("sync", "docs").code == 0
    for position in range(40):
        (workspace.docs / f"{position}.txt").unlink()
    refused = cli("sync", "docs")
    assert refused.code == Exit.FAILED
    assert "connectors sync docs --allow-deletes 40" in refused.out
    allowed = cli("sync", "docs", "--allow-deletes", "40")
    assert allowed.code == 0
    assert "40 removed since they are gone" in allowed.out


def test_an_incremental_sync_of_a_source_that_has_none_is_refused(cli: CommandLine) -> None:
    done = cli("sync", "docs", "--type", "incremental")
    assert done.code == Exit.CONFIGURATION
    assert "has no incremental sync" in done.err


def test_sync_without_waiting_queues_and_cancel_withdraws(cli: CommandLine) -> None:
    queued = cli("sync", "docs", "--no-wait")
    assert queued.code == 0
    assert "No daemon runs here" in queued.out
    job = cli("jobs", "--json").json["jobs"][0]
    assert job["status"] == "pending"
    assert job["id"] in queued.out
    assert cli("sync", "docs", "--no-wait", "--json").json["id"] == job["id"], "the pending one is used"
    canceled = cli("cancel", job["id"])
    assert (canceled.code, canceled.out) == (0, f"✓ {job['id']} is cancelled\n")
    again = cli("cancel", job["id"], "--json")
    assert again.code == Exit.FAILED
    assert again.out == ""


def test_what_could_not_be_indexed_is_said_and_listed(cli: CommandLine, workspace: Workspace) -> None:
    workspace.configure(sync={"max_document_bytes": 2000})
    workspace.write(f"{ESCAPE}big.txt", "word " * 1000)
    done = cli("sync", "docs")
    assert done.code == 0
    assert "1 failed" in done.out
    assert "connectors dead-letters list docs" in done.out
    listed = cli("dead-letters", "docs")
    assert "\\x1b[31mbig.txt" in listed.out
    assert "\x1b" not in listed.out
    letters = cli("dead-letters", "docs", "--json").json
    assert letters["total"] == 1
    assert set(letters["dead_letters"][0]) == {
        "id", "connector", "operation", "reason", "job", "created_at", "bytes", "replayable",
    }  # fmt: skip
    assert cli("dead-letters", "docs", "--after", "~~~").out.startswith("docs has no dead letters")


# Looking


def test_status_before_and_after_the_first_sync(cli: CommandLine) -> None:
    before = cli("status")
    assert "no daemon is running here" in before.out
    assert "never synced" in before.out
    cli("run", "--once")
    after = cli("status", "docs", "--json").json
    assert after["daemon"] is False
    (connector,) = after["connectors"]
    assert set(connector) == {
        "id", "name", "service_type", "index", "status", "error", "paused", "removed_from_config", "documents",
        "dead_letters", "last_synced", "next_syncs", "running_job", "last_job",
    }  # fmt: skip
    assert connector["documents"] == 2
    assert connector["last_job"]["status"] == "completed"
    assert "in order" in cli("status").out


def test_status_shows_an_error_and_what_left_the_file(cli: CommandLine, workspace: Workspace) -> None:
    workspace.configure(connectors=[workspace.connector(configuration={"directory": "nowhere"})])
    cli("sync", "docs")
    table, _, sentences = cli("status").out.rpartition("\n\n")
    assert table.splitlines()[-1].split()[:3] == ["docs", "docs", "error"], "the table stays narrow"
    assert sentences.startswith("docs: directory: ")
    assert "does not exist" in sentences
    workspace.configure(connectors=[])
    cli("run", "--once")
    assert "no longer in config.yml" in cli("status").out
    assert cli("sync", "docs").code == Exit.CONFIGURATION


def test_status_tells_of_gaps(cli: CommandLine, workspace: Workspace) -> None:
    (workspace.root / "gaps.py").write_text(
        "from connectors.source import BaseDataSource, Skipped\n\n"
        "class Gaps(BaseDataSource):\n"
        "    name, service_type = 'Gaps', 'gaps'\n"
        "    async def ping(self):\n"
        "        return None\n"
        "    async def get_docs(self, filtering=None):\n"
        "        yield {'_id': 'a'}, None\n"
        "        yield Skipped('b is broken', 'b')\n"
        "        yield Skipped('the cellar is locked')\n",
        "utf-8",
    )
    docs = {**workspace.connector(), "service_type": "gaps", "configuration": {}}
    workspace.configure(connectors=[docs], sources={"gaps": "gaps:Gaps"})
    assert cli("sync", "docs").code == 0
    out = cli("status").out
    assert "in order, with gaps" in out
    assert "docs: not everything could be read, so nothing was deleted: the cellar is locked\n" in out
    assert "docs: 1 document could not be indexed; why: connectors dead-letters docs\n" in out


def test_jobs_and_job(cli: CommandLine) -> None:
    assert cli("jobs").out == "there are no jobs yet\n"
    job_id = cli("sync", "docs", "--json").json["id"]
    cli("sync", "docs")
    assert [line.split()[1] for line in cli("jobs").out.splitlines()] == ["connector", "docs", "docs"]
    assert len(cli("jobs", "docs", "--limit", "1", "--json").json["jobs"]) == 1
    shown = cli("job", job_id)
    facts = dict(line.split(maxsplit=1) for line in shown.out.splitlines() if line.strip())
    assert facts["indexed"] == "2"
    assert facts["status"] == "completed"
    assert cli("job", job_id, "--json").json["id"] == job_id


def test_search_prints_hits(cli: CommandLine) -> None:
    cli("run", "--once")
    done = cli("search", "docs", "heron")
    assert done.code == 0
    assert done.out.startswith("2 documents in docs, ")
    assert "plan.md" in done.out
    assert "the heron lands" in done.out
    assert "\x1b" not in done.out
    assert "\x02" not in done.out
    assert cli("search", "docs", "lands").out.startswith("1 document in docs")


def test_search_passes_the_query_on_as_it_is(cli: CommandLine) -> None:
    cli("run", "--once")
    paths = {
        ("heron", "-perhaps"): ["plan.md"],
        ('"heron lands"',): ["plan.md"],
        ("path:drafts",): ["drafts/idea.txt"],
        ("lands", "OR", "perhaps"): ["drafts/idea.txt", "plan.md"],
        ("her*", "--limit", "1", "--offset", "2"): [],
    }
    for words, expected in paths.items():
        found = cli("search", "docs", *words, "--json").json
        assert sorted(hit["source"]["path"] for hit in found["hits"]) == expected, words
    shape = cli("search", "docs", "heron", "--json").json
    assert set(shape) == {"index", "query", "total", "milliseconds", "hits"}
    assert set(shape["hits"][0]) == {"id", "score", "source", "highlights"}
    assert any("\x02heron\x03" in text for hit in shape["hits"] for text in hit["highlights"].get("body", ()))


def test_hostile_documents_give_the_terminal_no_orders(cli: CommandLine, workspace: Workspace) -> None:
    workspace.write(f"{ESCAPE}evil\n.txt", f"kestrel {ESCAPE} \u202e \x07 kestrel")
    cli("run", "--once")
    for args in (("search", "docs", "kestrel"), ("preview", "docs"), ("search", "docs", "kestrel", "--json")):
        out = cli(*args).out
        assert "evil" in out
        assert not {"\x1b", "\x07", "\u202e"} & set(out), args
    assert cli("search", "docs", "kestrel", "--json").json["total"] == 1


# Acting


def test_pause_and_resume(cli: CommandLine) -> None:
    assert cli("pause", "docs").out == "✓ docs is paused\n"
    assert cli("status", "--json").json["connectors"][0]["next_syncs"] == {}
    assert "paused" in cli("status").out
    assert cli("sync", "docs").code == 0, "on demand it syncs all the same"
    assert cli("resume", "docs", "--json").json == {"connector": "docs", "paused": False}
    assert "full" in cli("status", "--json").json["connectors"][0]["next_syncs"]


def test_reset_writes_everything_anew(cli: CommandLine) -> None:
    cli("sync", "docs")
    assert cli("reset", "docs").code == 0
    assert cli("sync", "docs", "--json").json["counters"]["indexed"] == 2
    assert cli("reset", "docs", "--json").json == {"connector": "docs", "reset": True}


def test_purge_needs_an_answer(cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    cli("sync", "docs")
    refused = cli("purge", "docs")
    assert refused.code == Exit.USAGE
    assert "--yes" in refused.err
    monkeypatch.setattr("sys.stdin", Terminal("n\n"))
    assert cli("purge", "docs").code == Exit.INTERRUPTED
    assert cli("status", "--json").json["connectors"][0]["documents"] == 2
    monkeypatch.setattr("sys.stdin", Terminal("y\n"))
    done = cli("purge", "docs")
    assert done.code == 0
    assert "Delete 2 documents of docs from the index docs?" in done.out
    assert "✓ docs: 2 documents deleted" in done.out
    assert cli("status", "--json").json["connectors"][0]["documents"] == 0


def test_purge_takes_the_record_of_what_left_the_file(cli: CommandLine, workspace: Workspace) -> None:
    cli("sync", "docs")
    workspace.configure(connectors=[])
    assert cli("purge", "docs", "--json", "--yes").json == {
        "connector": "docs",
        "documents": 2,
        "left": None,
    }
    assert cli("status", "--json").json["connectors"] == []
    assert cli("purge", "docs", "--yes").code == Exit.NOT_FOUND


def test_purge_of_a_former_index(cli: CommandLine, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace.configure(connectors=[workspace.connector(index="former")])
    cli("sync", "docs")
    workspace.configure()
    cli("sync", "docs")
    monkeypatch.setattr("sys.stdin", Terminal("y\n"))
    done = cli("purge", "docs", "--index", "former")
    assert "Delete 2 documents of docs from the index former?" in done.out
    assert "brings them back" not in done.out
    purged = cli("purge", "docs", "--index", "former", "--yes", "--json").json
    assert purged == {"connector": "docs", "documents": 0, "left": None}
    assert cli("purge", "docs", "--index", "docs", "--yes").code == Exit.CONFIGURATION
    assert cli("purge", "docs", "--index", "d*", "--yes").code == Exit.CONFIGURATION
    assert cli("purge", "docs", "--index", "fromer", "--yes").code == Exit.NOT_FOUND
    assert cli("status", "--json").json["connectors"][0]["documents"] == 2


def test_purge_has_the_source_forget_what_it_made(cli: CommandLine, workspace: Workspace) -> None:
    workspace.module(
        "hooked_source",
        """
from connectors.source import BaseDataSource


class HookedDataSource(BaseDataSource):
    @classmethod
    def get_default_configuration(cls):
        key = {"label": "Key", "type": "str", "value": "", "required": False, "sensitive": True}
        return {"hook": {"label": "Hook", "type": "str", "value": ""}, "key": key}

    async def ping(self):
        pass

    async def get_docs(self, filtering=None):
        yield {"_id": "seven"}, None

    async def forget(self):
        hook = self.framework_config.base_dir / self.configuration["hook"]
        if not hook.exists():
            raise OSError(f"No such file: {hook} (key {self.configuration['key']})")
        hook.unlink()
""",
    )
    (workspace.root / "hook").touch()
    hooked = workspace.connector(service_type="hooked", configuration={"hook": "hook", "key": "tr0ub4dor-hook"})
    workspace.configure(connectors=[hooked], sources={"hooked": "hooked_source:HookedDataSource"})
    cli("sync", "docs")
    assert cli("purge", "docs", "--json", "--yes").json == {"connector": "docs", "documents": 1, "left": None}
    assert not (workspace.root / "hook").exists()
    assert "(key ***)" in cli("purge", "docs", "--json", "--yes").json["left"]

    workspace.configure(connectors=[], sources={"hooked": "hooked_source:HookedDataSource"})
    done = cli("purge", "docs", "--yes")
    assert done.code == 0
    assert "0 documents deleted" in done.out
    assert re.search("what its source made in its backend may be there still: .*No such file", done.out + done.err)
    assert cli("status", "--json").json["connectors"] == [], "a failure does not keep the record"
