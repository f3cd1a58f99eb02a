"""What tests of the command line share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.inprocess import CommandLine, command_line
from tests.support.workspace import Workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """A connector `docs` of a folder with two files; a module may have a workspace of its own."""
    workspace = Workspace(tmp_path)
    workspace.write("plan.md", "# The plan\n\nthe heron lands")
    workspace.write("drafts/idea.txt", "a heron, perhaps")
    return workspace


@pytest.fixture
def cli(
    workspace: Workspace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[CommandLine]:
    """The commands, on the workspace."""
    with command_line(workspace, capsys, monkeypatch) as commands:
        yield commands
