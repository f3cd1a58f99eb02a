"""What every store promises of jobs; each sentence of the port's docstrings has a test."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Final

import pytest

from connectors.backends.ports import Store
from connectors.byoc import Connector, JobStatus, JobType, SyncJob, TriggerMethod
from connectors.errors import ConflictError, NotFoundError
from tests.support.stored import NOW, new, pending

ALL: Final = tuple(JobStatus)


async def test_a_job_is_created_pending_with_a_snapshot(store: Store) -> None:
    connector = await store.put_connector(
        new(
            name="n", configuration={"path": {"value": "/x"}}, pipeline={"name": "p"}, language="en",
            filtering=[{"domain": "DEFAULT", "active": {"rules": [{"id": "r"}]}, "draft": {"rules": []}}],
        )
    )  # fmt: skip
    job = await store.create_job(connector, JobType.INCREMENTAL, TriggerMethod.ON_DEMAND, now=NOW, reason="asked")
    assert await store.job(job.id) == job
    assert (job.status, job.job_type, job.trigger_method) == ("pending", "incremental", "on_demand")
    assert (job.created_at, job.connector_id, job.metadata) == (NOW, "one", {"reason": "asked"})
    assert job.connector["configuration"] == {}, "what may hold secrets is copied nowhere"
    assert job.connector["filtering"] == [{"domain": "DEFAULT", "rules": [{"id": "r"}]}]
    assert (job.connector["index_name"], job.connector["service_type"]) == ("things", "directory")
    assert (job.connector["pipeline"], job.connector["language"]) == ({"name": "p"}, "en")


async def test_a_pending_job_is_returned_with_its_metadata_updated(store: Store, connector: Connector) -> None:
    first = await pending(store, connector, a=1)
    again = await pending(store, connector, b=2)
    assert (again.id, again.metadata) == (first.id, {"a": 1, "b": 2})
    assert await pending(store, connector) == again
    other = await pending(store, connector, JobType.INCREMENTAL)
    assert other.id != first.id
    await store.update_job(first.id, {"status": JobStatus.IN_PROGRESS}, statuses=ALL)
    assert (await pending(store, connector)).id not in {first.id, other.id}


async def test_jobs_created_at_the_same_time_are_one(store: Store, connector: Connector) -> None:
    jobs = await asyncio.gather(*(pending(store, connector) for _ in range(8)))
    assert len({job.id for job in jobs}) == 1


async def test_ids_of_jobs_grow_with_time(store: Store) -> None:
    ids = []
    for n in range(20):
        connector = await store.put_connector(new(f"c{n}"))
        now = NOW + timedelta(milliseconds=n // 3)
        ids.append((await store.create_job(connector, JobType.FULL, TriggerMethod.SCHEDULED, now=now)).id)
    assert ids == sorted(set(ids))
    assert [job.id for job in await store.jobs()] == ids[::-1]


async def test_jobs_are_selected(store: Store, connector: Connector) -> None:
    two = await store.put_connector(new("two"))
    a, b, c = (
        await pending(store, connector),
        await pending(store, connector, JobType.INCREMENTAL),
        await pending(store, two),
    )
    await store.update_job(a.id, {"status": "completed"}, statuses=["pending"])
    assert [job.id for job in await store.jobs(connector_id="one")] == [b.id, a.id]
    assert [job.id for job in await store.jobs(statuses=["pending"])] == [c.id, b.id]
    assert [job.id for job in await store.jobs(connector_id="one", statuses=["completed", "error"])] == [a.id]
    assert [job.id for job in await store.jobs(limit=1)] == [c.id]
    assert await store.jobs(statuses=[]) == []
    assert await store.jobs(connector_id="three") == []


async def test_a_missing_job(store: Store) -> None:
    with pytest.raises(NotFoundError, match="nope"):
        await store.job("nope")
    with pytest.raises(NotFoundError, match="nope"):
        await store.update_job("nope", {}, statuses=ALL)


async def test_update_needs_one_of_the_statuses(store: Store, connector: Connector) -> None:
    job = await pending(store, connector)
    changed = await store.update_job(
        job.id, {"status": JobStatus.IN_PROGRESS, "started_at": NOW, "foreign": 1}, statuses=["pending", "suspended"]
    )
    assert (changed.status, changed.started_at, changed.extra) == ("in_progress", NOW, {"foreign": 1})
    with pytest.raises(ConflictError, match="in_progress"):
        await store.update_job(job.id, {"status": JobStatus.IN_PROGRESS}, statuses=["pending", "suspended"])
    assert await store.job(job.id) == changed


async def test_one_of_two_claims_wins(store: Store, connector: Connector) -> None:
    job = await pending(store, connector)
    results = await asyncio.gather(
        *(store.update_job(job.id, {"status": "in_progress"}, statuses=["pending"]) for _ in range(4)),
        return_exceptions=True,
    )
    assert sum(isinstance(result, SyncJob) for result in results) == 1


@pytest.mark.parametrize("status", ALL)
async def test_only_ended_jobs_are_purged(store: Store, connector: Connector, status: JobStatus) -> None:
    job = await pending(store, connector)
    ended = status in {JobStatus.COMPLETED, JobStatus.ERROR, JobStatus.CANCELED}
    when = "canceled_at" if status is JobStatus.CANCELED else "completed_at"
    await store.update_job(job.id, {"status": status, when: NOW if ended else None}, statuses=ALL)
    assert await store.purge_jobs(before=NOW) == 0
    assert await store.purge_jobs(before=NOW + timedelta(microseconds=1)) == int(ended)
    assert len(await store.jobs()) == int(not ended)


@pytest.mark.parametrize("unchanged", [True, False])
async def test_jobs_that_found_nothing_changed_may_be_purged_earlier(
    store: Store, connector: Connector, unchanged: bool
) -> None:
    job = await pending(store, connector)
    changes = {"status": "completed", "completed_at": NOW, "metadata": {"unchanged": unchanged}}
    await store.update_job(job.id, changes, statuses=ALL)
    later = NOW + timedelta(seconds=1)
    assert await store.purge_jobs(before=NOW, unchanged_before=NOW) == 0
    assert await store.purge_jobs(before=NOW, unchanged_before=later) == int(unchanged)
