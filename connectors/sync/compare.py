"""Compares what an index holds of a connector with what its source has now, and writes nothing.

It is the very sync, with three parts changed: a ledger of its own that is built from the stamps, a destination that
takes notes of what it should write, and records that forget. So rules, encoding, downloads and deletions are those of a
sync, and memory is as flat.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from connectors.backends.ports import (
    ConnectorState,
    DeadLetter,
    Documents,
    IndexHandle,
    Lease,
    Operation,
    StampPage,
    WriteResult,
)
from connectors.byoc import JobType, SyncJob
from connectors.logger import mask
from connectors.sync.context import RECONCILE, SyncContext
from connectors.sync.counters import Counters
from connectors.sync.encode import decode
from connectors.sync.engine import run_sync
from connectors.sync.page import INCOMPARABLE
from connectors.utils import truncate

__all__ = ["KINDS", "MOST_ALTERED", "Comparison", "Difference", "compare"]

#: How a document may differ.
KINDS: Final = ("missing", "different", "extra", "unreadable")
#: Digests that are kept of documents that a deep comparison found different: as many as a job's record should carry.
MOST_ALTERED: Final = 1000
_FIELDS: Final = 5
_LONGEST_NAME: Final = 60
_EVERYTHING: Final = 1 << 62


@dataclass(frozen=True, slots=True)
class Difference:
    """One document that is not in the index as it is at the source.

    Attributes:
        kind: "missing" (in the index), "different", "extra" (in the index, and not at the source or kept out by rules),
            or "unreadable" (the source could not give it).
        detail: what differs, or why it cannot be read.
    """

    kind: str
    id: str
    detail: str = ""


@dataclass(slots=True)
class Comparison:
    """What was found.

    Attributes:
        counters: of the reading; `read`, `filtered` and `duplicate` are of use.
        counts: kind of difference → documents.
        differences: the first of them.
        stale: documents whose content is the same, but not their stamp: the next sync writes them once more.
        unverified: documents that only their content could tell, which an ingest pipeline changes.
        altered: digests of different documents, whose stamp may be right all the same; None: there are too many.
        incomplete: why not everything could be read, in which case extra documents were not looked for.
        stopped: it was asked to stop before the end.
    """

    counters: Counters = field(default_factory=Counters)
    counts: Counter[str] = field(default_factory=Counter)
    differences: list[Difference] = field(default_factory=list)
    stale: int = 0
    unverified: int = 0
    altered: list[bytes] | None = field(default_factory=list)
    incomplete: list[str] = field(default_factory=list)
    stopped: bool = False

    @property
    def equal(self) -> bool:
        """Whether the index holds what the source has, as far as that could be found out."""
        return not (self.counts.total() or self.unverified or self.incomplete or self.stopped)


async def compare(context: SyncContext, *, folder: Path, deep: bool, limit: int) -> Comparison:
    """Compares under the lease of `context`, whose job, state and folder are not used.

    Args:
        folder: of its own, for its ledger; the caller removes it.
        deep: compare the contents of all documents, files included; else of those whose stamp does not tell that they
            are equal.
        limit: differences that are listed; all are counted.

    Raises:
        Exception: what would end a sync.
    """
    found = Comparison()
    notes = _Notes(context.destination, found, deep=deep, limit=limit)
    connector_id = context.connector.id
    result = await run_sync(
        replace(
            context,
            job=SyncJob(
                id="comparison",
                connector={"id": connector_id},
                job_type=JobType.FULL,
                metadata={"allow_deletes": _EVERYTHING, RECONCILE: {"again": None if deep else []}},
            ),
            destination=notes,
            store=_Forgetful(notes),
            state=ConnectorState(connector_id),
            folder=folder,
        )
    )
    found.counters, found.incomplete, found.stopped = result.counters, result.incomplete, result.suspended
    return found


class _Notes:
    """A destination that writes nothing: it takes notes of what differs from what is there."""

    def __init__(self, destination: Documents, found: Comparison, *, deep: bool, limit: int) -> None:
        self._destination = destination
        self._found = found
        self._deep = deep
        self._limit = limit

    def note(self, kind: str, document_id: str, detail: str = "") -> None:
        """Counts a difference, and lists it if it is one of the first."""
        found = self._found
        found.counts[kind] += 1
        if len(found.differences) < self._limit:
            found.differences.append(Difference(kind, document_id, detail))

    async def write(self, handle: IndexHandle, operations: Sequence[Operation]) -> WriteResult:
        """Takes notes, and acknowledges everything."""
        writes = [operation for operation in operations if operation.body is not None]
        held = await self._destination.fetch(handle.index, [operation.id for operation in writes]) if writes else {}
        changed_on_the_way = bool((handle.pipeline or {}).get("name"))
        for operation in operations:
            if operation.body is None:
                self.note("extra", operation.id)
                continue
            there = held.get(operation.id)
            if there is None:
                self.note("missing", operation.id)
            elif changed_on_the_way:
                self._judge_by_stamp(operation)
            else:
                self._judge(operation, operation.body, there)
        return WriteResult()

    def _judge_by_stamp(self, operation: Operation) -> None:
        if operation.content_hash == INCOMPARABLE:
            self._found.unverified += 1
        else:
            self.note("different", operation.id, "changed since it was written")

    def _judge(self, operation: Operation, wanted: bytes, there: bytes) -> None:
        found = self._found
        fields = _differing(wanted, there)
        if not fields:
            found.stale += not self._deep and operation.content_hash != INCOMPARABLE
            return
        self.note("different", operation.id, f"in {_listed(fields)}")
        if self._deep and found.altered is not None:
            found.altered.append(operation.digest)
            if len(found.altered) > MOST_ALTERED:
                found.altered = None

    # What a sync reads

    def stamps(self, handle: IndexHandle) -> AsyncIterator[StampPage]:
        """Yields those of the index."""
        return self._destination.stamps(handle)

    async def find_ids(self, handle: IndexHandle, digests: Sequence[bytes]) -> list[tuple[bytes, str]]:
        """Returns those of the index."""
        return await self._destination.find_ids(handle, digests)

    async def fetch(self, index: str, ids: Sequence[str]) -> dict[str, bytes]:
        """Returns those of the index."""
        return await self._destination.fetch(index, ids)


class _Forgetful:
    """Records that keep nothing but a note of the documents that cannot be read."""

    def __init__(self, notes: _Notes) -> None:
        self._notes = notes

    async def commit(
        self,
        lease: Lease,
        *,
        job_id: str,
        job: Mapping[str, Any] | None = None,
        connector: Mapping[str, Any] | None = None,
        state: Mapping[str, Any] | None = None,
        release: bool = False,
    ) -> None:
        """Forgets it."""

    async def add_dead_letters(self, letters: Sequence[DeadLetter]) -> None:
        """Takes a note of each."""
        for letter in letters:
            self._notes.note("unreadable", letter.id, mask(letter.reason))

    async def remove_dead_letters(
        self,
        connector_id: str,  # noqa: ARG002 - there are none of any connector
        ids: Sequence[str] | None = None,  # noqa: ARG002 - see above
    ) -> int:
        """Forgets it."""
        return 0

    async def dead_letter_ids(self, connector_id: str) -> dict[str, str]:  # noqa: ARG002 - see above
        """Knows none."""
        return {}


def _differing(wanted: bytes, there: bytes) -> list[str]:
    """Returns the names of the fields that differ; how numbers and spaces are written is no difference."""
    if wanted == there:
        return []
    ours, held = decode(wanted), decode(there)
    return [
        name
        for name in dict.fromkeys([*ours, *held])
        if (name in ours) != (name in held) or not _same(ours[name], held[name])
    ]


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(value, other[name]) for name, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)  # True is 1 for Python


def _listed(fields: Iterable[str]) -> str:
    names = [truncate(name, _LONGEST_NAME) for name in fields]
    more = f" and {len(names) - _FIELDS} more fields" if len(names) > _FIELDS else ""
    return ", ".join(names[:_FIELDS]) + more
