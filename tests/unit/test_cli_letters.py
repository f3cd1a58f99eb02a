"""`connectors dead-letters`, on an embedded index in a temporary folder."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest

from connectors.backends.ports import DeadLetter
from connectors.cli.exits import Exit
from connectors.sync.encode import content_hash
from tests.support.inprocess import CommandLine, Terminal
from tests.support.workspace import Workspace

ESCAPE = "\x1b[31m"


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    workspace = Workspace(tmp_path)
    workspace.write("plan.txt", "the heron lands")
    return workspace


@pytest.fixture(autouse=True)
def _synced(cli: CommandLine) -> None:
    assert cli("sync", "docs").code == 0


def keep(workspace: Workspace, document_id: str, *, version: int | None = 1 << 40, **fields: str) -> None:
    """Puts a letter into the store, as a sync leaves it whose document was refused."""
    body = orjson.dumps(fields)
    now = datetime(2026, 11, 2, 10, tzinfo=UTC)
    letter = DeadLetter("docs", document_id, "index", "no room", "job-1", now, body, version, content_hash(body), "f")
    workspace._look(lambda backend: backend.store.add_dead_letters([letter]))


def test_list_and_the_older_way_to_write_it(cli: CommandLine, workspace: Workspace) -> None:
    keep(workspace, f"{ESCAPE}a", title="x")
    listed = cli("dead-letters", "list", "docs")
    assert listed.code == 0
    assert "\\x1b[31ma" in listed.out
    assert "no room" in listed.out
    assert cli("dead-letters", "docs").out == listed.out
    assert cli("dead-letters", "docs", "--json").out == cli("dead-letters", "list", "docs", "--json").out
    assert cli("dead-letters", "lists").code == Exit.NOT_FOUND
    assert cli("dead-letters").code == Exit.USAGE


def test_show_has_the_reason_and_the_document(cli: CommandLine, workspace: Workspace) -> None:
    keep(workspace, "a", title=f"{ESCAPE}red", _attachment="QUJD" * 5000)
    shown = cli("dead-letters", "show", "docs", "a")
    assert shown.code == 0
    assert "no room" in shown.out
    assert "\x1b" not in shown.out
    assert "(20,000 characters)" in shown.out
    assert len(shown.out) < 3000
    whole = cli("dead-letters", "show", "docs", "a", "--json").json
    assert whole["document"] == {"title": f"{ESCAPE}red", "_attachment": "QUJD" * 5000}
    assert (whole["reason"], whole["replayable"], whole["bytes"]) == ("no room", True, 20_042)
    missing = cli("dead-letters", "show", "docs", "b")
    assert missing.code == Exit.NOT_FOUND
    assert 'docs has no dead letter "b"' in missing.err


def test_replay_one_then_all(cli: CommandLine, workspace: Workspace) -> None:
    for name in "abc":
        keep(workspace, name, body="heron")
    keep(workspace, "later", version=None, body="heron")
    assert cli("dead-letters", "replay", "docs", "a").out == "✓ docs: 1 indexed\n"
    assert set(workspace.hits("heron")) == {"plan.txt", "a"}
    rest = cli("dead-letters", "replay", "docs", "--all", "--json")
    assert rest.code == Exit.FAILED
    assert rest.json["counts"] == {
        "indexed": 2, "deleted": 0, "superseded": 0, "refused": 0, "filtered": 0, "kept": 1,
    }  # fmt: skip
    assert [each["outcome"] for each in rest.json["dead_letters"]].count("kept") == 1
    told = cli("dead-letters", "replay", "docs", "--all")
    assert told.out.endswith("✗ docs: 1 cannot be sent again\n")
    assert "the next full sync tries it again" in told.out
    assert cli("dead-letters", "list", "docs", "--json").json["total"] == 1


def test_replay_says_what_the_index_has_newer(cli: CommandLine, workspace: Workspace) -> None:
    keep(workspace, "plan.txt", version=1, body="of before")
    assert cli("dead-letters", "replay", "docs", "--all").out == "✓ docs: 1 gone, since the index has a newer version\n"
    assert workspace.hits("before") == []
    assert cli("dead-letters", "replay", "docs", "--all").out == "✓ docs: no dead letters\n"


@pytest.mark.parametrize("action", ["replay", "drop"])
@pytest.mark.parametrize("args", [(), ("a", "--all")])
def test_which_ones_has_to_be_said(cli: CommandLine, action: str, args: tuple[str, ...]) -> None:
    done = cli("dead-letters", action, "docs", *args)
    assert done.code == Exit.USAGE
    assert "--all" in done.err


def test_drop(cli: CommandLine, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "abc":
        keep(workspace, name, body="heron")
    assert cli("dead-letters", "drop", "docs", "a").out == "✓ docs: 1 dead letter dropped\n"
    assert cli("dead-letters", "drop", "docs", "a").code == Exit.NOT_FOUND
    assert cli("dead-letters", "drop", "docs", "--all").code == Exit.USAGE, "nobody is there to answer"
    monkeypatch.setattr("sys.stdin", Terminal("n\n"))
    declined = cli("dead-letters", "drop", "docs", "--all")
    assert declined.code == Exit.INTERRUPTED
    assert "Forget 2 dead letters of docs?" in declined.out
    assert cli("dead-letters", "list", "docs", "--json").json["total"] == 2
    assert cli("dead-letters", "drop", "docs", "--all", "--yes", "--json").json == {"connector": "docs", "dropped": 2}
