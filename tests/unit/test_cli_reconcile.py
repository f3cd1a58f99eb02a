"""`connectors reconcile`, on an embedded index in a temporary folder."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import orjson
import pytest

from connectors.cli.exits import Exit
from tests.support.inprocess import CommandLine
from tests.support.workspace import Workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    workspace = Workspace(tmp_path)
    for position in range(5):
        workspace.write(f"{position}.txt", f"heron {position}")
    return workspace


def forge(workspace: Workspace, document_id: str) -> None:
    """Changes a document behind everybody's back, and leaves its stamp as it is."""
    with closing(sqlite3.connect(workspace.root / "data" / "connectors.db")) as database, database:
        (body,) = database.execute("SELECT body FROM documents WHERE id = ?", (document_id,)).fetchone()
        data = orjson.dumps({**orjson.loads(body), "body": "forged"})
        database.execute("UPDATE documents SET body = ? WHERE id = ?", (data, document_id))


def test_equal_then_not_then_mended(cli: CommandLine, workspace: Workspace) -> None:
    first = cli("reconcile", "docs")
    assert first.code == Exit.NOT_FOUND
    assert "connectors sync docs" in first.err
    assert cli("sync", "docs").code == 0
    equal = cli("reconcile", "docs")
    assert (equal.code, equal.out) == (0, "✓ docs: 5 documents read; the index docs holds what the source has\n")
    workspace.write("1.txt", "egret and more")
    workspace.write("\x1b[31mnew.txt", "egret")
    (workspace.docs / "2.txt").unlink()
    jobs = len(workspace.jobs())
    told = cli("reconcile", "docs")
    assert told.code == Exit.FAILED
    assert "✗ docs: 5 documents read; 1 missing, 1 different, 1 extra" in told.out
    assert "connectors reconcile docs --repair" in told.out
    assert "\x1b" not in told.out
    found = cli("reconcile", "docs", "--json", "--limit", "2").json
    assert set(found) == {
        "connector", "index", "deep", "equal", "read", "filtered", "counts", "differences", "stale", "unverified",
        "incomplete", "repair",
    }  # fmt: skip
    assert found["counts"] == {"missing": 1, "different": 1, "extra": 1, "unreadable": 0}
    assert (found["equal"], found["repair"], len(found["differences"])) == (False, None, 2)
    assert len(workspace.jobs()) == jobs, "looking leaves no trace"
    assert workspace.hits("egret") == []
    mended = cli("reconcile", "docs", "--repair")
    assert mended.code == 0
    assert mended.out.splitlines()[-1].endswith("5 read, 2 indexed, 3 unchanged, 1 removed since they are gone")
    assert len(workspace.hits("egret")) == 2
    assert cli("reconcile", "docs", "--deep").code == 0
    nothing = cli("reconcile", "docs", "--repair", "--json").json
    assert (nothing["equal"], nothing["repair"]) == (True, None)
    assert not list(workspace.root.glob("data/reconcile-*"))


def test_the_ledger_is_as_good_as_before_afterwards(cli: CommandLine, workspace: Workspace) -> None:
    cli("sync", "docs")
    header = workspace.root / "data" / "ledgers" / "docs" / "ledger.json"
    before = orjson.loads(header.read_bytes())
    assert cli("reconcile", "docs").code == 0
    after = orjson.loads(header.read_bytes())
    assert after == {**before, "epoch": before["epoch"] + 1}
    assert cli("sync", "docs").out.endswith("5 read, 5 unchanged\n")


def test_forged_content_is_found_and_mended_by_a_deep_look(cli: CommandLine, workspace: Workspace) -> None:
    cli("sync", "docs")
    forge(workspace, "3.txt")
    assert cli("reconcile", "docs").code == 0, "its stamp is right"
    deep = cli("reconcile", "docs", "--deep", "--json")
    assert deep.code == Exit.FAILED
    assert deep.json["differences"] == [{"kind": "different", "id": "3.txt", "detail": "in body"}]
    mended = cli("reconcile", "docs", "--deep", "--repair", "--json").json
    assert (mended["repair"]["counters"]["indexed"], mended["repair"]["counters"]["unchanged"]) == (1, 4)
    assert cli("reconcile", "docs", "--deep").code == 0
    assert workspace.texts()["3.txt"] == "heron 3"


def test_the_deletion_guard_holds_for_the_repair_too(cli: CommandLine, workspace: Workspace) -> None:
    for position in range(120):
        workspace.write(f"many/{position}.txt", f"number {position}")
    cli("sync", "docs")
    for position in range(60):
        (workspace.docs / "many" / f"{position}.txt").unlink()
    refused = cli("reconcile", "docs", "--repair")
    assert refused.code == Exit.FAILED
    assert "--allow-deletes 60" in refused.out
    assert len(workspace.texts()) == 125
    assert cli("reconcile", "docs", "--repair", "--allow-deletes", "60").code == 0
    assert len(workspace.texts()) == 65
    assert cli("reconcile", "docs", "--allow-deletes", "60").code == Exit.USAGE


def test_what_the_source_cannot_give_is_a_difference(cli: CommandLine, workspace: Workspace) -> None:
    cli("sync", "docs")
    workspace.write("broken.pdf", "%PDF-1.7 this is none")
    told = cli("reconcile", "docs")
    assert told.code == Exit.FAILED
    assert "1 unreadable" in told.out
    assert cli("reconcile", "docs", "--repair").code == Exit.FAILED, "nothing can mend that here"


def test_contents_behind_an_ingest_pipeline_cannot_be_compared(cli: CommandLine, workspace: Workspace) -> None:
    cli("sync", "docs")
    workspace.configure(connectors=[workspace.connector(pipeline={"name": "enrich"})])
    refused = cli("reconcile", "docs", "--deep")
    assert refused.code == Exit.CONFIGURATION
    assert "leave out --deep" in refused.err
    assert cli("reconcile", "docs").code == 0
