"""The daemon: its loops, in one TaskGroup, from start to a clean stop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from typing import Any, Final

from connectors.backends.ports import Destination, Store
from connectors.byoc import JobStatus, SyncJob
from connectors.config import Config, ConfigError, ConfigFile
from connectors.logger import mask, register_secrets
from connectors.runtime import Runtime
from connectors.service.adoption import Adoption
from connectors.service.loops import MAX_PAUSE, repeat
from connectors.service.metrics import LoopMonitor, Metrics
from connectors.service.operations import Operations
from connectors.service.registry import Registry, is_orphaned
from connectors.service.scheduler import Scheduler
from connectors.service.starting import tell_what_comes, until_reached
from connectors.service.worker import Worker
from connectors.sync.patience import patiently
from connectors.sync.threads import together
from connectors.utils import format_duration

__all__ = ["Daemon", "waits_for_a_person"]

_logger = logging.getLogger("connectors.daemon")

_HOUSEKEEPING: Final = 60.0
#: Seconds between two removals of old jobs.
_PURGING: Final = 3600.0
#: A sync every few seconds that finds nothing changed would leave records without number.
_UNCHANGED_RETENTION: Final = timedelta(days=1)
#: `run --once` waits for another try of a job that is due within so many seconds.
_SOON: Final = 25.0
#: Seconds beyond its longest pause after which the work loop is missing.
_LATE: Final = 30.0
#: Jobs that `run --once` queues at the same time.
_AT_ONCE: Final = 16
#: Seconds after which `finish` looks again, at most.
_LOOK: Final = 0.5
#: What is built once, at the start.
_FIXED: Final = (
    "web", "embedded", "elasticsearch", "opensearch", "logging", "extraction.enabled", "extraction.workers",
    "extraction.timeout", "extraction.memory", "extraction.max_text_chars", "service.data_dir", "service.worker_name",
    "service.workers", "sync.bytes_in_flight", "sync.batch_bytes", "sync.writes_in_flight",
)  # fmt: skip


class Daemon:
    """Runs everything that happens without anybody asking.

    Args:
        config_file: where the configuration is read again from; None: it never changes.
    """

    def __init__(
        self,
        config: Config,
        config_file: ConfigFile | None,
        *,
        store: Store,
        destination: Destination,
        registry: Registry,
        worker: Worker,
        operations: Operations,
        metrics: Metrics,
        runtime: Runtime,
        on_config: Callable[[Config], None],
    ) -> None:
        self._config = config
        self._file = config_file
        self._store = store
        self._destination = destination
        self._registry = registry
        self._worker = worker
        self._operations = operations
        self._metrics = metrics
        self._runtime = runtime
        self._on_config = on_config
        self._adoption = Adoption(store, registry.catalog, runtime, config)
        self._scheduler = Scheduler(store, runtime)
        self._purged_at = float("-inf")
        self._worked_at: float | None = None
        self._applied = True
        self._looked = False
        self._known: set[str] = set()
        self.config_error: str | None = None

    @property
    def config(self) -> Config:
        """The configuration in force."""
        return self._config

    async def run(self, stop: asyncio.Event, serve: Callable[[], Awaitable[None]] | None = None) -> None:
        """Runs until `stop` is set, then suspends what runs. `serve` runs beside it until cancelled.

        Raises:
            ConnectorsError: the records could not be read at the start; an index that cannot be reached is waited for
                as long as a sync would wait.
            ExceptionGroup: a defect of ours in one of the loops; what runs was suspended before.
        """
        patience = self._config.sync.retry_patience
        if not await until_reached(self._begin, stop=stop, seconds=patience, runtime=self._runtime):
            return
        try:
            await self._run_loops(stop, serve)
        finally:
            await self._worker.shutdown()

    async def _begin(self) -> None:
        """Reads the records, as the first thing that needs the index."""
        await self._registry.apply(self._config)
        for connector in await self._store.connectors():
            if connector.last_synced is not None:
                self._metrics.succeeded(connector.id, connector.last_synced)
        self._worked_at = self._runtime.monotonic()

    async def _run_loops(self, stop: asyncio.Event, serve: Callable[[], Awaitable[None]] | None) -> None:
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._repeat("jobs", self._claim_next, self._worker.breath)),
                group.create_task(self._repeat("work", self._work, lambda: self._config.service.poll_interval)),
                group.create_task(
                    self._repeat("configuration", self._watch, lambda: self._config.service.poll_interval)
                ),
                group.create_task(
                    self._repeat("records", self._adoption.try_sources, lambda: self._config.service.poll_interval)
                ),
                group.create_task(self._repeat("housekeeping", self._keep_house, lambda: _HOUSEKEEPING)),
                group.create_task(LoopMonitor(self._metrics).run()),
            ]
            if serve is not None:
                tasks.append(group.create_task(_forever(serve)))
            await stop.wait()
            for task in tasks:
                task.cancel()

    async def run_once(self, stop: asyncio.Event) -> list[SyncJob]:
        """Syncs every connector of the configuration that is not paused once, in full, and returns the jobs as they
        ended. A job that an earlier run suspended goes on."""
        await self._registry.apply(self._config)
        names = {declared.id for declared in self._config.connectors}
        wanted = [
            connector.id
            for connector in await self._store.connectors()
            if connector.id in names and not connector.paused
        ]
        jobs = await together([partial(self._operations.sync_now, name) for name in wanted], at_once=_AT_ONCE)
        return await self.finish([job.id for job in jobs], stop)

    async def finish(self, job_ids: list[str], stop: asyncio.Event) -> list[SyncJob]:
        """Runs jobs until these have ended, or wait for a person, or `stop` is set; returns them as they are then.

        Only jobs of the same connectors are run: one of these may have to go on before. The daemon ends with it.
        """
        monitor = asyncio.create_task(LoopMonitor(self._metrics).run())
        stopped = asyncio.create_task(stop.wait())
        try:
            connectors = {(await self._store.job(job_id)).connector_id for job_id in job_ids}
            open_jobs = list(job_ids)
            while not stop.is_set():
                self._worker.freed.clear()  # what ends from here on, be it before we wait, is no reason to wait
                await patiently(
                    lambda: self._worker.claim_next(connectors),
                    what="looking for work",
                    seconds=_SOON,
                    runtime=self._runtime,
                )
                if await self._is_over(open_jobs):
                    break
                freed = asyncio.create_task(self._worker.freed.wait())
                await asyncio.wait(
                    [freed, stopped],
                    timeout=min(_LOOK, self._config.service.poll_interval),
                    return_when=asyncio.FIRST_COMPLETED,
                )
                freed.cancel()
                await asyncio.wait([freed])
        finally:
            for task in (monitor, stopped):
                task.cancel()
            await asyncio.wait([monitor, stopped])
            await self._worker.shutdown()
        return [await self._store.job(job_id) for job_id in job_ids]

    async def _is_over(self, open_jobs: list[str]) -> bool:
        """Whether each of these jobs has ended or waits for a person. Takes out those that have ended, up to the first
        that goes on: among hundreds of jobs, few are looked at again each time."""
        for job_id in list(open_jobs):
            job = await self._store.job(job_id)
            if job.ended:
                open_jobs.remove(job_id)
            elif not waits_for_a_person(job, self._runtime.time()):
                return False
        return True

    def trouble(self) -> str | None:
        """Says what keeps the daemon from its work; None when nothing does."""
        if self._worked_at is None:
            return "the daemon has not started yet"
        late = self._runtime.monotonic() - self._worked_at
        if late <= max(MAX_PAUSE, self._config.service.poll_interval) + _LATE:
            return None
        return f"the daemon has not looked for work for {format_duration(late)}; its log says why"

    # The loops

    async def _repeat(self, name: str, step: Callable[[], Awaitable[None]], pause: Callable[[], float]) -> None:
        await repeat(name, step, pause, self._runtime)

    async def _work(self) -> None:
        await self._scheduler.tick(await self._adoption.tick(await self._store.connectors()))
        await self._worker.tick()
        self._worked_at = self._runtime.monotonic()
        if not self._looked:
            self._looked = True
            await tell_what_comes(self._operations, self._runtime)

    async def _claim_next(self) -> None:
        """Claims the next job when one has ended, so that those that wait do not wait for the next look as well."""
        await self._worker.freed.wait()
        self._worker.freed.clear()
        await self._worker.claim_next()

    async def _watch(self) -> None:
        """Takes up an edit of the configuration; a broken one is told, and the last good one stays in force."""
        if self._file is None:
            return
        found = await self._runtime.in_thread(self._file.poll)
        if isinstance(found, ConfigError):
            self.config_error = mask(str(found))
            _logger.error("the edited configuration is not used, the last good one stays in force:")
            for problem in found.problems:
                _logger.error("%s", problem)
        elif found is not None:
            self.config_error = None
            register_secrets(found.secrets)
            self._tell_of_fixed(found)
            self._config = found
            self._on_config(found)
            self._worker.configure(found)
            self._adoption.configure(found)
            self._applied = False
        if not self._applied:  # also what a failing store kept from the records before
            await self._registry.apply(self._config)
            self._applied = True
            _logger.info("took up the edited configuration")

    def _tell_of_fixed(self, found: Config) -> None:
        """Names what was edited and yet stays as it is until the next start."""
        before = self._config
        fixed = [name for name in _FIXED if _setting(found, name) != _setting(before, name)]
        if fixed:
            _logger.warning("a change of %s counts from the next start on", ", ".join(fixed))

    async def _keep_house(self) -> None:
        await self._destination.maintain()
        await self._registry.apply(self._config)
        connectors = await self._store.connectors()
        letters = await self._store.count_all_dead_letters()
        for connector in connectors:
            self._metrics.dead_letters(connector.id, letters.get(connector.id, 0))
            rests = connector.paused or is_orphaned(connector)
            self._metrics.failing(connector.id, fails=connector.error is not None and not rests)
        names = {connector.id for connector in connectors}
        for gone in self._known - names:
            self._metrics.forget(gone)
        self._known = names
        await self._worker.close_unused({connector.id for connector in connectors if not is_orphaned(connector)})
        now = self._runtime.monotonic()
        if now - self._purged_at >= _PURGING:
            today = self._runtime.now()
            purged = await self._store.purge_jobs(
                before=today - timedelta(seconds=self._config.service.job_retention),
                unchanged_before=today - _UNCHANGED_RETENTION,
            )
            self._purged_at = now
            if purged:
                _logger.info("removed the records of %s old jobs", purged)


def _setting(config: Config, name: str) -> Any:
    value: Any = config
    for part in name.split("."):
        value = getattr(value, part)
    return value


def waits_for_a_person(job: SyncJob, now: float) -> bool:
    """Whether the job waits for somebody to mend something, not just for another try.

    Args:
        now: seconds since the Unix epoch.
    """
    return job.status == JobStatus.SUSPENDED and job.number("resume_at") > now + _SOON


async def _forever(serve: Callable[[], Awaitable[None]]) -> None:
    await serve()
