"""Turns due schedules into pending jobs. Several workers agree by compare-and-set on the connector's record."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from connectors.backends.ports import Store
from connectors.byoc import (
    CONTENT_JOB_TYPES,
    UNFINISHED_JOB_STATUSES,
    Connector,
    ConnectorStatus,
    JobType,
    TriggerMethod,
    scheduled_field,
)
from connectors.errors import ConfigurationError, ConflictError, describe
from connectors.runtime import Runtime
from connectors.service.registry import is_orphaned
from connectors.service.schedule import Schedule, due, parse_schedule

__all__ = ["Scheduler"]

_logger = logging.getLogger("connectors.scheduler")

_SCAN: Final = 100_000
_NEWEST: Final = 20


@dataclass(frozen=True, slots=True)
class _Due:
    """A job that is to be created, for a tick of the schedule of one kind; it may have to be of another kind."""

    connector: Connector
    kind: JobType
    job_type: JobType
    tick: datetime


class Scheduler:
    """Looks at all connectors and creates the jobs that are due."""

    def __init__(self, store: Store, runtime: Runtime) -> None:
        self._store = store
        self._runtime = runtime
        self._schedules: dict[tuple[str, str], Schedule] = {}
        self._told: dict[str, str] = {}
        self._recovered = False

    async def tick(self, connectors: Sequence[Connector] | None = None) -> None:
        """Creates a job for each schedule that is due; missed ones coalesce into one.

        Args:
            connectors: the records as they are, of those that are to be scheduled; None: of all, which are read.
        """
        found: list[_Due] = []
        records = await self._store.connectors() if connectors is None else connectors
        connectors = [connector for connector in records if _can_run(connector)]
        if not self._recovered:
            await self._recover(connectors)
            self._recovered = True
        for connector in connectors:
            problems: list[str] = []
            for kind in CONTENT_JOB_TYPES:
                try:
                    found += self._look(connector, kind)
                except ConfigurationError as error:
                    problems.append(str(error))
                except (
                    AttributeError,
                    TypeError,
                    ValueError,
                    OverflowError,
                ) as error:  # another tool may write anything
                    problems.append(f"its schedule cannot be read ({describe(error)}); mend its record")
            await self._report(connector, "; ".join(dict.fromkeys(problems)))
        if not found:
            return
        jobs = await self._store.jobs(statuses=UNFINISHED_JOB_STATUSES, limit=_SCAN)
        unfinished = {(job.connector_id, job.job_type) for job in jobs}
        for item in found:
            own, full = (item.connector.id, item.job_type), (item.connector.id, JobType.FULL)
            if own in unfinished or (item.kind is JobType.INCREMENTAL and full in unfinished):
                continue  # the tick stays due and is caught up once, when that job has ended
            await self._create(item)

    def _look(self, connector: Connector, kind: JobType) -> list[_Due]:
        interval = connector.interval(kind)
        if interval is None:
            return []
        job_type = kind
        if kind is JobType.INCREMENTAL and connector.last_synced is None:
            if connector.interval(JobType.FULL) is not None:
                return []  # an incremental sync needs a full one before it, which comes by its own schedule
            job_type = JobType.FULL
        schedule = self._parse(interval, str(connector.scheduling.get("timezone") or "UTC"))
        tick = due(schedule, last_scheduled=connector.last_scheduled(kind), now=self._runtime.now())
        return [] if tick is None else [_Due(connector, kind, job_type, tick)]

    def _parse(self, text: str, timezone: str) -> Schedule:
        key = (text, timezone)
        if key not in self._schedules:
            self._schedules[key] = parse_schedule(text, timezone)
        return self._schedules[key]

    async def _create(self, item: _Due) -> None:
        connector = item.connector
        self._recovered = False  # should one of the calls fail, the tick may be noted and have no job
        record = connector.to_record() | {scheduled_field(item.kind): item.tick.isoformat()}
        try:
            await self._store.put_connector(Connector.from_record(connector.id, record, connector.version))
        except ConflictError:
            self._recovered = True
            return  # another worker was faster, or the kind before this one: the next look decides
        await self._store.create_job(connector, item.job_type, TriggerMethod.SCHEDULED, now=self._runtime.now())
        self._recovered = True

    async def _recover(self, connectors: Sequence[Connector]) -> None:
        """Creates the jobs whose tick was noted and that were not created: by a process that was killed then, say."""
        for connector in connectors:
            for kind in CONTENT_JOB_TYPES:
                tick = connector.last_scheduled(kind) if _is_scheduled(connector, kind) else None
                if tick is None or (connector.last_synced is not None and connector.last_synced >= tick):
                    continue
                jobs = await self._store.jobs(connector_id=connector.id, limit=_NEWEST)
                if not any((moment := job.last_seen or job.created_at) and moment >= tick for job in jobs):
                    job_type = JobType.FULL if connector.last_synced is None else kind
                    now = self._runtime.now()
                    await self._store.create_job(connector, job_type, TriggerMethod.SCHEDULED, now=now)

    async def _report(self, connector: Connector, problem: str) -> None:
        """Tells of a problem once, keeps it in the record while it lasts, and takes it out afterwards."""
        told = self._told.get(connector.id, "")
        if problem != told:
            self._told[connector.id] = problem
            if problem:
                _logger.error("%s: %s", connector.id, problem, extra={"connector": connector.id})
        if problem and connector.error != problem:
            await self._store.update_connector(connector.id, {"error": problem, "status": ConnectorStatus.ERROR})
        elif told and not problem and connector.error == told:
            status = ConnectorStatus.CONNECTED if connector.last_synced else ConnectorStatus.CONFIGURED
            await self._store.update_connector(connector.id, {"error": None, "status": status})


def _is_scheduled(connector: Connector, kind: JobType) -> bool:
    try:
        return connector.interval(kind) is not None
    except ConfigurationError:  # told of by the look that follows
        return False


def _can_run(connector: Connector) -> bool:
    """Whether a scheduled sync could run at all; one that another tool has only begun waits for the rest of it."""
    ready = connector.service_type and connector.index_name and connector.status != ConnectorStatus.NEEDS_CONFIGURATION
    return bool(ready) and not connector.paused and not is_orphaned(connector)
