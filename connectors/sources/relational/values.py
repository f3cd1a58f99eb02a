"""Values of rows: how they become documents, ids and checkpoints."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from connectors.source import Document
from connectors.sources.relational.model import Column, Row

__all__ = ["decode_values", "document_maker", "encode_values", "field_names", "id_maker"]

#: Names that the search servers or the framework keep for themselves; such a column gets an underscore at its end.
_RESERVED: Final = frozenset({
    "_attachment", "_data_stream_timestamp", "_doc_count", "_feature", "_field_names", "_id", "_ignored", "_index",
    "_meta", "_nested_path", "_routing", "_seq_no", "_size", "_source", "_sync", "_tier", "_timestamp", "_type",
    "_version",
})  # fmt: skip
_NULL: Final = "%N"  # no other value looks so, since a percent sign is written %25


def _id_part(value: Any) -> str:
    if isinstance(value, str):
        return value.replace("%", "%25").replace("/", "%2F")
    if value is None:
        return _NULL
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).hex()
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    return str(value).replace("%", "%25").replace("/", "%2F")


def id_maker(label: str, indexes: Sequence[int]) -> Callable[[Row], str]:
    """Returns the function that makes a row's `_id`, such as `shop.orders/4711`, out of the values at `indexes`.

    Two rows have the same id only if they have the same key: `%` and `/` inside a value are written `%25` and `%2F`.
    """
    prefix = f"{label}/"
    if len(indexes) == 1:
        (only,) = indexes

        def single(row: Row) -> str:
            value = row[only]
            return f"{prefix}{value}" if type(value) is int else prefix + _id_part(value)

        return single
    return lambda row: prefix + "/".join([_id_part(row[index]) for index in indexes])


def field_names(columns: Iterable[Column]) -> tuple[str, ...]:
    """Returns the document's fields for the columns, in their order."""
    return tuple(f"{column.name}_" if column.name in _RESERVED else column.name for column in columns)


def document_maker(
    columns: Sequence[Column], fixed: Mapping[str, Any], make_id: Callable[[Row], str]
) -> Callable[[Row], Document]:
    """Returns the function that makes a document of a row.

    Args:
        fixed: fields that every document has; a column of the same name goes before them.
    """
    names = field_names(columns)
    common = {name: value for name, value in fixed.items() if name not in names}
    converters = [(name, column.convert) for name, column in zip(names, columns, strict=True) if column.convert]

    def make(row: Row) -> Document:
        document = dict(zip(names, row, strict=False))  # the driver gives as many as there are columns
        for name, convert in converters:
            value = document[name]
            if value is not None:
                document[name] = convert(value)
        document.update(common)
        document["_id"] = make_id(row)
        return document

    return make


def encode_values(values: Iterable[Any]) -> list[Any]:
    """Returns values of a key in a form that JSON holds; `decode_values` reads it back, exactly.

    Raises TypeError for a value of any other type than those that keys and growing columns have.
    """
    return [_encode(value) for value in values]


def decode_values(encoded: Iterable[Any]) -> list[Any]:
    """Returns the values out of the form that `encode_values` gave them."""
    return [_decode(value) for value in encoded]


def _encode(value: Any) -> Any:
    if value is None or isinstance(value, str | bool | float):
        return value
    if isinstance(value, int):
        return value if abs(value) < 2**63 else {"int": str(value)}
    if isinstance(value, timedelta):
        return {"timedelta": [value.days, value.seconds, value.microseconds]}
    if isinstance(value, bytes | bytearray | memoryview):
        return {"bytes": base64.b64encode(value).decode("ascii")}
    for kind in (datetime, date, time):  # a datetime is a date, too
        if isinstance(value, kind):
            return {kind.__name__: value.isoformat()}
    if isinstance(value, Decimal | UUID):
        return {type(value).__name__: str(value)}
    raise TypeError(f"nothing can be read in the order of values of the type {type(value).__name__}")


_DECODERS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "int": int,
    "timedelta": lambda parts: timedelta(*parts),
    "bytes": base64.b64decode,
    "datetime": datetime.fromisoformat,
    "date": date.fromisoformat,
    "time": time.fromisoformat,
    "Decimal": Decimal,
    "UUID": UUID,
}


def _decode(value: Any) -> Any:
    if isinstance(value, dict):
        ((kind, content),) = value.items()
        return _DECODERS[kind](content)
    return value
