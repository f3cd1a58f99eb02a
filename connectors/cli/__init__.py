"""The command line `connectors`; `docs/COMMANDS.md` describes every command, JSON shape and exit code."""

from __future__ import annotations

from typing import NoReturn

__all__ = ["main"]


def main() -> NoReturn:
    """The console script, which each further process of the daemon imports again: it needs no commands."""
    from connectors.cli.entry import main

    main()
