"""What tests of the command line share, and what those of the page do."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.inprocess import CommandLine, command_line
from tests.support.site import Site
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


@pytest.fixture
async def site() -> Site:
    """A page on backends in memory, with a connector `handbook`; a module may have a site of its own."""
    site = Site()
    await site.connector()
    return site


@pytest.fixture
async def client(site: Site) -> AsyncIterator[httpx.AsyncClient]:
    """Talks to the site, as a browser on this machine would."""
    async with site.client() as client:
        yield client
