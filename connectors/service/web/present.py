"""Connectors and jobs as the page shows them: states in words, counters that add up, what can be done."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

from connectors.byoc import Connector, ConnectorStatus, JobStatus, JobType, SyncJob
from connectors.config import looks_secret
from connectors.logger import mask
from connectors.service.operations import ConnectorView
from connectors.sync.counters import OUTCOMES, Counters

__all__ = [
    "KINDS",
    "ConnectorCard",
    "JobCard",
    "Outcome",
    "Setting",
    "State",
    "connector_card",
    "history",
    "job_card",
    "settings",
]

_HIDDEN: Final = "•••"
#: Seconds since the Unix epoch that no calendar holds.
_NEVER: Final = 253_402_300_800
#: What people call a kind of sync.
KINDS: Final[Mapping[str, str]] = {
    JobType.FULL: "Full sync",
    JobType.INCREMENTAL: "Incremental sync",
    JobType.ACCESS_CONTROL: "Access control sync",
}
_OUTCOME_WORDS: Final = {
    "indexed": "indexed",
    "unchanged": "unchanged",
    "filtered": "left out by the sync rules",
    "duplicate": "listed more than once",
    "superseded": "superseded by a newer version",
    "dead_lettered": "could not be indexed",
    "deleted": "deleted",
}


@dataclass(frozen=True, slots=True)
class State:
    """A state in words. `tone` is one of ok, busy, warn, bad, idle: it chooses colour and icon."""

    words: str
    tone: str


_JOB_STATES: Final[Mapping[str, State]] = {
    JobStatus.PENDING: State("Queued", "busy"),
    JobStatus.IN_PROGRESS: State("Running", "busy"),
    JobStatus.CANCELING: State("Stopping", "busy"),
    JobStatus.CANCELED: State("Cancelled", "idle"),
    JobStatus.ERROR: State("Failed", "bad"),
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """One part of a job's documents: the counter's name, words for people, how many."""

    name: str
    words: str
    documents: int


@dataclass(frozen=True, slots=True)
class JobCard:
    """A sync job for people.

    Attributes:
        active: whether it runs, or waits for its turn.
        unchanged: the source said that nothing changed, so nothing was read.
        outcomes: what became of the documents that were read; together with `in_flight` they are all that were read.
        incomplete: why not everything could be read, in which case nothing was deleted.
        resume_at: when a suspended job is tried again.
        expected: documents that the run before this one read, as a measure of progress; None when there is none.
        repeats: runs before it that found nothing changed either, and are not listed.
    """

    id: str
    connector_id: str
    kind: str
    on_demand: bool
    state: State
    active: bool
    created: datetime | None
    started: datetime | None
    ended: datetime | None
    seconds: float | None
    unchanged: bool
    counters: Counters
    outcomes: list[Outcome]
    in_flight: int
    held: int | None
    error: str | None
    stalled: str | None
    incomplete: list[str]
    resume_at: datetime | None
    worker: str | None
    expected: int | None = None
    repeats: int = 0

    @property
    def can_cancel(self) -> bool:
        """Whether the operator may stop it."""
        return self.active and self.state.words != "Stopping"


@dataclass(frozen=True, slots=True)
class ConnectorCard:
    """A connector for people.

    Attributes:
        error: what is wrong now and what to do; None when all is well.
        next_syncs: kind of sync and when it is due, soonest first.
        waits_as: kind of the suspended job, which may be told to go on at once.
        cancel: id of the job that can be stopped.
    """

    id: str
    name: str
    description: str | None
    service_type: str
    index: str
    state: State
    error: str | None
    documents: int
    dead_letters: int
    running: JobCard | None
    last: JobCard | None
    last_synced: datetime | None
    next_syncs: list[tuple[str, datetime]]
    paused: bool
    orphaned: bool
    waits_as: str | None
    can_sync: bool
    can_sync_changes: bool
    cancel: str | None

    @property
    def busy(self) -> bool:
        """Whether a sync runs or is about to."""
        return self.state.tone == "busy"


@dataclass(frozen=True, slots=True)
class Setting:
    """One field of a connector's configuration."""

    label: str
    value: str


def connector_card(view: ConnectorView) -> ConnectorCard:
    """Returns a connector as it is shown."""
    connector, last = view.connector, view.last_job
    running = job_card(view.running, expected=_expected(view)) if view.running else None
    last_card = job_card(last) if last else None
    open_job = running or (last_card if last_card and last_card.active else None)
    error = connector.error or connector.last_sync_error
    return ConnectorCard(
        id=connector.id,
        name=connector.name or connector.id,
        description=connector.description,
        service_type=connector.service_type,
        index=connector.index_name,
        state=_connector_state(view, running, last_card),
        error=mask(error) if error and not running else None,
        documents=view.documents,
        dead_letters=view.dead_letters,
        running=running,
        last=last_card,
        last_synced=connector.last_synced,
        next_syncs=sorted(
            ((KINDS.get(kind, kind), due) for kind, due in view.next_syncs.items()), key=lambda item: item[1]
        ),
        paused=connector.paused,
        orphaned=view.orphaned,
        waits_as=last.job_type if last and _suspended(view) else None,
        can_sync=open_job is None and not view.orphaned,
        can_sync_changes=open_job is None and not view.orphaned and _reads_changes(connector),
        cancel=open_job.id if open_job and open_job.can_cancel else None,
    )


def _suspended(view: ConnectorView) -> bool:
    waits = view.last_job is not None and view.last_job.status == JobStatus.SUSPENDED
    return waits and view.running is None and not view.orphaned


def _expected(view: ConnectorView) -> int | None:
    """Returns how many documents the last completed run of the same kind read."""
    last, running = view.last_job, view.running
    if last is None or running is None or last.job_type != running.job_type or last.status != JobStatus.COMPLETED:
        return None
    return last.counters.get("read") or None


def _reads_changes(connector: Connector) -> bool:
    return connector.has_feature("incremental_sync") and connector.last_synced is not None


def _connector_state(view: ConnectorView, running: JobCard | None, last: JobCard | None) -> State:
    connector = view.connector
    if running is not None:
        return running.state if running.state.words == "Stopping" else State("Syncing", "busy")
    if view.orphaned:
        return State("Not in config.yml any more", "idle")
    if last is not None and last.active:
        return last.state
    if connector.paused:
        return State("Paused", "idle")
    if connector.status == ConnectorStatus.ERROR or connector.last_sync_status == JobStatus.ERROR:
        return State("Failed", "bad")
    if connector.status == ConnectorStatus.NEEDS_CONFIGURATION:
        return State("Needs configuration", "warn")
    if connector.last_synced is None:
        return State("Never synced yet", "idle")
    if last is not None and last.state.words == "Cancelled":
        return State("Last sync cancelled", "warn")
    if view.dead_letters or (last is not None and last.state.tone == "warn"):
        return State("Up to date, with gaps", "warn")
    return State("Up to date", "ok")


def job_card(job: SyncJob, *, expected: int | None = None) -> JobCard:
    """Returns a job as it is shown."""
    counters = Counters.from_dict(job.counters)
    outcomes = [Outcome(name, _OUTCOME_WORDS[name], number) for name in OUTCOMES if (number := getattr(counters, name))]
    resume_at = job.number("resume_at")
    waits = job.status == JobStatus.SUSPENDED
    return JobCard(
        id=job.id,
        connector_id=job.connector_id,
        kind=KINDS.get(job.job_type, job.job_type),
        on_demand=job.trigger_method == "on_demand",
        state=_job_state(job),
        active=not job.ended,
        created=job.created_at,
        started=job.started_at,
        ended=job.canceled_at if job.status == JobStatus.CANCELED else job.completed_at,
        seconds=job.seconds,
        unchanged=bool(job.metadata.get("unchanged")),
        counters=counters,
        outcomes=outcomes,
        in_flight=max(0, counters.read - counters.settled),
        held=job.total_document_count,
        error=mask(job.error) if job.error else None,
        stalled=mask(job.stalled) if job.stalled else None,
        incomplete=[mask(reason) for reason in job.incomplete],
        resume_at=datetime.fromtimestamp(resume_at, UTC) if 0 < resume_at < _NEVER and waits else None,
        worker=job.worker_hostname,
        expected=expected,
    )


def history(jobs: Iterable[SyncJob]) -> list[JobCard]:
    """Returns jobs as they are listed, newest first; runs of a connector that found nothing changed are one row."""
    rows: list[JobCard] = []
    latest: dict[str, int] = {}
    for shown in map(job_card, jobs):
        place = latest.get(shown.connector_id)
        if place is not None and shown.unchanged and rows[place].unchanged:
            rows[place] = replace(rows[place], repeats=rows[place].repeats + 1)
        else:
            latest[shown.connector_id] = len(rows)
            rows.append(shown)
    return rows


def _job_state(job: SyncJob) -> State:
    if job.status == JobStatus.COMPLETED:
        troubled = job.counters.get("dead_lettered") or job.incomplete
        return State("Completed with gaps", "warn") if troubled else State("Completed", "ok")
    if job.status == JobStatus.SUSPENDED:
        # With an error it waits for somebody to mend something, without one for the daemon's next start.
        return State("Suspended", "bad" if job.error else "warn")
    return _JOB_STATES.get(job.status) or State(job.status, "idle")


def settings(connector: Connector) -> list[Setting]:
    """Returns the connector's configuration in the order of its fields, without anything secret."""
    records = {
        name: record if isinstance(record, Mapping) else {"value": record}
        for name, record in connector.configuration.items()
    }
    found: list[Setting] = []
    for name, record in sorted(records.items(), key=lambda item: _order(item[1])):
        value = record.get("value")
        value = record.get("default_value") if value in (None, "", []) else value
        if record.get("sensitive") or looks_secret(name):
            text = _HIDDEN
        elif value in (None, "", []):
            continue
        else:
            text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        found.append(Setting(str(record.get("label") or name), mask(text)))
    return found


def _order(record: Mapping[str, Any]) -> float:
    order = record.get("order")
    return float(order) if isinstance(order, int | float) else float("inf")
