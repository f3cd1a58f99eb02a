"""What a reader process sends, as bytes: one letter for the kind, a JSON head, and what is no JSON behind it."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any, Final

import orjson

from connectors.errors import (
    ConfigurationError,
    ConnectorsError,
    InvalidFilteringError,
    RetryableError,
    SkippableError,
    SuspendSync,
    SyncError,
)
from connectors.source import LazyDownload
from connectors.sync.encode import decode
from connectors.sync.page import Page, ReadPage

__all__ = [
    "CHECKPOINT", "DONE", "DOWNLOADED", "FAILED", "PAGE", "REFUSED", "SKIPPED", "error_from", "error_head",
    "extra_from", "frame", "opened", "page_frame", "page_from",
]  # fmt: skip

PAGE: Final = b"P"
CHECKPOINT: Final = b"C"
SKIPPED: Final = b"S"
REFUSED: Final = b"R"
DONE: Final = b"D"
FAILED: Final = b"E"
DOWNLOADED: Final = b"L"

_LENGTH: Final = 4
_CONFIGURATION: Final[dict[str, type[ConfigurationError]]] = {
    kind.__name__: kind for kind in (ConfigurationError, InvalidFilteringError)
}
_PLAIN: Final[dict[str, type[ConnectorsError]]] = {kind.__name__: kind for kind in (SkippableError, SuspendSync)}


def frame(kind: bytes, head: Any, *parts: bytes) -> tuple[bytes, ...]:
    """Returns the parts of a frame."""
    packed = orjson.dumps(head)
    return kind, len(packed).to_bytes(_LENGTH, "big"), packed, *parts


def opened(content: bytes | bytearray) -> tuple[bytes, Any, memoryview]:
    """Returns kind, head and rest of a frame; raises ValueError for what is none."""
    start = 1 + _LENGTH
    end = start + int.from_bytes(content[1:start], "big")
    whole = memoryview(content)
    return bytes(content[:1]), orjson.loads(whole[start:end]), whole[end:]


def page_frame(page: Page, lazies: dict[int, int]) -> tuple[bytes, ...]:
    """Returns a page as the parts of a frame.

    Args:
        lazies: position → number under which the reader keeps the download.
    """
    bodies = [body or b"" for body in page.bodies]
    head = {
        "ids": page.ids,
        "sizes": "".join([f"{len(body)}s" for body in bodies]),
        "lazies": list(lazies.items()),
        "read": page.read,
        "filtered": page.filtered,
    }
    return frame(PAGE, head, *page.joined(), *bodies)


def page_from(head: Any, rest: memoryview, lazy: Callable[[int], LazyDownload]) -> ReadPage:
    """Returns the page that a frame holds; raises ValueError, KeyError or TypeError where it does not hold one.

    Args:
        lazy: makes the download that the reader keeps under a number.
    """
    lazies = {int(position): lazy(int(kept)) for position, kept in head["lazies"]}
    return ReadPage(head["ids"], head["sizes"], rest, lazies=lazies, read=head["read"], filtered=head["filtered"])


def extra_from(size: int | None, rest: memoryview) -> dict[str, Any]:
    """Returns what a download brought, `_attachment` as bytes; raises ValueError for what is none."""
    extra = decode(bytes(rest[size or 0 :]))
    return extra if size is None else {**extra, "_attachment": bytes(rest[:size])}


def error_head(error: BaseException) -> dict[str, Any]:
    """Returns an error as JSON."""
    ours = isinstance(error, ConnectorsError)
    return {
        "kind": type(error).__name__,
        "message": str(error),
        "field": getattr(error, "field", None) if ours else None,
        "retry_after": getattr(error, "retry_after", None) if ours else None,
        "place": "" if ours else "".join(traceback.format_exception(error)),
    }


def error_from(head: Any) -> Exception:
    """Returns the error again; one that is not of the project as one of the same name, with its place as a note."""
    kind, message, place = str(head["kind"]), str(head["message"]), str(head["place"])
    if place:
        foreign: Exception = type(kind, (Exception,), {})(message)
        foreign.add_note(place)
        return foreign
    if kind == "RetryableError":
        return RetryableError(message, retry_after=head["retry_after"])
    if kind in _CONFIGURATION:
        return _CONFIGURATION[kind](message, field=head["field"])
    return _PLAIN.get(kind, SyncError)(message)
