"""What is wrong with a configuration, and where."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

from connectors.errors import ConfigurationError
from connectors.utils import escape_controls, truncate

__all__ = ["ConfigError", "KeyPath", "Mark", "Problem", "dotted"]

KeyPath: TypeAlias = tuple[str | int, ...]
"""Keys and list positions from the top of the file to a value."""


@dataclass(frozen=True, slots=True, order=True)
class Mark:
    """A place in the file; line and column count from one."""

    line: int
    column: int


def dotted(path: KeyPath) -> str:
    """Returns a path as people write it: `connectors[0].scheduling.full`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return truncate(escape_controls(text), 200)


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that a person must change in the file.

    Args:
        file: the config file, as it was named.
        line: from one; None where the whole file is at fault.
        column: from one; None where the whole file is at fault.
        key: the key at fault, dotted; empty where there is none.
        message: what is wrong and what to write instead, without secrets.
    """

    file: str
    line: int | None
    column: int | None
    key: str
    message: str

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}:{self.column}"
        text = f"{place}: {self.key}: {self.message}" if self.key else f"{place}: {self.message}"
        return escape_controls(text)


class ConfigError(ConfigurationError):
    """The configuration cannot be used.

    Args:
        problems: everything that was found, in the order of the file; at least one.
    """

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = list(problems)
        first = self.problems[0]
        super().__init__(
            "\n".join(map(str, self.problems)), field=first.key or None if len(self.problems) == 1 else None
        )
