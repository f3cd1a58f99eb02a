"""The command line `connectors`; `docs/COMMANDS.md` describes every command, JSON shape and exit code."""

from __future__ import annotations

from connectors.cli.entry import main

__all__ = ["main"]
