"""Properties of what is read as text: arrays, ranges, lines of COPY, messages of the log."""

from __future__ import annotations

import contextlib
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from connectors.errors import SyncError
from connectors.sources.postgresql.copying import row_splitter
from connectors.sources.postgresql.pgoutput import decode, format_lsn, parse_lsn
from connectors.sources.postgresql.values import array_of, parse_array, range_of

TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)
CELLS = st.one_of(st.none(), TEXTS)


def _written(value: Any) -> str:
    """Writes an array as the server does, every text in quotes."""
    if isinstance(value, list):
        return "{" + ",".join(map(_written, value)) + "}"
    return "NULL" if value is None else '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


@given(st.lists(st.lists(CELLS, min_size=1, max_size=4), min_size=1, max_size=4))
def test_arrays_come_back(rows: list[list[str | None]]) -> None:
    assert parse_array(_written(rows)) == rows
    assert parse_array(_written(rows[0])) == rows[0]


@given(st.lists(st.one_of(st.none(), st.integers())))
def test_plain_arrays_come_back(numbers: list[int | None]) -> None:
    text = "{" + ",".join("NULL" if number is None else str(number) for number in numbers) + "}"
    assert array_of(int)(text) == numbers


@given(TEXTS.filter(bool), TEXTS.filter(bool), st.booleans(), st.booleans())
def test_ranges_come_back(lower: str, upper: str, with_lower: bool, with_upper: bool) -> None:
    quoted = ['"' + text.replace("\\", "\\\\").replace('"', '""') + '"' for text in (lower, upper)]
    text = f"{'[' if with_lower else '('}{quoted[0]},{quoted[1]}{']' if with_upper else ')'}"
    assert range_of(None)(text) == {
        "gte" if with_lower else "gt": lower,
        "lte" if with_upper else "lt": upper,
    }


_ESCAPES = {"\\": r"\\", "\b": r"\b", "\f": r"\f", "\n": r"\n", "\r": r"\r", "\t": r"\t", "\v": r"\v"}


def _line(row: list[str | None]) -> bytes:
    fields = (r"\N" if cell is None else "".join(_ESCAPES.get(char, char) for char in cell) for cell in row)
    return "\t".join(fields).encode() + b"\n"


@given(st.integers(1, 5).flatmap(lambda width: st.lists(st.lists(CELLS, min_size=width, max_size=width), max_size=5)))
def test_rows_of_copy_come_back(rows: list[list[str | None]]) -> None:
    width = len(rows[0]) if rows else 1
    assert row_splitter(width)(list(map(_line, rows))) == rows


@given(st.integers(0, 2**64 - 1))
def test_positions_come_back(lsn: int) -> None:
    assert parse_lsn(format_lsn(lsn)) == lsn


@given(st.binary(max_size=60), st.sampled_from(b"BCRIUDTXO"))
def test_no_bytes_raise_anything_but_our_error(data: bytes, kind: int) -> None:
    with contextlib.suppress(SyncError):
        decode(bytes([kind]) + data)
