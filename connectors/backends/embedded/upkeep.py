"""Housekeeping of the database file; run in a database thread."""

from __future__ import annotations

import time
from typing import Final

from connectors.backends.embedded.connection import Database
from connectors.backends.embedded.schema import on_index

__all__ = ["TOMBSTONE_SECONDS", "forget_tombstones", "give_way", "index_keys", "merge_text", "tidy"]

#: How long a delete leaves its version behind.
TOMBSTONE_SECONDS: Final = 2 * 3600.0

_LOG_LIMIT: Final = 128 << 20
_TOMBSTONES_AT_ONCE: Final = 5000
_MERGE_PAGES: Final = 200


def give_way(database: Database, seconds: float) -> None:
    """Lets others at the lock after a transaction of a bulk write that took so many seconds.

    They poll each half millisecond, so a pause of two is met; it is shorter after short transactions. The write-ahead
    log is emptied when it has grown large, which it does while there is always somebody reading.
    """
    if database.wal_size() > _LOG_LIMIT:
        database.checkpoint(wait=0.2)
    time.sleep(min(0.002, seconds / 50))


def forget_tombstones(database: Database, now: float) -> bool:
    """Forgets some of the deletes that are old enough; False when there were no more."""
    with database.writing():
        deleted = database.execute(
            "DELETE FROM tombstones WHERE (index_pk, id) IN"
            " (SELECT index_pk, id FROM tombstones WHERE deleted_at < ? LIMIT ?)",
            (now - TOMBSTONE_SECONDS, _TOMBSTONES_AT_ONCE),
        ).rowcount
    return deleted == _TOMBSTONES_AT_ONCE


def index_keys(database: Database) -> list[int]:
    """Returns the keys of the indices."""
    return [key for (key,) in database.execute("SELECT pk FROM indices WHERE name IS NOT NULL")]


def merge_text(database: Database, index_pk: int) -> bool:
    """Merges a part of the full text of an index; False when there is nothing left to merge.

    Searching is faster in fewer segments, and what was deleted takes room until its segment is merged.
    """
    with database.writing():
        if database.execute("SELECT name FROM indices WHERE pk = ?", (index_pk,)).fetchone() in {None, (None,)}:
            return False  # deleted meanwhile
        before = database.total_changes
        database.execute(on_index("INSERT INTO @text (@text, rank) VALUES ('merge', ?)", index_pk), (_MERGE_PAGES,))
        return database.total_changes - before >= 2  # SQLite's documented sign that something was done


def tidy(database: Database) -> None:
    """Refreshes the statistics of the query planner and empties the write-ahead log."""
    database.execute("PRAGMA analysis_limit = 400")
    with database.writing():
        database.execute("PRAGMA optimize")
    database.checkpoint(wait=0.2)
