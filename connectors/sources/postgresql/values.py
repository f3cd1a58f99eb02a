"""What JSON can hold of PostgreSQL's values, which are read as text, as the server writes them.

The session's settings (`session.py`) fix that text: dates in ISO, UTC, intervals in ISO 8601, floats with all digits,
bytes in hexadecimal. The same value is therefore the same text wherever it comes from, and what was read can be sent
back exactly.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from functools import partial
from typing import Any, Final, Literal, TypeAlias

import orjson

__all__ = ["BUILT_IN", "Convert", "TypeInfo", "array_of", "parse_array", "range_of", "ranges_of"]

Convert: TypeAlias = Callable[[str], Any]


@dataclass(frozen=True, slots=True)
class TypeInfo:
    """What a type's values are good for.

    Attributes:
        convert: makes what JSON can hold of the text; None where the text is it.
        growth: see `relational.Column`.
        pageable: whether the type has an order of its own that `>` follows.
    """

    name: str
    convert: Convert | None = None
    growth: Literal["number", "instant", "local"] | None = None
    pageable: bool = False


def _truth(text: str) -> bool:
    return text == "t"


def _moment(text: str) -> datetime | None:
    """Returns None for `infinity` and for what is outside of the years 1 to 9999: neither has a form that all take."""
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text[2:])


def _json(text: str) -> Any:
    try:
        return orjson.loads(text)
    except ValueError:  # numbers beyond a double's range, nesting beyond its limit: rare, and valid for the server
        try:
            return json.loads(text, parse_float=Decimal)
        except (ValueError, RecursionError):
            return text


_QUOTED: Final = r'"((?:[^"\\]|\\.|"")*)"'
_FLAT: Final = re.compile(r'"([^"]*)"|([^,]+)')
_ESCAPE: Final = re.compile(r'\\(.)|"(")', re.DOTALL)
_RANGE: Final = re.compile(rf'([\[(])(?:{_QUOTED}|([^",\])]*)),(?:{_QUOTED}|([^",\])]*))([\])])', re.DOTALL)


def _unquote(text: str) -> str:
    return _ESCAPE.sub(lambda found: found[1] or found[2] or "", text)


def _bounds(found: re.Match[str], convert: Convert | None) -> dict[str, Any]:
    opening, quoted_lower, lower, quoted_upper, upper, closing = found.groups()
    bounds: dict[str, Any] = {}
    for key, quoted, plain in (
        ("gte" if opening == "[" else "gt", quoted_lower, lower),
        ("lte" if closing == "]" else "lt", quoted_upper, upper),
    ):
        text = plain if quoted is None else _unquote(quoted)
        if quoted is None and not plain:
            continue  # no bound on this side
        value = convert(text) if convert else text
        if value is not None:
            bounds[key] = value
    return bounds


def _range(text: str, convert: Convert | None) -> dict[str, Any] | None:
    found = _RANGE.fullmatch(text)
    return _bounds(found, convert) if found else None  # `empty` contains nothing


def _ranges(text: str, convert: Convert | None) -> list[dict[str, Any]]:
    return [_bounds(found, convert) for found in _RANGE.finditer(text)]


def range_of(convert: Convert | None) -> Convert:
    """Returns the converter of a range: `{"gte": 1, "lt": 10}`, as search servers write it; None for an empty one."""
    return partial(_range, convert=convert)


def ranges_of(convert: Convert | None) -> Convert:
    """Returns the converter of a multirange: a list of such bounds."""
    return partial(_ranges, convert=convert)


def parse_array(text: str, convert: Convert | None = None, delimiter: str = ",") -> list[Any]:
    r"""Returns an array, nested as deep as its dimensions, from its text: `{1,NULL,3}`, `{{"a \"b\"",c}}`.

    Bounds that do not start at 1 (`[0:2]={…}`) are dropped, since JSON has no place for them.
    """
    start = text.index("{")
    if "\\" not in text and text.find("{", start + 1) < 0 and delimiter == ",":  # flat and plain, as most are
        cells = [
            quoted if not plain else None if plain == "NULL" else plain
            for quoted, plain in _FLAT.findall(text, start + 1, len(text) - 1)
        ]
        return [None if cell is None else convert(cell) for cell in cells] if convert else cells
    root: list[Any] = []
    stack = [root]
    for found in _tokens(delimiter).finditer(text, start):
        mark, quoted, plain = found.groups()
        if mark == "{":
            inner: list[Any] = []
            stack[-1].append(inner)
            stack.append(inner)
        elif mark == "}":
            stack.pop()
        elif plain == "NULL":
            stack[-1].append(None)
        else:
            value = plain if quoted is None else _unquote(quoted)
            stack[-1].append(convert(value) if convert else value)
    array: list[Any] = root[0]
    return array


_TOKENS: dict[str, re.Pattern[str]] = {}


def _tokens(delimiter: str) -> re.Pattern[str]:
    pattern = _TOKENS.get(delimiter)
    if pattern is None:
        # What is not quoted holds no brace, quote, backslash or delimiter: the server quotes those.
        pattern = re.compile(rf'([{{}}])|"((?:[^"\\]|\\.)*)"|([^{{}}"{re.escape(delimiter)}]+)', re.DOTALL)
        _TOKENS[delimiter] = pattern
    return pattern


def array_of(convert: Convert | None, delimiter: str = ",") -> Convert:
    """Returns the converter of an array."""
    return partial(parse_array, convert=convert, delimiter=delimiter)


#: Types that every server has, by their number. All others are looked up.
BUILT_IN: Final[dict[int, TypeInfo]] = {
    16: TypeInfo("boolean", _truth, pageable=True),
    17: TypeInfo("bytea", _bytes, pageable=True),
    18: TypeInfo('"char"', pageable=True),
    19: TypeInfo("name", pageable=True),
    20: TypeInfo("bigint", int, "number", pageable=True),
    21: TypeInfo("smallint", int, "number", pageable=True),
    23: TypeInfo("integer", int, "number", pageable=True),
    25: TypeInfo("text", pageable=True),
    26: TypeInfo("oid", int, pageable=True),
    114: TypeInfo("json", _json),
    700: TypeInfo("real", float, pageable=True),
    701: TypeInfo("double precision", float, pageable=True),
    869: TypeInfo("inet", pageable=True),
    1042: TypeInfo("character", pageable=True),
    1043: TypeInfo("character varying", pageable=True),
    1082: TypeInfo("date", _day, "local", pageable=True),
    1083: TypeInfo("time", pageable=True),
    1114: TypeInfo("timestamp", _moment, "local", pageable=True),
    1184: TypeInfo("timestamp with time zone", _moment, "instant", pageable=True),
    1186: TypeInfo("interval", pageable=True),
    1266: TypeInfo("time with time zone", pageable=True),
    1560: TypeInfo("bit", pageable=True),
    1562: TypeInfo("bit varying", pageable=True),
    1700: TypeInfo("numeric", Decimal, "number", pageable=True),
    2950: TypeInfo("uuid", pageable=True),
    3802: TypeInfo("jsonb", _json, pageable=True),
}
