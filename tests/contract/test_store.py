"""What every store promises; each sentence of the port's docstrings has a test."""

from __future__ import annotations

import asyncio

import pytest

from connectors.backends.ports import Claim, ClaimRequest, ConnectorState, DeadLetter, Lease, Store
from connectors.byoc import Connector, JobStatus, SyncJob
from connectors.errors import ConflictError, LeaseLostError, NotFoundError
from tests.support.stored import NOW, leased, new, pending

# Connectors


async def test_a_connector_comes_back_as_it_was_put(store: Store) -> None:
    given = new(
        name="Näme", configuration={"path": {"value": "/x"}}, last_seen=NOW, sync_cursor={"deep": [1, None]},
        extra={"foreign": {"kept": True}}, language=None,
    )  # fmt: skip
    put = await store.put_connector(given)
    assert put == given.with_(version=put.version)
    assert put.version > 0
    assert await store.connector("one") == put


@pytest.mark.parametrize("connector_id", [".", "..", "a/b", "ü ?#%&+", "*", "_all", "a,b", 'a"b'])
async def test_an_id_may_be_any_text(store: Store, connector_id: str) -> None:
    other = await store.put_connector(new("other"))
    put = await store.put_connector(new(connector_id))
    assert await store.connector(connector_id) == put
    assert (await store.update_connector(connector_id, {"name": "changed"})).name == "changed"
    await store.remove_connector(connector_id)
    assert await store.connectors() == [other]


async def test_connectors_are_ordered_by_id(store: Store) -> None:
    for connector_id in ("b", "c", "a"):
        await store.put_connector(new(connector_id))
    assert [connector.id for connector in await store.connectors()] == ["a", "b", "c"]


async def test_a_missing_connector(store: Store) -> None:
    assert await store.connectors() == []
    with pytest.raises(NotFoundError, match="one"):
        await store.connector("one")
    with pytest.raises(NotFoundError, match="one"):
        await store.update_connector("one", {"name": "x"})


async def test_put_replaces_exactly_the_version_it_read(store: Store, connector: Connector) -> None:
    second = await store.put_connector(connector.with_(name="second"))
    assert second.version > connector.version
    for stale in (connector.with_(name="third"), new(name="created again"), new("other").with_(version=7)):
        with pytest.raises(ConflictError):
            await store.put_connector(stale)
    assert await store.connector("one") == second
    assert len(await store.connectors()) == 1


async def test_one_of_two_puts_wins(store: Store, connector: Connector) -> None:
    results = await asyncio.gather(
        *(store.put_connector(connector.with_(name=str(n))) for n in range(4)), return_exceptions=True
    )
    assert sum(isinstance(result, Connector) for result in results) == 1
    assert sum(isinstance(result, ConflictError) for result in results) == 3


async def test_update_changes_fields_and_leaves_the_others(store: Store, connector: Connector) -> None:
    changed = await store.update_connector("one", {"error": "broken", "last_seen": NOW, "paused": True})
    assert (changed.error, changed.last_seen, changed.paused, changed.service_type) == (
        "broken",
        NOW,
        True,
        "directory",
    )
    again = await store.update_connector("one", {"error": None, "last_synced": NOW.isoformat()})
    assert (again.error, again.last_seen, again.last_synced, again.paused) == (None, NOW, NOW, True)
    assert again.version > changed.version > connector.version
    assert await store.connector("one") == again


async def test_updates_at_the_same_time_are_all_kept(store: Store, connector: Connector) -> None:
    await asyncio.gather(*(store.update_connector("one", {f"key{n}": n}) for n in range(10)))
    assert (await store.connector("one")).extra == {f"key{n}": n for n in range(10)}


async def test_text_that_is_no_unicode_is_kept_readable(store: Store, connector: Connector) -> None:
    changed = await store.update_connector("one", {"error": "cannot read caf\udce9.txt"})
    assert changed.error == "cannot read caf\\udce9.txt"


async def test_what_comes_out_is_not_what_is_kept(store: Store) -> None:
    given = new(configuration={"a": {"value": 1}})
    await store.put_connector(given)
    given.configuration["a"]["value"] = 2
    (await store.connector("one")).configuration["a"]["value"] = 3
    assert (await store.connector("one")).configuration == {"a": {"value": 1}}


async def test_remove_takes_everything_of_the_connector(store: Store, connector: Connector) -> None:
    other = await store.put_connector(new("two"))
    for each in (connector, other):
        await pending(store, each)
    await store.add_dead_letters(
        [DeadLetter(each.id, "x", "index", "reason", "job", NOW) for each in (connector, other)]
    )
    lease = await leased(store)
    await store.commit(lease, job_id="", state={"checkpoint": 1})
    await store.remove_connector("one")
    await store.remove_connector("one")
    assert [each.id for each in await store.connectors()] == ["two"]
    assert [job.connector_id for job in await store.jobs()] == ["two"]
    assert (await store.count_dead_letters("one"), await store.count_dead_letters("two")) == (0, 1)
    assert (await store.state("one")).data == {}


async def test_the_epoch_outlives_the_connector(store: Store, connector: Connector) -> None:
    lease = await leased(store)
    await store.remove_connector("one")
    await store.put_connector(new())
    with pytest.raises(LeaseLostError):
        await store.commit(lease, job_id="", state={"late": 1})
    with pytest.raises(LeaseLostError):
        await store.renew(lease, ttl=30, now=1001)
    assert (await leased(store, "w2")).epoch > lease.epoch


# Leases and state


async def test_the_state_of_a_connector_that_never_ran(store: Store) -> None:
    assert await store.state("one") == ConnectorState("one")


async def test_a_lease_is_held_by_one(store: Store) -> None:
    lease = await store.acquire("one", "w1", ttl=30, now=1000)
    assert lease == Lease("one", "w1", 1, 1030)
    assert await store.acquire("one", "w2", ttl=30, now=1029.9) is None
    assert await store.acquire("two", "w2", ttl=30, now=1000) is not None
    state = await store.state("one")
    assert (state.epoch, state.worker, state.expires_at) == (1, "w1", 1030)


async def test_an_expired_lease_can_be_taken(store: Store) -> None:
    first = await leased(store)
    second = await store.acquire("one", "w2", ttl=30, now=1030)
    assert second is not None
    assert second.epoch == first.epoch + 1
    with pytest.raises(LeaseLostError, match="w1"):
        await store.renew(first, ttl=30, now=1031)
    await store.release(first)
    assert (await store.state("one")).worker == "w2"


async def test_the_same_worker_may_claim_anew(store: Store) -> None:
    first = await leased(store)
    second = await leased(store)
    assert second.epoch == first.epoch + 1
    with pytest.raises(LeaseLostError):
        await store.renew(first, ttl=30, now=1001)


async def test_renewing_extends(store: Store) -> None:
    lease = await leased(store)
    renewed = await store.renew(lease, ttl=30, now=1020)
    assert renewed == Lease("one", "w1", 1, 1050)
    assert await store.acquire("one", "w2", ttl=30, now=1049) is None
    late = await store.renew(renewed, ttl=30, now=2000)  # expired, but nobody took it
    assert late.expires_at == 2030


async def test_a_released_lease_is_free_and_cannot_be_renewed(store: Store) -> None:
    lease = await leased(store)
    await store.release(lease)
    await store.release(lease)
    with pytest.raises(LeaseLostError):
        await store.renew(lease, ttl=30, now=1001)
    second = await store.acquire("one", "w2", ttl=30, now=1001)
    assert second is not None
    assert second.epoch == 2


async def test_one_of_many_gets_the_lease(store: Store) -> None:
    leases = await asyncio.gather(*(store.acquire("one", f"w{n}", ttl=30, now=1000) for n in range(10)))
    assert sum(lease is not None for lease in leases) == 1


async def test_commit_changes_everything_in_one_step(store: Store, connector: Connector) -> None:
    job = await pending(store, connector)
    lease = await leased(store)
    await store.commit(
        lease,
        job_id=job.id,
        job={"indexed_document_count": 5, "last_seen": NOW},
        connector={"sync_cursor": {"at": 1}, "last_synced": NOW},
        state={"checkpoint": {"page": 3}, "ledger": "x"},
    )
    await store.commit(lease, job_id=job.id, state={"checkpoint": None, "more": [1]})
    changed = await store.job(job.id)
    assert (changed.indexed_document_count, changed.last_seen, changed.status) == (5, NOW, JobStatus.PENDING)
    assert changed.version > job.version
    assert (await store.connector("one")).sync_cursor == {"at": 1}
    assert (await store.state("one")).data == {"ledger": "x", "more": [1]}


async def test_commit_gives_the_lease_back_with_the_rest(store: Store, connector: Connector) -> None:
    job = await pending(store, connector)
    lease = await leased(store)
    await store.commit(lease, job_id=job.id, job={"status": "completed"}, state={"at": 1}, release=True)
    assert (await store.job(job.id)).status == JobStatus.COMPLETED
    assert await store.state("one") == ConnectorState("one", epoch=1, data={"at": 1})
    await store.commit(lease, job_id=job.id, job={"error": "again"}, release=True)  # as after an answer that was lost
    second = await leased(store, "w2")
    with pytest.raises(LeaseLostError):
        await store.commit(lease, job_id=job.id, release=True)
    assert (await store.state("one")).worker == second.worker


async def test_commit_gives_no_lease_back_when_it_fails(store: Store, connector: Connector) -> None:
    lease = await leased(store)
    with pytest.raises(NotFoundError):
        await store.commit(lease, job_id="missing", job={"error": "x"}, connector={"error": "x"}, release=True)
    assert (await store.state("one")).worker == lease.worker


# Claims


async def claimed(
    store: Store, job: SyncJob, connector: Connector, worker: str = "w1", now: float = 1000
) -> Claim | None:
    begun = {"status": "in_progress", "started_at": NOW}
    wanted = ClaimRequest(job, connector, begun, {"last_sync_status": "in_progress"})
    return await store.claim(wanted, worker, ttl=30, now=now)


async def test_a_claim_takes_the_lease_and_changes_both_records(store: Store, connector: Connector) -> None:
    await store.commit(await leased(store), job_id="", state={"ledger": "x"}, release=True)
    job = await pending(store, connector)
    claim = await claimed(store, job, connector)
    assert claim is not None
    assert claim.lease == Lease("one", "w1", epoch=2, expires_at=1030)
    assert (claim.job.status, claim.job.started_at) == (JobStatus.IN_PROGRESS, NOW)
    assert claim.connector.last_sync_status == JobStatus.IN_PROGRESS
    assert claim.state == ConnectorState("one", 2, "w1", 1030, {"ledger": "x"})
    assert (await store.job(job.id), await store.connector("one")) == (claim.job, claim.connector)
    assert await store.state("one") == claim.state
    await store.commit(claim.lease, job_id=job.id, job={"status": "completed"})


async def test_what_another_worker_holds_is_not_claimed(store: Store, connector: Connector) -> None:
    job = await pending(store, connector)
    await leased(store, "w2")
    assert await claimed(store, job, connector, now=1029.9) is None
    assert (await store.job(job.id), await store.connector("one")) == (job, connector)
    assert (await store.state("one")).epoch == 1
    assert await claimed(store, job, connector, now=1030) is not None


async def test_what_has_changed_since_is_not_claimed(store: Store, connector: Connector) -> None:
    job = await pending(store, connector)
    changed = await store.update_connector("one", {"name": "another"})
    assert await claimed(store, job, connector) is None
    canceled = await store.update_job(job.id, {"status": JobStatus.CANCELED}, statuses=list(JobStatus))
    assert await claimed(store, job, changed) is None
    assert await claimed(store, canceled.with_(id="missing"), changed) is None
    assert (await store.job(job.id), await store.connector("one")) == (canceled, changed)
    assert (await store.state("one")).epoch == 0
    await store.remove_connector("one")
    assert await claimed(store, canceled, changed) is None


async def test_one_of_many_claims_a_job(store: Store, connector: Connector) -> None:
    job = await pending(store, connector)
    claims = await asyncio.gather(*(claimed(store, job, connector, f"w{n}") for n in range(10)))
    (claim,) = [claim for claim in claims if claim is not None]
    assert (await store.state("one")).worker == claim.lease.worker
    assert claim.lease.epoch == 1


async def test_a_claim_that_cannot_be_kept_changes_nothing(store: Store, connector: Connector) -> None:
    job = await pending(store, connector)
    with pytest.raises(TypeError):
        await store.claim(ClaimRequest(job, connector, {"error": "x"}, {"error": {1}}), "w", ttl=30, now=1000)
    assert (await store.job(job.id), await store.connector("one")) == (job, connector)
    assert (await store.state("one")).epoch == 0


async def test_commit_of_a_lost_lease_changes_nothing(store: Store, connector: Connector) -> None:
    job = await pending(store, connector)
    lost = await leased(store)
    await store.acquire("one", "w2", ttl=30, now=1030)
    with pytest.raises(LeaseLostError, match="epoch 1"):
        await store.commit(lost, job_id=job.id, job={"error": "x"}, connector={"error": "x"}, state={"x": 1})
    assert (await store.job(job.id), await store.connector("one")) == (job, connector)
    assert (await store.state("one")).data == {}


async def test_commit_is_all_or_nothing(store: Store, connector: Connector) -> None:
    lease = await leased(store)
    with pytest.raises(NotFoundError):
        await store.commit(lease, job_id="missing", job={"error": "x"}, connector={"error": "x"}, state={"x": 1})
    job = await pending(store, connector)
    await store.commit(lease, job_id=job.id)
    with pytest.raises(TypeError):
        await store.commit(lease, job_id=job.id, job={"error": "x"}, connector={"error": "x"}, state={"x": {1}})
    assert (await store.job(job.id), await store.connector("one")) == (job, connector)
    assert (await store.state("one")).data == {}


async def test_close_may_be_called_twice(store: Store) -> None:
    await store.close()
    await store.close()
