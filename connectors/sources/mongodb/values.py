"""What BSON becomes: values that JSON can hold, and ids that are text.

Every conversion is deterministic: equal BSON gives equal JSON, in every sync and process.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from bson import json_util
from bson.binary import VECTOR_SUBTYPE, Binary, BinaryVectorDtype, UuidRepresentation
from bson.code import Code
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.datetime_ms import DatetimeMS
from bson.dbref import DBRef
from bson.decimal128 import Decimal128
from bson.errors import BSONError
from bson.max_key import MaxKey
from bson.min_key import MinKey
from bson.objectid import ObjectId
from bson.regex import Regex
from bson.timestamp import Timestamp

__all__ = ["CODEC", "from_text", "id_text", "split_batch", "to_json_values", "to_text"]

#: Dates are naive, in UTC; those that Python's calendar lacks stay numbers. Broken UTF-8 costs a character, no sync.
CODEC: Final[CodecOptions[dict[str, Any]]] = CodecOptions(
    document_class=dict,
    tz_aware=False,
    uuid_representation=UuidRepresentation.STANDARD,
    unicode_decode_error_handler="replace",
    datetime_conversion=DatetimeConversion.DATETIME_AUTO,
)
_EXACT: Final = json_util.JSONOptions(
    json_mode=json_util.JSONMode.CANONICAL,
    tz_aware=False,
    uuid_representation=UuidRepresentation.STANDARD,
    datetime_conversion=DatetimeConversion.DATETIME_AUTO,
)
_RELAXED: Final = json_util.JSONOptions(
    json_mode=json_util.JSONMode.RELAXED,
    tz_aware=False,
    uuid_representation=UuidRepresentation.STANDARD,
    datetime_conversion=DatetimeConversion.DATETIME_AUTO,
)
#: Texts that could be taken for an id of another type, and those that begin as our own marks do.
_AMBIGUOUS: Final = re.compile(
    r"(?:[0-9a-f]{24}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|-?(?:\d+(?:\.\d+)?(?:e[+-]?\d+)?|inf)|nan)\Z"
    r"|(?:string|bson):",
    re.ASCII,
)
_FLAGS: Final = (
    (re.IGNORECASE, "i"),
    (re.LOCALE, "l"),
    (re.MULTILINE, "m"),
    (re.DOTALL, "s"),
    (re.UNICODE, "u"),
    (re.VERBOSE, "x"),
)
_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - as the driver gives dates: naive, in UTC
_CYCLE_DAYS: Final = 146_097  # of 400 years, after which the calendar repeats itself
_DAY_MS: Final = 86_400_000


def to_text(value: Any) -> str:
    """Returns a BSON value as text from which `from_text` makes the same value again."""
    return json_util.dumps(value, json_options=_EXACT)


def from_text(text: str) -> Any:
    """Reads extended JSON, canonical or relaxed; raises ValueError for what is none."""
    try:
        return json_util.loads(text, json_options=_EXACT)
    except (TypeError, ArithmeticError, BSONError) as error:
        raise ValueError(str(error)) from error


def split_batch(batch: bytes) -> Iterator[bytes]:
    """Yields the documents of a batch as the server sent them, one behind the other."""
    place = 0
    while place < len(batch):
        end = place + int.from_bytes(batch[place : place + 4], "little")
        yield batch[place:end]
        place = end


def id_text(value: Any) -> str:
    """Returns a document's `_id` as text; what the server holds for different has different texts.

    Text stays as it is, an ObjectId is its 24 digits, a UUID and a number look as usual. A text that looks like one of
    these gets `string:` in front; everything else is `bson:` and extended JSON.
    """
    kind = value.__class__
    if kind is ObjectId:
        return str(value)
    if kind is str:
        return f"string:{value}" if not value or _AMBIGUOUS.match(value) else value
    if kind is UUID or (isinstance(value, int) and kind is not bool):
        return str(value)
    if kind is float:
        return repr(value)
    return "bson:" + json_util.dumps(value, json_options=_RELAXED, separators=(",", ":"), ensure_ascii=False)


def to_json_values(document: dict[str, Any]) -> dict[str, Any]:
    """Replaces, in place, what JSON lacks, and returns the document.

    Dates and bytes stay: the encoder writes them as ISO text and base64.
    """
    for key, value in document.items():
        convert = _CONVERTERS.get(value.__class__)
        if convert is not None:
            document[key] = convert(value)
    return document


def _list(values: list[Any]) -> list[Any]:
    for place, value in enumerate(values):
        convert = _CONVERTERS.get(value.__class__)
        if convert is not None:
            values[place] = convert(value)
    return values


def _decimal(value: Decimal128) -> Decimal | None:
    """Returns a number with all its digits, None for NaN and the infinities."""
    number = value.to_decimal()
    return number if number.is_finite() else None


def _binary(value: Binary) -> Any:
    """Returns a vector as a list of numbers, all else as bytes."""
    if value.subtype == VECTOR_SUBTYPE:
        try:
            vector = value.as_vector()
        except (ValueError, NotImplementedError, struct.error):  # not what the subtype promises
            return bytes(value)
        if vector.dtype is not BinaryVectorDtype.PACKED_BIT:
            return list(vector.data)
    return bytes(value)


def _regex(value: Regex[Any]) -> str:
    pattern = value.pattern if isinstance(value.pattern, str) else value.pattern.decode("utf-8", "replace")
    return f"/{pattern}/{''.join(letter for flag, letter in _FLAGS if value.flags & flag)}"


def _timestamp(value: Timestamp) -> datetime:
    """Returns the second; the number within it orders the server's own log and means nothing to others."""
    return value.as_datetime().replace(tzinfo=None)


def _code(value: Code) -> Any:
    if value.scope is None:
        return str(value)
    return {"code": str(value), "scope": to_json_values(dict(value.scope))}


def _reference(value: DBRef) -> dict[str, Any]:
    """Returns a reference without the signs that no search server takes in field names."""
    found = {"collection": value.collection, "id": value.id, "database": value.database}
    return to_json_values({key: item for key, item in found.items() if item is not None})


def _distant_date(value: DatetimeMS) -> str:
    """Returns a date whose year has more than four digits, or is before the first, as ISO text with a signed year."""
    milliseconds = int(value)
    cycles, rest = divmod(milliseconds, _CYCLE_DAYS * _DAY_MS)
    within = _EPOCH + timedelta(milliseconds=rest)
    year = within.year + 400 * cycles
    written = f"{year:04d}" if 0 <= year <= 9999 else f"{year:+05d}"
    return f"{written}-{within:%m-%dT%H:%M:%S}.{within.microsecond // 1000:03d}Z"


_CONVERTERS: Final[Mapping[type, Callable[[Any], Any]]] = {
    Binary: _binary,
    Code: _code,
    DBRef: _reference,
    DatetimeMS: _distant_date,
    Decimal128: _decimal,
    MaxKey: lambda _: "MaxKey",
    MinKey: lambda _: "MinKey",
    ObjectId: str,
    Regex: _regex,
    Timestamp: _timestamp,
    UUID: str,
    dict: to_json_values,
    list: _list,
}
