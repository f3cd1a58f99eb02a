"""One claimed job, from its first status to its last. How it ends is the business of `outcome`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, Final

from connectors.backends.ports import Claim, ClaimRequest, IndexInfo, IndexSpec
from connectors.backends.records import connector_snapshot
from connectors.byoc import Connector, Filter, JobStatus, JobType, SyncJob, TriggerMethod
from connectors.errors import (
    ConfigurationError,
    InvalidFilteringError,
    LeaseLostError,
    StalledError,
    SyncCanceledError,
    SyncError,
)
from connectors.filtering.validation import FilterValidationState
from connectors.logger import ConnectorLogger
from connectors.logger import settings as log_settings
from connectors.processes import start_child
from connectors.service.drafts import DeclaredRules, draft_to_settle, rules_in_force, settle_draft
from connectors.service.lease import LeaseKeeper
from connectors.service.live import CleanRun, LiveSource
from connectors.service.outcome import Outcome
from connectors.service.registry import configuration_fingerprint, fingerprints
from connectors.service.services import Services, disk_error, give_back, keep_ledger
from connectors.service.watchdog import Watchdog
from connectors.source import BaseDataSource
from connectors.sync.context import ReaderPlan, SyncContext, SyncResult
from connectors.sync.engine import run_sync
from connectors.sync.reading import ReaderJob, run_reader
from connectors.sync.watch import Watch
from connectors.utils import format_duration

__all__ = ["JobRun", "beginning"]

#: Seconds beyond the time to drain after which a job that was asked to suspend is cut short.
_GRACE: Final = 5.0
#: Seconds that a sync may take to end after it was cancelled.
_PATIENCE: Final = 30.0


def beginning(job: SyncJob, connector: Connector, worker: str, now: datetime) -> ClaimRequest:
    """Returns what to ask the store for, so that the job is in progress from then on."""
    changes: dict[str, Any] = {
        "status": JobStatus.IN_PROGRESS,
        "started_at": job.started_at or now,
        "last_seen": now,
        "error": None,
        "stalled": None,
        "worker_hostname": worker,
    }
    if "index_name" not in job.connector:  # somebody else wrote no more of it than its id
        changes["connector"] = {**connector_snapshot(connector), **job.connector}
    seen = {"last_sync_status": JobStatus.IN_PROGRESS, "last_sync_error": None, "last_seen": now}
    return ClaimRequest(job, connector, changes, seen)


class JobRun:
    """Runs one job that this worker has just claimed; not used twice.

    Args:
        resumed: an earlier run of the job began it.
        rules: the sync rules of `config.yml`; None: there is only the record.
        source: gives the source object.
        readers: processes that may read the source at the same time.
        stop: set when the worker shuts down: the job suspends.
    """

    def __init__(
        self,
        services: Services,
        claimed: Claim,
        *,
        resumed: bool,
        source: Callable[[], Awaitable[LiveSource]],
        rules: DeclaredRules | None,
        max_delete_ratio: float,
        readers: int = 1,
        stop: asyncio.Event,
    ) -> None:
        self._services = services
        self._connector, self._job, self._lease = connector, job, lease = claimed.connector, claimed.job, claimed.lease
        self._state = claimed.state
        self._resumed = resumed
        self._source = source
        self._declared_rules = rules
        self._filtering = Filter()
        self._max_delete_ratio = max_delete_ratio
        self._readers = readers
        self._stop = stop
        self._halt = asyncio.Event()  # the sync is to drain and return: the worker stops, or the sync hangs
        self._stalled: StalledError | None = None
        self._watch = Watch()
        self._written = False
        self._ended: SyncJob | None = None
        self._conditions: tuple[Any, ...] = ()
        self._live: LiveSource | None = None
        self._logger = ConnectorLogger(logging.getLogger("connectors.sync"), connector.id, job.id)
        self._keeper = LeaseKeeper(
            services.store,
            lease,
            job.id,
            ttl=services.service.lease,
            interval=services.service.heartbeat_interval,
            runtime=services.runtime,
        )

    async def run(self) -> SyncJob | None:
        """Runs the job to an end that is stored, and returns the job as it is since; None when it is another worker's.

        Raises:
            ConnectorsError: the end could not be stored. The job is then in progress without a lease, and the next
                look at it takes it up again. An error of the job itself is never raised.
        """
        services = self._services
        keeping = asyncio.create_task(self._keeper.run(services.service.poll_interval))
        try:
            await self._run_watched(keeping)
        finally:
            keeping.cancel()
            await asyncio.wait([keeping])
            self._keeper.end()
            if self._ended is None:  # else the lease went with the end
                await give_back(services, self._lease, written=self._written)
        if not keeping.cancelled() and (error := keeping.exception()) is not None:
            raise error
        return self._ended

    async def _run_watched(self, keeping: asyncio.Task[None]) -> None:
        """Runs the sync as a task of its own; a wish to cancel, a lost lease, or the end of the worker end it."""
        running = asyncio.create_task(self._sync())
        ending = [asyncio.create_task(event.wait()) for event in (self._keeper.cancel_requested, self._keeper.lost)]
        stopping, watching = asyncio.create_task(self._stop.wait()), asyncio.create_task(self._watchdog().run())
        try:
            await asyncio.wait([running, keeping, *ending, stopping, watching], return_when=asyncio.FIRST_COMPLETED)
            if watching.done() and not running.done():
                self._stalled = watching.result()
            if (self._stop.is_set() or self._stalled is not None) and self._written:
                self._halt.set()
                # The sync itself drains what is in flight and stores its checkpoint.
                patience = self._services.service.drain_timeout + _GRACE
                await asyncio.wait([running, keeping, *ending], timeout=patience, return_when=asyncio.FIRST_COMPLETED)
            await self._end(running)
            if not keeping.done() or self._keeper.lost.is_set():
                await self._conclude(running)
        except BaseException:  # cancelled, or a defect of ours: the sync does not outlive its job
            running.cancel()
            await asyncio.wait([running], timeout=_GRACE)
            raise
        finally:
            for task in (*ending, stopping, watching):
                task.cancel()
            await asyncio.wait([*ending, stopping, watching])

    def _watchdog(self) -> Watchdog:
        services, connector_id = self._services, self._connector.id
        observer = services.observer
        return Watchdog(
            self._watch,
            services.service,
            runtime=services.runtime,
            record=lambda text: services.store.commit(self._keeper.lease(), job_id=self._job.id, job={"stalled": text}),
            measure=lambda seconds: observer.stalled(connector_id, seconds) if observer is not None else None,
            logger=self._logger,
        )

    async def _end(self, running: asyncio.Task[SyncResult | None]) -> None:
        """Cancels the sync and waits for its end, but not for ever: its source may swallow the cancellation."""
        if running.done():
            return
        running.cancel()
        await asyncio.wait([running], timeout=_PATIENCE)
        if not running.done():
            self._logger.error(
                "the sync does not end though it was cancelled %s ago: its source holds it up; it is left behind",
                format_duration(_PATIENCE),
            )
            if self._live is not None:
                self._live.made_of = ()  # the next sync makes a source of its own

    async def _conclude(self, running: asyncio.Task[SyncResult | None]) -> None:
        """Stores how the sync ended."""
        service = self._services.service
        outcome = Outcome(
            self._services.store,
            self._services.destination,
            self._services.runtime,
            self._connector,
            self._job,
            lease=self._keeper.lease,
            patience=service.drain_timeout if self._stop.is_set() else service.lease,
            told=self._services.told,
            logger=self._logger,
        )
        if not self._written:
            await keep_ledger(self._services, self._lease)
        cut_short = not running.done() or running.cancelled()
        error = None if cut_short else running.exception()
        try:
            if error is not None and not isinstance(error, Exception):
                raise error
            self._keeper.lease()
            if (error is not None or cut_short) and self._keeper.cancel_requested.is_set():
                await outcome.fail(SyncCanceledError("cancelled by the operator"))
            elif error is not None:
                await outcome.fail(error)
            elif self._stalled is not None and (cut_short or ((result := running.result()) and result.suspended)):
                await outcome.fail(self._stalled)
            elif not cut_short:
                await self._succeed(outcome, running.result())
            elif self._stop.is_set():
                await outcome.suspend()
            else:
                await outcome.fail(SyncError("a part of the sync was cancelled, and nobody asked for it"))
            self._ended = outcome.ended
        except LeaseLostError as lost:
            self._logger.warning("%s", lost)

    async def _succeed(self, outcome: Outcome, result: SyncResult | None) -> None:
        if result is not None and result.suspended:
            await outcome.suspend()
            return
        await outcome.complete(result)
        failed = result is not None and (result.counters.dead_lettered or result.incomplete or result.needs_full)
        failed = failed or (result is not None and (result.resumed or result.provisional))
        if self._live is not None and not failed and not self._resumed:
            self._live.clean_run = CleanRun(self._conditions, self._lease.epoch)

    # The sync itself

    async def _sync(self) -> SyncResult | None:
        """Does what `_sync_here` does, and says so where it is our own disk that fails."""
        try:
            return await self._sync_here()
        except OSError as error:
            if (ours := disk_error(error, self._services.folder(self._connector.id))) is None:
                raise
            raise ours from error

    async def _sync_here(self) -> SyncResult | None:
        """Runs the sync; None when nothing changed since the last one."""
        live = self._live = await self._source()
        self._check_possible(live.source)
        self._filtering = await self._rules(live.source)
        fingerprint = configuration_fingerprint(self._connector)
        if await self._unchanged(live, fingerprint):
            return None
        services, connector = self._services, self._connector
        with self._watch.doing(f"reaching the source {connector.service_type}", below="JobRun._sync"):
            await live.source.validate_config()
            await self._validate_filtering(live.source)
            await live.source.ping()
        with self._watch.doing(f"preparing the index {connector.index_name}"):
            index = await services.destination.prepare(
                IndexSpec(
                    connector.index_name, connector.language, connector.pipeline, fields=live.source.field_types()
                )
            )
        self._conditions = self._present_conditions(fingerprint, index)
        self._written = True
        # Not before: of one that cannot even begin, the log says that alone.
        self._logger.info("%s sync %s", self._job.job_type, "goes on" if self._resumed else "starts")
        return await run_sync(
            SyncContext(
                connector=connector,
                job=self._job,
                source=live.source,
                filtering=self._filtering,
                destination=services.destination,
                store=services.store,
                index=index,
                lease=self._keeper.lease,
                state=self._state,
                config=services.sync,
                runtime=services.runtime,
                folder=services.folder(connector.id),
                stop=self._halt,
                limit=services.limit,
                logger=self._logger,
                configuration_fingerprint=fingerprint,
                max_delete_ratio=self._max_delete_ratio,
                drain_timeout=services.service.drain_timeout,
                extractor=services.extractor,
                observer=services.observer,
                readers=self._reader_plan(live),
                made_with=fingerprints(connector),
                watch=self._watch,
            )
        )

    def _reader_plan(self, live: LiveSource) -> ReaderPlan:
        level, form, secrets = log_settings()
        pause = self._services.sync.flush_interval
        service_type = self._connector.service_type
        job = ReaderJob(live.build, service_type, self._filtering, pause, level, form, secrets)
        name = f"reader of {self._connector.id}"
        in_thread = self._services.runtime.in_thread
        return ReaderPlan(self._readers, lambda: in_thread(start_child, run_reader, name, job))

    def _check_possible(self, source: BaseDataSource) -> None:
        """Raises ConfigurationError for a job that somebody else wrote and that cannot run."""
        if self._job.job_type != JobType.INCREMENTAL:
            return
        if not source.incremental_sync_enabled:
            raise ConfigurationError(f'the source "{source.service_type}" has no incremental sync: run a full one')
        if self._connector.last_synced is None:
            raise ConfigurationError("it was never synced: an incremental sync needs a full one before it")

    async def _rules(self, source: BaseDataSource) -> Filter:
        """Returns the rules in force, after a look at those that somebody edited."""
        draft = draft_to_settle(self._connector, self._declared_rules)
        if draft is not None:
            await source.validate_config()  # its validators rely on it
            result = await source.validate_filtering(draft)
            self._connector = await settle_draft(self._services.store, self._connector, result)
        return rules_in_force(self._connector, self._declared_rules)

    def _present_conditions(self, fingerprint: str, index: IndexInfo | None) -> tuple[Any, ...]:
        """Returns all that decides what becomes of a source that has not changed."""
        extractor, connector = self._services.extractor, self._connector
        extraction = extractor.fingerprint() if extractor is not None else None
        return fingerprint, dict(self._filtering), connector.pipeline, connector.language, extraction, index

    async def _unchanged(self, live: LiveSource, fingerprint: str) -> bool:
        """Asks the source whether there is anything to do, when its answer can be trusted."""
        clean = live.clean_run
        if clean is None or self._job.trigger_method != TriggerMethod.SCHEDULED:
            return False
        if clean.epoch != self._lease.epoch - 1:  # there was another claim, which did not run to such an end
            return False
        # An index that was emptied or whose mapping changed needs a sync, whatever the source says.
        index = await self._services.destination.info(self._connector.index_name, self._connector.pipeline)
        self._conditions = self._present_conditions(fingerprint, index)
        with self._watch.doing("asking the source whether anything changed", below="JobRun._unchanged"):
            return self._conditions == clean.conditions and not await live.source.changed()

    async def _validate_filtering(self, source: BaseDataSource) -> None:
        result = await source.validate_filtering(self._filtering)
        if result.state != FilterValidationState.VALID:
            problems = "; ".join(map(str, result.errors))
            raise InvalidFilteringError(f"the sync rules of {self._connector.id} are not valid: {problems}")
