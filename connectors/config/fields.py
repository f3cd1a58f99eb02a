"""The types of single values in `config.yml`: durations, sizes, names, paths."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, TypeAlias
from zoneinfo import ZoneInfo, available_timezones

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, WithJsonSchema

from connectors.utils import nearest, parse_duration, parse_size, quoted

__all__ = [
    "DURATION",
    "SIZE",
    "ByteSize",
    "ConfigPath",
    "ConnectorId",
    "Count",
    "Duration",
    "IndexName",
    "Kind",
    "PositiveDuration",
    "Ratio",
    "Schedule",
    "SourceClass",
    "TimeZone",
    "check_index_name",
    "is_loopback",
    "is_off",
]


@dataclass(frozen=True, slots=True)
class Kind:
    """Names what a number stands for, so that messages and the reference write it as the operator does."""

    name: str
    example: str


DURATION: Final = Kind("duration", "30s")
SIZE: Final = Kind("size", "5MB")


def _not_zero(seconds: float) -> float:
    if seconds <= 0:
        raise ValueError("must be longer than nothing; write a duration such as 500ms or 30s")
    return seconds


def _at_least_a_byte(size: int) -> int:
    if size < 1:
        raise ValueError("must be at least one byte; write a size such as 512KiB or 5MB")
    return size


_DURATION_SCHEMA: Final = {
    "anyOf": [
        {"type": "number", "minimum": 0},
        {"type": "string", "pattern": r"^\s*(\d+(\.\d+)?\s*(ms|s|m|h|d)?\s*)+$"},
    ]
}
_SIZE_SCHEMA: Final = {
    "anyOf": [
        {"type": "integer", "minimum": 1},
        {"type": "string", "pattern": r"^\s*\d+(\.\d+)?\s*([kKmMgGtT]?[iI]?[bB])?\s*$"},
    ]
}

Duration: TypeAlias = Annotated[float, BeforeValidator(parse_duration), WithJsonSchema(_DURATION_SCHEMA), DURATION]
"""Seconds; written `500ms`, `30s`, `15m`, `2h`, `30d` or as a bare number of seconds."""

PositiveDuration: TypeAlias = Annotated[Duration, AfterValidator(_not_zero)]
"""A duration longer than nothing."""

ByteSize: TypeAlias = Annotated[
    int, BeforeValidator(parse_size), AfterValidator(_at_least_a_byte), WithJsonSchema(_SIZE_SCHEMA), SIZE
]
"""Bytes, at least one; written `5MB`, `512KiB` or as a bare number of bytes."""


Count: TypeAlias = Annotated[int, Field(ge=1)]
"""A whole number from 1 on."""

Ratio: TypeAlias = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
"""A part of the whole, from 0 to 1."""


def _check_connector_id(value: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,127}", value):
        raise ValueError(
            f'{quoted(value)} is not an id; use lower-case letters, digits, "-" and "_" (at most 128 characters), '
            "beginning with a letter or digit"
        )
    return value


ConnectorId: TypeAlias = Annotated[
    str, AfterValidator(_check_connector_id), Field(json_schema_extra={"pattern": "^[a-z0-9][a-z0-9_-]{0,127}$"})
]

_NOT_IN_INDEX_NAMES: Final = '\\/*?"<>|,#: '


def check_index_name(value: str) -> str:
    """Returns the name of an index, held to Elasticsearch's rules, which OpenSearch shares; raises ValueError."""
    bad = next((char for char in value if char in _NOT_IN_INDEX_NAMES or not char.isprintable()), None)
    why = None
    if not value or value in {".", ".."}:
        why = 'it must not be empty, "." or ".."'
    elif value != value.lower():
        why = "it must be lower case"
    elif bad is not None:
        why = f"it must not contain {'a space' if bad == ' ' else bad}"
    elif value[0] in "-_+":
        why = f"it must not begin with {value[0]}"
    elif len(value.encode("utf-8", "replace")) > 255:
        why = "it must not be longer than 255 bytes"
    if why:
        raise ValueError(f"{quoted(value)} is not an index name: {why}")
    return value


IndexName: TypeAlias = Annotated[
    str,
    AfterValidator(check_index_name),
    Field(json_schema_extra={"pattern": r'^[^-_+A-Z\\/*?"<>|,#: ][^A-Z\\/*?"<>|,#: ]*$', "maxLength": 255}),
]


def _check_time_zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (KeyError, ValueError, OSError):  # unknown; not a name at all; a folder of zones, such as "Europe"
        near = nearest(value, available_timezones())
        hint = f'did you mean "{near}"?' if near else "write a name such as Europe/Berlin or UTC"
        raise ValueError(f"{quoted(value)} is not a time zone; {hint}") from None
    return value


TimeZone: TypeAlias = Annotated[str, AfterValidator(_check_time_zone)]


def is_off(text: str) -> bool:
    """Whether a schedule says that there is none."""
    return text.strip().lower() in {"off", "never"}


def _schedule(value: Any) -> Any:
    """Reads `off` as no schedule. The grammar itself is checked by the schedule parser, a layer above."""
    if isinstance(value, str) and is_off(value):
        return None
    if isinstance(value, str) and not value.strip():
        raise ValueError('is empty; write a schedule such as "every 15m", or off')
    return value


Schedule: TypeAlias = Annotated[str | None, BeforeValidator(_schedule)]
"""A schedule expression, or None for none; `off` is written for None."""


def _check_source_class(value: str) -> str:
    if not re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*", value):
        raise ValueError(
            f"{quoted(value)} does not name a class; write module:Class, such as my_sources.notes:NotesDataSource"
        )
    return value


SourceClass: TypeAlias = Annotated[
    str, AfterValidator(_check_source_class), Field(json_schema_extra={"pattern": "^[^:]+:[^:]+$"})
]


def _resolve(path: Path, info: ValidationInfo) -> Path:
    """Makes the path absolute against the folder of the config file, where validation was told of one."""
    base_dir = (info.context or {}).get("base_dir")
    if "\0" in str(path):
        raise ValueError("a path cannot contain a NUL character")
    try:
        path = path.expanduser()
    except RuntimeError:
        raise ValueError(f"the home folder in {quoted(path)} is not known; write the whole path") from None
    return path if base_dir is None else base_dir / path


def _not_empty(value: Any) -> Any:
    """Refuses the empty text, which would be the folder of the config file."""
    if value == "":
        raise ValueError("is empty; give it a value, or remove the line to have the default")
    return value


ConfigPath: TypeAlias = Annotated[Path, BeforeValidator(_not_empty), AfterValidator(_resolve)]
"""A path; a relative one counts from the folder of the config file, `~` is the home folder."""


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server that listens on `host` (a name or an address)."""
    name = host.strip("[]").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False  # a name that we do not look up: it may mean any address
