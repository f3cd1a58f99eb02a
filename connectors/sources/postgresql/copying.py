"""Rows from the lines of `COPY … TO STDOUT`."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, TypeAlias

__all__ = ["TextRow", "row_splitter"]

#: One row, in the order of its columns; None is NULL.
TextRow: TypeAlias = "list[str | None]"

_ESCAPED: Final = re.compile(r"\\(.)", re.DOTALL)
_MEANING: Final = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}


def row_splitter(columns: int) -> Callable[[list[bytes]], list[TextRow]]:
    """Returns the function that makes rows of lines; `columns` is how many a row has, which may be none."""
    if columns == 0:
        return lambda lines: [[] for _ in lines]
    return _split


def _split(lines: list[bytes]) -> list[TextRow]:
    rows: list[TextRow] = []
    for line in lines:
        row: TextRow = line[:-1].decode().split("\t")  # type: ignore[assignment]  # list is invariant; these are new
        if b"\\" in line:
            row = [_field(text) for text in row]
        rows.append(row)
    return rows


def _field(text: str | None) -> str | None:
    if text is None or "\\" not in text:
        return text
    if text == r"\N":
        return None
    return _ESCAPED.sub(_unescape, text)


def _unescape(found: re.Match[str]) -> str:
    return _MEANING.get(found[1], found[1])
