"""Records of the connector protocol: connector, sync job, their statuses, and `Filter`.

`to_record` and `from_record` speak the documented shape, so that a connector or a job written by another tool is read
as well as our own. Times are aware datetimes in UTC here and ISO text in a record. Keys that we do not know are kept
in `extra` and written back untouched; so is a value that is not what its field holds, which then counts as absent:
one record that somebody else filled with anything must not keep others from being read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
from typing import Any, Final, Self

from connectors.errors import ConfigurationError

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
    def basic_rules(self) -> list[Any]:
        """Records of the basic rules, in no particular order. What is no list is an item, for validators to refuse."""
        rules = self.get("rules") or []
        return list(rules) if isinstance(rules, list | tuple) else [rules]

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


_OWN: Final = frozenset({"id", "version", "extra"})
_MILLISECONDS: Final = 1e11  # as large a number of seconds is a year that nobody writes
_LARGEST: Final = 2**63
_DIGITS: Final = re.compile(r"\d{10,}", re.ASCII)
#: Characters of what `format_time` writes.
_LENGTH: Final = len("2000-01-01T00:00:00.000000+00:00")


class _Record:
    """Reading and writing of records, shared by both kinds."""

    __slots__ = ()

    @classmethod
    def from_record(cls, record_id: str, record: Mapping[str, Any], version: int = 0) -> Self:
        """Builds the object from its documented shape; `version` is the store's, for optimistic concurrency.

        Never raises for what stands in a record, see `unreadable`.
        """
        readers = _readers(cls)
        values: dict[str, Any] = {}
        extra: dict[str, Any] = {}
        for key, value in record.items():
            read = readers.get(key)
            if read is None:
                extra[key] = value
            elif value is not None:
                try:
                    values[key] = read(value)
                except (ValueError, TypeError, OverflowError, OSError):
                    extra[key] = value
        return cls(id=record_id, version=version, extra=extra, **values)  # type: ignore[call-arg]  # fields of the subclass

    def to_record(self) -> dict[str, Any]:
        """Returns the documented shape, without id and version."""
        record = dict(self.extra)  # type: ignore[attr-defined]  # every subclass has it
        for name in _readers(type(self)):
            if name not in record:  # what could not be read stays as somebody wrote it
                value = getattr(self, name)
                record[name] = format_time(value) if isinstance(value, datetime) else value
        return record

    @property
    def unreadable(self) -> list[str]:
        """Names of the fields that hold what cannot be read, sorted."""
        return sorted(self.extra.keys() & _readers(type(self)).keys())  # type: ignore[attr-defined]  # every subclass has it

    def with_(self, **changes: Any) -> Self:
        """Returns a copy with these fields changed."""
        extra = {key: value for key, value in self.extra.items() if key not in changes}  # type: ignore[attr-defined]  # every subclass has it
        return replace(self, **{"extra": extra, **changes})  # type: ignore[type-var]  # subclasses are dataclasses


def _readers(kind: type[Any]) -> Mapping[str, Callable[[Any], Any]]:
    """Returns how each field of a kind of record is read; a reader raises ValueError for what it cannot."""
    if kind not in _FIELDS:
        _FIELDS[kind] = {
            item.name: _READERS[str(item.type).removesuffix(" | None")]
            for item in fields(kind)
            if item.name not in _OWN
        }
    return _FIELDS[kind]


def _of(kind: type, value: Any) -> Any:
    if isinstance(value, kind):
        return value
    raise ValueError(kind.__name__)


def _flag(value: Any) -> bool:
    if value not in (True, False, "true", "false"):
        raise ValueError("true or false")
    return value in (True, "true")


def _count(value: Any) -> int:
    if isinstance(value, bool) or not float(value).is_integer() or abs(float(value)) >= _LARGEST:
        raise ValueError("a whole number")
    return int(value)


def _mappings(value: Any) -> list[dict[str, Any]]:
    return [_of(dict, item) for item in _of(list, value)]


def parse_time(value: Any) -> datetime:
    """Reads ISO text, or seconds or milliseconds since the epoch, as an aware datetime in UTC.

    Raises ValueError, TypeError, OverflowError or OSError for what is no time.
    """
    if type(value) is str and len(value) == _LENGTH and value.endswith("+00:00"):
        return datetime.fromisoformat(value)  # as we write it; lists of records are full of them
    if isinstance(value, bool):
        raise TypeError("a time")
    if isinstance(value, datetime):
        moment = value
    elif isinstance(value, str) and not _DIGITS.fullmatch(value):
        moment = datetime.fromisoformat(value)
    else:
        number = float(value)
        return datetime.fromtimestamp(number / 1000 if abs(number) >= _MILLISECONDS else number, UTC)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def format_time(value: datetime) -> str:
    """Writes ISO text in UTC with microseconds; text order is time order."""
    return value.astimezone(UTC).isoformat(timespec="microseconds")


_READERS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "str": partial(_of, str),
    "bool": _flag,
    "int": _count,
    "dict[str, Any]": partial(_of, dict),
    "list[dict[str, Any]]": _mappings,
    "Any": lambda value: value,
    "datetime": parse_time,
}
_FIELDS: Final[dict[type[Any], Mapping[str, Callable[[Any], Any]]]] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Connector(_Record):
    """One configured use of a source.

    `configuration` holds field records with the values that are not secret; `scheduling` is
    `{"full": {"enabled": bool, "interval": text}, "incremental": …, "access_control": …}`; `filtering` is the list of
    domains with `active` and `draft` rules. A record that another tool has only begun has an empty `service_type` or
    `index_name`: nothing can be synced yet.
    """

    id: str
    service_type: str = ""
    index_name: str = ""
    name: str = ""
    description: str | None = None
    status: str = ConnectorStatus.CREATED
    configuration: dict[str, Any] = field(default_factory=dict, repr=False)  # another tool keeps its secrets here
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
        """The rules in force. What is no rules is a rule, for validators to refuse."""
        return self._rules("active")

    @property
    def draft_filter(self) -> Filter:
        """The rules that somebody edits; they count when they were found valid and became active."""
        return self._rules("draft")

    @property
    def draft_validation(self) -> Mapping[str, Any]:
        """What is known of the draft: `state` edited, valid or invalid, and `errors`."""
        validation = self.draft_filter.get("validation")
        return validation if isinstance(validation, Mapping) else {}

    def _rules(self, name: str) -> Filter:
        rules = self.filtering[0].get(name) if self.filtering else self.extra.get("filtering")
        return Filter(rules or {}) if rules is None or isinstance(rules, Mapping) else Filter(rules=[rules])

    def has_feature(self, name: str) -> bool:
        """Whether a feature of the source is known and enabled."""
        feature = self.features.get(name)
        return isinstance(feature, Mapping) and feature.get("enabled") is True

    @property
    def paused(self) -> bool:
        """Whether the operator paused the connector: no scheduled sync starts."""
        return bool(self.extra.get("paused"))

    def last_scheduled(self, job_type: JobType) -> datetime | None:
        """Returns the schedule's tick that was last acted upon."""
        value = getattr(self, scheduled_field(job_type))
        return value if isinstance(value, datetime) else None

    def interval(self, job_type: JobType) -> str | None:
        """Returns the schedule's text, None when that kind of sync is switched off.

        Raises ConfigurationError for an entry that is no schedule.
        """
        entry = self.extra.get("scheduling") or self.scheduling.get(job_type.value)
        if entry is None and job_type is JobType.FULL and "interval" in self.scheduling:
            entry = self.scheduling  # as older versions of the protocol have it
        if not entry:
            return None
        try:
            enabled = _flag(_of(dict, entry).get("enabled") or False)
        except ValueError:
            raise ConfigurationError(
                f"the schedule of its {job_type} syncs in the record is no schedule: "
                'write {"enabled": true, "interval": "0 0 2 * * ?"}'
            ) from None
        interval = entry.get("interval") if enabled else None
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
        """Id of the connector that the job belongs to, empty when the job names none."""
        value = self.connector.get("id")
        return value if isinstance(value, str) else ""

    @property
    def counters(self) -> dict[str, int]:
        """Documents by outcome, as far as they are numbers; see `connectors.sync.counters`."""
        counters = self.metadata.get("counters")
        found = counters.items() if isinstance(counters, Mapping) else ()
        return {name: number for name, number in found if type(number) is int}

    @property
    def incomplete(self) -> list[str]:
        """Why not everything could be read."""
        reasons = self.metadata.get("incomplete")
        return [str(reason) for reason in reasons] if isinstance(reasons, list) else []

    def number(self, name: str) -> float:
        """Returns a number of the metadata, 0 for what is none."""
        value = self.metadata.get(name)
        return float(value) if isinstance(value, int | float) else 0.0

    @property
    def stalled(self) -> str | None:
        """Says what the job waits for, while it runs without progress."""
        text = self.extra.get("stalled")
        return text if isinstance(text, str) and text and self.status in ACTIVE_JOB_STATUSES else None

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
