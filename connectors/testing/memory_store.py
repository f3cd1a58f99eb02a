"""A store in memory; see `connectors.testing.memory`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from typing import Any, TypeVar

from connectors.backends.ports import Claim, ClaimRequest, ConnectorState, DeadLetter, Lease
from connectors.backends.records import (
    JobIds,
    apply_changes,
    connector_snapshot,
    decode,
    encode,
    ended_at,
    no_letter,
    storable,
)
from connectors.byoc import (
    ENDED_JOB_STATUSES,
    Connector,
    JobStatus,
    JobType,
    SyncJob,
    TriggerMethod,
    format_time,
)
from connectors.errors import ConflictError, LeaseLostError, NotFoundError

__all__ = ["MemoryStore"]

RecordT = TypeVar("RecordT", Connector, SyncJob)


class MemoryStore:
    """Records in dicts; each goes through its JSON form, so that nothing works here that a real store refuses."""

    def __init__(self) -> None:
        self._connectors: dict[str, Connector] = {}
        self._states: dict[str, ConnectorState] = {}
        self._jobs: dict[str, SyncJob] = {}
        self._letters: dict[tuple[str, str], DeadLetter] = {}
        self._ids = JobIds()

    async def connectors(self) -> list[Connector]:
        """Returns all connectors, ordered by id."""
        return [_copy(self._connectors[id_]) for id_ in sorted(self._connectors)]

    async def connector(self, connector_id: str) -> Connector:
        """Returns one; raises NotFoundError."""
        return _copy(self._connector(connector_id))

    async def put_connector(self, connector: Connector) -> Connector:
        """Creates it (`version` 0) or replaces exactly that version; raises ConflictError otherwise."""
        held = self._connectors.get(connector.id)
        if connector.version != (held.version if held else 0):
            raise ConflictError(f'The connector "{connector.id}" was changed by somebody else; read it again')
        self._connectors[connector.id] = _copy(connector.with_(version=connector.version + 1))
        return _copy(self._connectors[connector.id])

    async def update_connector(self, connector_id: str, changes: Mapping[str, Any]) -> Connector:
        """Changes these fields of the record at once and leaves the others; raises NotFoundError."""
        return self._change_connector(connector_id, changes)

    async def remove_connector(self, connector_id: str) -> None:
        """Removes the record, its state, jobs and dead letters. The epoch stays, one further, as a fence."""
        self._connectors.pop(connector_id, None)
        self._jobs = {id_: job for id_, job in self._jobs.items() if job.connector_id != connector_id}
        self._letters = {key: letter for key, letter in self._letters.items() if key[0] != connector_id}
        if connector_id in self._states:
            self._states[connector_id] = ConnectorState(connector_id, self._states[connector_id].epoch + 1)

    async def state(self, connector_id: str) -> ConnectorState:
        """Returns the state; an empty one for a connector that never ran."""
        return self._copy_of_state(connector_id)

    async def acquire(self, connector_id: str, worker: str, *, ttl: float, now: float) -> Lease | None:
        """Takes the lease with the next epoch; None while another worker's has not expired."""
        return self._take(connector_id, worker, ttl, now)

    async def claim(self, wanted: ClaimRequest, worker: str, *, ttl: float, now: float) -> Claim | None:
        """Takes the lease and changes job and connector; None while another worker's has not expired, or when one of
        them is no longer the version that was read."""
        job, connector = wanted.job, wanted.connector
        held = self._jobs.get(job.id), self._connectors.get(connector.id)
        if [record.version if record else 0 for record in held] != [job.version, connector.version]:
            return None
        with self._all_or_nothing():
            lease = self._take(connector.id, worker, ttl, now)
            if lease is None:
                return None
            job = self._change_job(job, wanted.job_changes)
            connector = self._change_connector(connector.id, wanted.connector_changes)
            return Claim(lease, job, connector, self._copy_of_state(connector.id))

    async def renew(self, lease: Lease, *, ttl: float, now: float) -> Lease:
        """Extends it; raises LeaseLostError when it is no longer ours."""
        state = self._state(lease.connector_id)
        if (state.epoch, state.worker) != (lease.epoch, lease.worker):
            raise _lost(lease)
        self._states[lease.connector_id] = replace(state, expires_at=now + ttl)
        return replace(lease, expires_at=now + ttl)

    async def release(self, lease: Lease) -> None:
        """Gives it back; nothing happens when it is no longer ours."""
        self._give_back(lease)

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
        """Changes fields of job, connector and state data, all or nothing; raises LeaseLostError, or NotFoundError."""
        held = self._state(lease.connector_id)
        if held.epoch != lease.epoch:
            raise _lost(lease)
        with self._all_or_nothing():
            if job:
                self._change_job(self._job(job_id), job)
            if connector:
                self._change_connector(lease.connector_id, connector)
            if state:
                data = {key: value for key, value in {**held.data, **state}.items() if value is not None}
                self._states[lease.connector_id] = replace(held, data=decode(encode(data)))
            if release:
                self._give_back(lease)

    async def create_job(
        self, connector: Connector, job_type: JobType, trigger: TriggerMethod, *, now: datetime, **metadata: Any
    ) -> SyncJob:
        """Creates a pending job with a snapshot of the connector, or returns the one that is pending already."""
        for job in self._jobs.values():
            if (job.connector_id, job.job_type, job.status) == (connector.id, job_type, JobStatus.PENDING):
                return self._change_job(job, {"metadata": {**job.metadata, **metadata}}) if metadata else _copy(job)
        new = SyncJob(
            id=self._ids.next(now),
            connector=connector_snapshot(connector),
            job_type=job_type,
            trigger_method=trigger,
            created_at=now,
            last_seen=now,
            metadata=metadata,
            version=1,
        )
        self._jobs[new.id] = _copy(new)
        return _copy(new)

    async def job(self, job_id: str) -> SyncJob:
        """Returns one; raises NotFoundError."""
        return _copy(self._job(job_id))

    async def jobs(
        self, *, connector_id: str | None = None, statuses: Sequence[str] | None = None, limit: int = 100
    ) -> list[SyncJob]:
        """Returns jobs, newest first."""
        found = [
            job
            for _, job in sorted(self._jobs.items(), reverse=True)
            if (connector_id is None or job.connector_id == connector_id)
            and (statuses is None or job.status in statuses)
        ]
        return [_copy(job) for job in found[: max(limit, 0)]]

    async def update_job(self, job_id: str, changes: Mapping[str, Any], *, statuses: Sequence[str]) -> SyncJob:
        """Changes fields if the job's status is one of `statuses`; raises ConflictError or NotFoundError otherwise."""
        job = self._job(job_id)
        if job.status not in statuses:
            raise ConflictError(f"The job {job_id} is {job.status} by now, not {' or '.join(statuses)}")
        return self._change_job(job, changes)

    async def purge_jobs(self, *, before: datetime, unchanged_before: datetime | None = None) -> int:
        """Removes jobs that ended before; those that found nothing changed may go earlier. Returns their number."""
        limit, unchanged_limit = format_time(before), format_time(unchanged_before or before)
        gone = [
            id_
            for id_, job in self._jobs.items()
            if job.status in ENDED_JOB_STATUSES
            and (ended := ended_at(job.to_record()))
            and (ended < limit or (ended < unchanged_limit and job.metadata.get("unchanged")))
        ]
        for id_ in gone:
            del self._jobs[id_]
        return len(gone)

    async def add_dead_letters(self, letters: Sequence[DeadLetter]) -> None:
        """Keeps them; a newer one of the same document replaces the older."""
        for letter in letters:
            kept = replace(letter, id=storable(letter.id), reason=storable(letter.reason))
            self._letters[kept.connector_id, kept.id] = kept

    async def remove_dead_letters(self, connector_id: str, ids: Sequence[str] | None = None) -> int:
        """Removes those of these ids, or all; returns their number."""
        wanted = None if ids is None else set(map(storable, ids))
        gone = [key for key in self._letters if key[0] == connector_id and (wanted is None or key[1] in wanted)]
        for key in gone:
            del self._letters[key]
        return len(gone)

    async def dead_letters(
        self, connector_id: str, *, limit: int = 100, after: str | None = None, bodies: bool = False
    ) -> list[DeadLetter]:
        """Returns them ordered by id, those behind `after`; without their bodies, unless these are asked for."""
        keys = sorted(key for key in self._letters if key[0] == connector_id and (after is None or key[1] > after))
        found = [self._letters[key] for key in keys[: max(limit, 0)]]
        return found if bodies else [letter.listed() for letter in found]

    async def dead_letter(self, connector_id: str, document_id: str) -> DeadLetter:
        """Returns one; raises NotFoundError."""
        letter = self._letters.get((connector_id, storable(document_id)))
        if letter is None:
            raise no_letter(connector_id, document_id)
        return letter

    async def dead_letter_ids(self, connector_id: str) -> dict[str, str]:
        """Returns `_id` → id of the job that wrote it, of all of them, without their bodies."""
        return {key[1]: letter.job_id for key, letter in self._letters.items() if key[0] == connector_id}

    async def count_dead_letters(self, connector_id: str) -> int:
        """Returns their number."""
        return sum(key[0] == connector_id for key in self._letters)

    async def count_all_dead_letters(self) -> dict[str, int]:
        """Returns connector id → their number, of all connectors that have some."""
        return dict(Counter(connector_id for connector_id, _ in self._letters))

    async def close(self) -> None:
        """Does nothing; what was written can still be looked at."""

    @contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        before = self._jobs.copy(), self._connectors.copy(), self._states.copy()
        try:
            yield
        except BaseException:
            self._jobs, self._connectors, self._states = before
            raise

    def _connector(self, connector_id: str) -> Connector:
        if connector_id not in self._connectors:
            raise NotFoundError(f'There is no connector "{connector_id}"')
        return self._connectors[connector_id]

    def _state(self, connector_id: str) -> ConnectorState:
        return self._states.get(connector_id, ConnectorState(connector_id))

    def _copy_of_state(self, connector_id: str) -> ConnectorState:
        state = self._state(connector_id)
        return replace(state, data=decode(encode(state.data)))

    def _take(self, connector_id: str, worker: str, ttl: float, now: float) -> Lease | None:
        state = self._state(connector_id)
        if state.worker not in {None, worker} and state.expires_at > now:
            return None
        lease = Lease(connector_id, worker, state.epoch + 1, now + ttl)
        self._states[connector_id] = replace(state, epoch=lease.epoch, worker=worker, expires_at=lease.expires_at)
        return lease

    def _give_back(self, lease: Lease) -> None:
        state = self._state(lease.connector_id)
        if (state.epoch, state.worker) == (lease.epoch, lease.worker):
            self._states[lease.connector_id] = replace(state, worker=None, expires_at=0.0)

    def _job(self, job_id: str) -> SyncJob:
        if job_id not in self._jobs:
            raise NotFoundError(f'There is no job "{job_id}"')
        return self._jobs[job_id]

    def _change_connector(self, connector_id: str, changes: Mapping[str, Any]) -> Connector:
        held = self._connector(connector_id)
        record = apply_changes(held.to_record(), changes)
        self._connectors[connector_id] = Connector.from_record(connector_id, record, version=held.version + 1)
        return _copy(self._connectors[connector_id])

    def _change_job(self, held: SyncJob, changes: Mapping[str, Any]) -> SyncJob:
        record = apply_changes(held.to_record(), changes)
        self._jobs[held.id] = SyncJob.from_record(held.id, record, version=held.version + 1)
        return _copy(self._jobs[held.id])


def _lost(lease: Lease) -> LeaseLostError:
    return LeaseLostError(
        f'The worker {lease.worker} no longer owns the connector "{lease.connector_id}" (epoch {lease.epoch})'
    )


def _copy(record: RecordT) -> RecordT:
    """Returns the record as it comes back from JSON, sharing nothing with the original."""
    return type(record).from_record(record.id, decode(encode(record.to_record())), version=record.version)
