"""Types of MySQL and MariaDB: what is selected, what becomes of the values, what keys and growth they are good for."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import date, datetime, tzinfo
from typing import Any, Final, Literal

from connectors.sources.relational import Column

__all__ = ["column_of", "result_converter"]

_WHOLE: Final = frozenset({"tinyint", "smallint", "mediumint", "int", "bigint", "year"})
_SPATIAL: Final = frozenset({
    "geometry", "point", "linestring", "polygon", "multipoint", "multilinestring", "multipolygon",
    "geometrycollection", "geomcollection",
})  # fmt: skip
_TIMES: Final[Mapping[str, Literal["instant", "local"]]] = {
    "timestamp": "instant",
    "datetime": "local",
    "date": "local",
}
#: Of these `ORDER BY` and `>=` agree and a value that was read is found again. Not so: ENUM is sorted by its number and
#: compared as text, floats are shown rounded.
_PAGEABLE: Final = frozenset({
    *_WHOLE, *_TIMES, "decimal", "char", "varchar", "binary", "varbinary", "time", "uuid", "inet4", "inet6",
})  # fmt: skip
# Numbers of types in the description of a result.
_TIMESTAMP, _DATE, _DATETIME, _BIT, _JSON = 7, 10, 12, 16, 245


def column_of(
    name: str, data_type: str, column_type: str, *, nullable: bool, is_json: bool, zone: tzinfo | None, quoted: str
) -> Column:
    """Returns the column as the catalogue describes it.

    Args:
        data_type: such as `int`; column_type: such as `int(10) unsigned`.
        is_json: whether a text column is declared to hold JSON (which is all that MariaDB's type JSON is).
        zone: that of DATETIME values; None leaves them without one.
        quoted: the name as SQL.
    """
    kind = data_type.lower()
    if kind in _WHOLE or kind in {"decimal", "float", "double"}:
        growth: Literal["number", "instant", "local"] | None = None if kind == "year" else "number"
    else:
        growth = _TIMES.get(kind)
    return Column(
        name=name,
        type=column_type,
        nullable=nullable,
        growth=growth,
        pageable=kind in _PAGEABLE,
        expression=f"ST_AsText({quoted})" if kind in _SPATIAL else None,
        convert=_converter(kind, column_type.lower(), is_json=is_json, zone=zone),
        lasting=is_json or kind in {"json", "set", "bit"},
    )


def _converter(kind: str, column_type: str, *, is_json: bool, zone: tzinfo | None) -> Callable[[Any], Any] | None:
    if kind == "bit":
        return _flag if column_type == "bit(1)" else _bits
    if kind == "json" or is_json:
        return _json
    if kind == "set":
        return _set
    if kind == "datetime" and zone is not None:
        return lambda value: value.replace(tzinfo=zone) if isinstance(value, datetime) else None
    if kind in _TIMES:
        return _moment
    return None


def result_converter(type_code: int, zone: tzinfo | None) -> tuple[str, Callable[[Any], Any] | None]:
    """Returns kind and converter of a column in the result of a query, where only the number of its type is known."""
    kind = {_TIMESTAMP: "timestamp", _DATE: "date", _DATETIME: "datetime", _BIT: "bit", _JSON: "json"}.get(type_code)
    return (kind, _converter(kind, "", is_json=False, zone=zone)) if kind else ("", None)


def _moment(value: Any) -> Any:
    """Zero dates and the like, which no calendar has, arrive as text: they are nothing."""
    return value if isinstance(value, date) else None


def _flag(value: Any) -> Any:
    return value != b"\x00" if isinstance(value, bytes) else value


def _bits(value: Any) -> Any:
    return int.from_bytes(value, "big") if isinstance(value, bytes) else value


def _set(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return value.split(",") if value else []


def _json(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:  # MariaDB checks JSON only where the column asks for it; else it is text like any other
        return value
