"""Tells of running syncs: metrics, and a progress line now and then."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import Final

from connectors.runtime import Runtime
from connectors.service.metrics import Metrics
from connectors.sync.counters import OUTCOMES, Counters

__all__ = ["ProgressReporter"]

_logger = logging.getLogger("connectors.sync")

#: Seconds between two progress lines of one sync.
_PAUSE: Final = 3.0


@dataclass(slots=True)
class _Seen:
    counters: Counters
    told_at: float
    told: Counters


class ProgressReporter:
    """Turns the counters of running jobs, which only grow within a job, into metrics and log lines."""

    def __init__(self, metrics: Metrics, runtime: Runtime) -> None:
        self._metrics = metrics
        self._runtime = runtime
        self._seen: dict[str, _Seen] = {}

    def begin(self, connector_id: str, counters: Counters) -> None:
        """A job begins with these counters; what an earlier part of it did was told then."""
        self._seen[connector_id] = _Seen(replace(counters), self._runtime.monotonic(), replace(counters))

    def progress(self, connector_id: str, counters: Counters, queued: int) -> None:
        """Takes the counters of the job so far and the number of operations that wait."""
        now = self._runtime.monotonic()
        if connector_id not in self._seen:
            self.begin(connector_id, Counters())
        seen = self._seen[connector_id]
        before = seen.counters
        for outcome in (*OUTCOMES, "vanished"):
            grown = getattr(counters, outcome) - getattr(before, outcome)
            if grown > 0:
                self._metrics.documents(connector_id, outcome, grown)
        if counters.bytes > before.bytes:
            self._metrics.bytes_written(connector_id, counters.bytes - before.bytes)
        self._metrics.queue(connector_id, queued)
        seen.counters = replace(counters)
        if now - seen.told_at >= _PAUSE and counters != seen.told:
            rate = (counters.read - seen.told.read) / (now - seen.told_at)
            _logger.info(
                "%s: %s read, %s indexed, %s unchanged, %s/s",
                connector_id,
                f"{counters.read:,}",
                f"{counters.indexed:,}",
                f"{counters.unchanged:,}",
                f"{rate:,.0f}",
                extra={"connector": connector_id},
            )
            seen.told_at, seen.told = now, replace(counters)

    def stalled(self, connector_id: str, seconds: float) -> None:
        """Takes for how long a sync has been without progress, when that is too long; 0 when it is so no more."""
        self._metrics.stalled(connector_id, seconds)
