"""One step of a job's progress over three documents: state, job, connector.

A server changes one document at a time, so the order has to make each cut between two of them harmless. The state goes
first, by compare-and-set on what was read together with the other two. It is the fence: whoever took the lease since
has raised the epoch in this very document, so our write fails and nothing at all was changed. Job and connector follow,
each on the condition that it still is as it was read before the fence: what a new owner, or an operator who cancels,
writes after it is never overwritten by us.

A worker that dies between the first write and the others leaves a checkpoint whose counters are in the state, next to a
job record that lags behind by one step; the next step, or whoever takes the job over, mends that. At the end of a job
the state no longer has a checkpoint while the job still seems to run: it is taken over and reads the source once more.
A cursor is in the connector's record, so it lags behind too, and never runs ahead.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from connectors.backends.ports import Claim, ClaimRequest, Lease
from connectors.backends.records import apply_changes
from connectors.backends.server.client import Client
from connectors.backends.server.documents import Contention, Document, DocumentIndex, read_many
from connectors.backends.server.jobs import QUIET, is_quiet
from connectors.backends.server.protocol import Records
from connectors.backends.server.readable import connector_of, is_removed, job_of
from connectors.backends.server.states import States, key, lost, state_of, taken, with_data
from connectors.errors import LeaseLostError, NotFoundError, RetryableError

__all__ = ["claim_step", "commit_step"]

_TRIES = 60


async def commit_step(
    client: Client,
    states: States,
    records: Records,
    lease: Lease,
    *,
    job_id: str,
    job: Mapping[str, Any] | None,
    connector: Mapping[str, Any] | None,
    state: Mapping[str, Any] | None,
    release: bool,
    quiet: frozenset[str],
) -> bool:
    """Does one try; False when the state was changed meanwhile, and nothing was done.

    Raises:
        LeaseLostError: the lease's epoch is not the last.
        NotFoundError: the job or the connector is not there.
        TypeError: a value cannot be kept in a record.
    """
    wanted: list[tuple[DocumentIndex, str]] = [(states.index, key("connector", lease.connector_id))]
    changes: list[Mapping[str, Any]] = []
    if job:
        wanted.append((records.jobs, job_id))
        changes.append(job)
    if connector:
        wanted.append((records.connectors, lease.connector_id))
        changes.append(connector)
    held, *others = await read_many(client, wanted)
    known = state_of(lease.connector_id, held)
    if known.epoch != lease.epoch:
        raise lost(lease)
    found = [_there(document, name) for document, (_, name) in zip(others, wanted[1:], strict=True)]
    # All of it is made before any of it is written: what cannot be kept in a record changes nothing.
    made = [
        _changed(document, change, is_job=index is records.jobs)
        for document, change, (index, _) in zip(found, changes, wanted[1:], strict=True)
    ]
    known = with_data(known, state)
    fence = await states.put(held, known)
    if fence is None:
        return False
    for document, change, record, (index, _) in zip(found, changes, made, wanted[1:], strict=True):
        is_job = index is records.jobs
        refresh = not is_quiet(change, QUIET if is_job else quiet)
        if await index.replace(document, record, refresh=refresh) is None:
            await _again(states, lease, index, document.id, change, is_job=is_job, refresh=refresh)
    # The last thing: the next owner reads what we wrote.
    if release and await states.put(fence, replace(known, worker=None, expires_at=0.0)) is None:
        await states.release(lease)
    return True


async def claim_step(
    client: Client, records: Records, wanted: ClaimRequest, worker: str, *, ttl: float, now: float
) -> Claim | None:
    """Takes the lease, then puts the job in progress: a worker that dies in between leaves a job that waits.

    Raises:
        RetryableError: others change the state all the time.
        TypeError: a value cannot be kept in a record.
    """
    states, job, connector = States(records.state), wanted.job, wanted.connector
    places = [
        (states.index, key("connector", connector.id)),
        (records.jobs, job.id),
        (records.connectors, connector.id),
    ]
    contention = Contention()
    for _ in range(_TRIES):
        held, *found = await read_many(client, places)
        own, theirs = found
        if own is None or theirs is None or (own.version, theirs.version) != (job.version, connector.version):
            return None
        state = taken(state_of(connector.id, held), worker, ttl=ttl, now=now)
        if state is None:
            return None
        made = _changed(own, wanted.job_changes, is_job=True), _changed(theirs, wanted.connector_changes, is_job=False)
        if await states.put(held, state) is not None:
            break
        await contention.pause()
    else:
        raise RetryableError(f'the state of "{connector.id}" is changed by others all the time')
    lease = Lease(connector.id, worker, state.epoch, state.expires_at)
    begun = await records.jobs.replace(own, made[0])
    if begun is None:  # an operator cancels it, say: the next look finds what became of it
        await states.release(lease)
        return None
    there = await records.connectors.replace(theirs, made[1])
    if there is None:
        try:
            there = await _again(
                states, lease, records.connectors, connector.id, wanted.connector_changes, is_job=False, refresh=True
            )
        except (LeaseLostError, NotFoundError):  # removed at that very moment
            return None
    return Claim(lease, job_of(begun), connector_of(there), state)


async def _again(
    states: States,
    lease: Lease,
    index: DocumentIndex,
    id_: str,
    change: Mapping[str, Any],
    *,
    is_job: bool,
    refresh: bool,
) -> Document:
    """Changes a record that somebody else changed meanwhile (an operator, say), while the lease is ours."""
    contention = Contention()
    for _ in range(_TRIES):
        document = await index.get(id_)  # before the epoch: a change by the next owner comes after it
        if (await states.get(lease.connector_id)).epoch != lease.epoch:
            raise lost(lease)
        document = _there(document, id_)
        written = await index.replace(document, _changed(document, change, is_job=is_job), refresh=refresh)
        if written is not None:
            return written
        await contention.pause()
    raise RetryableError(f'the record "{id_}" in {index.name} is changed by others all the time')


def _there(document: Document | None, id_: str) -> Document:
    if document is None or is_removed(document):
        raise NotFoundError(f'There is no record "{id_}"; it was removed')
    return document


def _changed(document: Document, change: Mapping[str, Any], *, is_job: bool) -> dict[str, Any]:
    record = (job_of(document) if is_job else connector_of(document)).to_record()
    return apply_changes(record, change)
