"""A destination and a store in memory, for tests of sources and of what is built on the ports.

They keep the contracts of `connectors.backends.ports`, checked by the same tests as the real backends; only nothing
lasts. Searching is a plain scan.
"""

from __future__ import annotations

import time
import unicodedata
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import uuid4

import orjson

from connectors.backends.fulltext import text_columns
from connectors.backends.ports import (
    HASH_SIZE,
    Failure,
    FailureKind,
    Hit,
    IndexHandle,
    IndexInfo,
    IndexSpec,
    Operation,
    SearchPage,
    StampPage,
    WriteResult,
    unguarded,
)
from connectors.backends.query_language import Query, Term, parse_query
from connectors.errors import IndexChangedError, NotFoundError
from connectors.testing.memory_store import MemoryStore

__all__ = ["MemoryDestination", "MemoryStore"]

_TOMBSTONE_SECONDS: Final = 2 * 3600.0
_PAGE: Final = 1000


@dataclass(slots=True)
class _Index:
    uuid: str
    documents: dict[str, tuple[IndexHandle, Operation]] = field(default_factory=dict)
    tombstones: dict[str, tuple[int, float]] = field(default_factory=dict)  # version, when

    def version(self, id_: str) -> int:
        if id_ in self.documents:
            return self.documents[id_][1].version
        return self.tombstones.get(id_, (0, 0.0))[0]


class MemoryDestination:
    """Documents in a dict.

    Args:
        clock: seconds since the Unix epoch; times the tombstones.
    """

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._indices: dict[str, _Index] = {}

    async def prepare(self, spec: IndexSpec) -> IndexInfo:
        """Creates the index when it is missing and says what it is."""
        index = self._indices.setdefault(spec.name, _Index(uuid4().hex))
        return IndexInfo(spec.name, index.uuid, "memory")

    async def info(
        self,
        index: str,
        pipeline: Mapping[str, Any] | None = None,  # noqa: ARG002 - nothing here passes a pipeline
    ) -> IndexInfo | None:
        """Says what the index is, None when there is none."""
        found = self._indices.get(index)
        return IndexInfo(index, found.uuid, "memory") if found else None

    async def write(self, handle: IndexHandle, operations: Sequence[Operation]) -> WriteResult:
        """Writes and deletes in the given order; raises IndexChangedError."""
        index = self._index(handle)
        now = self._clock()
        failures: dict[int, Failure] = {}
        for position, operation in enumerate(operations):
            problem = _problem(operation)
            if problem is not None:
                failures[position] = Failure(FailureKind.REFUSED, problem)
            elif operation.version < index.version(operation.id):
                failures[position] = Failure(FailureKind.SUPERSEDED, "A newer version is there already")
            elif operation.body is None:
                index.documents.pop(operation.id, None)
                index.tombstones[operation.id] = (operation.version, now)
            else:
                index.tombstones.pop(operation.id, None)
                index.documents[operation.id] = (handle, operation)
        return WriteResult(failures)

    async def stamps(self, handle: IndexHandle) -> AsyncIterator[StampPage]:
        """Yields the stamps of all documents that the connector wrote, in the order of their digests."""
        after = b""
        while True:
            own = sorted(
                (operation.digest, operation.content_hash if by.fingerprint == handle.fingerprint else bytes(HASH_SIZE))
                for by, operation in self._index(handle).documents.values()
                if by.connector_id == handle.connector_id and operation.digest > after
            )[:_PAGE]
            if not own:
                return
            after = own[-1][0]
            yield StampPage(b"".join(digest for digest, _ in own), b"".join(hash_ for _, hash_ in own))

    async def find_ids(self, handle: IndexHandle, digests: Sequence[bytes]) -> list[tuple[bytes, str]]:
        """Returns `(digest, _id)` of those of the connector's documents that have one of these digests."""
        wanted = set(digests)
        return [
            (operation.digest, operation.id)
            for by, operation in self._index(handle).documents.values()
            if by.connector_id == handle.connector_id and operation.digest in wanted
        ]

    async def fetch(self, index: str, ids: Sequence[str]) -> dict[str, bytes]:
        """Returns `_id` → the document as JSON bytes, for those that are there."""
        found = self._indices.get(index, _Index(""))
        bodies = ((id_, found.documents[id_][1].body) for id_ in ids if id_ in found.documents)
        return {id_: body for id_, body in bodies if body is not None}

    async def count(self, index: str, connector_id: str | None = None) -> int:
        """Returns the number of documents, of one connector or of all; 0 where there is no index."""
        documents = self._indices.get(index, _Index("")).documents.values()
        return sum(connector_id is None or by.connector_id == connector_id for by, _ in documents)

    async def count_each(self, wanted: Sequence[tuple[str, str]]) -> list[int]:
        """Returns the number of documents for each index and connector."""
        return [await self.count(index, connector_id) for index, connector_id in wanted]

    async def purge(self, index: str, connector_id: str, *, guard: Callable[[], object] = unguarded) -> int:
        """Deletes all documents of the connector and returns their number, unless `guard` raises."""
        guard()
        found = self._indices.get(index, _Index(""))
        own = [operation for by, operation in found.documents.values() if by.connector_id == connector_id]
        for operation in own:
            del found.documents[operation.id]
            found.tombstones[operation.id] = (operation.version, self._clock())
        return len(own)

    async def search(self, index: str, query: str, *, limit: int = 10, offset: int = 0) -> SearchPage:
        """Searches for people, by a scan; the score counts the terms found in the title."""
        if index not in self._indices:
            raise NotFoundError(f'There is no index "{index}"')
        parsed = parse_query(query)
        hits = [
            Hit(id_, score, {**source, **_excerpt(source)}, {})
            for id_, (_, operation) in self._indices[index].documents.items()
            if (score := _score(parsed, source := orjson.loads(operation.body or b"{}"))) is not None
        ]
        hits.sort(key=lambda hit: -hit.score)
        return SearchPage(len(hits), hits[offset : offset + limit])

    async def indices(self) -> list[str]:
        """Returns the names of the indices that can be searched."""
        return sorted(self._indices)

    async def delete_index(self, index: str) -> bool:
        """Deletes an index with all its documents; False when there is none of that name."""
        return self._indices.pop(index, None) is not None

    async def maintain(self) -> None:
        """Forgets old tombstones."""
        for index in self._indices.values():
            kept = self._clock() - _TOMBSTONE_SECONDS
            index.tombstones = {id_: stone for id_, stone in index.tombstones.items() if stone[1] >= kept}

    async def close(self) -> None:
        """Does nothing; what was written can still be looked at."""

    def _index(self, handle: IndexHandle) -> _Index:
        index = self._indices.get(handle.index)
        if index is None or index.uuid != handle.uuid:
            raise IndexChangedError(f'The index "{handle.index}" was deleted or created again while the sync ran')
        return index


def _problem(operation: Operation) -> str | None:
    """Returns why the operation cannot be stored, None when it can."""
    try:
        operation.id.encode()
        if operation.body is not None and not isinstance(orjson.loads(operation.body), dict):
            return "The document is no JSON object"
    except ValueError as error:
        return f"The document cannot be stored: {error}"
    return None if 0 <= operation.version < 2**63 else "The version is not between 0 and 2^63 - 1"


def _excerpt(source: Mapping[str, Any]) -> dict[str, Any]:
    body = source.get("body")
    return {"body": body[:300]} if isinstance(body, str) else {}


def _score(query: Query, source: dict[str, Any]) -> float | None:
    """Returns how well the document matches, None when it does not."""
    columns = {name: _words(text) for name, text in text_columns(source)._asdict().items()}

    def met(term: Term) -> bool:
        if term.field is None:
            return any(_contains(words, term) for words in columns.values())
        if term.field in columns and term.field != "other":
            return _contains(columns[term.field], term)
        return _in_field(source, term)

    if not query.groups or any(map(met, query.without)) or not all(any(map(met, group)) for group in query.groups):
        return None
    return float(sum(_contains(columns["title"], term) for group in query.groups for term in group))


def _words(text: str) -> list[str]:
    folded = (character for character in unicodedata.normalize("NFKD", text) if not unicodedata.combining(character))
    return "".join(c.casefold() if c.isalnum() else " " for c in folded).split()


def _contains(words: list[str], term: Term) -> bool:
    wanted = _words(term.text)
    for start in range(len(words) - len(wanted) + 1):
        found = words[start : start + len(wanted)]
        last = found[-1].startswith(wanted[-1]) if term.prefix else found[-1] == wanted[-1]
        if last and found[:-1] == wanted[:-1]:
            return True
    return False


def _in_field(source: Any, term: Term) -> bool:
    values = [source]
    for key in (term.field or "").split("."):
        values = [value[key] for value in values if isinstance(value, dict) and key in value]
    leaves = list(values)
    for leaf in leaves:  # grows while it is walked
        if isinstance(leaf, dict | list):
            leaves.extend(leaf.values() if isinstance(leaf, dict) else leaf)
    return any(
        term.text.lower() in leaf.lower() if isinstance(leaf, str) else orjson.dumps(leaf).decode() == term.text.lower()
        for leaf in leaves
        if not isinstance(leaf, dict | list)
    )
