"""What every store does alike with records: JSON bytes, the snapshot in a job, ids of jobs, changes of fields."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import orjson

from connectors.byoc import Connector, format_time, parse_time
from connectors.errors import NotFoundError
from connectors.utils import quoted

__all__ = ["JobIds", "apply_changes", "connector_snapshot", "decode", "encode", "ended_at", "no_letter", "storable"]

_OPTIONS: Final = orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_SERIALIZE_NUMPY
_RANDOM_BITS: Final = 62


def encode(value: Any) -> bytes:
    """Returns JSON; datetimes become the record's ISO text, and text that is no Unicode is escaped."""
    try:
        return orjson.dumps(value, default=_default, option=_OPTIONS)
    except orjson.JSONEncodeError as error:
        if "surrogate" not in str(error):
            raise
        # A file name that is no UTF-8 may stand in an error text or a cursor; it must not cost the whole record.
        return orjson.dumps(_clean(value), default=_default, option=_OPTIONS)


def decode(data: bytes) -> Any:
    """Reads what `encode` wrote."""
    return orjson.loads(data)


def storable(text: str) -> str:
    """Returns the text with lone surrogates (bytes of a file name that are no UTF-8) written as escapes."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def apply_changes(record: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the record with these fields changed, in the record's form."""
    merged = {**record, **changes}
    merged.pop("id", None)
    result: dict[str, Any] = decode(encode(merged))
    return result


def connector_snapshot(connector: Connector) -> dict[str, Any]:
    """Returns the part of a connector that its job keeps: what it started with, with the active rules only.

    Of the configuration nothing is kept: another tool may have written its secrets there, and they are copied nowhere.
    """
    return {
        "id": connector.id,
        "name": connector.name,
        "service_type": connector.service_type,
        "index_name": connector.index_name,
        "language": connector.language,
        "pipeline": connector.pipeline,
        "configuration": {},
        "filtering": [
            {"domain": domain.get("domain", "DEFAULT"), **active}
            for domain in connector.filtering
            if isinstance(active := domain.get("active") or {}, Mapping)
        ],
    }


def ended_at(record: Mapping[str, Any]) -> str | None:
    """Returns when an ended job ended, as ISO text that sorts by time; the best guess without that time."""
    for key in ("completed_at", "canceled_at", "last_seen", "created_at"):
        if record.get(key):
            with suppress(ValueError, TypeError, OverflowError, OSError):  # another tool may write anything
                return format_time(parse_time(record[key]))
    return None


def no_letter(connector_id: str, document_id: str) -> NotFoundError:
    """Returns the error that says that there is no such dead letter."""
    return NotFoundError(
        f"{connector_id} has no dead letter {quoted(document_id)}; connectors dead-letters list {connector_id} "
        "shows what there is"
    )


class JobIds:
    """Makes ids of jobs: UUIDs of version 7, so that their text grows with time and no two processes make the same.

    Ids of one object grow strictly, also within a millisecond and when the clock is set back.
    """

    def __init__(self) -> None:
        self._last = 0  # milliseconds and twelve bits of counter

    def next(self, now: datetime) -> str:
        """Returns a new id; `now` gives its time."""
        self._last = max(int(now.timestamp() * 1000) << 12, self._last + 1)
        high = (self._last >> 12) << 16 | 0x7000 | (self._last & 0xFFF)
        low = 0b10 << _RANDOM_BITS | secrets.randbits(_RANDOM_BITS)
        return str(UUID(int=high << 64 | low))


def _default(value: Any) -> Any:
    if isinstance(value, datetime):
        return format_time(value)
    raise TypeError(f"{type(value).__name__} cannot be kept in a record; give JSON values or datetimes")


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, Mapping):
        return {storable(str(key)): _clean(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(item) for item in value]
    return value
