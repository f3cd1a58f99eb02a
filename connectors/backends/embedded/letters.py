"""Dead letters as rows, their bodies compressed; run in a database thread."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any, Final

from connectors.backends.embedded.connection import Database, with_rows
from connectors.backends.ports import DeadLetter
from connectors.backends.records import no_letter, storable
from connectors.byoc import format_time, parse_time

__all__ = [
    "add_letters",
    "count_all_letters",
    "count_letters",
    "get_letter",
    "letter_ids",
    "list_letters",
    "remove_letters",
]

_PART: Final = 500  # ids of one statement

_COLUMNS: Final = """
    connector_id, id, operation, reason, job_id, created_at, body, version, content_hash, fingerprint, size
"""
# The size of those that earlier releases wrote is found by a look at their bodies.
_WITHOUT_BODY: Final = _COLUMNS.replace(" body,", " CASE WHEN size IS NULL THEN body END,")
_ADD: Final = f"""
INSERT OR REPLACE INTO dead_letters ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""  # noqa: S608 - our own names
_GET: Final = f"SELECT {_COLUMNS} FROM dead_letters WHERE connector_id = ? AND id = ?"  # noqa: S608 - our own names
_LIST: Final = """
SELECT @columns FROM dead_letters WHERE connector_id = ? AND id @behind ? ORDER BY id LIMIT ?
"""


def add_letters(database: Database, letters: Sequence[DeadLetter]) -> None:
    """Keeps them; a newer one of the same document replaces the older."""
    rows = [_row(letter) for letter in letters]
    with database.writing():
        database.executemany(_ADD, rows)


def remove_letters(database: Database, connector_id: str, ids: Sequence[str] | None) -> int:
    """Removes those of these ids, or all; returns their number."""
    with database.writing():
        if ids is None:
            return database.execute("DELETE FROM dead_letters WHERE connector_id = ?", (connector_id,)).rowcount
        removed = 0
        for start in range(0, len(ids), _PART):
            part = [storable(id_) for id_ in ids[start : start + _PART]]
            removed += database.execute(
                with_rows("DELETE FROM dead_letters WHERE connector_id = ? AND id IN (@rows)", len(part)),
                (connector_id, *part),
            ).rowcount
        return removed


def list_letters(
    database: Database, connector_id: str, limit: int, after: str | None, *, bodies: bool
) -> list[DeadLetter]:
    """Returns them ordered by id, those behind `after`."""
    statement = _LIST.replace("@columns", _COLUMNS if bodies else _WITHOUT_BODY)
    rows = database.execute(
        statement.replace("@behind", ">=" if after is None else ">"),
        (connector_id, storable(after or ""), max(limit, 0)),
    )
    return [_letter(row) if bodies else _letter(row).listed() for row in rows]


def get_letter(database: Database, connector_id: str, document_id: str) -> DeadLetter:
    """Returns one; raises NotFoundError."""
    row = database.execute(_GET, (connector_id, storable(document_id))).fetchone()
    if row is None:
        raise no_letter(connector_id, document_id)
    return _letter(row)


def letter_ids(database: Database, connector_id: str) -> dict[str, str]:
    """Returns id → job, of all of them."""
    return dict(database.execute("SELECT id, job_id FROM dead_letters WHERE connector_id = ?", (connector_id,)))


def count_letters(database: Database, connector_id: str) -> int:
    """Returns their number."""
    row = database.execute("SELECT count(*) FROM dead_letters WHERE connector_id = ?", (connector_id,)).fetchone()
    return int(row[0])


def count_all_letters(database: Database) -> dict[str, int]:
    """Returns connector → their number."""
    return dict(database.execute("SELECT connector_id, count(*) FROM dead_letters GROUP BY connector_id"))


def _row(letter: DeadLetter) -> tuple[Any, ...]:
    return (
        letter.connector_id,
        storable(letter.id),
        letter.operation,
        storable(letter.reason),
        letter.job_id,
        format_time(letter.created_at),
        None if letter.body is None else zlib.compress(letter.body, 1),
        letter.version,
        letter.content_hash,
        letter.fingerprint,
        letter.size,
    )


def _letter(row: tuple[Any, ...]) -> DeadLetter:
    connector_id, id_, operation, reason, job_id, created_at, body, version, content_hash, fingerprint, size = row
    return DeadLetter(
        connector_id,
        id_,
        operation,
        reason,
        job_id,
        parse_time(created_at),
        None if body is None else zlib.decompress(body),
        version,
        content_hash,
        fingerprint,
        size,
    )
