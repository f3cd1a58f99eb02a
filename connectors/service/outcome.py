"""Decides how a sync job ended, stores it, and says it in the log.

How an error of the source, of the backend or of ours ends the job:

- `RetryableError`: suspended for a growing pause, then it goes on; after five tries without getting further, `error`.
- `SuspendSync`: suspended till a person mended something, and tried again after ever longer pauses.
- `ConfigurationError`, which a source raises for wrong credentials too: a job that has read documents is suspended like
  that, so that its checkpoint waits for the mended configuration; one that has not has nothing to lose and ends in
  `error`, and the next scheduled one tries again.
- `StalledError`: `error`; the checkpoint stays, and the next job goes on behind it.
- `InvalidFilteringError`, `DeletionGuardError`, and all else: `error`.
- `LeaseLostError`: nothing is stored, for the job is another worker's now.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, MutableMapping
from contextlib import suppress
from typing import Any, Final

from connectors.backends.ports import Destination, Lease, Store
from connectors.byoc import (
    CONTENT_JOB_TYPES,
    Connector,
    ConnectorStatus,
    JobStatus,
    JobType,
    SyncJob,
    TriggerMethod,
)
from connectors.errors import (
    ConfigurationError,
    ConnectorsError,
    FullSyncNeededError,
    InvalidFilteringError,
    LeaseLostError,
    RetryableError,
    StalledError,
    SuspendSync,
    SyncCanceledError,
    describe,
)
from connectors.logger import mask
from connectors.runtime import Runtime
from connectors.sync.context import SyncResult
from connectors.sync.patience import patiently
from connectors.utils import format_duration, truncate

__all__ = ["Outcome", "reported"]

_RETRIES: Final = 5
_FIRST_PAUSE: Final = 5.0
_SUSPEND_PAUSES: Final = (30.0, 60.0, 300.0, 900.0)
#: Characters of an error that records keep: some libraries put whole statements into theirs.
_LONGEST_ERROR: Final = 2000
_REASONS: Final = 5
#: Characters of an error that the log has told in full already.
_REMINDER: Final = 80

_SUPERSEDED: Final = (
    "%s documents were left as they are, for the index holds newer versions: do two connectors write the same ids into "
    "it, or were the records lost while it stayed? Then delete the index, and sync again"
)


class Outcome:
    """Stores the end of one run of a job.

    The lease is given back in the same step. Every method raises LeaseLostError, and has stored nothing, when the job
    is another worker's by now.

    Args:
        job: its record as it was when this run began.
        lease: returns the lease; raises LeaseLostError.
        patience: seconds for which a store that fails in passing is tried again.
        told: connector → the last error that the log of this process told of it; kept here.

    Attributes:
        ended: the job with the end that was stored; None before.
    """

    def __init__(
        self,
        store: Store,
        destination: Destination,
        runtime: Runtime,
        connector: Connector,
        job: SyncJob,
        *,
        lease: Callable[[], Lease],
        patience: float,
        told: MutableMapping[str, str],
        logger: logging.Logger | logging.LoggerAdapter[Any],
    ) -> None:
        self._store = store
        self._destination = destination
        self._runtime = runtime
        self._connector = connector
        self._job = job
        self._lease = lease
        self._patience = patience
        self._told = told
        self._logger = logger
        self.ended: SyncJob | None = None

    async def complete(self, result: SyncResult | None) -> None:
        """The job did all there was to do; None: the source said that nothing changed."""
        self._told.pop(self._connector.id, None)
        now = self._runtime.now()
        job: dict[str, Any] = {"status": JobStatus.COMPLETED, "completed_at": now, "last_seen": now, "error": None}
        connector: dict[str, Any] = {
            "status": ConnectorStatus.CONNECTED,
            "error": None,
            "last_seen": now,
            "last_synced": now,
            "last_sync_status": JobStatus.COMPLETED,
            "last_sync_error": None,
        }
        if result is None:
            await self._commit(job | {"metadata": {**self._job.metadata, "unchanged": True}}, connector)
            self._logger.debug("nothing changed at the source")
            return
        counters = result.counters
        deleted = counters.deleted + counters.vanished
        job |= {
            "indexed_document_count": counters.indexed,
            "indexed_document_volume": counters.bytes,
            "deleted_document_count": deleted,
            "total_document_count": await self._count(),
            "metadata": {
                **self._job.metadata,
                "counters": counters.to_dict(),
                "incomplete": [truncate(mask(reason), _LONGEST_ERROR) for reason in result.incomplete[:_REASONS]],
            },
        }
        connector |= {"last_indexed_document_count": counters.indexed, "last_deleted_document_count": deleted}
        if result.cursor is not None:
            connector["sync_cursor"] = result.cursor
        if result.needs_full:
            await self._queue_full_sync()
        await self._commit(job, connector, result.state)
        self._report(result)

    async def _queue_full_sync(self) -> None:
        """Comes before the end of the job is stored: killed in between, the job ends once more, and says so again."""
        await patiently(
            lambda: self._store.create_job(
                self._connector, JobType.FULL, TriggerMethod.SCHEDULED, now=self._runtime.now()
            ),
            what="queueing a full sync",
            seconds=self._patience,
            runtime=self._runtime,
        )

    async def suspend(self) -> None:
        """The worker ends; the job goes on at the next start."""
        await self._suspend(await self._stored(), None, pause=0.0)
        self._logger.info("sync suspended; it goes on at the next start")

    async def fail(self, error: Exception) -> None:
        """The sync raised an error."""
        if isinstance(error, LeaseLostError):
            raise error
        message = truncate(mask(describe(error)), _LONGEST_ERROR)
        stored = await self._stored()
        before, told = self._told.get(self._connector.id), message
        if not isinstance(error, SyncCanceledError):
            self._told[self._connector.id] = message
        if message == before:  # every few seconds, perhaps
            told = f"as before: {truncate(message, _REMINDER)}"
        if isinstance(error, SyncCanceledError):
            await self._end(stored, JobStatus.CANCELED, None)
            self._logger.info("sync cancelled")
        elif self._waits_for_a_person(error, stored):
            pause = _SUSPEND_PAUSES[min(self._tries(stored), len(_SUSPEND_PAUSES) - 1)]
            await self._suspend(stored, message, pause=pause)
            self._logger.error("sync suspended: %s (tried again in %s)", told, format_duration(pause))
        elif isinstance(error, RetryableError) and (tries := self._tries(stored)) < _RETRIES:
            pause = max(error.retry_after or 0.0, _FIRST_PAUSE * 2**tries)
            await self._suspend(stored, message, pause=pause)
            self._logger.warning("%s (tried again in %s)", told, format_duration(pause))
        else:
            # What a job that hung has done is not done again by the next one.
            kept = {"goes_on": self._job.id} if isinstance(error, StalledError) else None
            if isinstance(error, FullSyncNeededError):
                await self._queue_full_sync()
            await self._end(stored, JobStatus.ERROR, message, state=kept)
            # With the place, where it is a defect of the source or of ours.
            known = isinstance(error, ConnectorsError) or message == before
            self._logger.error("sync failed: %s", told, exc_info=None if known else error)

    def _waits_for_a_person(self, error: Exception, stored: SyncJob) -> bool:
        if isinstance(error, ConfigurationError) and not isinstance(error, InvalidFilteringError):
            return _read(stored) > 0
        return isinstance(error, SuspendSync)

    def _tries(self, stored: SyncJob) -> int:
        """How often the job was suspended by an error without getting further than ever before."""
        furthest = self._job.number("furthest")
        return 0 if _read(stored) > furthest else int(self._job.number("attempts"))

    async def _suspend(self, stored: SyncJob, message: str | None, *, pause: float) -> None:
        if stored.status == JobStatus.CANCELING:  # else the wish would be lost
            await self._end(stored, JobStatus.CANCELED, None)
            return
        furthest = max(int(stored.number("furthest")), _read(stored))
        metadata = {
            **stored.metadata,
            "attempts": self._tries(stored) + (message is not None),
            "furthest": furthest,
            "resume_at": self._runtime.time() + pause,
        }
        connector: dict[str, Any] = {"last_sync_status": JobStatus.SUSPENDED, "last_sync_error": message}
        if message is not None:
            connector |= {"status": ConnectorStatus.ERROR, "error": message}
        job = {"status": JobStatus.SUSPENDED, "error": message, "last_seen": self._runtime.now(), "metadata": metadata}
        await self._commit(job, connector)

    async def _end(
        self, stored: SyncJob, status: JobStatus, message: str | None, *, state: Mapping[str, Any] | None = None
    ) -> None:
        """The job is over, and not completed; the next one starts afresh, unless `state` says otherwise."""
        now = self._runtime.now()
        job: dict[str, Any] = {"status": status, "completed_at": now, "last_seen": now, "error": message}
        if status is JobStatus.CANCELED:
            job["canceled_at"] = now
        with suppress(ConnectorsError):  # it may be what the sync failed of
            job["total_document_count"] = await self._destination.count(self._connector.index_name, self._connector.id)
        connector: dict[str, Any] = reported(stored.with_(status=status, error=message)) | {"last_seen": now}
        if message is not None:
            connector |= {"status": ConnectorStatus.ERROR, "error": message}
        await self._commit(job, connector, state or {"progress": None})

    def _report(self, result: SyncResult) -> None:
        counters = result.counters.to_dict()
        words = [f"{number:,} {name.replace('_', ' ')}" for name, number in counters.items() if number]
        words = [word for word in words if not word.endswith(" bytes")]
        started = self._job.started_at
        took = f" in {format_duration((self._runtime.now() - started).total_seconds())}" if started else ""
        self._logger.info("sync completed%s: %s", took, ", ".join(words) or "no documents")
        if number := result.counters.dead_lettered:
            several = "documents" if number > 1 else "document"
            self._logger.warning(
                "%s %s could not be indexed: connectors dead-letters %s", f"{number:,}", several, self._connector.id
            )
        if number := result.counters.superseded:
            self._logger.warning(_SUPERSEDED, f"{number:,}")
        if result.incomplete:  # what it was, the sync has said when it came to it
            places = "one place" if len(result.incomplete) == 1 else f"{len(result.incomplete):,} places"
            self._logger.warning("not everything could be read (%s), so nothing was deleted", places)

    # Calls

    async def _stored(self) -> SyncJob:
        return await patiently(
            lambda: self._store.job(self._job.id), what="the store", seconds=self._patience, runtime=self._runtime
        )

    async def _count(self) -> int:
        connector = self._connector
        return await patiently(
            lambda: self._destination.count(connector.index_name, connector.id),
            what="counting documents",
            seconds=self._patience,
            runtime=self._runtime,
        )

    async def _commit(
        self, job: Mapping[str, Any], connector: Mapping[str, Any], state: Mapping[str, Any] | None = None
    ) -> None:
        await patiently(
            lambda: self._store.commit(
                self._lease(), job_id=self._job.id, job=job, connector=connector, state=state, release=True
            ),
            what="storing how the sync ended",
            seconds=self._patience,
            runtime=self._runtime,
        )
        self.ended = self._job.with_(**job)


def _read(job: SyncJob) -> int:
    """Documents that the job had read when its record was written."""
    return job.counters.get("read", 0)


def reported(job: SyncJob) -> dict[str, Any]:
    """Returns what a connector's record says of its last job, which has just ended."""
    if job.job_type == JobType.ACCESS_CONTROL:
        return {"last_access_control_sync_status": job.status, "last_access_control_sync_error": job.error}
    if job.job_type not in CONTENT_JOB_TYPES:
        return {}
    return {
        "last_sync_status": job.status,
        "last_sync_error": job.error,
        "last_indexed_document_count": job.indexed_document_count,
        "last_deleted_document_count": job.deleted_document_count,
    }
