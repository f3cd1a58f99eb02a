"""Writes and deletes of documents, and the reads that a sync does; all run in a database thread."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Final, NamedTuple, TypeAlias
from uuid import uuid4

import orjson
import xxhash

from connectors.backends.embedded.connection import Database, with_rows
from connectors.backends.embedded.schema import create_text_table, on_index
from connectors.backends.embedded.upkeep import give_way
from connectors.backends.fulltext import TEXT_VERSION, TextColumns, text_columns
from connectors.backends.ports import Failure, FailureKind, IndexHandle, IndexInfo, Operation
from connectors.errors import IndexChangedError

__all__ = [
    "FINGERPRINT",
    "MAX_OPERATIONS",
    "Written",
    "begin_deletion",
    "delete_some",
    "find_info",
    "index_of",
    "prepare_index",
    "purge_some",
    "write_some",
]

#: Of what an index makes of a document; another one makes the documents stale.
FINGERPRINT: Final = f"fts5-text-{TEXT_VERSION}"
#: Operations of one transaction at most; keeps the placeholders of a statement below SQLite's limit.
MAX_OPERATIONS: Final = 1000

_OVERHEAD: Final = 500  # an operation costs as much as this many bytes of body, beside its body
_MAX_VERSION: Final = 2**63 - 1
_SEED: Final = TEXT_VERSION
_DOCUMENT_COLUMNS: Final = 10
_TEXT_COLUMNS: Final = 5
_TOMBSTONE_COLUMNS: Final = 4

_UPSERT: Final = """
INSERT INTO documents VALUES @rows
ON CONFLICT (pk) DO UPDATE SET
    connector = excluded.connector, digest = excluded.digest, content_hash = excluded.content_hash,
    fingerprint = excluded.fingerprint, version = excluded.version, text_hash = excluded.text_hash, body = excluded.body
"""
_BURY: Final = """
INSERT INTO tombstones VALUES @rows
ON CONFLICT DO UPDATE SET version = excluded.version, deleted_at = excluded.deleted_at
"""
_REPLACE_TEXT: Final = "REPLACE INTO @text (rowid, title, path, body, other) VALUES @rows"
_FIND_DOCUMENTS: Final = """
SELECT json_group_array(json_array(id, version, pk, text_hash)) FROM documents WHERE index_pk = ? AND id IN (@rows)
"""
_FIND_TOMBSTONES: Final = """
SELECT json_group_array(json_array(id, version)) FROM tombstones WHERE index_pk = ? AND id IN (@rows)
"""
_KEYS: Final = """
SELECT (SELECT pk FROM labels WHERE label = :connector), (SELECT pk FROM labels WHERE label = :fingerprint),
    (SELECT coalesce(max(pk), 0) + 1 FROM documents)
"""


class Written(NamedTuple):
    """What one transaction of a bulk write did: up to which position, the failures by position, seconds it took."""

    end: int
    failures: dict[int, Failure]
    seconds: float


class _Held(NamedTuple):
    """What the index holds under an id: a document, or a tombstone, which has no key."""

    version: int
    pk: int | None = None
    text_hash: int | None = None


#: What is left to do for each id: the operation that stands, its text (None deletes), what is held already.
_Final: TypeAlias = dict[str, tuple[Operation, TextColumns | None, _Held | None]]


@dataclass(slots=True)
class _Plan:
    """What is to be executed for a piece of a batch."""

    documents: list[tuple[Any, ...]] = field(default_factory=list)
    texts: list[tuple[Any, ...]] = field(default_factory=list)
    gone: list[int] = field(default_factory=list)
    tombstones: list[tuple[Any, ...]] = field(default_factory=list)
    revived: list[str] = field(default_factory=list)


def prepare_index(database: Database, name: str) -> IndexInfo:
    """Creates the index when it is missing and says what it is."""
    info = find_info(database, name)
    if info is not None:
        return info
    with database.writing():
        uuid = uuid4().hex
        cursor = database.execute(
            "INSERT INTO indices (name, uuid) VALUES (?, ?) ON CONFLICT (name) DO NOTHING", (name, uuid)
        )
        if cursor.rowcount == 1:
            create_text_table(database, cursor.lastrowid or 0)
            return IndexInfo(name, uuid, FINGERPRINT)
    return prepare_index(database, name)


def find_info(database: Database, name: str) -> IndexInfo | None:
    """Says what the index is, None when there is none."""
    row = database.execute("SELECT uuid FROM indices WHERE name = ?", (name,)).fetchone()
    return IndexInfo(name, row[0], FINGERPRINT) if row else None


def index_of(database: Database, handle: IndexHandle) -> int:
    """Returns the key of the handle's index; raises IndexChangedError when it is another one now."""
    row = database.execute("SELECT pk FROM indices WHERE name = ? AND uuid = ?", (handle.index, handle.uuid)).fetchone()
    if row is None:
        raise IndexChangedError(
            f'The index "{handle.index}" was deleted, or deleted and created again, while the sync ran. '
            "The next sync fills it anew"
        )
    return int(row[0])


def write_some(
    database: Database, handle: IndexHandle, operations: Sequence[Operation], *, start: int, budget: int, now: float
) -> Written:
    """Writes the operations from `start` on, in one transaction, up to about `budget` bytes."""
    end = _end(operations, start, budget)
    failures: dict[int, Failure] = {}
    texts = _readable(operations, start, end, failures)  # before the transaction: nobody waits for it
    with database.writing():
        began = time.perf_counter()
        index_pk = index_of(database, handle)
        final = _resolve(database, index_pk, operations, texts, failures)
        _execute(database, index_pk, _plan(database, handle, index_pk, final, now))
    seconds = time.perf_counter() - began
    give_way(database, seconds)
    return Written(end, failures, seconds)


def _end(operations: Sequence[Operation], start: int, budget: int) -> int:
    end, size = start, 0
    last = min(len(operations), start + MAX_OPERATIONS)
    while end < last and (end == start or size < budget):
        size += len(operations[end].body or b"") + _OVERHEAD
        end += 1
    return end


def _readable(
    operations: Sequence[Operation], start: int, end: int, failures: dict[int, Failure]
) -> dict[int, TextColumns | None]:
    """Returns the text by position, None for a delete; what cannot be stored becomes a failure."""
    texts: dict[int, TextColumns | None] = {}
    for position in range(start, end):
        try:
            texts[position] = _text_of(operations[position])
        except UnicodeEncodeError:
            failures[position] = Failure(FailureKind.REFUSED, "The _id is no valid Unicode; give it another _id")
        except ValueError as error:
            failures[position] = Failure(FailureKind.REFUSED, f"The document cannot be stored: {error}")
    return texts


def _text_of(operation: Operation) -> TextColumns | None:
    """Returns the text of a write, None for a delete; raises ValueError for what cannot be stored."""
    operation.id.encode()
    if not 0 <= operation.version <= _MAX_VERSION:
        raise ValueError(f"the version {operation.version} is not between 0 and 2^63 - 1")
    if operation.body is None:
        return None
    document = orjson.loads(operation.body)
    if type(document) is not dict:
        raise ValueError("it is no JSON object")
    return text_columns(document)


def _resolve(
    database: Database,
    index_pk: int,
    operations: Sequence[Operation],
    texts: dict[int, TextColumns | None],
    failures: dict[int, Failure],
) -> _Final:
    """Applies the version rule in the given order; returns what is left to do for each id."""
    ids = list({operations[position].id for position in texts})
    held = {id_: _Held(*row) for id_, *row in _lookup(database, _FIND_TOMBSTONES, index_pk, ids)}
    held.update((id_, _Held(*row)) for id_, *row in _lookup(database, _FIND_DOCUMENTS, index_pk, ids))
    versions = {id_: found.version for id_, found in held.items()}
    final: _Final = {}
    for position, text in texts.items():
        operation = operations[position]
        version = versions.get(operation.id, 0)
        if operation.version < version:
            failures[position] = Failure(
                FailureKind.SUPERSEDED, f"Version {version} is there already; this one is {operation.version}"
            )
            continue
        versions[operation.id] = operation.version
        final[operation.id] = (operation, text, held.get(operation.id))
    return final


def _lookup(database: Database, statement: str, index_pk: int, ids: Sequence[str]) -> list[Any]:
    """Returns the one JSON array that the statement makes of the rows with these ids."""
    cursor = database.execute(with_rows(statement, len(ids)), (index_pk, *ids))
    rows: list[Any] = orjson.loads(cursor.fetchone()[0])
    return rows


def _plan(
    database: Database,
    handle: IndexHandle,
    index_pk: int,
    final: _Final,
    now: float,
) -> _Plan:
    plan = _Plan()
    connector, fingerprint, next_pk = database.execute(
        _KEYS, {"connector": handle.connector_id, "fingerprint": handle.fingerprint}
    ).fetchone()
    connector = connector or _add_label(database, handle.connector_id)
    fingerprint = fingerprint or _add_label(database, handle.fingerprint)
    for id_, (operation, text, held) in final.items():
        pk = held.pk if held else None
        if text is None:
            if pk is not None:
                plan.gone.append(pk)
            plan.tombstones.append((index_pk, id_, operation.version, now))
            continue
        text_hash = _text_hash(text)
        if pk is None:
            pk, next_pk = next_pk, next_pk + 1
            if held:
                plan.revived.append(id_)
        plan.documents.append((
            pk, index_pk, id_, connector, operation.digest, operation.content_hash, fingerprint, operation.version,
            text_hash, operation.body,
        ))  # fmt: skip
        if held is None or held.text_hash != text_hash:
            plan.texts.append((pk, *text))
    return plan


def _add_label(database: Database, label: str) -> int:
    """Returns the key of a label, which is new unless it was added just now."""
    row = database.execute(
        "INSERT INTO labels (label) VALUES (?) ON CONFLICT DO UPDATE SET label = label RETURNING pk", (label,)
    ).fetchone()
    return int(row[0])


def _text_hash(text: TextColumns) -> int:
    """Returns a signed 64-bit hash of the columns."""
    data = "\0".join(text).encode("utf-8", "surrogatepass")
    return xxhash.xxh3_64_intdigest(data, _SEED) - 2**63


def _execute(database: Database, index_pk: int, plan: _Plan) -> None:
    """Executes a plan, in few statements; see `with_rows`."""
    if plan.gone:
        _remove_documents(database, index_pk, plan.gone)
    if plan.tombstones:
        database.execute(
            with_rows(_BURY, len(plan.tombstones), _TOMBSTONE_COLUMNS),
            _flat(plan.tombstones),
        )
    if plan.revived:
        database.execute(
            with_rows("DELETE FROM tombstones WHERE index_pk = ? AND id IN (@rows)", len(plan.revived)),
            (index_pk, *plan.revived),
        )
    if plan.documents:
        database.execute(
            with_rows(_UPSERT, len(plan.documents), _DOCUMENT_COLUMNS),
            _flat(plan.documents),
        )
    if plan.texts:
        plan.texts.sort(key=_first)  # the full text flushes at each row that comes before the last one
        database.execute(
            with_rows(on_index(_REPLACE_TEXT, index_pk), len(plan.texts), _TEXT_COLUMNS),
            _flat(plan.texts),
        )


def _first(row: tuple[Any, ...]) -> Any:
    return row[0]


def _flat(rows: Sequence[tuple[Any, ...]]) -> list[Any]:
    return list(chain.from_iterable(rows))


def _remove_documents(database: Database, index_pk: int, pks: list[int]) -> None:
    pks.sort()
    database.execute(with_rows(on_index("DELETE FROM @text WHERE rowid IN (@rows)", index_pk), len(pks)), pks)
    database.execute(with_rows("DELETE FROM documents WHERE pk IN (@rows)", len(pks)), pks)


def purge_some(database: Database, index: str, connector_id: str, limit: int, now: float) -> int:
    """Deletes up to `limit` documents of the connector and returns their number."""
    with database.writing():
        began = time.perf_counter()
        rows = orjson.loads(
            database.execute(
                "SELECT json_group_array(json_array(index_pk, id, version, pk)) FROM (SELECT * FROM documents"
                " WHERE index_pk = (SELECT pk FROM indices WHERE name = ?)"
                " AND connector = (SELECT pk FROM labels WHERE label = ?) LIMIT ?)",
                (index, connector_id, limit),
            ).fetchone()[0]
        )
        if rows:
            plan = _Plan(gone=[row[3] for row in rows], tombstones=[(*row[:3], now) for row in rows])
            _execute(database, rows[0][0], plan)
    give_way(database, time.perf_counter() - began)
    return len(rows)


def begin_deletion(database: Database, index: str) -> bool:
    """Takes the index away, with its full text; its documents go by `delete_some`. False when there is none."""
    with database.writing():
        row = database.execute("UPDATE indices SET name = NULL WHERE name = ? RETURNING pk", (index,)).fetchone()
        if row is None:
            return False
        database.execute(on_index("DROP TABLE @text", row[0]))
    return True


def delete_some(database: Database, limit: int) -> bool:
    """Deletes up to `limit` documents and tombstones of indices that were taken away; False when there are no more."""
    with database.writing():
        began = time.perf_counter()
        row = database.execute("SELECT pk FROM indices WHERE name IS NULL LIMIT 1").fetchone()
        if row is None:
            return False
        deleted = database.execute(
            "DELETE FROM documents WHERE pk IN (SELECT pk FROM documents WHERE index_pk = ? LIMIT ?)", (row[0], limit)
        ).rowcount
        deleted += database.execute(
            "DELETE FROM tombstones WHERE index_pk = ?1 AND id IN"
            " (SELECT id FROM tombstones WHERE index_pk = ?1 LIMIT ?2)",
            (row[0], limit),
        ).rowcount
        if not deleted:
            database.execute("DELETE FROM indices WHERE pk = ?", row)
    give_way(database, time.perf_counter() - began)
    return True
