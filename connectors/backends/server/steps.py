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
from typing import Any

from connectors.backends.ports import Lease
from connectors.backends.records import apply_changes
from connectors.backends.server.client import Client
from connectors.backends.server.documents import Contention, Document, DocumentIndex, read_many
from connectors.backends.server.jobs import QUIET, is_quiet
from connectors.backends.server.protocol import Records
from connectors.backends.server.readable import connector_of, is_removed, job_of
from connectors.backends.server.states import States, key, lost, state_of, with_data
from connectors.errors import NotFoundError, RetryableError

__all__ = ["commit_step"]

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
    if not await states.put(held, with_data(known, state)):
        return False
    for document, change, record, (index, _) in zip(found, changes, made, wanted[1:], strict=True):
        is_job = index is records.jobs
        refresh = not is_quiet(change, QUIET if is_job else quiet)
        if await index.replace(document, record, refresh=refresh) is None:
            await _again(states, lease, index, document.id, change, is_job=is_job, refresh=refresh)
    return True


async def _again(
    states: States,
    lease: Lease,
    index: DocumentIndex,
    id_: str,
    change: Mapping[str, Any],
    *,
    is_job: bool,
    refresh: bool,
) -> None:
    """Changes a record that somebody else changed meanwhile (an operator, say), while the lease is ours."""
    contention = Contention()
    for _ in range(_TRIES):
        document = await index.get(id_)  # before the epoch: a change by the next owner comes after it
        if (await states.get(lease.connector_id)).epoch != lease.epoch:
            raise lost(lease)
        record = _changed(_there(document, id_), change, is_job=is_job)
        if document is not None and await index.replace(document, record, refresh=refresh) is not None:
            return
        await contention.pause()
    raise RetryableError(f'the record "{id_}" in {index.name} is changed by others all the time')


def _there(document: Document | None, id_: str) -> Document:
    if document is None or is_removed(document):
        raise NotFoundError(f'There is no record "{id_}"; it was removed')
    return document


def _changed(document: Document, change: Mapping[str, Any], *, is_job: bool) -> dict[str, Any]:
    record = (job_of(document) if is_job else connector_of(document)).to_record()
    return apply_changes(record, change)
