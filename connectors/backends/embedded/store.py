"""Where records live: the embedded index's `Store`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from connectors.backends.embedded import letters as rows
from connectors.backends.embedded import records
from connectors.backends.embedded.thread import DatabaseThread
from connectors.backends.ports import Claim, ClaimRequest, ConnectorState, DeadLetter, Lease
from connectors.backends.records import JobIds
from connectors.byoc import Connector, JobType, SyncJob, TriggerMethod

__all__ = ["EmbeddedStore"]


class EmbeddedStore:
    """Connector and job records in one SQLite file; made by `EmbeddedBackend.open`.

    Each call is one transaction, durable on return; small changes that wait at the same time are committed together.
    Calls that change something share the writer with bulk writes of documents and wait for at most one of their
    transactions a batch in flight.

    Args:
        writer: the thread that writes.
        reader: the thread that reads.
        release: called by `close`; the threads end when nobody uses them any more.
    """

    def __init__(
        self, writer: DatabaseThread, reader: DatabaseThread, *, release: Callable[[], Awaitable[None]]
    ) -> None:
        self._writer = writer
        self._reader = reader
        self._release = release
        self._ids = JobIds()  # used in the writer's thread only

    async def connectors(self) -> list[Connector]:
        """Returns all connectors, ordered by id."""
        return await self._reader.run(records.list_connectors)

    async def connector(self, connector_id: str) -> Connector:
        """Returns one; raises NotFoundError."""
        return await self._reader.run(records.get_connector, connector_id)

    async def put_connector(self, connector: Connector) -> Connector:
        """Creates it (`version` 0) or replaces exactly that version; raises ConflictError otherwise."""
        return await self._writer.change(records.put_connector, connector)

    async def update_connector(self, connector_id: str, changes: Mapping[str, Any]) -> Connector:
        """Changes these fields of the record at once and leaves the others; raises NotFoundError."""
        return await self._writer.change(records.update_connector, connector_id, changes)

    async def remove_connector(self, connector_id: str) -> None:
        """Removes the record, its state, jobs and dead letters. The epoch stays, one further, as a fence."""
        await self._writer.run(records.remove_connector, connector_id)

    async def state(self, connector_id: str) -> ConnectorState:
        """Returns the state; an empty one for a connector that never ran."""
        return await self._reader.run(records.get_state, connector_id)

    async def acquire(self, connector_id: str, worker: str, *, ttl: float, now: float) -> Lease | None:
        """Takes the lease with the next epoch; None while another worker's has not expired."""
        return await self._writer.change(records.acquire, connector_id, worker, ttl, now)

    async def claim(self, wanted: ClaimRequest, worker: str, *, ttl: float, now: float) -> Claim | None:
        """Takes the lease and changes job and connector; None while another worker's has not expired, or when one of
        them is no longer the version that was read."""
        return await self._writer.change(records.claim, wanted, worker, ttl=ttl, now=now)

    async def renew(self, lease: Lease, *, ttl: float, now: float) -> Lease:
        """Extends it; raises LeaseLostError when it is no longer ours."""
        return await self._writer.change(records.renew, lease, ttl, now)

    async def release(self, lease: Lease) -> None:
        """Gives it back; nothing happens when it is no longer ours."""
        await self._writer.change(records.release, lease)

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
        """Changes fields of job, connector and state data in one transaction, and gives the lease back with `release`;
        raises LeaseLostError, or NotFoundError for a job or connector that is gone, and then changes nothing."""
        await self._writer.change(
            records.commit, lease, job_id=job_id, job=job, connector=connector, state=state, release=release
        )

    async def create_job(
        self, connector: Connector, job_type: JobType, trigger: TriggerMethod, *, now: datetime, **metadata: Any
    ) -> SyncJob:
        """Creates a pending job with a snapshot of the connector, or returns the one that is pending already."""
        return await self._writer.change(
            records.create_job, self._ids, connector, job_type, trigger, now=now, metadata=metadata
        )

    async def job(self, job_id: str) -> SyncJob:
        """Returns one; raises NotFoundError."""
        return await self._reader.run(records.get_job, job_id)

    async def jobs(
        self, *, connector_id: str | None = None, statuses: Sequence[str] | None = None, limit: int = 100
    ) -> list[SyncJob]:
        """Returns jobs, newest first."""
        return await self._reader.run(records.list_jobs, connector_id, statuses, limit)

    async def update_job(self, job_id: str, changes: Mapping[str, Any], *, statuses: Sequence[str]) -> SyncJob:
        """Changes fields if the job's status is one of `statuses`; raises ConflictError or NotFoundError otherwise."""
        return await self._writer.change(records.update_job, job_id, changes, statuses)

    async def purge_jobs(self, *, before: datetime, unchanged_before: datetime | None = None) -> int:
        """Removes jobs that ended before; those that found nothing changed may go earlier. Returns their number."""
        return await self._writer.run(records.purge_jobs, before, unchanged_before or before)

    async def add_dead_letters(self, letters: Sequence[DeadLetter]) -> None:
        """Keeps them, durable on return."""
        await self._writer.run(rows.add_letters, letters)

    async def remove_dead_letters(self, connector_id: str, ids: Sequence[str] | None = None) -> int:
        """Removes those of these ids, or all; returns their number."""
        return await self._writer.run(rows.remove_letters, connector_id, ids)

    async def dead_letters(
        self, connector_id: str, *, limit: int = 100, after: str | None = None, bodies: bool = False
    ) -> list[DeadLetter]:
        """Returns them ordered by id, those behind `after`; without their bodies, unless these are asked for."""
        return await self._reader.run(rows.list_letters, connector_id, limit, after, bodies=bodies)

    async def dead_letter(self, connector_id: str, document_id: str) -> DeadLetter:
        """Returns one; raises NotFoundError."""
        return await self._reader.run(rows.get_letter, connector_id, document_id)

    async def dead_letter_ids(self, connector_id: str) -> dict[str, str]:
        """Returns `_id` → id of the job that wrote it, of all of them, without their bodies."""
        return await self._reader.run(rows.letter_ids, connector_id)

    async def count_dead_letters(self, connector_id: str) -> int:
        """Returns their number."""
        return await self._reader.run(rows.count_letters, connector_id)

    async def count_all_dead_letters(self) -> dict[str, int]:
        """Returns connector id → their number, of all connectors that have some."""
        return await self._reader.run(rows.count_all_letters)

    async def close(self) -> None:
        """Releases the threads, which end once the destination is closed too; may be called twice."""
        await self._release()
