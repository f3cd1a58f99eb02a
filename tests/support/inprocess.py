"""Runs command lines in this very process, for tests that need no process of their own."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from connectors import logger
from connectors.cli.entry import invoke
from connectors.logger import Masker
from tests.support.workspace import Ended, Workspace

__all__ = ["CommandLine", "Terminal", "command_line"]


class CommandLine:
    """`connectors` on a workspace: `cli("status", "--json")`."""

    def __init__(self, workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
        self.workspace = workspace
        self._capsys = capsys

    def __call__(self, *args: str) -> Ended:
        """Runs one command and returns its exit code and what it printed."""
        self._capsys.readouterr()
        code = invoke(["--config", str(self.workspace.config), *args])
        return Ended(code, *self._capsys.readouterr())


class Terminal(io.StringIO):
    """Answers a question as somebody at a terminal would."""

    def isatty(self) -> bool:
        return True


@contextmanager
def command_line(
    workspace: Workspace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[CommandLine]:
    """Gives a command line, and leaves the process's logging and its secrets as they were."""
    monkeypatch.setattr(logger, "_masker", Masker())
    monkeypatch.syspath_prepend(str(workspace.root))
    root = logging.getLogger()
    handlers, levels = root.handlers[:], {name: logging.getLogger(name).level for name in _loggers()}
    try:
        yield CommandLine(workspace, capsys)
    finally:
        root.handlers[:] = handlers
        for name in _loggers():
            logging.getLogger(name).setLevel(levels.get(name, logging.NOTSET))


def _loggers() -> list[str]:
    return ["root", *logging.root.manager.loggerDict]
