"""What other tools do to records: write them as they like, past all that the store checks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from connectors.byoc import Connector, JobStatus, SyncJob, format_time
from connectors.service.daemon import Daemon
from tests.support.service import Service

__all__ = ["READY", "daemon_runs", "edit", "write_connector", "write_job"]

#: A connector as a bare request creates one, with all that it needs.
READY: Mapping[str, Any] = {
    "service_type": "script",
    "index_name": "foreign",
    "status": "created",
    "configuration": {"name": {"value": "x"}},
}


async def write_connector(service: Service, connector_id: str, record: Mapping[str, Any]) -> None:
    """Creates a connector's record."""
    await service.store.put_connector(Connector.from_record(connector_id, record))


async def edit(service: Service, connector_id: str, **changes: Any) -> None:
    """Changes fields of a connector's record."""
    await service.store.update_connector(connector_id, changes)


async def write_job(service: Service, job_id: str, connector_id: Any = "x", **record: Any) -> None:
    """Writes a job as a bare request does."""
    document = {
        "connector": {"id": connector_id},
        "job_type": "full",
        "status": JobStatus.PENDING.value,
        "trigger_method": "on_demand",
        "created_at": format_time(service.runtime.now()),
        **record,
    }
    service.store._jobs[job_id] = SyncJob.from_record(job_id, document, version=1)


@asynccontextmanager
async def daemon_runs(service: Service, daemon: Daemon | None = None) -> AsyncIterator[None]:
    """Runs a daemon meanwhile."""
    stop = asyncio.Event()
    running = asyncio.create_task((daemon or service.daemon()).run(stop))
    try:
        yield
        assert not running.done(), "the daemon ended"
    finally:
        stop.set()
        await running
