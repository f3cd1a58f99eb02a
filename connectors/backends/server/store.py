"""Where records live: the `Store` of a search server."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from connectors.backends.ports import Claim, ClaimRequest, ConnectorState, DeadLetter, Lease
from connectors.backends.records import JobIds, apply_changes
from connectors.backends.server.client import Client
from connectors.backends.server.documents import Contention, Document
from connectors.backends.server.jobs import Jobs, is_quiet
from connectors.backends.server.letters import Letters
from connectors.backends.server.protocol import Records, open_records
from connectors.backends.server.readable import connector_of, is_removed
from connectors.backends.server.states import States
from connectors.backends.server.steps import claim_step, commit_step
from connectors.byoc import Connector, JobType, SyncJob, TriggerMethod
from connectors.errors import ConflictError, NotFoundError, RetryableError

__all__ = ["ServerStore"]

_TRIES: Final = 60
#: What changes every second while a sync runs, and need not show in lists at once.
_QUIET: Final = frozenset({"last_seen", "sync_cursor"})


class ServerStore:
    """Records on one server; made by `ServerBackend`.

    Args:
        connectors: name of the index of connectors, in the documented shape of the connector protocol.
        jobs: name of the index of jobs, likewise.
        state: name of the index of what that protocol does not know.
        release: called by `close`.
    """

    def __init__(
        self, client: Client, *, connectors: str, jobs: str, state: str, release: Callable[[], Awaitable[None]]
    ) -> None:
        self._client = client
        self._names = connectors, jobs, state
        self._release = release
        self._ids = JobIds()
        self._opening = asyncio.Lock()
        self._opened: Records | None = None

    async def _records(self) -> Records:
        """Returns where the records are; the first call finds it out and creates the indices."""
        async with self._opening:
            if self._opened is None:
                records = await open_records(self._client, *self._names)
                await records.prepare()
                self._opened = records
        return self._opened

    async def _jobs(self) -> Jobs:
        records = await self._records()
        return Jobs(records.jobs, records.state, self._ids)

    async def _states(self) -> States:
        return States((await self._records()).state)

    async def _letters(self) -> Letters:
        return Letters((await self._records()).state)

    # Connectors

    async def connectors(self) -> list[Connector]:
        """Returns all connectors, ordered by id."""
        index = (await self._records()).connectors
        found = await index.search({"match_all": {}})
        there = (connector_of(document) for document in found if not is_removed(document))
        return sorted(there, key=lambda connector: connector.id)

    async def connector(self, connector_id: str) -> Connector:
        """Returns one; raises NotFoundError."""
        return connector_of(await self._connector(connector_id))

    async def _connector(self, connector_id: str) -> Document:
        document = await (await self._records()).connectors.get(connector_id)
        if document is None or is_removed(document):
            raise NotFoundError(f'There is no connector "{connector_id}"')
        return document

    async def put_connector(self, connector: Connector) -> Connector:
        """Creates it (`version` 0) or replaces exactly that version; raises ConflictError otherwise."""
        records = await self._records()
        record = apply_changes(connector.to_record(), {})
        written: Document | None = None
        if connector.version == 0:
            written = await records.create_connector(connector.id, record)
        else:
            held = await records.connectors.get(connector.id)
            if held is not None and held.version == connector.version:
                written = await records.connectors.replace(held, record)
        if written is None:
            raise ConflictError(
                f'The connector "{connector.id}" was created, changed or removed by somebody else. Read it again'
            )
        return connector_of(written)

    async def update_connector(self, connector_id: str, changes: Mapping[str, Any]) -> Connector:
        """Changes these fields of the record at once and leaves the others; raises NotFoundError."""
        index = (await self._records()).connectors
        contention = Contention()
        for _ in range(_TRIES):
            held = await self._connector(connector_id)
            record = apply_changes(connector_of(held).to_record(), changes)
            written = await index.replace(held, record, refresh=not is_quiet(changes, _QUIET))
            if written is not None:
                return connector_of(written)
            await contention.pause()
        raise RetryableError(f'the record of "{connector_id}" is changed by others all the time')

    async def remove_connector(self, connector_id: str) -> None:
        """Removes the record, its state, jobs and dead letters. The epoch stays, one further, as a fence."""
        records = await self._records()
        await records.remove_connector(connector_id)
        await States(records.state).fence(connector_id)  # before the rest: a worker that still runs it writes no more
        await (await self._jobs()).remove(connector_id)
        await Letters(records.state).remove(connector_id, None)

    # Leases and state

    async def state(self, connector_id: str) -> ConnectorState:
        """Returns the state; an empty one for a connector that never ran."""
        return await (await self._states()).get(connector_id)

    async def acquire(self, connector_id: str, worker: str, *, ttl: float, now: float) -> Lease | None:
        """Takes the lease with the next epoch, by compare-and-set; None while another worker's has not expired."""
        return await (await self._states()).acquire(connector_id, worker, ttl=ttl, now=now)

    async def claim(self, wanted: ClaimRequest, worker: str, *, ttl: float, now: float) -> Claim | None:
        """Takes the lease and changes job and connector; None while another worker's has not expired, or when one of
        them is no longer the version that was read. See `connectors.backends.server.steps` for how."""
        return await claim_step(self._client, await self._records(), wanted, worker, ttl=ttl, now=now)

    async def renew(self, lease: Lease, *, ttl: float, now: float) -> Lease:
        """Extends it; raises LeaseLostError when it is no longer ours."""
        return await (await self._states()).renew(lease, ttl=ttl, now=now)

    async def release(self, lease: Lease) -> None:
        """Gives it back; nothing happens when it is no longer ours."""
        await (await self._states()).release(lease)

    async def commit(
        self,
        lease: Lease,
        *,
        job_id: str,
        job: Mapping[str, Any] | None = None,
        connector: Mapping[str, Any] | None = None,
        state: Mapping[str, Any] | None = None,
        release: bool = False,
    ) -> None:
        """Changes fields of job, connector and state data; see `connectors.backends.server.steps` for how.

        Raises:
            LeaseLostError: the lease's epoch is not the last; nothing was changed.
            NotFoundError: the job or the connector is not there; nothing was changed.
        """
        records = await self._records()
        contention = Contention()
        for _ in range(_TRIES):
            if await commit_step(
                self._client,
                States(records.state),
                records,
                lease,
                job_id=job_id,
                job=job,
                connector=connector,
                state=state,
                release=release,
                quiet=_QUIET,
            ):
                return
            await contention.pause()
        raise RetryableError(f'the records of "{lease.connector_id}" are changed by others all the time')

    # Jobs

    async def create_job(
        self, connector: Connector, job_type: JobType, trigger: TriggerMethod, *, now: datetime, **metadata: Any
    ) -> SyncJob:
        """Creates a pending job with a snapshot of the connector, or returns the one that is pending already."""
        return await (await self._jobs()).create(connector, job_type, trigger, now=now, metadata=metadata)

    async def job(self, job_id: str) -> SyncJob:
        """Returns one; raises NotFoundError."""
        return await (await self._jobs()).get(job_id)

    async def jobs(
        self, *, connector_id: str | None = None, statuses: Sequence[str] | None = None, limit: int = 100
    ) -> list[SyncJob]:
        """Returns jobs, newest first."""
        return await (await self._jobs()).list(connector_id, statuses, limit)

    async def update_job(self, job_id: str, changes: Mapping[str, Any], *, statuses: Sequence[str]) -> SyncJob:
        """Changes fields if the job's status is one of `statuses`; raises ConflictError or NotFoundError otherwise."""
        return await (await self._jobs()).update(job_id, changes, statuses)

    async def purge_jobs(self, *, before: datetime, unchanged_before: datetime | None = None) -> int:
        """Removes jobs that ended before; those that found nothing changed may go earlier. Returns their number."""
        return await (await self._jobs()).purge(before, unchanged_before)

    # Dead letters

    async def add_dead_letters(self, letters: Sequence[DeadLetter]) -> None:
        """Keeps them, durable on return. The body of one that no request could carry is left out."""
        await (await self._letters()).add(letters)

    async def remove_dead_letters(self, connector_id: str, ids: Sequence[str] | None = None) -> int:
        """Removes those of these ids, or all; returns their number."""
        return await (await self._letters()).remove(connector_id, ids)

    async def dead_letters(
        self, connector_id: str, *, limit: int = 100, after: str | None = None, bodies: bool = False
    ) -> list[DeadLetter]:
        """Returns them ordered by id, those behind `after`; without their bodies, unless these are asked for."""
        return await (await self._letters()).list(connector_id, limit, after, bodies=bodies)

    async def dead_letter(self, connector_id: str, document_id: str) -> DeadLetter:
        """Returns one; raises NotFoundError."""
        return await (await self._letters()).get(connector_id, document_id)

    async def dead_letter_ids(self, connector_id: str) -> dict[str, str]:
        """Returns `_id` → id of the job that wrote it, of all of them, without their bodies."""
        return await (await self._letters()).ids(connector_id)

    async def count_dead_letters(self, connector_id: str) -> int:
        """Returns their number."""
        return await (await self._letters()).count(connector_id)

    async def count_all_dead_letters(self) -> dict[str, int]:
        """Returns connector id → their number, of all connectors that have some."""
        return await (await self._letters()).count_all()

    async def close(self) -> None:
        """Releases the connections, which end once the destination is closed too; may be called twice."""
        await self._release()
