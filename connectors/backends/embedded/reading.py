"""What a sync reads of its documents; run in a database thread."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, TypeVar

from connectors.backends.embedded.connection import Database, with_rows
from connectors.backends.embedded.writing import index_of
from connectors.backends.ports import DIGEST_SIZE, HASH_SIZE, IndexHandle, StampPage
from connectors.backends.records import storable

__all__ = [
    "STAMP_PAGE",
    "count_documents",
    "count_each",
    "fetch_documents",
    "find_ids",
    "index_names",
    "last_digest",
    "read_stamps",
]

T = TypeVar("T")

#: Stamps of a page.
STAMP_PAGE: Final = 10_000

_IDS: Final = 500  # of one statement

# One row holds the whole page, in hexadecimal digits: ten thousand small rows would each wait for the interpreter.
_STAMPS: Final = """
SELECT count(*), group_concat(hex(digest), ''),
    group_concat(CASE fingerprint WHEN ?1 THEN hex(content_hash) ELSE hex(zeroblob(?6)) END, '')
FROM (
    SELECT digest, content_hash, fingerprint FROM documents
    WHERE index_pk = ?2 AND connector = (SELECT pk FROM labels WHERE label = ?3) AND digest > ?4
    ORDER BY digest LIMIT ?5
)
"""

_FIND: Final = """
SELECT digest, id FROM documents
WHERE index_pk = ? AND connector = (SELECT pk FROM labels WHERE label = ?) AND digest IN (@rows)
"""
_FETCH: Final = """
SELECT id, body FROM documents WHERE index_pk = (SELECT pk FROM indices WHERE name = ?) AND id IN (@rows)
"""
_COUNT: Final = "SELECT count(*) FROM documents WHERE index_pk = (SELECT pk FROM indices WHERE name = ?)"
_COUNT_ONE: Final = """
SELECT count(*) FROM documents
WHERE index_pk = (SELECT pk FROM indices WHERE name = ?) AND connector = (SELECT pk FROM labels WHERE label = ?)
"""


def read_stamps(database: Database, handle: IndexHandle, after: bytes, limit: int) -> StampPage | None:
    """Returns the connector's stamps in the order of the digests, those behind `after`; None when there are none."""
    with database.reading():
        index_pk = index_of(database, handle)
        label = database.execute("SELECT pk FROM labels WHERE label = ?", (handle.fingerprint,)).fetchone()
        fingerprint = label[0] if label else -1
        count, digests, hashes = database.execute(
            _STAMPS, (fingerprint, index_pk, handle.connector_id, after, limit, HASH_SIZE)
        ).fetchone()
    return StampPage(bytes.fromhex(digests), bytes.fromhex(hashes)) if count else None


def find_ids(database: Database, handle: IndexHandle, digests: Sequence[bytes]) -> list[tuple[bytes, str]]:
    """Returns `(digest, _id)` of the connector's documents with these digests."""
    with database.reading():
        index_pk = index_of(database, handle)
        found: list[tuple[bytes, str]] = []
        for part in _parts(digests):
            found += database.execute(
                with_rows(_FIND, len(part)),
                (index_pk, handle.connector_id, *part),
            )
    return found


def fetch_documents(database: Database, index: str, ids: Sequence[str]) -> dict[str, bytes]:
    """Returns `_id` → body of those that are there."""
    found: dict[str, bytes] = {}
    # An id that is no valid Unicode was never written, and SQLite does not take it.
    for part in _parts([id_ for id_ in ids if storable(id_) == id_]):
        found.update(
            database.execute(
                with_rows(_FETCH, len(part)),
                (index, *part),
            )
        )
    return found


def count_documents(database: Database, index: str, connector_id: str | None) -> int:
    """Returns the number of documents in the index, of one connector or of all."""
    if connector_id is None:
        row = database.execute(_COUNT, (index,)).fetchone()
    else:
        row = database.execute(_COUNT_ONE, (index, connector_id)).fetchone()
    return int(row[0])


def count_each(database: Database, wanted: Sequence[tuple[str, str]]) -> list[int]:
    """Returns the number of documents for each index and connector."""
    return [count_documents(database, index, connector_id) for index, connector_id in wanted]


def index_names(database: Database) -> list[str]:
    """Returns the names of the indices, in order."""
    return [name for (name,) in database.execute("SELECT name FROM indices WHERE name IS NOT NULL ORDER BY name")]


def last_digest(page: StampPage) -> bytes:
    """Returns where the next page begins."""
    return page.digests[-DIGEST_SIZE:]


def _parts(values: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(values), _IDS):
        yield values[start : start + _IDS]
