"""What JSON can hold of PostgreSQL's values, and the lines of COPY."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest

from connectors.sources.postgresql.copying import row_splitter
from connectors.sources.postgresql.values import BUILT_IN, Convert, array_of, parse_array, range_of, ranges_of
from connectors.sync.encode import encode

NUMBERS = {info.name: info.convert for info in BUILT_IN.values()}


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("boolean", "t", True),
        ("boolean", "f", False),
        ("bigint", "-9223372036854775808", -(2**63)),
        ("numeric", "1.10", Decimal("1.10")),
        ("double precision", "-Infinity", float("-inf")),
        ("bytea", r"\x00ff", b"\x00\xff"),
        ("jsonb", '{"a": [1.5, null]}', {"a": [1.5, None]}),
        ("json", "1e999", Decimal("1e999")),
        ("date", "2026-02-03", date(2026, 2, 3)),
        ("date", "infinity", None),
        ("date", "12026-02-03", None),
        ("date", "0044-03-15 BC", None),
        ("timestamp", "2026-02-03 04:05:06.7", datetime(2026, 2, 3, 4, 5, 6, 700_000)),  # noqa: DTZ001 - it has no zone
        ("timestamp with time zone", "2026-02-03 04:05:06+00", datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC)),
        ("timestamp with time zone", "-infinity", None),
    ],
)
def test_values(kind: str, text: str, value: Any) -> None:
    convert = NUMBERS[kind]
    assert convert is not None
    assert convert(text) == value


def test_deep_json_stays_text() -> None:
    convert = NUMBERS["jsonb"]
    assert convert is not None
    deep = "[" * 100_000 + "]" * 100_000
    assert convert(deep) == deep


@pytest.mark.parametrize("text", ["NaN", "Infinity"])
def test_what_json_lacks_becomes_null(text: str) -> None:
    convert = NUMBERS["numeric"]
    assert convert is not None
    assert encode({"n": convert(text)}) == b'{"n":null}'


@pytest.mark.parametrize(
    ("text", "convert", "value"),
    [
        ("{}", int, []),
        ("{1,NULL,3}", int, [1, None, 3]),
        ("{{1,2},{3,4}}", int, [[1, 2], [3, 4]]),
        ("[0:1]={7,8}", int, [7, 8]),
        ('{"NULL",null,NULL}', None, ["NULL", "null", None]),
        (r'{"a \"b\" \\c","","{x,y}"}', None, ['a "b" \\c', "", "{x,y}"]),
        ("{t,f}", NUMBERS["boolean"], [True, False]),
    ],
)
def test_arrays(text: str, convert: Convert | None, value: list[Any]) -> None:
    assert array_of(convert)(text) == value


def test_arrays_of_boxes_have_another_delimiter() -> None:
    assert parse_array("{(1,1),(0,0);(2,2),(1,1)}", None, ";") == ["(1,1),(0,0)", "(2,2),(1,1)"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("[1,10)", {"gte": 1, "lt": 10}),
        ("(1,10]", {"gt": 1, "lte": 10}),
        ("[1,)", {"gte": 1}),
        ("(,)", {}),
        ("empty", None),
    ],
)
def test_ranges(text: str, value: dict[str, Any] | None) -> None:
    assert range_of(int)(text) == value


def test_bounds_with_quotes_and_without_end() -> None:
    assert range_of(None)(r'["a ""b"" \\","c,d")') == {"gte": 'a "b" \\', "lt": "c,d"}
    assert range_of(NUMBERS["timestamp with time zone"])('["2026-01-01 00:00:00+00",infinity)') == {
        "gte": datetime(2026, 1, 1, tzinfo=UTC)
    }
    assert ranges_of(int)("{[1,3),[5,6)}") == [{"gte": 1, "lt": 3}, {"gte": 5, "lt": 6}]
    assert ranges_of(int)("{}") == []


def test_lines_of_copy() -> None:
    split = row_splitter(3)
    assert split([b"1\ttext\t\\N\n", b"2\t\tx\n"]) == [["1", "text", None], ["2", "", "x"]]
    assert split([rb"a\tb\\N" + b"\t" + rb"\\\nc" + "\tü\n".encode()]) == [["a\tb\\N", "\\\nc", "ü"]]


def test_rows_without_columns() -> None:
    assert row_splitter(0)([b"\n", b"\n"]) == [[], []]
