"""Records of the connector protocol: connector, sync job, their statuses, and `Filter`.

`to_record` and `from_record` speak the documented shape, so that a connector or a job written by another tool is read
as well as our own. Times are aware datetimes in UTC here and ISO text in a record. Keys that we do not know are kept
in `extra` and written back untouched.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, ClassVar, Final, Self, TypeVar

__all__ = [
    "ACTIVE_JOB_STATUSES",
    "CONTENT_JOB_TYPES",
    "ENDED_JOB_STATUSES",
    "UNFINISHED_JOB_STATUSES",
    "Connector",
    "ConnectorStatus",
    "Filter",
    "JobStatus",
    "JobType",
    "SyncJob",
    "TriggerMethod",
]


class ConnectorStatus(StrEnum):
    """State of a connector's record."""

    CREATED = "created"
    NEEDS_CONFIGURATION = "needs_configuration"
    CONFIGURED = "configured"
    CONNECTED = "connected"
    ERROR = "error"


class JobStatus(StrEnum):
    """State of a sync job: pending → in_progress → completed / error / suspended; canceling → canceled."""

    PENDING = "pending"
    IN_PROGRESS = "in_progress"
    CANCELING = "canceling"
    CANCELED = "canceled"
    SUSPENDED = "suspended"
    COMPLETED = "completed"
    ERROR = "error"


class JobType(StrEnum):
    """What a sync job does."""

    FULL = "full"
    INCREMENTAL = "incremental"
    ACCESS_CONTROL = "access_control"


class TriggerMethod(StrEnum):
    """Why a sync job exists."""

    ON_DEMAND = "on_demand"
    SCHEDULED = "scheduled"


ACTIVE_JOB_STATUSES: Final = (JobStatus.IN_PROGRESS, JobStatus.CANCELING)
ENDED_JOB_STATUSES: Final = (JobStatus.COMPLETED, JobStatus.ERROR, JobStatus.CANCELED)
UNFINISHED_JOB_STATUSES: Final = (*ACTIVE_JOB_STATUSES, JobStatus.PENDING, JobStatus.SUSPENDED)
CONTENT_JOB_TYPES: Final = (JobType.FULL, JobType.INCREMENTAL)


class Filter(dict[str, Any]):
    """The active sync rules of a job: `{"rules": [basic rule records], "advanced_snippet": {"value": …}}`."""

    @property
    def basic_rules(self) -> list[dict[str, Any]]:
        """Records of the basic rules, in no particular order."""
        return list(self.get("rules") or ())

    def has_advanced_rules(self) -> bool:
        """Whether there are advanced rules to follow."""
        return bool(self.advanced_or_none())

    def get_advanced_rules(self) -> Any:
        """Returns the advanced rules, in the shape that the source documents; an empty dict when there are none."""
        return self.advanced_or_none() or {}

    def advanced_or_none(self) -> Any:
        """Returns the advanced rules as they were written, None when there are none."""
        snippet = self.get("advanced_snippet")
        return snippet.get("value") if isinstance(snippet, Mapping) else snippet

    @classmethod
    def of(cls, rules: list[dict[str, Any]] | None = None, advanced: Any = None) -> Filter:
        """Builds the record form."""
        return cls(rules=list(rules or ()), advanced_snippet={"value": advanced})


R = TypeVar("R", bound="_Record")


class _Record:
    """Reading and writing of records, shared by both kinds."""

    __slots__ = ()
    _times: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    def from_record(cls, record_id: str, record: Mapping[str, Any], version: int = 0) -> Self:
        """Builds the object from its documented shape; `version` is the store's, for optimistic concurrency."""
        known = {item.name for item in fields(cls) if item.init} - {"id", "version", "extra"}  # type: ignore[arg-type]  # subclasses are dataclasses
        values = {key: value for key, value in record.items() if key in known and value is not None}
        for key in cls._times & values.keys():
            values[key] = parse_time(values[key])
        extra = {key: value for key, value in record.items() if key not in known}
        return cls(id=record_id, version=version, extra=extra, **values)  # type: ignore[call-arg]  # fields of the subclass

    def to_record(self) -> dict[str, Any]:
        """Returns the documented shape, without id and version."""
        record = dict(self.extra)  # type: ignore[attr-defined]  # every subclass has it
        for item in fields(self):  # type: ignore[arg-type]  # subclasses are dataclasses
            if item.name not in {"id", "version", "extra"}:
                value = getattr(self, item.name)
                record[item.name] = format_time(value) if isinstance(value, datetime) else value
        return record

    def with_(self, **changes: Any) -> Self:
        """Returns a copy with these fields changed."""
        return replace(self, **changes)  # type: ignore[type-var]  # subclasses are dataclasses


def parse_time(value: Any) -> datetime:
    """Reads ISO text, or seconds since the epoch, as an aware datetime in UTC."""
    if isinstance(value, datetime):
        moment = value
    elif isinstance(value, int | float):
        return datetime.fromtimestamp(value, UTC)
    else:
        moment = datetime.fromisoformat(str(value))
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def format_time(value: datetime) -> str:
    """Writes ISO text in UTC with microseconds; text order is time order."""
    return value.astimezone(UTC).isoformat(timespec="microseconds")


@dataclass(frozen=True, slots=True, kw_only=True)
class Connector(_Record):
    """One configured use of a source.

    `configuration` holds field records with the values that are not secret; `scheduling` is
    `{"full": {"enabled": bool, "interval": text}, "incremental": …, "access_control": …}`; `filtering` is the list of
    domains with `active` and `draft` rules. A record that another tool has only begun has an empty `service_type` or
    `index_name`: nothing can be synced yet.
    """

    _times: ClassVar[frozenset[str]] = frozenset({
        "last_seen", "last_synced", "last_sync_scheduled_at", "last_incremental_sync_scheduled_at",
        "last_access_control_sync_scheduled_at",
    })  # fmt: skip

    id: str
    service_type: str = ""
    index_name: str = ""
    name: str = ""
    description: str | None = None
    status: str = ConnectorStatus.CREATED
    configuration: dict[str, Any] = field(default_factory=dict)
    scheduling: dict[str, Any] = field(default_factory=dict)
    custom_scheduling: dict[str, Any] = field(default_factory=dict)
    filtering: list[dict[str, Any]] = field(default_factory=list)
    pipeline: dict[str, Any] | None = None
    features: dict[str, Any] = field(default_factory=dict)
    language: str | None = None
    is_native: bool = False
    error: str | None = None
    last_seen: datetime | None = None
    last_synced: datetime | None = None
    last_sync_status: str | None = None
    last_sync_error: str | None = None
    last_sync_scheduled_at: datetime | None = None
    last_incremental_sync_scheduled_at: datetime | None = None
    last_access_control_sync_status: str | None = None
    last_access_control_sync_error: str | None = None
    last_access_control_sync_scheduled_at: datetime | None = None
    last_indexed_document_count: int | None = None
    last_deleted_document_count: int | None = None
    sync_cursor: Any = None
    extra: dict[str, Any] = field(default_factory=dict)
    version: int = 0

    @property
    def active_filter(self) -> Filter:
        """The rules in force."""
        return Filter(self.filtering[0].get("active") or {}) if self.filtering else Filter()

    @property
    def paused(self) -> bool:
        """Whether the operator paused the connector: no scheduled sync starts."""
        return bool(self.extra.get("paused"))

    def last_scheduled(self, job_type: JobType) -> datetime | None:
        """Returns the schedule's tick that was last acted upon."""
        value = getattr(self, scheduled_field(job_type))
        return value if isinstance(value, datetime) else None

    def interval(self, job_type: JobType) -> str | None:
        """Returns the schedule's text, None when that kind of sync is switched off."""
        entry = self.scheduling.get(job_type.value) or {}
        interval = entry.get("interval") if entry.get("enabled") else None
        return str(interval) if interval else None


def scheduled_field(job_type: JobType) -> str:
    """Returns the name of the connector's field that holds the last tick of this kind of sync."""
    return {
        JobType.FULL: "last_sync_scheduled_at",
        JobType.INCREMENTAL: "last_incremental_sync_scheduled_at",
        JobType.ACCESS_CONTROL: "last_access_control_sync_scheduled_at",
    }[job_type]


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncJob(_Record):
    """One run of a connector. `connector` is the snapshot it started with; `metadata` has our counters."""

    _times: ClassVar[frozenset[str]] = frozenset({
        "cancelation_requested_at", "canceled_at", "completed_at", "created_at", "last_seen", "started_at",
    })  # fmt: skip

    id: str
    connector: dict[str, Any] = field(default_factory=dict)
    job_type: str = JobType.FULL
    trigger_method: str = TriggerMethod.SCHEDULED
    status: str = JobStatus.PENDING
    error: str | None = None
    created_at: datetime | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None
    last_seen: datetime | None = None
    cancelation_requested_at: datetime | None = None
    canceled_at: datetime | None = None
    indexed_document_count: int = 0
    indexed_document_volume: int = 0
    deleted_document_count: int = 0
    total_document_count: int | None = None
    worker_hostname: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)
    version: int = 0

    @property
    def connector_id(self) -> str:
        """Id of the connector that the job belongs to."""
        return str(self.connector.get("id", ""))

    @property
    def ended(self) -> bool:
        """Whether the job will not run any more."""
        return self.status in ENDED_JOB_STATUSES

    @property
    def seconds(self) -> float | None:
        """Duration of the run in seconds, as far as it is known."""
        if self.started_at is None:
            return None
        end = self.completed_at or self.canceled_at or self.last_seen
        return (end - self.started_at).total_seconds() if end else None
