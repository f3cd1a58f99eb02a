"""A document's way into bytes: encoded once, so that size, hash and wire are the same bytes."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from pathlib import PurePath
from typing import Any, Final

import orjson
from xxhash import xxh3_64_digest, xxh3_128_digest

from connectors.errors import SkippableError

__all__ = ["ENCODING_VERSION", "MAX_ID_BYTES", "content_hash", "decode", "encode", "id_digest"]

#: Part of the fingerprint: raise it when the same document encodes to other bytes.
ENCODING_VERSION: Final = "1"
#: Longer ids are hashed, since the servers refuse them.
MAX_ID_BYTES: Final = 512

#: orjson reserves eight bytes for each character of a text, and what it returns keeps them: a body would hold up to
#: eight times its size while it waits to be written. So it appends a newline, and the slice that cuts it off is a copy
#: of the right size, which costs less than the pages that it saves.
_OPTIONS: Final = orjson.OPT_NAIVE_UTC | orjson.OPT_UTC_Z | orjson.OPT_APPEND_NEWLINE
_LENIENT_OPTIONS: Final = _OPTIONS | orjson.OPT_NON_STR_KEYS
_NETWORK_TYPES: Final = (IPv4Address, IPv6Address, IPv4Interface, IPv6Interface, IPv4Network, IPv6Network)
_MAX_DEPTH: Final = 200
_INT_LIMITS: Final = (-(2**63), 2**64 - 1)
_LONGEST_INT: Final = 4000  # digits

content_hash = xxh3_64_digest


def id_digest(document_id: str) -> bytes:
    """Returns the 16 bytes under which the ledger and the stamp know a document."""
    return xxh3_128_digest(document_id.encode())


def _default(value: Any) -> Any:
    if isinstance(value, Decimal):
        return orjson.Fragment(str(value)) if value.is_finite() else None
    if isinstance(value, bytes | bytearray | memoryview):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, set | frozenset):
        return sorted(value, key=repr)
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, _NETWORK_TYPES):
        return str(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"a value of type {type(value).__name__} has no JSON form")


def encode(document: dict[str, Any]) -> bytes:
    """Returns the document as JSON bytes.

    Dates become ISO text (naive ones as UTC), Decimal a JSON number with all its digits, bytes base64, NaN null. What
    the fast way refuses (keys that are not text, lone surrogates, integers over 64 bits) is mended on a slower one.

    Raises:
        SkippableError: a value has no JSON form.
    """
    try:
        return orjson.dumps(document, _default, _OPTIONS)[:-1]
    except (TypeError, ValueError, RecursionError):
        pass
    try:
        return orjson.dumps(_mend(document, 0), _default, _LENIENT_OPTIONS)[:-1]
    except (TypeError, ValueError, RecursionError) as error:
        raise SkippableError(f"the document cannot be encoded: {error}") from None


def decode(body: bytes) -> dict[str, Any]:
    """Returns the document that `encode` made bytes of; not a digit of a number is lost.

    Raises:
        ValueError: it is no JSON.
    """
    document: dict[str, Any] = json.loads(body, parse_float=Decimal, parse_int=_integer)
    return document


def _integer(digits: str) -> int | Decimal:
    return int(digits) if len(digits) <= _LONGEST_INT else Decimal(digits)  # Python makes no longer ones of text


def _mend(value: Any, depth: int) -> Any:
    if depth > _MAX_DEPTH:
        raise ValueError(f"it is nested deeper than {_MAX_DEPTH} levels")
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, Mapping):
        return {_mend_key(key): _mend(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_mend(item, depth + 1) for item in value]
    if isinstance(value, set | frozenset):
        return [_mend(item, depth + 1) for item in sorted(value, key=repr)]
    if isinstance(value, int) and not isinstance(value, bool) and not _INT_LIMITS[0] <= value <= _INT_LIMITS[1]:
        return orjson.Fragment(str(value))
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _mend_key(key: Any) -> Any:
    return key.encode("utf-8", "replace").decode("utf-8") if isinstance(key, str) else key
