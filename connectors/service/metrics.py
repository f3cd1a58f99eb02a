"""What Prometheus is told at `/metrics`, and how late the event loop is.

Everything lives in a registry of its own, so that several daemons, or tests, in one process do not share numbers.
Counters count from the start of the process, as Prometheus expects; the counters of a job, which outlive the process,
are in its record.
"""

from __future__ import annotations

import asyncio
import platform
import time
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder

from connectors import __version__
from connectors.byoc import CONTENT_JOB_TYPES, JobStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from datetime import datetime

    from connectors.sync.limits import PaceReading

__all__ = ["LoopMonitor", "Metrics"]

#: Name of the label that tells several processes apart.
_WORKER: Final = "worker"
#: What is true of all processes together.
_OF_ALL: Final = ("connectors_failing", "connectors_last_success_timestamp_seconds", "connectors_lag_seconds")
_DELAYS: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
_DURATIONS: Final = (1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 4 * 3600.0, 12 * 3600.0, 24 * 3600.0)


class Metrics:
    """The numbers of one daemon.

    Args:
        wall: the clock, in seconds since the Unix epoch; the lag is computed by it at each scrape.
    """

    def __init__(self, *, wall: Callable[[], float] = time.time) -> None:
        self._wall = wall
        self._last_success: dict[str, float] = {}
        self._failing: dict[str, bool] = {}
        self._longest_delay = 0.0
        self._pace: Callable[[], PaceReading] | None = None
        self._others: dict[int, list[Metric]] = {}
        registry = self._registry = CollectorRegistry()
        self._documents = Counter(
            "connectors_documents", "Documents by outcome.", ["connector", "outcome"], registry=registry
        )
        self._bytes = Counter(
            "connectors_written_bytes",
            "JSON bytes that the destination acknowledged.",
            ["connector"],
            registry=registry,
        )
        self._jobs = Counter(
            "connectors_jobs", "Sync jobs that ended.", ["connector", "job_type", "status"], registry=registry
        )
        self._running = Gauge("connectors_running_syncs", "Syncs that run now.", ["connector"], registry=registry)
        self._queued = Gauge(
            "connectors_queued_operations",
            "Operations that wait for the destination.",
            ["connector"],
            registry=registry,
        )
        self._stalled = Gauge(
            "connectors_stalled_seconds",
            "For how long a sync has been without progress, from service.stall_timeout on.",
            ["connector"],
            registry=registry,
        )
        self._dead_letters = Gauge(
            "connectors_dead_letters", "Documents that are kept as dead letters.", ["connector"], registry=registry
        )
        self._durations = Histogram(
            "connectors_sync_duration_seconds",
            "Time from the start of a sync job to its end.",
            ["job_type"],
            buckets=_DURATIONS,
            registry=registry,
        )
        self._delays = Histogram(
            "connectors_loop_delay_seconds", "How late the event loop ran.", buckets=_DELAYS, registry=registry
        )
        self._last_delay = Gauge("connectors_loop_delay_last_seconds", "The last of these delays.", registry=registry)
        self._max_delay = Gauge("connectors_loop_delay_max_seconds", "The longest since the start.", registry=registry)
        build = Info("connectors_build", "Version of the daemon and of Python.", registry=registry)
        build.info({"version": __version__, "python": platform.python_version()})
        ProcessCollector(registry=registry)
        registry.register(self)

    # What happens

    def documents(self, connector: str, outcome: str, number: int = 1) -> None:
        """Counts documents that have their outcome (`indexed`, `unchanged`, …)."""
        self._documents.labels(connector, outcome).inc(number)

    def bytes_written(self, connector: str, number: int) -> None:
        """Counts JSON bytes that were acknowledged."""
        self._bytes.labels(connector).inc(number)

    def sync_started(self, connector: str) -> None:
        """Notes that a sync of the connector runs."""
        self._running.labels(connector).set(1)
        self.stalled(connector, 0.0)

    def sync_stopped(self, connector: str) -> None:
        """Notes that none runs any more."""
        self._running.labels(connector).set(0)
        self.queue(connector, 0)
        self.stalled(connector, 0.0)

    def job_finished(self, connector: str, job_type: str, status: str, seconds: float) -> None:
        """Counts a job and its duration; a completed content sync is the connector's last success."""
        self._jobs.labels(connector, job_type, status).inc()
        self._durations.labels(job_type).observe(seconds)
        if status == JobStatus.COMPLETED and job_type in CONTENT_JOB_TYPES:
            self._last_success[connector] = self._wall()

    # What is

    def succeeded(self, connector: str, at: datetime) -> None:
        """Sets the time of the last success, an aware time, as it is known from the store at start."""
        self._last_success[connector] = at.timestamp()

    def queue(self, connector: str, operations: int) -> None:
        """Sets the number of operations that wait for the destination."""
        self._queued.labels(connector).set(operations)

    def stalled(self, connector: str, seconds: float) -> None:
        """Sets for how long a sync of the connector has been without progress, 0 when it gets on."""
        self._stalled.labels(connector).set(seconds)

    def dead_letters(self, connector: str, number: int) -> None:
        """Sets the number of documents that are kept as dead letters."""
        self._dead_letters.labels(connector).set(number)

    def failing(self, connector: str, *, fails: bool) -> None:
        """Sets whether the last sync of the connector failed, or waits for somebody to mend something."""
        self._failing[connector] = fails

    def pace(self, reading: Callable[[], PaceReading]) -> None:
        """Sets where the pace of writing is read, at each scrape and perhaps in a thread."""
        self._pace = reading

    def loop_delay(self, seconds: float) -> None:
        """Takes one measurement of how late the event loop was."""
        self._delays.observe(seconds)
        self._last_delay.set(seconds)
        self._longest_delay = max(self._longest_delay, seconds)
        self._max_delay.set(self._longest_delay)

    def forget(self, connector: str) -> None:
        """Removes everything about a connector that exists no more."""
        gauges = (self._running, self._queued, self._stalled, self._dead_letters)
        for metric in (self._documents, self._bytes, self._jobs, *gauges):
            metric.remove_by_labels({"connector": connector})
        self._last_success.pop(connector, None)
        self._failing.pop(connector, None)

    # What Prometheus reads

    def collect(self) -> Iterator[Metric]:
        """Yields what is read or computed at the time of the scrape; the registry calls this."""
        if self._pace is not None:
            yield from _pace_metrics(self._pace())
        last = GaugeMetricFamily(
            "connectors_last_success_timestamp_seconds", "When the last content sync completed.", labels=["connector"]
        )
        lag = GaugeMetricFamily(
            "connectors_lag_seconds", "Time since the last content sync completed.", labels=["connector"]
        )
        failing = GaugeMetricFamily(
            "connectors_failing",
            "1 while the last sync failed or waits for somebody to mend something, also where none ever completed.",
            labels=["connector"],
        )
        for connector, fails in self._failing.copy().items():
            failing.add_metric([connector], float(fails))
        yield failing
        now = self._wall()
        for connector, at in self._last_success.copy().items():
            last.add_metric([connector], at)
            lag.add_metric([connector], max(0.0, now - at))
        yield last
        yield lag

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """Returns the page and its content type; may be called in a thread.

        Args:
            accept: the request's `Accept` header; OpenMetrics is given to who asks for it.
        """
        encode, content_type = choose_encoder(accept)
        if not self._others:
            return encode(self._registry), content_type
        joined = CollectorRegistry()
        joined.register(_Joined(self._registry, self._others.copy()))
        return encode(joined), content_type

    # Several processes

    def export(self) -> dict[str, Any]:
        """Returns all numbers as JSON, for the metrics of the process that is asked for them."""
        families = [
            [
                each.name,
                each.documentation,
                each.type,
                [[sample.name, sample.labels, sample.value] for sample in each.samples],
            ]
            for each in self._registry.collect()
            if each.name not in _OF_ALL
        ]
        return {"families": families, "succeeded": self._last_success}

    def take(self, worker: int, exported: Mapping[str, Any]) -> None:
        """Shows the numbers of another process beside our own; every number then says whose it is."""
        found: list[Metric] = []
        for name, documentation, kind, samples in exported["families"]:
            family = Metric(name, documentation, kind)
            for sample, labels, value in samples:
                family.add_sample(sample, {**labels, _WORKER: str(worker)}, value)
            found.append(family)
        self._others[worker] = found
        for connector, at in exported["succeeded"].items():
            self._last_success[connector] = max(at, self._last_success.get(connector, at))

    def drop(self, worker: int) -> None:
        """Shows the numbers of another process no more."""
        self._others.pop(worker, None)


class _Joined:
    """The numbers of several processes: one family of a name, as Prometheus wants it."""

    def __init__(self, own: CollectorRegistry, others: Mapping[int, list[Metric]]) -> None:
        self._own = own
        self._others = others

    def collect(self) -> Iterator[Metric]:
        """Yields the families."""
        families: dict[str, Metric] = {}
        for family in self._own.collect():
            labels = {} if family.name in _OF_ALL else {_WORKER: "1"}
            family.samples = [sample._replace(labels={**sample.labels, **labels}) for sample in family.samples]
            families[family.name] = family
        for family in chain.from_iterable(self._others.values()):
            held = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
            held.samples.extend(family.samples)
        yield from families.values()


def _pace_metrics(now: PaceReading) -> Iterator[Metric]:
    yield GaugeMetricFamily("connectors_write_body_limit_bytes", "How large a bulk request may be now.", now.body)
    yield GaugeMetricFamily("connectors_write_requests_limit", "How many may be in flight now.", now.requests)
    yield GaugeMetricFamily("connectors_write_requests_in_flight", "How many are in flight.", now.in_flight)
    yield CounterMetricFamily(
        "connectors_write_refused_requests", "Bulk requests that were not taken as they were.", now.refused
    )
    yield CounterMetricFamily(
        "connectors_write_throttled_seconds", "Time in which a batch was ready and had to wait.", now.throttled
    )


class LoopMonitor:
    """Measures how late the event loop is: it sleeps for `interval` seconds and looks how much longer that took."""

    def __init__(self, metrics: Metrics, *, interval: float = 0.1) -> None:
        self._metrics = metrics
        self._interval = interval

    async def run(self) -> None:
        """Measures until it is cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            expected = loop.time() + self._interval
            await asyncio.sleep(self._interval)
            self._metrics.loop_delay(max(0.0, loop.time() - expected))
