"""The commands that set up: check, discover, sources and config."""

from __future__ import annotations

import json
from typing import Any

import pytest

from connectors.cli.exits import Exit
from tests.support.inprocess import CommandLine
from tests.support.workspace import Workspace


def test_check_says_what_is_fine(cli: CommandLine) -> None:
    done = cli("check")
    assert done.code == 0
    assert [line[0] for line in done.out.splitlines()] == ["✓"] * 3
    assert "docs: directory can be read; full sync every second; index docs" in done.out
    assert cli("check", "--json").json["ok"] is True


def test_check_says_what_to_do_about_each_connector(cli: CommandLine, workspace: Workspace) -> None:
    rule = {"policy": "exclude", "field": "path", "rule": "regex", "value": "("}
    workspace.configure(
        connectors=[
            workspace.connector(),
            workspace.connector("missing", configuration={"directory": "nowhere"}),
            workspace.connector("ruled", filtering={"rules": [rule]}),
        ]
    )
    done = cli("check")
    assert done.code == Exit.FAILED
    lines = {line.split()[1].rstrip(":"): line for line in done.out.splitlines()}
    assert lines["docs"].startswith("✓")
    assert lines["missing"].startswith("✗")
    assert "does not exist; create it" in lines["missing"]
    assert lines["ruled"].startswith("✗")
    assert "sync rules" in lines["ruled"]
    checks = cli("check", "--json").json
    assert checks["ok"] is False
    assert {each["subject"]: each["ok"] for each in checks["checks"]}["missing"] is False


def test_check_survives_what_sources_do(
    cli: CommandLine, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace.module(
        "odd_sources",
        """
import asyncio
from connectors.source import BaseDataSource


class StuckDataSource(BaseDataSource):
    async def ping(self):
        await asyncio.sleep(60)

    async def get_docs(self, filtering=None):
        yield {"_id": "1"}, None


class FaultyDataSource(BaseDataSource):
    async def ping(self):
        return 1 / 0

    async def get_docs(self, filtering=None):
        yield {"_id": "1"}, None
""",
    )
    workspace.configure(
        connectors=[workspace.connector(name, service_type=name, configuration={}) for name in ("stuck", "faulty")],
        sources={"stuck": "odd_sources:StuckDataSource", "faulty": "odd_sources:FaultyDataSource"},
    )
    monkeypatch.setattr("connectors.cli.checks._PATIENCE", 0.1)
    checks = {each["subject"]: each["message"] for each in cli("check", "--json").json["checks"]}
    assert "did not answer within 100ms" in checks["stuck"]
    assert checks["faulty"] == "the source failed: ZeroDivisionError: division by zero"


def test_check_of_an_index_that_cannot_be_opened(cli: CommandLine, workspace: Workspace) -> None:
    (workspace.root / "data").write_text("a file where a folder should be", "utf-8")
    done = cli("check")
    assert done.code == Exit.FAILED
    assert "✗ index: " in done.out


def test_check_of_a_broken_file_names_every_problem(cli: CommandLine, workspace: Workspace) -> None:
    workspace.configure(web={"prot": 1, "port": "many"})
    done = cli("check", "--json")
    assert done.code == Exit.CONFIGURATION
    assert done.json["ok"] is False
    assert len(done.json["checks"]) == 2


def test_check_leaves_no_record(cli: CommandLine) -> None:
    cli("check")
    assert cli("status", "docs", "--json").json["connectors"][0]["last_job"] is None
    assert cli("jobs", "--json").json == {"jobs": []}


OWN_SOURCE = """
from connectors.source import BaseDataSource, ConfigurationError, Discovered


class OwnDataSource(BaseDataSource):
    name = "Own"
    service_type = "own"
    incremental_sync_enabled = True

    @classmethod
    def get_default_configuration(cls):
        return {
            "url": {"label": "Address", "type": "str", "value": "http://localhost", "tooltip": "Where it is."},
            "password": {"label": "Password", "type": "str", "value": "", "sensitive": True},
            "mode": {"label": "Mode", "type": "str", "value": "a", "options": [{"label": "A", "value": "a"}]},
        }

    async def ping(self):
        raise ConfigurationError(f"the password {self.configuration['password']} is wrong; write another one")

    async def discover(self):
        return [Discovered("table", "a table", {"url": "http://localhost/table"})]

    async def get_docs(self, filtering=None):
        yield {"_id": "1"}, None

    async def get_docs_incrementally(self, sync_cursor, filtering=None):
        yield {"_id": "1"}, None, "index"
"""


@pytest.fixture
def own(workspace: Workspace) -> Workspace:
    workspace.module("own_source", OWN_SOURCE)
    connector = workspace.connector("own", service_type="own", configuration={"password": "s3same-open"})
    workspace.configure(
        connectors=[connector], sources={"own": "own_source:OwnDataSource", "gone": "gone_module:Gone"}, web={"port": 0}
    )
    return workspace


def test_discover_lists_what_could_be_synced(cli: CommandLine, own: Workspace) -> None:
    assert "http://localhost/table" in cli("discover").out
    (found,) = cli("discover", "own", "--json").json["connectors"]
    assert found["connector"] == "own"
    assert found["found"][0]["configuration"] == {"url": "http://localhost/table"}


def test_discover_of_a_source_that_lists_nothing(cli: CommandLine) -> None:
    assert cli("discover").out == "the sources list nothing to choose\n"


def test_sources_shows_settings_and_marks_secrets(cli: CommandLine, own: Workspace) -> None:
    assert "cannot be imported" in cli("sources").out
    done = cli("sources", "own")
    assert done.code == 0
    lines = {line.split()[0]: line for line in done.out.splitlines() if line.strip()}
    assert "http://localhost" in lines["url"]
    assert "str, secret" in lines["password"]
    assert "required" in lines["password"]
    (shape,) = cli("sources", "own", "--json").json["sources"]
    assert shape["incremental_sync"] is True
    settings: dict[str, Any] = {each["name"]: each for each in shape["settings"]}
    assert settings["mode"]["options"] == ["a"]
    assert settings["password"]["secret"] is True


def test_sources_needs_no_good_config_file(cli: CommandLine, workspace: Workspace) -> None:
    workspace.configure(web={"prot": 1})
    broken = cli("sources")
    assert (broken.code, broken.out.split()[0]) == (0, "directory")
    assert "has problems" in broken.err
    workspace.config.unlink()
    assert "directory" in cli("sources").out


def test_no_secret_is_printed_anywhere(cli: CommandLine, own: Workspace) -> None:
    told = ""
    for args in (
        ("check",), ("config", "show"), ("config", "show", "--json"), ("sync", "own"), ("status",), ("jobs",),
        ("status", "--json"), ("jobs", "--json"), ("-vv", "preview", "own"), ("run", "--once"),
    ):  # fmt: skip
        done = cli(*args)
        told += done.out + done.err
    assert "the password *** is wrong" in told
    assert "s3same-open" not in told


def test_config_validate(cli: CommandLine, workspace: Workspace) -> None:
    assert cli("config", "validate").out == f"✓ {workspace.config}: 1 connector\n"
    assert cli("config", "validate", "--json").json == {"valid": True, "problems": []}
    workspace.configure(web={"prot": 1})
    done = cli("config", "validate", "--json")
    assert done.code == Exit.CONFIGURATION
    (problem,) = done.json["problems"]
    assert (problem["key"], problem["line"]) == ("web.prot", 7)
    assert done.err == ""


def test_config_schema(cli: CommandLine, workspace: Workspace) -> None:
    workspace.config.unlink()
    assert cli("config", "schema").json["title"] == "config.yml of connectors"


def test_config_show_masks_short_secrets_too(cli: CommandLine, own: Workspace) -> None:
    connector = own.connector(
        "own", service_type="own", configuration={"password": "abc", "url": "http://me:longer-pass@host/"}
    )
    own.configure(
        connectors=[connector], sources={"own": "own_source:OwnDataSource"}, web={"token": "correct-horse-battery"}
    )
    done = cli("config", "show", "--json")
    assert done.json["connectors"][0]["configuration"] == {"password": "***", "url": "http://me:***@host/"}
    assert done.json["web"]["token"] == "***"
    assert done.json["embedded"]["path"].endswith("data/connectors.db")
    assert "password: '***'" in cli("config", "show").out
    assert json.loads(done.out)["service"]["max_concurrent_syncs"] == 4
