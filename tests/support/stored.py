"""Records as tests of a store make them: a connector, its lease, its jobs."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from connectors.backends.ports import Lease, Store
from connectors.byoc import Connector, JobType, SyncJob, TriggerMethod

__all__ = ["NOW", "leased", "new", "pending"]

NOW: Final = datetime(2026, 11, 24, 12, 0, 0, 123456, tzinfo=UTC)


def new(connector_id: str = "one", **fields: Any) -> Connector:
    return Connector(id=connector_id, service_type="directory", index_name="things", **fields)


async def leased(store: Store, worker: str = "w1") -> Lease:
    lease = await store.acquire("one", worker, ttl=30, now=1000)
    assert lease is not None
    return lease


async def pending(store: Store, connector: Connector, job_type: JobType = JobType.FULL, **metadata: Any) -> SyncJob:
    return await store.create_job(connector, job_type, TriggerMethod.SCHEDULED, now=NOW, **metadata)
