"""The ports that a backend implements: `Destination`, where documents go, and `Store`, where records live.

Every adapter passes the same contract tests. Callers own retries, batching and back-pressure; an adapter does one call
and says what became of it:

- a passing fault of a whole call raises `RetryableError`, after which the call may be repeated as it was;
- what only a person can mend (credentials, a blocked or vanished index, a full disk) raises `SuspendSync`;
- single items report their outcome in the `WriteResult`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any, Final, NamedTuple, Protocol

from connectors.backends.stored import Claim, ClaimRequest, ConnectorState, DeadLetter, Lease
from connectors.byoc import Connector, JobType, SyncJob, TriggerMethod

__all__ = [
    "DIGEST_SIZE",
    "HASH_SIZE",
    "Claim",
    "ClaimRequest",
    "ConnectorState",
    "DeadLetter",
    "Destination",
    "Documents",
    "Failure",
    "FailureKind",
    "Hit",
    "IndexHandle",
    "IndexInfo",
    "IndexSpec",
    "JobStore",
    "Lease",
    "Operation",
    "SearchPage",
    "StampPage",
    "Store",
    "WriteResult",
    "unguarded",
]

#: Bytes of the digest of a document's `_id`.
DIGEST_SIZE: Final = 16
#: Bytes of the hash of a document's content.
HASH_SIZE: Final = 8


@dataclass(frozen=True, slots=True)
class IndexSpec:
    """What an index should be when it has to be created.

    Attributes:
        fields: name → its mapping on a search server, of fields whose type shall not be guessed.
    """

    name: str
    language: str | None = None
    pipeline: Mapping[str, Any] | None = None
    fields: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class IndexInfo:
    """What an index is: `uuid` changes when it is deleted and created again; `fingerprint` when its mapping or its
    pipeline changes in a way that makes the documents in it stale."""

    name: str
    uuid: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class IndexHandle:
    """One connector's view of an index, given with each call that reads or writes its documents.

    Attributes:
        index: name of the index.
        uuid: of the index that the sync started with; another one raises `IndexChangedError`.
        connector_id: written into each document's stamp.
        fingerprint: of pipeline, mapping and extraction; written into each document's stamp.
        pipeline: the connector's, whose flags go into each document where it names an ingest pipeline.
    """

    index: str
    uuid: str
    connector_id: str
    fingerprint: str
    pipeline: Mapping[str, Any] | None = None


class Operation(NamedTuple):
    """One write or delete.

    Attributes:
        id: the document's `_id`.
        digest: `DIGEST_SIZE` bytes.
        content_hash: `HASH_SIZE` bytes; part of the stamp.
        version: external version; a write or delete with a lower one than the index holds is refused as superseded.
        body: the document as JSON bytes, an object, without `_id`; None deletes.
    """

    id: str
    digest: bytes
    content_hash: bytes
    version: int
    body: bytes | None


class FailureKind(Enum):
    """What became of an operation that was not acknowledged."""

    SUPERSEDED = "superseded"  # a newer version is there already
    OVERLOADED = "overloaded"  # the same operation may be sent again later
    REFUSED = "refused"  # never acceptable: a dead letter


class Failure(NamedTuple):
    """Why one operation was not acknowledged."""

    kind: FailureKind
    reason: str


@dataclass(frozen=True, slots=True)
class WriteResult:
    """Outcome of one bulk write: failures by position in the batch; what is not named there is acknowledged and
    durable. `retry_after` is in seconds, where the backend named a time; `too_large` in bytes: the size of a request
    that the backend refused for it (what was in it was sent in smaller ones)."""

    failures: Mapping[int, Failure] = field(default_factory=dict)
    retry_after: float | None = None
    too_large: int | None = None


@dataclass(frozen=True, slots=True)
class StampPage:
    """Stamps of up to some thousand documents of one connector.

    Attributes:
        digests: n times `DIGEST_SIZE` bytes, joined.
        hashes: n times `HASH_SIZE` bytes, joined; all zero for a document whose stamp has another fingerprint.
    """

    digests: bytes
    hashes: bytes


@dataclass(frozen=True, slots=True)
class Hit:
    """One search hit. `highlights` maps field → fragments, with the marked words between `\\x02` and `\\x03`."""

    id: str
    score: float
    source: Mapping[str, Any]
    highlights: Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class SearchPage:
    """Ranked hits, best first, and how many there are in all."""

    total: int
    hits: Sequence[Hit]


def unguarded() -> None:
    """Lets everything pass."""


class Documents(Protocol):
    """What a sync does with the documents of an index."""

    async def write(self, handle: IndexHandle, operations: Sequence[Operation]) -> WriteResult:
        """Writes and deletes in the given order; raises IndexChangedError when the index is not that of the handle.

        Deleting what is not there is acknowledged. A delete leaves its version behind for at least an hour.
        """
        ...

    def stamps(self, handle: IndexHandle) -> AsyncIterator[StampPage]:
        """Yields the stamps of all documents that the connector wrote, all acknowledged writes included."""
        ...

    async def find_ids(self, handle: IndexHandle, digests: Sequence[bytes]) -> list[tuple[bytes, str]]:
        """Returns `(digest, _id)` of those of the connector's documents that have one of these digests, all
        acknowledged writes included: what is not found here is forgotten."""
        ...

    async def fetch(self, index: str, ids: Sequence[str]) -> dict[str, bytes]:
        """Returns `_id` → the document as JSON bytes, for those that are there."""
        ...


class Destination(Documents, Protocol):
    """Where documents go."""

    async def prepare(self, spec: IndexSpec) -> IndexInfo:
        """Creates the index when it is missing and says what it is."""
        ...

    async def info(self, index: str, pipeline: Mapping[str, Any] | None = None) -> IndexInfo | None:
        """Says what the index is, None when there is none; with the same pipeline, as `prepare` said it."""
        ...

    async def count(self, index: str, connector_id: str | None = None) -> int:
        """Returns the number of documents, of one connector or of all; 0 where there is no index."""
        ...

    async def count_each(self, wanted: Sequence[tuple[str, str]]) -> list[int]:
        """Returns the number of documents for each index and connector, as `count` does, in few requests."""
        ...

    async def purge(self, index: str, connector_id: str, *, guard: Callable[[], object] = unguarded) -> int:
        """Deletes all documents of the connector, some at a time, and returns their number.

        Args:
            guard: called before each of them; raises when no more may be deleted.
        """
        ...

    async def search(self, index: str, query: str, *, limit: int = 10, offset: int = 0) -> SearchPage:
        """Searches for people: words, "phrases", pre*, field:value, -without. NotFoundError without such an index."""
        ...

    async def indices(self) -> list[str]:
        """Returns the names of the indices that can be searched."""
        ...

    async def maintain(self) -> None:
        """Housekeeping, called every minute or so while the daemon runs; returns soon."""
        ...

    async def close(self) -> None:
        """Releases connections and threads; may be called twice."""
        ...


class JobStore(Protocol):
    """What a sync writes of its job."""

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
        """Changes fields of job, connector record and state data (top-level keys; None removes one) in one step,
        durable on return; raises LeaseLostError, and changes nothing, when the lease's epoch is not the last.

        With `release` the lease is given back once all of that is done, as `Store.release` does it.
        """
        ...

    async def add_dead_letters(self, letters: Sequence[DeadLetter]) -> None:
        """Keeps them, durable on return."""
        ...

    async def remove_dead_letters(self, connector_id: str, ids: Sequence[str] | None = None) -> int:
        """Removes those of these ids, or all; returns their number."""
        ...

    async def dead_letter_ids(self, connector_id: str) -> dict[str, str]:
        """Returns `_id` → id of the job that wrote it, of all of them, without their bodies."""
        ...


class Store(JobStore, Protocol):
    """Where records live. Times and leases use the caller's clock, given as `now` in seconds since the Unix epoch."""

    async def connectors(self) -> list[Connector]:
        """Returns all connectors, ordered by id."""
        ...

    async def connector(self, connector_id: str) -> Connector:
        """Returns one; raises NotFoundError."""
        ...

    async def put_connector(self, connector: Connector) -> Connector:
        """Creates it (`version` 0) or replaces exactly that version; raises ConflictError otherwise."""
        ...

    async def update_connector(self, connector_id: str, changes: Mapping[str, Any]) -> Connector:
        """Changes these fields of the record (the record's form, or datetimes) at once and leaves the others."""
        ...

    async def remove_connector(self, connector_id: str) -> None:
        """Removes the record, its state, jobs and dead letters; nothing happens when it is not there.

        The epoch stays, one further, as a fence: a connector of the same id is not superseded by its own past.
        """
        ...

    # Leases and state

    async def state(self, connector_id: str) -> ConnectorState:
        """Returns the state; an empty one for a connector that never ran."""
        ...

    async def acquire(self, connector_id: str, worker: str, *, ttl: float, now: float) -> Lease | None:
        """Takes the lease with the next epoch, by compare-and-set; None while another worker's has not expired."""
        ...

    async def claim(self, wanted: ClaimRequest, worker: str, *, ttl: float, now: float) -> Claim | None:
        """Takes the lease of the job's connector, as `acquire` does, and changes fields of both records in that step.

        None when another worker's lease has not expired, or when job or connector is no longer the version that was
        read. Nothing was changed then; but where they are changed at that very moment, the epoch may have grown.
        """
        ...

    async def renew(self, lease: Lease, *, ttl: float, now: float) -> Lease:
        """Extends it; raises LeaseLostError when it is no longer ours (also after it expired and was taken)."""
        ...

    async def release(self, lease: Lease) -> None:
        """Gives it back; nothing happens when it is no longer ours."""
        ...

    # Jobs

    async def create_job(
        self, connector: Connector, job_type: JobType, trigger: TriggerMethod, *, now: datetime, **metadata: Any
    ) -> SyncJob:
        """Creates a pending job with a snapshot of the connector; ids grow with time.

        Returns the existing one when a job of that connector and type is pending already (its metadata is updated).
        """
        ...

    async def job(self, job_id: str) -> SyncJob:
        """Returns one; raises NotFoundError."""
        ...

    async def jobs(
        self, *, connector_id: str | None = None, statuses: Sequence[str] | None = None, limit: int = 100
    ) -> list[SyncJob]:
        """Returns jobs, newest first."""
        ...

    async def update_job(self, job_id: str, changes: Mapping[str, Any], *, statuses: Sequence[str]) -> SyncJob:
        """Changes fields if the job's status is one of `statuses`; raises ConflictError otherwise."""
        ...

    async def purge_jobs(self, *, before: datetime, unchanged_before: datetime | None = None) -> int:
        """Removes jobs that ended before, and of those whose metadata says `unchanged` the ones that ended before
        `unchanged_before`; returns their number."""
        ...

    # Dead letters

    async def dead_letters(
        self, connector_id: str, *, limit: int = 100, after: str | None = None, bodies: bool = False
    ) -> list[DeadLetter]:
        """Returns them ordered by id, those behind `after`; without `bodies` as `DeadLetter.listed` has them."""
        ...

    async def dead_letter(self, connector_id: str, document_id: str) -> DeadLetter:
        """Returns one; raises NotFoundError."""
        ...

    async def count_dead_letters(self, connector_id: str) -> int:
        """Returns their number."""
        ...

    async def count_all_dead_letters(self) -> dict[str, int]:
        """Returns connector id → their number, of all connectors that have some."""
        ...

    async def close(self) -> None:
        """Releases connections and threads; may be called twice."""
        ...
