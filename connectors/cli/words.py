"""Numbers, times and jobs in words for people."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from connectors.byoc import JobStatus, SyncJob
from connectors.logger import mask
from connectors.utils import format_duration

__all__ = ["ago", "clock", "counters_in_words", "how_many", "outcome", "until"]

#: Counter → what it says, in the order in which people read them.
_COUNTERS: Final[Mapping[str, str]] = {
    "read": "read",
    "indexed": "indexed",
    "unchanged": "unchanged",
    "filtered": "filtered out by rules",
    "deleted": "deleted",
    "vanished": "removed since they are gone",
    "duplicate": "duplicates",
    "superseded": "superseded",
    "dead_lettered": "failed",
}


def counters_in_words(counters: Mapping[str, int]) -> str:
    """Returns `43 read, 2 indexed, 41 unchanged`; zeros are left out."""
    parts = [f"{counters[name]:,} {words}" for name, words in _COUNTERS.items() if counters.get(name)]
    return ", ".join(parts) or "no documents"


def how_many(number: int, noun: str, several: str | None = None) -> str:
    """Returns `1 document`, `2 documents`; `several` is a plural that does not just add an s."""
    return f"{number:,} {noun if number == 1 else several or f'{noun}s'}"


def clock(moment: datetime | None) -> str:
    """Returns a time as the reader's clock shows it, to the second; a dash for none."""
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S") if moment else "-"


def ago(moment: datetime | None, now: datetime) -> str:
    """Returns how long ago something was; a dash for never."""
    return f"{format_duration(max(0.0, (now - moment).total_seconds()))} ago" if moment else "-"


def until(moment: datetime | None, now: datetime) -> str:
    """Returns when something will be; a dash for never."""
    if moment is None:
        return "-"
    seconds = (moment - now).total_seconds()
    return f"in {format_duration(seconds)}" if seconds >= 1 else "now"


def outcome(job: SyncJob) -> str:
    """Returns how a job ended, or what it does, in one line."""
    counters = job.counters
    took = f" in {format_duration(job.seconds)}" if job.seconds is not None else ""
    if job.status == JobStatus.COMPLETED:
        done = "nothing changed at the source" if job.metadata.get("unchanged") else counters_in_words(counters)
        return f"completed{took}: {done}"
    if job.error:
        return f"{job.status}: {mask(job.error)}"
    return f"{job.status}: {counters_in_words(counters)}" if counters else job.status
