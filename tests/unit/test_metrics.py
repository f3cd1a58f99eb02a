"""Metrics: what is counted, what is forgotten, and the delay of the event loop."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from connectors import __version__
from connectors.service.metrics import LoopMonitor, Metrics
from connectors.sync.limits import PaceReading

NOW = 1_800_000_000.0


def read(metrics: Metrics) -> dict[str, dict[tuple[str, ...], float]]:
    """Returns sample name → label values in the order of their names → value, as Prometheus would read the page."""
    body, content_type = metrics.render()
    assert content_type.startswith("text/plain")
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(body.decode()):
        for sample in family.samples:
            labels = tuple(value for _, value in sorted(sample.labels.items()))
            found.setdefault(sample.name, {})[labels] = sample.value
    return found


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(wall=lambda: NOW)


def test_a_fresh_daemon(metrics: Metrics) -> None:
    found = read(metrics)
    assert [labels[1] for labels in found["connectors_build_info"]] == [__version__]
    assert found["connectors_loop_delay_max_seconds"] == {(): 0.0}
    assert "connectors_lag_seconds" not in found
    assert found["process_resident_memory_bytes"][()] > 0


def test_registries_are_not_shared(metrics: Metrics) -> None:
    other = Metrics()
    other.documents("a", "indexed", 5)
    assert "connectors_documents_total" not in read(metrics)


def test_documents_and_bytes(metrics: Metrics) -> None:
    metrics.documents("a", "indexed", 5)
    metrics.documents("a", "indexed")
    metrics.documents("b", "filtered", 2)
    metrics.bytes_written("a", 1000)
    found = read(metrics)
    assert found["connectors_documents_total"] == {("a", "indexed"): 6, ("b", "filtered"): 2}
    assert found["connectors_written_bytes_total"] == {("a",): 1000}


def test_running_syncs_and_their_queues(metrics: Metrics) -> None:
    metrics.sync_started("a")
    metrics.sync_started("b")
    metrics.queue("a", 4)
    metrics.queue("a", 2)
    metrics.sync_stopped("b")
    found = read(metrics)
    assert found["connectors_running_syncs"] == {("a",): 1, ("b",): 0}
    assert found["connectors_queued_operations"] == {("a",): 2, ("b",): 0}


def test_jobs_and_durations(metrics: Metrics) -> None:
    metrics.job_finished("a", "full", "completed", 30.0)
    metrics.job_finished("a", "full", "error", 2.0)
    metrics.job_finished("b", "incremental", "completed", 0.5)
    found = read(metrics)
    assert found["connectors_jobs_total"] == {
        ("a", "full", "completed"): 1,
        ("a", "full", "error"): 1,
        ("b", "incremental", "completed"): 1,
    }
    assert found["connectors_sync_duration_seconds_count"] == {("full",): 2, ("incremental",): 1}
    assert found["connectors_sync_duration_seconds_sum"] == {("full",): 32.0, ("incremental",): 0.5}
    assert found["connectors_sync_duration_seconds_bucket"][("full", "5.0")] == 1


def test_lag_grows_until_the_next_success() -> None:
    now = NOW
    metrics = Metrics(wall=lambda: now)
    metrics.succeeded("a", datetime.fromtimestamp(NOW - 3600, UTC))
    assert read(metrics)["connectors_lag_seconds"] == {("a",): 3600.0}
    now += 60
    metrics.job_finished("a", "full", "error", 1.0)
    metrics.job_finished("a", "access_control", "completed", 1.0)
    assert read(metrics)["connectors_lag_seconds"] == {("a",): 3660.0}
    metrics.job_finished("a", "incremental", "completed", 1.0)
    found = read(metrics)
    assert found["connectors_lag_seconds"] == {("a",): 0.0}
    assert found["connectors_last_success_timestamp_seconds"] == {("a",): NOW + 60}
    now -= 600  # a clock that was set back
    assert read(metrics)["connectors_lag_seconds"] == {("a",): 0.0}


def test_forget_removes_every_trace_of_one_connector(metrics: Metrics) -> None:
    for connector in ("gone", "stays"):
        metrics.sync_started(connector)
        metrics.documents(connector, "indexed")
        metrics.bytes_written(connector, 10)
        metrics.queue(connector, 1)
        metrics.job_finished(connector, "full", "completed", 1.0)
        metrics.dead_letters(connector, 3)
        metrics.failing(connector, fails=True)
    metrics.forget("gone")
    metrics.forget("never was")
    body, _ = metrics.render()
    assert b"gone" not in body
    assert read(metrics)["connectors_dead_letters"] == {("stays",): 3}
    assert read(metrics)["connectors_failing"] == {("stays",): 1}
    metrics.documents("gone", "indexed")
    assert read(metrics)["connectors_documents_total"][("gone", "indexed")] == 1


def test_labels_are_escaped(metrics: Metrics) -> None:
    metrics.documents('a"\n\\b', "indexed")
    assert read(metrics)["connectors_documents_total"] == {('a"\n\\b', "indexed"): 1}


def test_open_metrics_for_who_asks(metrics: Metrics) -> None:
    body, content_type = metrics.render("application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    assert body.endswith(b"# EOF\n")


def test_rendering_in_a_thread_while_numbers_change(metrics: Metrics) -> None:
    done = threading.Event()
    errors: list[BaseException] = []

    def render() -> None:
        try:
            while not done.is_set():
                metrics.render()
        except BaseException as error:  # noqa: BLE001 - handed to the test
            errors.append(error)

    thread = threading.Thread(target=render)
    thread.start()
    for number in range(300):
        metrics.job_finished(f"c{number}", "full", "completed", 1.0)
        metrics.documents(f"c{number}", "indexed")
        metrics.forget(f"c{number - 5}")
    done.set()
    thread.join()
    assert not errors


def test_delays(metrics: Metrics) -> None:
    for seconds in (0.002, 0.2, 0.01):
        metrics.loop_delay(seconds)
    found = read(metrics)
    assert found["connectors_loop_delay_last_seconds"] == {(): 0.01}
    assert found["connectors_loop_delay_max_seconds"] == {(): 0.2}
    assert found["connectors_loop_delay_seconds_count"] == {(): 3}
    assert found["connectors_loop_delay_seconds_bucket"][("0.01",)] == 2


class Recording(Metrics):
    """Sets an event at each measurement."""

    def __init__(self) -> None:
        super().__init__()
        self.delays: list[float] = []
        self.measured = asyncio.Event()

    def loop_delay(self, seconds: float) -> None:
        super().loop_delay(seconds)
        self.delays.append(seconds)
        self.measured.set()


async def test_the_monitor_sees_a_loop_that_is_held() -> None:
    metrics = Recording()
    hold = time.sleep  # what a source that blocks does
    monitor = asyncio.create_task(LoopMonitor(metrics, interval=0.01).run())
    await metrics.measured.wait()
    metrics.measured.clear()
    hold(0.1)
    await metrics.measured.wait()
    monitor.cancel()
    with pytest.raises(asyncio.CancelledError):
        await monitor
    # The measurement under way when the loop was held was late by all but the interval.
    assert max(metrics.delays) >= 0.08
    assert all(delay >= 0 for delay in metrics.delays)


def test_several_processes_are_told_apart_and_share_their_successes(metrics: Metrics) -> None:
    other = Metrics(wall=lambda: NOW - 100)
    metrics.documents("a", "indexed", 5)
    other.documents("a", "indexed", 7)
    other.job_finished("b", "full", "completed", 30.0)
    metrics.take(2, orjson.loads(orjson.dumps(other.export())))
    found = read(metrics)
    assert found["connectors_documents_total"] == {("a", "indexed", "1"): 5, ("a", "indexed", "2"): 7}
    assert found["connectors_sync_duration_seconds_count"] == {("full", "2"): 1}
    assert found["connectors_lag_seconds"] == {("b",): 100}
    assert set(found["process_resident_memory_bytes"]) == {("1",), ("2",)}
    metrics.drop(2)
    assert read(metrics)["connectors_documents_total"] == {("a", "indexed"): 5}


def test_the_page_for_operators_names_all_metrics() -> None:
    metrics = Metrics()
    metrics.pace(lambda: PaceReading(body=1, requests=1, in_flight=0, refused=0, throttled=0.0))
    body, _ = metrics.render()
    there = set(re.findall(r"^# TYPE (connectors_\w+) ", body.decode(), re.MULTILINE))
    page = (Path(__file__).parents[2] / "docs" / "OPERATIONS.md").read_text("utf-8")
    table = page.partition("<!-- metrics -->")[2].partition("<!-- end -->")[0]
    named = {name for row in table.splitlines() for name in re.findall(r"`(connectors_\w+)`", row.split(" | ")[0])}
    assert named == {name for name in there if not name.endswith("_created")}
    alerts = yaml.safe_load(page.partition("```yaml\n")[2].partition("```")[0])["groups"][0]["rules"]
    assert {name for alert in alerts for name in re.findall(r"connectors_\w+", alert["expr"])} <= named
