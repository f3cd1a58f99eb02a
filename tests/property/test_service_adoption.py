"""Whatever stands in records of other tools: loops go on, others sync, pages open, and nothing is told twice."""

from __future__ import annotations

import asyncio
import logging
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from connectors.byoc import Connector, SyncJob
from tests.support.foreign import READY, daemon_runs, write_connector, write_job
from tests.support.service import Service, connector, play
from tests.support.site import Site

JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | st.sampled_from(["full", "2026-01-01", "1e400", "9" * 40, "0 * * * * ?", "edited", "x", "***"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["value", "full", "id", "a"]), inner),
    max_leaves=6,
)


def _objects(**known: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Objects with any of these keys, and other things in their place."""
    return st.fixed_dictionaries({}, optional={key: value | JUNK for key, value in known.items()})


RULE = _objects(
    id=st.sampled_from(["1", "DEFAULT"]), policy=st.just("include"), field=st.just("_id"), rule=st.just("equals"),
    value=st.just("2"), order=st.integers(0, 3),
)  # fmt: skip
RULES = _objects(
    rules=st.lists(RULE | JUNK, max_size=2),
    advanced_snippet=_objects(value=JUNK),
    validation=_objects(state=st.sampled_from(["edited", "valid", "invalid"]), errors=st.lists(JUNK, max_size=2)),
)
SCHEDULE = _objects(enabled=st.booleans(), interval=st.sampled_from(["0 * * * * ?", "every 1m", "never"]))
FIELD = _objects(value=st.just("x"), type=st.sampled_from(["str", "int", "list"]), sensitive=st.booleans())
TIMES = st.sampled_from(
    ["2026-01-01T00:00:00Z", "2026-01-01T00:00", "1767225600000", 1767225600, "0001-01-01T00:00:00+14:00"]
)
CONNECTOR = _objects(
    service_type=st.just("script"), index_name=st.just("foreign"), name=st.text(max_size=5),
    status=st.sampled_from(["created", "needs_configuration", "configured", "connected", "error"]),
    configuration=_objects(name=st.just("x") | FIELD, password=FIELD, tags=FIELD, other=FIELD),
    scheduling=_objects(full=SCHEDULE, incremental=SCHEDULE, access_control=SCHEDULE, timezone=st.just("Europe/Paris")),
    filtering=st.lists(_objects(domain=st.just("DEFAULT"), active=RULES, draft=RULES), max_size=2),
    features=_objects(incremental_sync=_objects(enabled=st.booleans()), sync_rules=JUNK),
    pipeline=_objects(name=st.text(max_size=3)), last_seen=TIMES, last_synced=TIMES, last_sync_scheduled_at=TIMES,
    last_incremental_sync_scheduled_at=TIMES, sync_cursor=JUNK, is_native=st.booleans(), error=st.text(max_size=3),
    last_sync_error=st.text(max_size=3), last_indexed_document_count=st.integers(0, 9), paused=st.booleans(),
    language=st.just("en"), custom_scheduling=JUNK, description=JUNK, id=JUNK, version=JUNK, extra=JUNK, sync_now=JUNK,
)  # fmt: skip
JOB = _objects(
    connector=_objects(id=st.sampled_from(["0", "1", "nobody"]), index_name=JUNK, filtering=JUNK),
    job_type=st.sampled_from(["full", "incremental", "access_control"]),
    status=st.sampled_from(["pending", "in_progress", "canceling", "suspended", "completed", "error", "canceled"]),
    trigger_method=st.sampled_from(["on_demand", "scheduled"]), created_at=TIMES, started_at=TIMES, last_seen=TIMES,
    completed_at=TIMES, canceled_at=TIMES, cancelation_requested_at=TIMES, error=JUNK, worker_hostname=JUNK,
    metadata=_objects(counters=_objects(read=JUNK, indexed=JUNK), resume_at=JUNK, furthest=JUNK, attempts=JUNK,
                      incomplete=JUNK, unchanged=JUNK, allow_deletes=JUNK),
    indexed_document_count=JUNK, total_document_count=JUNK,
)  # fmt: skip


class Told(logging.Handler):
    """Keeps what was said of records."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


# Shrinking runs the daemon thousands of times, and what it finds is as readable before.
@settings(max_examples=50, phases=[Phase.generate], suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(CONNECTOR | st.just(dict(READY)), min_size=1, max_size=2), st.lists(JOB, max_size=3))
def test_nothing_in_a_record_stops_the_service(records: list[Mapping[str, Any]], jobs: list[Mapping[str, Any]]) -> None:
    async def scenario(service: Service) -> Service:
        for number, record in enumerate(records):
            await write_connector(service, str(number), record)
        for number, job in enumerate(jobs):
            await write_job(service, f"foreign-{number}", **{"connector": {"id": "0"}, **job})
        async with daemon_runs(service):
            await asyncio.sleep(70)
        assert set(await service.statuses("own")) == {"completed"}
        assert (await service.record("own")).status == "connected"
        return service

    told = Told()
    loggers = [logging.getLogger(f"connectors.{name}") for name in ("records", "rules", "scheduler")]
    for logger in loggers:
        logger.addHandler(told)
    try:
        with tempfile.TemporaryDirectory() as folder:
            service = play(scenario, Path(folder), connector("own", full="every 1m"))
    finally:
        for logger in loggers:
            logger.removeHandler(told)
    assert len(told.lines) == len(set(told.lines)), "each is told once"
    asyncio.run(every_page_opens(service))


async def every_page_opens(service: Service) -> None:
    site = Site(service.store, service.destination)
    paths = ["/connectors", "/jobs"]
    paths += [f"/connectors/{record.id}" for record in await service.store.connectors()]
    paths += [f"/jobs/{job.id}" for job in await service.store.jobs()]
    async with site.client() as page:
        for path in paths:
            assert (await page.get(path)).status_code == 200, path


@given(st.dictionaries(st.text(max_size=4), JUNK) | CONNECTOR, st.dictionaries(st.text(max_size=4), JUNK) | JOB)
def test_what_is_read_is_written_back(connector_: dict[str, Any], job: dict[str, Any]) -> None:
    for kind, record in ((Connector, connector_), (SyncJob, job)):
        once = kind.from_record("x", record).to_record()
        assert kind.from_record("x", once).to_record() == once
        assert {key: once[key] for key in kind.from_record("x", record).unreadable} == {
            key: record[key] for key in kind.from_record("x", record).unreadable
        }
