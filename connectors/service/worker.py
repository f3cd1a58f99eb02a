"""Claims jobs and runs them, as many at once as the configuration allows."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, Final

from connectors.backends.ports import Claim
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
from connectors.config import Config
from connectors.errors import ConflictError, ConnectorsError, NotFoundError, describe
from connectors.logger import mask
from connectors.service.catalog import SourceCatalog
from connectors.service.foreign import index_problem
from connectors.service.job_run import JobRun, beginning
from connectors.service.lease import acquire, claim, died_here
from connectors.service.live import LiveSources
from connectors.service.loops import BREATH
from connectors.service.metrics import Metrics
from connectors.service.outcome import reported
from connectors.service.registry import OWNER, declared_rules, is_orphaned
from connectors.service.services import Services, give_back

__all__ = ["Worker"]

_logger = logging.getLogger("connectors.worker")

_SCAN: Final = 100_000
_SHORT_BREATH: Final = 0.001
#: Seconds beyond the time to drain that running jobs are waited for at the end.
_GRACE: Final = 10.0


class Worker:
    """Runs the jobs of one process.

    Attributes:
        running: connector id → the task that runs its job.
        found: jobs that the last look found due, and that had no room.
        freed: set whenever one of these has ended, so that another job can be claimed.
        allowed: how many jobs may run here now, besides `max_concurrent_syncs`: others may be less busy.
        on_change: called whenever `running` has changed.
    """

    def __init__(self, services: Services, catalog: SourceCatalog, config: Config, metrics: Metrics) -> None:
        self._services = services
        self._catalog = catalog
        self._config = config
        self._by_id = {item.id: item for item in config.connectors}
        self._metrics = metrics
        self._sources = LiveSources(catalog, services.runtime)
        self._stop = asyncio.Event()
        self._claiming = asyncio.Lock()
        self._found_at = float("-inf")
        self.running: dict[str, asyncio.Task[None]] = {}
        self.freed = asyncio.Event()
        self.found: deque[tuple[SyncJob, Connector | None]] = deque()
        self.allowed = _SCAN
        self.on_change: Callable[[], None] = lambda: None

    def configure(self, config: Config) -> None:
        """Takes a new configuration; running jobs keep the one they started with."""
        self._config = config
        self._by_id = {item.id: item for item in config.connectors}
        self._services = replace(self._services, service=config.service, sync=config.sync)

    # Claiming

    async def tick(self, connectors: Collection[str] | None = None) -> None:
        """Claims what can be claimed, oldest first.

        Args:
            connectors: ids of those whose jobs are run; None: of all.
        """
        async with self._claiming:
            if self._has_room():
                await self._find(connectors)
                await self._claim()

    async def claim_next(self, connectors: Collection[str] | None = None) -> None:
        """Claims what the last look found and had no room for; looks again where that is old, or nothing is left.

        In a queue of hundreds of small jobs a look at all of them would cost more than the next one does.
        """
        fresh = self._services.runtime.monotonic() - self._found_at < self._config.service.poll_interval
        if not fresh or not self.found:
            await self.tick(connectors)
            return
        async with self._claiming:
            await self._claim(anew=True)

    def breath(self) -> float:
        """Returns the seconds to pause after a claim: hardly any while the next one needs no look at all jobs."""
        return _SHORT_BREATH if self.found else BREATH

    def _has_room(self) -> bool:
        return not self._stop.is_set() and len(self.running) < self._capacity()

    async def _find(self, connectors: Collection[str] | None) -> None:
        """Finds the jobs that are due, with their connectors."""
        self.found.clear()
        self._found_at = self._services.runtime.monotonic()
        jobs = await self._services.store.jobs(statuses=UNFINISHED_JOB_STATUSES, limit=_SCAN)
        blocked = {job.connector_id for job in jobs if _blocks(job)}
        # Should he who has just said that he runs a job be dead, it goes on before another one begins.
        taken = {job.connector_id for job in jobs if job.status in ACTIVE_JOB_STATUSES and not self._due(job)}
        due = [
            job
            for job in sorted(jobs, key=_urgency)
            if job.connector_id not in self.running
            and job.connector_id not in taken
            and (connectors is None or job.connector_id in connectors)
            and not (job.job_type == JobType.INCREMENTAL and job.connector_id in blocked)
            and self._due(job)
        ]
        if not due:
            return
        records = {connector.id: connector for connector in await self._services.store.connectors()}
        for job in due:
            connector = records.get(job.connector_id)
            # A record of another service is its own business, as long as nobody asks us.
            if connectors is not None or self._serves(connector):
                self.found.append((job, connector))

    async def _claim(self, *, anew: bool = False) -> None:
        """Claims what was found, while there is room; `anew`: that was some time ago."""
        while self.found and self._has_room():
            job, connector = self.found.popleft()
            if job.connector_id in self.running:
                continue
            if not (anew and await self._is_blocked(job)):
                await self._look(job, connector)

    async def _is_blocked(self, job: SyncJob) -> bool:
        """Whether the job has to wait for another one of its connector by now."""
        if job.job_type != JobType.INCREMENTAL:
            return False
        others = await self._services.store.jobs(connector_id=job.connector_id, statuses=UNFINISHED_JOB_STATUSES)
        return any(_blocks(other) for other in others)

    def _capacity(self) -> int:
        return min(self._config.service.max_concurrent_syncs, self.allowed)

    def _serves(self, connector: Connector | None) -> bool:
        return connector is None or OWNER in connector.extra or connector.service_type in self._catalog.paths

    def _due(self, job: SyncJob) -> bool:
        """Whether it is worth a look: its pause is over, and nobody has just said that he runs it."""
        now = self._services.runtime.time()
        if job.status in ACTIVE_JOB_STATUSES and job.last_seen is not None and not died_here(job.worker_hostname or ""):
            # Far in the future it is the word of a clock that was wrong.
            return abs(now - job.last_seen.timestamp()) >= self._services.service.heartbeat_interval
        return job.status != JobStatus.SUSPENDED or job.number("resume_at") <= now or _is_unwanted(job)

    async def _look(self, job: SyncJob, connector: Connector | None) -> None:
        """Runs the job, or ends it, or leaves it, as its connector says."""
        if connector is None:
            named = f'there is no connector "{job.connector_id}": it was removed, or its id is wrong'
            reason = named if job.connector_id else 'the job names no connector: write {"connector": {"id": …}}'
            await self._drop(job, None, JobStatus.ERROR, reason)
            return
        held = connector.paused and job.trigger_method == TriggerMethod.SCHEDULED and not _is_unwanted(job)
        if held and job.status in {JobStatus.PENDING, JobStatus.SUSPENDED}:
            return
        refusal = _refusal(job, connector)
        if _is_unwanted(job) or is_orphaned(connector):
            await self._put_away(job, connector, JobStatus.CANCELED, None)
        elif refusal is not None:
            await self._put_away(job, connector, JobStatus.ERROR, refusal)
        elif held:  # its worker died, and the connector was paused since
            await self._put_away(job, connector, JobStatus.SUSPENDED, None)
        else:
            await self._take(job, connector)

    async def _take(self, job: SyncJob, connector: Connector) -> None:
        """Claims the job and runs it, unless job or connector have changed since they were read: the next look sees."""
        services = self._services
        wanted = beginning(job, connector, services.worker, services.runtime.now())
        claimed = await claim(
            services.store, wanted, services.worker, ttl=services.service.lease, now=services.runtime.time()
        )
        if claimed is not None:
            run = self._run(claimed, resumed=job.started_at is not None)
            self.running[connector.id] = asyncio.create_task(run)
            self.on_change()

    async def _put_away(self, job: SyncJob, connector: Connector, status: JobStatus, reason: str | None) -> None:
        """Drops a job, alone with its connector."""
        services = self._services
        # Since the list was read another worker may have run the job; a claim in vain costs a rebuilt ledger.
        if (await services.store.job(job.id)).version != job.version:
            return
        lease = await acquire(
            services.store, connector.id, services.worker, ttl=services.service.lease, now=services.runtime.time()
        )
        if lease is not None:
            await self._drop(job, connector, status, reason)
            await give_back(services, lease, written=False)

    async def _drop(self, job: SyncJob, connector: Connector | None, status: JobStatus, reason: str | None) -> None:
        """Gives a job that is not run the status that it has from now on, and says so in its connector's record."""
        services, now = self._services, self._services.runtime.now()
        changes: dict[str, Any] = {"status": status, "error": reason, "last_seen": now}
        if status is not JobStatus.SUSPENDED:
            changes |= {"completed_at": now, "worker_hostname": job.worker_hostname or services.worker}
        if status is JobStatus.CANCELED:
            changes["canceled_at"] = now
        elif status is JobStatus.ERROR:
            of = {"connector": job.connector_id, "job": job.id}
            _logger.error("%s: %s", job.connector_id or job.id, reason, extra=of)
        try:
            if connector is not None and connector.index_name:
                with suppress(ConnectorsError):  # as well as it can be known
                    changes["total_document_count"] = await services.destination.count(
                        connector.index_name, connector.id
                    )
            ended = await services.store.update_job(job.id, changes, statuses=UNFINISHED_JOB_STATUSES)
            # A job that never began changes nothing about the last sync, unless it is an error to be seen.
            if connector is not None and (job.started_at is not None or status is JobStatus.ERROR):
                await services.store.update_connector(connector.id, reported(ended))
        except (ConflictError, NotFoundError):
            return  # somebody else ended or removed it, which is as well

    # Running

    async def _run(self, claimed: Claim, *, resumed: bool) -> None:
        connector = claimed.connector
        config, declared = self._config, self._by_id.get(connector.id)
        own_ratio = declared.max_delete_ratio if declared is not None else None
        own_readers = declared.readers if declared is not None else None
        run = JobRun(
            self._services,
            claimed,
            resumed=resumed,
            source=partial(self._sources.get, connector, declared, config),
            rules=declared_rules(declared, config.secrets) if declared is not None else None,
            max_delete_ratio=config.sync.max_delete_ratio if own_ratio is None else own_ratio,
            readers=config.sync.readers if own_readers is None else own_readers,
            stop=self._stop,
        )
        self._metrics.sync_started(connector.id)
        try:
            ended = await run.run()
            if ended is not None and ended.ended:
                self._metrics.job_finished(connector.id, ended.job_type, ended.status, ended.seconds or 0.0)
        except Exception as error:  # the job stays in progress without a lease, so that a later look takes it over
            _logger.error(
                "%s: the end of its job could not be stored, and it is taken up again: %s",
                connector.id,
                mask(describe(error)),
                exc_info=None if isinstance(error, ConnectorsError) else error,
                extra={"connector": connector.id, "job": claimed.job.id},
            )
        finally:
            self._metrics.sync_stopped(connector.id)
            self.running.pop(connector.id, None)
            self.freed.set()
            self.on_change()

    # Ending

    async def close_unused(self, connectors: Collection[str]) -> None:
        """Closes the sources of all connectors but these and those that run."""
        await self._sources.close(keep={*connectors, *self.running})

    async def shutdown(self) -> None:
        """Suspends the running jobs, waits for them a limited time, and closes the sources."""
        self._stop.set()
        running = list(self.running.values())
        if running:
            _logger.info("suspending %s running %s", len(running), "sync" if len(running) == 1 else "syncs")
            _, late = await asyncio.wait(running, timeout=self._services.service.drain_timeout + _GRACE)
            for task in late:
                task.cancel()
            _, stuck = await asyncio.wait(late, timeout=2 * _GRACE) if late else ((), ())
            for _ in stuck:
                _logger.error("a sync does not end although it was cancelled; its source holds it up")
        await self._sources.close()


def _urgency(job: SyncJob) -> tuple[bool, float, str]:
    """Takes what was begun before what waits, and of these the oldest first."""
    created = job.created_at.timestamp() if job.created_at is not None else 0.0
    return job.status == JobStatus.PENDING, created, job.id


def _blocks(job: SyncJob) -> bool:
    """Whether no incremental job of the connector may begin while this one is as it is."""
    return job.job_type == JobType.FULL and job.status in {JobStatus.IN_PROGRESS, JobStatus.SUSPENDED}


def _is_unwanted(job: SyncJob) -> bool:
    """Whether somebody wished to cancel it: its worker may have suspended it at that very moment."""
    return job.status == JobStatus.CANCELING or job.cancelation_requested_at is not None


def _refusal(job: SyncJob, connector: Connector) -> str | None:
    """Returns why a job that somebody else wrote cannot run at all."""
    if job.job_type not in CONTENT_JOB_TYPES:
        return f'there are no syncs of the kind "{job.job_type}" here; write {" or ".join(CONTENT_JOB_TYPES)}'
    if not connector.service_type:
        return "the record of its connector names no source: write a `service_type`"
    if not connector.index_name:
        return "the record of its connector names no index: write an `index_name`"
    return index_problem(connector.index_name)
