"""`docs/COMMANDS.md` says what the commands do."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import pytest

from connectors.backends.ports import DeadLetter, Hit, SearchPage
from connectors.byoc import Connector, Filter, SyncJob
from connectors.cli.entry import cli
from connectors.cli.exits import Exit
from connectors.cli.shapes import (
    comparison_shape,
    dead_letter_shape,
    job_shape,
    preview_shape,
    search_shape,
    view_shape,
)
from connectors.cli.sources import _source_shape
from connectors.runtime import Runtime
from connectors.service.catalog import SourceCatalog
from connectors.service.operations import ConnectorView
from connectors.sync.compare import Comparison
from connectors.sync.counters import OUTCOMES, Counters
from connectors.sync.preview import Preview
from tests.support.sources import ScriptedSource

TEXT = (Path(__file__).parents[2] / "docs" / "COMMANDS.md").read_text("utf-8")


def documented(shape: str) -> set[str]:
    """Returns the keys in the first column of a shape's table."""
    section = TEXT.split(f"\n### {shape}\n")[1].split("\n###")[0]
    rows = re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)
    return {key for row in rows for key in re.findall(r"`(\w+)`", row)}


def shapes() -> dict[str, Mapping[str, Any]]:
    now = datetime.now(UTC)
    view = ConnectorView(Connector(id="a"), {}, None, None, 0, 0)
    catalog = SourceCatalog({"directory": "connectors.sources.directory:DirectoryDataSource"})
    return {
        "comparison": {**comparison_shape("a", "b", Comparison(), deep=False), "repair": None},
        "job": job_shape(SyncJob(id="1")),
        "connector": view_shape(view),
        "dead letter": dead_letter_shape(DeadLetter("a", "1", "index", "no", "2", now)),
        "search": search_shape("a", "b", SearchPage(1, [Hit("1", 1.0, {}, {})]), 1.0),
        "source": _source_shape(catalog, "directory"),
        "preview": preview_shape("a", "b", "c", Preview(ScriptedSource([]), Filter(), limit=1, runtime=Runtime())),
    }


@pytest.mark.parametrize("name", ["comparison", "job", "connector", "dead letter", "search", "source", "preview"])
def test_each_shape_is_documented_key_by_key(name: str) -> None:
    assert documented(name) == set(shapes()[name])


def test_the_counters_are_documented() -> None:
    row = next(line for line in TEXT.splitlines() if line.startswith("| `counters` |"))
    assert set(re.findall(r"`(\w+)`", row)) - {"counters"} == set(Counters().to_dict())
    assert all(f"`{name}`" in row for name in OUTCOMES)


def test_the_exit_codes_are_documented() -> None:
    table = TEXT.split("## Exit codes")[1].split("\n## ")[0]
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)} == set(Exit)
    assert all(f"{code.value} " in (cli.help or "") for code in Exit)


def test_each_command_and_option_is_documented() -> None:
    for group in (each for each in cli.commands.values() if isinstance(each, click.Group)):
        for name, command in group.commands.items():
            assert re.search(rf"`(connectors )?{group.name} {name}[ `]", TEXT), name
            for parameter in command.params:
                assert not isinstance(parameter, click.Option) or parameter.opts[0] in TEXT, (name, parameter.opts)
    for name, command in cli.commands.items():
        assert re.search(rf"`(connectors )?{name}[ `]", TEXT), name
        for parameter in command.params:
            assert not isinstance(parameter, click.Option) or parameter.opts[-1] in TEXT, (name, parameter.opts)
    for parameter in cli.params:
        assert parameter.opts[0] in TEXT
