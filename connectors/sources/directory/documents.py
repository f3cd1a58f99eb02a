"""What a file becomes: a document without its content, and the digest by which a folder is known to be unchanged."""

from __future__ import annotations

import hashlib
import mimetypes
import os
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from time import time_ns
from typing import Any

from connectors.sources.directory.paths import document_id, shown
from connectors.sources.directory.walk import FoundFile

__all__ = ["TreeDigest", "document_of"]

_ENCODINGS = {"gzip": "application/gzip", "bzip2": "application/x-bzip2", "xz": "application/x-xz"}

_RACY = 2_000_000_000
"""Nanoseconds within which a file can change again without its times telling (the coarsest are those of FAT)."""


class TreeDigest:
    """A digest over path, size and times of all files of a walk.

    A file that was changed within two seconds before it was met may have been changed once more right after, at the
    same time as far as the file system's clock can tell. Such a digest is not `trusted`.
    """

    def __init__(self) -> None:
        self._hash = hashlib.blake2b(digest_size=16)
        self.trusted = True

    def add(self, files: list[FoundFile], met: int) -> None:
        """Adds files that were met at or after `met`, in nanoseconds since the epoch."""
        earliest, latest = met - _RACY, time_ns() + _RACY
        for _, state in files:
            if earliest < state.st_ctime_ns < latest or earliest < state.st_mtime_ns < latest:
                self.trusted = False
        text = "".join(
            f"{path}\0{state.st_size}\0{state.st_mtime_ns}\0{state.st_ctime_ns}\0{state.st_ino}\n"
            for path, state in files
        )
        self._hash.update(text.encode("utf-8", "surrogatepass"))

    def digest(self) -> bytes:
        """Returns what was added, in 16 bytes."""
        return self._hash.digest()


def document_of(file: FoundFile, hash_id: Callable[[str], str]) -> dict[str, Any]:
    """Returns the document of a file, without its content.

    `_timestamp` is the later one of the times of the last change of the content and of the file's record: content
    can be replaced under its old modification time.
    """
    path, state = file
    visible = shown(path)
    folder, _, name = visible.rpartition("/")
    stem, dot, extension = name.rpartition(".")
    if not stem:  # a name without a dot, or a hidden file such as .bashrc
        stem, dot, extension = name, "", ""
    return {
        "_id": document_id(path, hash_id),
        "_timestamp": _iso(max(state.st_mtime_ns, state.st_ctime_ns)),
        "path": visible,
        "folder": folder,
        "name": name,
        "title": stem,
        "extension": extension.lower() if dot else "",
        "mime_type": _mime_type(name if len(name) <= 64 else "x." + extension),
        "size": state.st_size,
        "created_at": _iso(_created_ns(state)),
        "modified_at": _iso(state.st_mtime_ns),
    }


@lru_cache(maxsize=8)  # of a file that was never changed all times are the same
def _iso(nanoseconds: int) -> str:
    """Returns ISO text in UTC with microseconds; for times that no calendar holds, the nearest that one does."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    moment = datetime.fromtimestamp(min(max(seconds, -62_135_596_800), 253_402_300_799), UTC)
    return f"{moment.isoformat()[:19]}.{rest // 1000:06}+00:00"


def _created_ns(state: os.stat_result) -> int:
    """Returns the time of birth where the system tells it, else that of the last change of the file's record."""
    birth: float | None = getattr(state, "st_birthtime", None)
    return state.st_ctime_ns if birth is None else int(birth * 1_000_000_000)


def _mime_type(name: str) -> str:
    return _mime_type_of_suffixes(".".join(name.lower().rsplit(".", 2)[1:]))


@lru_cache(maxsize=4096)
def _mime_type_of_suffixes(suffixes: str) -> str:
    mime_type, encoding = mimetypes.guess_type("x." + suffixes)
    if encoding:
        return _ENCODINGS.get(encoding, "application/octet-stream")
    return mime_type or "application/octet-stream"
