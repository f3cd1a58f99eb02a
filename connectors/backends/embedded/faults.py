"""SQLite's errors as those of the project: what happened, to which file, and what to do."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final

from connectors.errors import RetryableError, SuspendSync

__all__ = ["DAMAGED", "is_busy", "primary_code", "translate"]

_BUSY: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_DAMAGED: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})

DAMAGED: Final = (
    "Stop every process that uses the file and keep a copy of it. Then move it away: the next sync builds a new index "
    "from the sources. `sqlite3 FILE .recover` can save job records from the copy"
)
_WORDS: Final = {
    sqlite3.SQLITE_FULL: "the disk is full. Free some space there; the sync then goes on where it stopped",
    sqlite3.SQLITE_READONLY: "the file cannot be written. Give this user the right to write the file, those "
    "beside it (-wal, -shm) and its folder",
    sqlite3.SQLITE_PERM: "access is denied. Give this user the right to write the file and its folder",
    sqlite3.SQLITE_CANTOPEN: "the file or one beside it cannot be opened. Check that the folder exists and that this "
    "user may write there",
    sqlite3.SQLITE_IOERR: "the disk reports an error. Check the disk and the file system that the file is on",
    sqlite3.SQLITE_CORRUPT: f"the file is damaged. {DAMAGED}",
    sqlite3.SQLITE_NOTADB: f"the file is no SQLite database, or is damaged. {DAMAGED}",
}


def primary_code(error: sqlite3.Error) -> int:
    """Returns SQLite's primary result code, -1 for an error that SQLite did not make."""
    code: int = getattr(error, "sqlite_errorcode", -1)
    return code & 0xFF if code >= 0 else -1


def is_busy(error: sqlite3.Error) -> bool:
    """Whether another connection held the database."""
    return primary_code(error) in _BUSY


def translate(error: sqlite3.Error, path: Path) -> Exception:
    """Returns the error to raise in place of one of SQLite; the same one where it is a fault of ours."""
    code = primary_code(error)
    if code in _BUSY:
        return RetryableError(
            f"The embedded index {path} stayed locked by another process. Trying again helps once that one is done; "
            "a process that hangs with the file open has to be ended"
        )
    if code in _WORDS:
        return SuspendSync(f"The embedded index {path}: {_WORDS[code]} (SQLite says: {error})")
    return error
