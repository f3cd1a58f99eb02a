"""What operators do, from the command line and from the page alike."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from connectors.backends.ports import DeadLetter, Destination, Lease, SearchPage, Store
from connectors.byoc import (
    ACTIVE_JOB_STATUSES,
    CONTENT_JOB_TYPES,
    UNFINISHED_JOB_STATUSES,
    Connector,
    JobStatus,
    JobType,
    SyncJob,
    TriggerMethod,
)
from connectors.config import check_index_name
from connectors.errors import ConfigurationError, ConflictError, NotFoundError
from connectors.runtime import Runtime
from connectors.service.hold import hold
from connectors.service.letters import Letters
from connectors.service.registry import is_orphaned
from connectors.service.schedule import parse_schedule
from connectors.sync.context import RECONCILE
from connectors.utils import nearest

__all__ = ["ConnectorView", "Operations"]

_SCAN: Final = 1000
#: Jobs of a connector that are looked at, and connectors that are looked at at the same time.
_RECENT: Final = 5
_AT_ONCE: Final = 8
_WAITING: Final = (JobStatus.PENDING, JobStatus.SUSPENDED)
_NEVER_SYNCED: Final[dict[str, Any]] = {"sync_cursor": None, "last_synced": None}
_EMPTY: Final[dict[str, Any]] = {"progress": None, "configuration": None, "made_with": None, "rewrite": None}


@dataclass(frozen=True, slots=True)
class ConnectorView:
    """A connector as people look at it.

    Attributes:
        next_syncs: job type → when its schedule is due next; paused and unscheduled kinds are left out.
        running: the job that is under way, if there is one.
        last_job: the one that ended last, or waits.
        documents: number that the index holds of this connector.
    """

    connector: Connector
    next_syncs: dict[str, datetime]
    running: SyncJob | None
    last_job: SyncJob | None
    documents: int
    dead_letters: int

    @property
    def orphaned(self) -> bool:
        """Whether `config.yml` no longer declares it."""
        return is_orphaned(self.connector)


class Operations:
    """Every action of an operator, on records; a daemon, here or elsewhere, carries out what takes time.

    Attributes:
        letters: what is done with dead letters.
    """

    def __init__(self, store: Store, destination: Destination, runtime: Runtime, worker: str) -> None:
        self.store = store
        self.destination = destination
        self.letters = Letters(store, destination, runtime, worker)
        self._runtime = runtime
        self._worker = worker

    # Looking

    async def connector(self, connector_id: str) -> Connector:
        """Returns a record; NotFoundError names the nearest id."""
        try:
            return await self.store.connector(connector_id)
        except NotFoundError:
            known = [connector.id for connector in await self.store.connectors()]
            near = nearest(connector_id, known)
            hint = f'; did you mean "{near}"?' if near else f"; there are {', '.join(known) or 'none yet'}"
            raise NotFoundError(f'there is no connector "{connector_id}"{hint}') from None

    async def views(self, connectors: Sequence[Connector] | None = None) -> list[ConnectorView]:
        """Returns connectors, all of them unless some are given, with what belongs to each; ordered as they come."""
        connectors = await self.store.connectors() if connectors is None else connectors
        active = await self.store.jobs(statuses=ACTIVE_JOB_STATUSES, limit=_SCAN)
        limit = _RECENT * max(1, len(connectors))
        recent = await self.store.jobs(limit=limit)
        jobs: dict[str, list[SyncJob]] = {}
        for job in [*active, *recent]:
            jobs.setdefault(job.connector_id, []).append(job)
        several = asyncio.Semaphore(_AT_ONCE)

        async def own_jobs(connector: Connector) -> Sequence[SyncJob]:
            own = jobs.get(connector.id, [])
            if len(recent) < limit or any(job.ended for job in own):
                return own
            async with several:  # others had so many jobs since that its own are further behind
                return await self._latest(connector)

        of_each = await asyncio.gather(*map(own_jobs, connectors))
        documents, letters = await self._documents(connectors), await self.store.count_all_dead_letters()
        return [
            self._view(connector, jobs, documents.get(connector.id, 0), letters.get(connector.id, 0))
            for connector, jobs in zip(connectors, of_each, strict=True)
        ]

    async def view(self, connector: Connector) -> ConnectorView:
        """Returns one connector with what belongs to it."""
        jobs, documents = await self._latest(connector), await self._documents([connector])
        letters = await self.store.count_dead_letters(connector.id)
        return self._view(connector, jobs, documents.get(connector.id, 0), letters)

    async def _latest(self, connector: Connector) -> Sequence[SyncJob]:
        return await self.store.jobs(connector_id=connector.id, limit=_RECENT)

    async def _documents(self, connectors: Sequence[Connector]) -> dict[str, int]:
        """Returns connector → number of documents, of those that have an index."""
        written = [connector for connector in connectors if connector.index_name]
        numbers = await self.destination.count_each([(connector.index_name, connector.id) for connector in written])
        return {connector.id: number for connector, number in zip(written, numbers, strict=True)}

    def _view(self, connector: Connector, jobs: Sequence[SyncJob], documents: int, letters: int) -> ConnectorView:
        running = next((job for job in jobs if job.status in ACTIVE_JOB_STATUSES), None)
        last = next((job for job in jobs if running is None or job.id != running.id), None)
        return ConnectorView(
            connector=connector,
            next_syncs=self.next_syncs(connector),
            running=running,
            last_job=last,
            documents=documents,
            dead_letters=letters,
        )

    def next_syncs(self, connector: Connector) -> dict[str, datetime]:
        """Returns job type → when it is due next, now for what was missed."""
        if connector.paused or is_orphaned(connector):
            return {}
        found: dict[str, datetime] = {}
        now = self._runtime.now()
        for job_type in CONTENT_JOB_TYPES:
            try:
                interval = connector.interval(job_type)
                if interval is None:
                    continue
                schedule = parse_schedule(interval, str(connector.scheduling.get("timezone") or "UTC"))
            except ConfigurationError:
                continue  # the scheduler puts it into the record, where it is seen
            last = connector.last_scheduled(job_type)
            moment = now if last is None else schedule.next(last)
            if moment is not None:
                found[job_type.value] = max(moment, now)
        return found

    async def jobs(self, connector_id: str | None = None, limit: int = 50) -> list[SyncJob]:
        """Returns jobs, newest first."""
        if connector_id is not None:
            await self.connector(connector_id)
        return await self.store.jobs(connector_id=connector_id, limit=limit)

    async def search(self, index: str, query: str, *, limit: int = 10, offset: int = 0) -> SearchPage:
        """Searches an index; NotFoundError names the nearest one."""
        names = await self.destination.indices()
        if index not in names:
            near = nearest(index, names)
            hint = f'; did you mean "{near}"?' if near else f"; there are {', '.join(names) or 'none yet'}"
            raise NotFoundError(f'there is no index "{index}"{hint}')
        return await self.destination.search(index, query, limit=limit, offset=offset)

    async def dead_letters(self, connector_id: str, limit: int = 100, after: str | None = None) -> Sequence[DeadLetter]:
        """Returns documents that could not be indexed, without what they hold."""
        await self.connector(connector_id)
        return await self.store.dead_letters(connector_id, limit=limit, after=after)

    # Acting

    async def sync_now(
        self,
        connector_id: str,
        job_type: JobType = JobType.FULL,
        *,
        allow_deletes: int | None = None,
        reconcile: Mapping[str, Any] | None = None,
    ) -> SyncJob:
        """Queues an on-demand job; one of the same kind that waits, suspended ones too, is used and waits no longer.

        Args:
            allow_deletes: number of vanished documents that this job may delete, whatever `max_delete_ratio` says.
            reconcile: compare with what is in the index, whatever the ledger says; see `SyncContext.write_again`.

        Raises:
            NotFoundError: there is no such connector.
            ConfigurationError: it cannot be synced so.
        """
        connector = await self.connector(connector_id)
        _check_possible(connector, job_type)
        wishes = {"allow_deletes": allow_deletes, RECONCILE: reconcile}
        metadata = {name: wish for name, wish in wishes.items() if wish is not None}
        waiting = await self.store.jobs(connector_id=connector_id, statuses=_WAITING, limit=_SCAN)
        for job in waiting:
            if job.job_type == job_type and (woken := await self._wake(job, metadata)) is not None:
                return woken
        job = await self.store.create_job(
            connector, job_type, TriggerMethod.ON_DEMAND, now=self._runtime.now(), **metadata
        )
        # The scheduler may have been faster.
        return job if job.trigger_method == TriggerMethod.ON_DEMAND else await self._wake(job, metadata) or job

    async def _wake(self, job: SyncJob, metadata: Mapping[str, Any]) -> SyncJob | None:
        """Makes a waiting job one that was asked for, which no pause holds up; None when it waits no more."""
        changes = {
            "trigger_method": TriggerMethod.ON_DEMAND,
            "metadata": {**job.metadata, **metadata, "resume_at": None},
        }
        try:
            return await self.store.update_job(job.id, changes, statuses=_WAITING)
        except ConflictError:
            return None

    async def cancel(self, job_id: str) -> SyncJob:
        """Cancels a job: a waiting one at once, a running one as soon as its worker notices.

        Raises:
            NotFoundError: there is no such job.
            ConflictError: it has ended.
        """
        now = self._runtime.now()
        changes = {"cancelation_requested_at": now, **_canceled(now)}
        try:
            job = await self.store.update_job(job_id, changes, statuses=_WAITING)
        except ConflictError:
            return await self.store.update_job(
                job_id,
                {"status": JobStatus.CANCELING, "cancelation_requested_at": now},
                statuses=ACTIVE_JOB_STATUSES,
            )
        if job.started_at is not None:
            with suppress(NotFoundError):  # removed meanwhile
                await self.store.update_connector(
                    job.connector_id, {"last_sync_status": JobStatus.CANCELED, "last_sync_error": None}
                )
        return job

    async def pause(self, connector_id: str, *, paused: bool = True) -> Connector:
        """Pauses or resumes the connector's schedules."""
        await self.connector(connector_id)
        return await self.store.update_connector(connector_id, {"paused": paused})

    async def reset(self, connector_id: str) -> None:
        """Forgets checkpoint, cursor and hashes: the next sync is a full one and writes every document anew.

        Raises:
            ConflictError: a sync of the connector runs.
        """
        await self.connector(connector_id)
        async with self._alone(connector_id) as lease:
            await self.store.commit(lease(), job_id="", connector=_NEVER_SYNCED, state=_EMPTY | {"rewrite": True})

    async def purge(self, connector_id: str, *, forget: Callable[[], Awaitable[None]] | None = None) -> int:
        """Deletes all documents and dead letters of the connector; returns the number of documents.

        The record of a connector that `config.yml` no longer declares goes too.

        Args:
            forget: is called while no sync of the connector can run, to remove what its source made in the backend.

        Raises:
            ConflictError: a sync of the connector runs.
        """
        connector = await self.connector(connector_id)
        async with self._alone(connector_id) as lease:
            await self.store.commit(lease(), job_id="", connector=_NEVER_SYNCED, state=_EMPTY)
            number = 0
            if connector.index_name:
                number = await self.destination.purge(connector.index_name, connector_id, guard=lease)
            await self.store.remove_dead_letters(connector_id)
            if forget is not None:
                await forget()
            if is_orphaned(connector):
                await self.store.remove_connector(connector_id)
        return number

    async def purge_index(self, connector_id: str, index: str) -> int:
        """Deletes the connector's documents from an index that it wrote to before; returns their number.

        Raises:
            ConfigurationError: it writes there now, or the name is a pattern, which would mean others besides.
            NotFoundError: there is no such index.
            ConflictError: a sync that began before the index changed still writes there.
        """
        connector = await self.connector(connector_id)
        try:
            check_index_name(index)
        except ValueError as error:
            raise ConfigurationError(str(error)) from None
        if index == connector.index_name:
            raise ConfigurationError(
                f"{index} is the index that {connector_id} writes to; to empty it, leave the index out of the command"
            )
        jobs = await self.store.jobs(connector_id=connector_id, statuses=UNFINISHED_JOB_STATUSES, limit=_SCAN)
        if any(job.connector.get("index_name") == index for job in jobs):
            raise ConflictError(
                f"a sync of {connector_id} still writes to {index}; cancel it or wait for its end, then try again"
            )
        if await self.destination.info(index) is None:
            raise NotFoundError(f'there is no index "{index}"')
        return await self.destination.purge(index, connector_id)

    @asynccontextmanager
    async def _alone(self, connector_id: str) -> AsyncIterator[Callable[[], Lease]]:
        """Holds the connector's lease, and cancels the jobs that wait."""
        async with hold(self.store, connector_id, self._worker, self._runtime) as lease:
            jobs = await self.store.jobs(connector_id=connector_id, statuses=UNFINISHED_JOB_STATUSES, limit=_SCAN)
            now = self._runtime.now()
            for job in jobs:  # also one that seems to run: its worker died
                with suppress(ConflictError):  # somebody else cancelled it
                    await self.store.update_job(job.id, _canceled(now), statuses=UNFINISHED_JOB_STATUSES)
            yield lease


def _canceled(now: datetime) -> dict[str, Any]:
    return {
        "status": JobStatus.CANCELED,
        "canceled_at": now,
        "completed_at": now,
        "last_seen": now,
        "error": None,
    }


def _check_possible(connector: Connector, job_type: JobType) -> None:
    """Raises ConfigurationError for a job that could never run."""
    if not connector.service_type or not connector.index_name:
        raise ConfigurationError(f"the record of {connector.id} is not complete: it names no source or no index")
    if is_orphaned(connector):
        raise ConfigurationError(f"{connector.id} is no longer in config.yml; write it there again to sync it")
    if job_type is not JobType.INCREMENTAL:
        return
    if not connector.has_feature("incremental_sync"):
        raise ConfigurationError(
            f'{connector.id} cannot be synced incrementally: its source "{connector.service_type}" has no incremental '
            "sync; run a full one"
        )
    if connector.last_synced is None:
        raise ConfigurationError(f"{connector.id} was never synced: an incremental sync needs a full one before it")
