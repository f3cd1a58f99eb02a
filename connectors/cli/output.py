"""What a command prints: JSON for programs, text and tables for people.

Everything that comes from outside (documents, file names, error texts) is printed without control characters, so that
it gives the terminal no orders.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from connectors.utils import escape_controls

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

__all__ = ["console", "json_option", "marked", "print_json", "print_lines", "print_table", "print_verdict"]

F = TypeVar("F", bound=Callable[..., Any])

#: Columns of a table that goes into a file or a pipe: nothing is wrapped or cut there.
_UNBOUNDED: Final = 10_000
_MARK_START: Final = "\x02"
_MARK_END: Final = "\x03"


def json_option(command: F) -> F:
    """Adds `--json` to a command; it arrives as `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, and nothing else, on stdout.")(command)


def print_json(value: Any) -> None:
    """Prints one JSON value in ASCII, which no hostile text can break out of."""
    print(json.dumps(value, indent=2))


def print_lines(*lines: str) -> None:
    """Prints lines of text."""
    for line in lines:
        print(escape_controls(line))


def print_verdict(text: str, *, good: bool) -> None:
    """Prints a line that begins with ✓ or ✗."""
    from rich.text import Text

    sign = "✓" if good else "✗"
    try:
        sign.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        sign = "ok:" if good else "FAILED:"
    line = Text(sign, "green" if good else "red")
    console().print(line.append(f" {escape_controls(text)}", "default"), soft_wrap=True)


def print_table(headers: Sequence[str], rows: Iterable[Sequence[str | Text | int]], *, empty: str) -> None:
    """Prints a table, numbers to the right, or the sentence `empty` when there are no rows."""
    from rich.table import Table
    from rich.text import Text

    listed = [list(row) for row in rows]
    if not listed:
        print_lines(empty)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for position, header in enumerate(headers):
        numeric = all(isinstance(row[position], int) for row in listed)
        table.add_column(header, justify="right" if numeric else "left", overflow="fold")
    for row in listed:
        cells = (f"{cell:,}" if isinstance(cell, int) else cell for cell in row)
        table.add_row(*(cell if isinstance(cell, Text) else Text(escape_controls(cell)) for cell in cells))
    out = console()
    with out.capture() as capture:
        out.print(table)
    for line in capture.get().splitlines():
        print(line.rstrip())


def marked(text: str) -> Text:
    """Returns a fragment of a search hit with its marked words in bold."""
    from rich.text import Text

    before, *parts = text.split(_MARK_START)
    result = Text(escape_controls(before.replace(_MARK_END, "")))
    for part in parts:
        word, end, rest = part.partition(_MARK_END)
        result.append(escape_controls(word), "bold" if end else "")
        result.append(escape_controls(rest.replace(_MARK_END, "")))
    return result


def console(*, stderr: bool = False) -> Console:
    """Returns rich's console for stdout or stderr: colours on a terminal only, and not with `NO_COLOR`."""
    from rich.console import Console

    class PipeAware(Console):
        """Leaves a closed pipe to `main`, for which it is no error."""

        def on_broken_pipe(self) -> None:
            raise BrokenPipeError

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else _UNBOUNDED
    return PipeAware(stderr=stderr, width=width, markup=False, highlight=False, emoji=False)
