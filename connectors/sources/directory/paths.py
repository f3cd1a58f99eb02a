"""Names of files as texts that are safe to store, and back."""

from __future__ import annotations

import os
from collections.abc import Callable
from urllib.parse import quote_from_bytes, unquote_to_bytes

__all__ = ["document_id", "from_storable", "shown", "to_storable"]

_MAX_ID_BYTES = 512
_ENCODED = "//bytes/"
_HASHED = "//hash/"
"""No relative path begins with a slash, so neither can be the path of another file."""


def to_storable(path: str) -> str:
    """Returns a path as text that encodes to UTF-8: itself, or a form of its own for names in another encoding."""
    try:
        path.encode()
    except UnicodeEncodeError:  # bytes that are no UTF-8, which Python keeps as lone surrogates
        return _ENCODED + quote_from_bytes(os.fsencode(path))
    return path


def from_storable(text: str) -> str:
    """Returns the path that `to_storable` was given."""
    if text.startswith(_ENCODED):
        return os.fsdecode(unquote_to_bytes(text.removeprefix(_ENCODED)))
    return text


def document_id(path: str, hash_id: Callable[[str], str]) -> str:
    """Returns the `_id` of a file: its path where that is UTF-8 of at most 512 bytes, else a form of its own."""
    storable = path if path.isascii() else to_storable(path)
    if len(storable) <= _MAX_ID_BYTES // 4 or len(storable.encode()) <= _MAX_ID_BYTES:
        return storable
    return _HASHED + hash_id(storable)


def shown(path: str) -> str:
    """Returns a path for people: bytes that are no UTF-8 become replacement characters."""
    return path if path.isascii() else os.fsencode(path).decode("utf-8", "replace")
