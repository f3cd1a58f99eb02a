"""The command line: what it starts with, how it ends, how errors are told."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from connectors import __version__
from connectors.cli.entry import cli as root_command
from connectors.cli.exits import Exit, explain
from connectors.errors import (
    ConfigurationError,
    ConflictError,
    ConnectorsError,
    NotFoundError,
    RetryableError,
    SuspendSync,
    SyncError,
)
from connectors.logger import register_secrets
from tests.support.inprocess import CommandLine, command_line
from tests.support.workspace import Workspace

HEAVY = (
    "jinja2", "numpy", "orjson", "pebble", "prometheus_client", "pydantic", "re2", "rich", "sqlite3", "starlette",
    "uvicorn", "xxhash", "yaml",
)  # fmt: skip


@pytest.fixture
def cli(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[CommandLine]:
    with command_line(Workspace(tmp_path), capsys, monkeypatch) as commands:
        yield commands


def test_help_loads_nothing_heavy() -> None:
    program = (
        "import json, sys\nfrom connectors.cli.entry import invoke\ncode = invoke(['--help'])\n"
        f"print(json.dumps([code, [name for name in {HEAVY!r} if name in sys.modules]]), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, encoding="utf-8")
    assert json.loads(done.stderr) == [0, []]
    assert "Keeps a search index true" in done.stdout


def test_help_lists_every_command(cli: CommandLine) -> None:
    done = cli("--help")
    assert done.code == 0
    for name in root_command.commands:
        assert f"  {name} " in done.out


@pytest.mark.parametrize("name", sorted(root_command.commands))
def test_each_command_explains_itself(cli: CommandLine, name: str) -> None:
    done = cli(name, "--help")
    assert done.code == 0
    assert done.out.startswith(f"Usage: connectors {name} ")


def test_version(cli: CommandLine) -> None:
    assert cli("--version").out == f"connectors {__version__}\n"


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("serch", "docs", "x"), "No such command 'serch'"),
        (("search", "docs"), "Missing argument 'WORDS...'"),
        (("jobs", "--limit", "0"), "0 is not in the range"),
        (("sync", "docs", "--type", "everything"), "'everything' is not one of 'full', 'incremental'"),
        (("-q", "-v", "status"), "--quiet and --verbose exclude each other"),
        (("run", "--json"), "--json prints the summary of --once"),
    ],
)
def test_wrong_usage_is_2(cli: CommandLine, args: tuple[str, ...], words: str) -> None:
    done = cli(*args)
    assert done.code == Exit.USAGE
    assert words in done.err
    assert done.out == ""


@pytest.mark.parametrize(
    "args",
    [
        ("run",),
        ("run", "--once"),
        ("status",),
        ("check",),
        ("sync", "docs"),
        ("config", "validate"),
        ("search", "a", "b"),
    ],
)
def test_a_wrong_configuration_is_3(cli: CommandLine, args: tuple[str, ...]) -> None:
    cli.workspace.configure(web={"prot": 1})
    done = cli(*args)
    assert done.code == Exit.CONFIGURATION
    told = done.out + done.err
    assert 'web.prot: there is no such key; did you mean "port"?' in told
    assert "Traceback" not in told


def test_a_missing_file_is_3(cli: CommandLine) -> None:
    cli.workspace.config.unlink()
    done = cli("status")
    assert done.code == Exit.CONFIGURATION
    assert "there is no such file" in done.err


def test_the_config_file_may_come_from_the_environment(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = Workspace(tmp_path)
    monkeypatch.setenv("CONNECTORS_CONFIG", str(workspace.config))
    with command_line(workspace, capsys, monkeypatch):
        from connectors.cli.entry import invoke

        assert invoke(["config", "validate"]) == 0


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("sync", "dosc"), 'there is no connector "dosc"; did you mean "docs"?'),
        (("pause", "dosc"), 'did you mean "docs"?'),
        (("preview", "dosc"), 'did you mean "docs"?'),
        (("jobs", "dosc"), 'did you mean "docs"?'),
        (("dead-letters", "nothing-like-it"), "there are docs"),
        (("status", "dosc"), 'did you mean "docs"?'),
        (("job", "17"), "17"),
        (("cancel", "17"), "17"),
        (("search", "nowhere", "word"), 'there is no index "nowhere"'),
        (("sources", "directoy"), 'did you mean "directory"?'),
    ],
)
def test_what_does_not_exist_is_4(cli: CommandLine, args: tuple[str, ...], words: str) -> None:
    done = cli(*args)
    assert done.code == Exit.NOT_FOUND
    assert words in done.err
    assert len(done.err.splitlines()) == 1
    assert done.out == ""


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigurationError("a"), 3),
        (NotFoundError("a"), 4),
        (RetryableError("a"), 5),
        (SuspendSync("a"), 5),
        (SyncError("a"), 1),
        (ConflictError("a"), 1),
        (ConnectorsError("a"), 1),
        (ExceptionGroup("g", [ExceptionGroup("h", [NotFoundError("a")])]), 4),
        (RuntimeError("a"), 70),
        (ExceptionGroup("g", [NotFoundError("a"), ValueError("b")]), 70),
    ],
)
def test_each_error_has_its_exit_code(error: Exception, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert explain(error, verbose=False) == code
    told = capsys.readouterr().err
    if code != Exit.DEFECT:
        assert told == "Error: a\n"


def test_an_unexpected_error_says_where_and_how_to_report_it(cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    register_secrets(["hunter2-hunter2"])

    def broken(*_: object) -> None:
        raise RuntimeError("broken by hunter2-hunter2\x1b[31m")

    monkeypatch.setattr("connectors.app.read_config", broken)
    done = cli("status")
    assert done.code == Exit.DEFECT
    assert "Traceback" in done.err
    assert "Please report it" in done.err
    assert "broken by ***\\x1b[31m" in done.err
    assert "hunter2" not in done.err


def test_verbose_shows_the_place_of_an_expected_error_too(cli: CommandLine) -> None:
    done = cli("-v", "job", "17")
    assert done.code == Exit.NOT_FOUND
    assert "Traceback" in done.err
    assert done.err.splitlines()[-1].startswith("Error: ")


def test_ctrl_c_is_130(cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("connectors.app.read_config", interrupted)
    done = cli("status")
    assert done.code == Exit.INTERRUPTED
    assert done.err.split() == ["interrupted"]


def test_an_index_that_is_no_database_is_told(cli: CommandLine) -> None:
    data = cli.workspace.root / "data"
    data.mkdir()
    (data / "connectors.db").write_text("this is no database " * 100, "utf-8")
    done = cli("status")
    assert done.code == Exit.CONFIGURATION
    assert "connectors.db" in done.err
    assert "Traceback" not in done.err
