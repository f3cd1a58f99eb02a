"""Jobs as documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from connectors.backends.records import JobIds, apply_changes, connector_snapshot, ended_at
from connectors.backends.server.documents import Contention, Document, DocumentIndex
from connectors.backends.server.readable import job_of
from connectors.backends.server.states import key
from connectors.byoc import ENDED_JOB_STATUSES, Connector, JobStatus, JobType, SyncJob, TriggerMethod, format_time
from connectors.errors import ConflictError, NotFoundError, RetryableError

__all__ = ["QUIET", "Jobs", "is_quiet"]

#: What changes every second while a sync runs, and need not show in lists at once.
QUIET: Final = frozenset({
    "last_seen", "indexed_document_count", "indexed_document_volume", "deleted_document_count", "metadata",
})  # fmt: skip

_TRIES: Final = 60
#: Jobs read beyond the number asked for: those of the same millisecond are put in order here.
_MORE: Final = 20
_PURGED_AT_ONCE: Final = 1000
#: Seconds after which a job that was announced and is not there was removed, rather than not yet written.
_ANNOUNCED: Final = 60.0
_NEWEST_FIRST: Final = [{"created_at": {"order": "desc", "unmapped_type": "date", "missing": "_last"}}]
_OLDEST_FIRST: Final = [{"created_at": {"order": "asc", "unmapped_type": "date", "missing": "_first"}}]


def is_quiet(changes: Mapping[str, Any], quiet: frozenset[str]) -> bool:
    """Whether a change need not show in lists at once."""
    return quiet.issuperset(changes)


class Jobs:
    """The jobs of all connectors.

    Args:
        index: where they are.
        notes: where it is noted which job of a connector and kind waits.
    """

    def __init__(self, index: DocumentIndex, notes: DocumentIndex, ids: JobIds) -> None:
        self._index = index
        self._notes = notes
        self._ids = ids

    # One job

    async def get(self, job_id: str) -> SyncJob:
        """Returns one; raises NotFoundError."""
        return job_of(await self._get(job_id))

    async def _get(self, job_id: str) -> Document:
        document = await self._index.get(job_id) if job_id else None
        if document is None:
            raise NotFoundError(f'There is no job "{job_id}"; it may have been purged')
        return document

    async def update(self, job_id: str, changes: Mapping[str, Any], statuses: Sequence[str]) -> SyncJob:
        """Changes fields if the job's status is one of `statuses`; raises ConflictError or NotFoundError otherwise."""
        contention = Contention()
        for _ in range(_TRIES):
            held = await self._get(job_id)
            job = job_of(held)
            if job.status not in statuses:
                raise ConflictError(f"The job {job_id} is {job.status} by now, not {' or '.join(statuses)}")
            record = apply_changes(job.to_record(), changes)
            written = await self._index.replace(held, record, refresh=not is_quiet(changes, QUIET))
            if written is not None:
                return job_of(written)
            await contention.pause()
        raise RetryableError(f"the job {job_id} is changed by others all the time")

    # Creating

    async def create(
        self,
        connector: Connector,
        job_type: JobType,
        trigger: TriggerMethod,
        *,
        now: datetime,
        metadata: Mapping[str, Any],
    ) -> SyncJob:
        """Creates a pending job, or returns the one of that connector and type that is pending already.

        Which one that is stands in a note, which is changed by compare-and-set before the job is written: of several
        that create one at the same time, one writes the note, and all the others find it and do what it says.
        """
        note_id = key(f"pending-{job_type}", connector.id)
        contention = Contention()
        for _ in range(_TRIES):
            note = await self._notes.get(note_id)
            waiting = await self._waiting(note, connector.id, job_type, now)
            if isinstance(waiting, SyncJob):
                if not metadata:
                    return waiting
                try:
                    both = {"metadata": {**waiting.metadata, **metadata}, "status": JobStatus.PENDING}
                    return await self.update(waiting.id, both, [JobStatus.PENDING])
                except (ConflictError, NotFoundError):  # it runs, or was removed: a new one is wanted
                    continue
            job_id = waiting or self._ids.next(now)
            if waiting is None and not await self._announce(note, note_id, connector.id, job_id, now):
                await contention.pause()
                continue
            new = SyncJob(
                id=job_id,
                connector=connector_snapshot(connector),
                job_type=job_type,
                trigger_method=trigger,
                created_at=now,
                last_seen=now,
                metadata=dict(metadata),
            )
            written = await self._index.create(job_id, apply_changes(new.to_record(), {}))
            if written is not None:
                return job_of(written)
        raise RetryableError(f'a job of "{connector.id}" cannot be created: others do so all the time')

    async def _waiting(
        self, note: Document | None, connector_id: str, job_type: JobType, now: datetime
    ) -> SyncJob | str | None:
        """Returns the job that waits; or the id of one that was announced and is not yet there; or None."""
        if note is not None:
            document = await self._index.get(note.source["job_id"])
            if document is not None and (job := job_of(document)).status == JobStatus.PENDING:
                return job
            if document is None and abs(now.timestamp() - float(note.source["at"])) < _ANNOUNCED:
                return str(note.source["job_id"])
        # One that somebody else wrote, without a note.
        pending = await self.list(connector_id, [JobStatus.PENDING], 100)
        return next((job for job in pending if job.job_type == job_type), None)

    async def _announce(
        self, note: Document | None, note_id: str, connector_id: str, job_id: str, now: datetime
    ) -> bool:
        source = {"kind": "pending", "connector_id": connector_id, "job_id": job_id, "at": now.timestamp()}
        if note is None:
            return await self._notes.create(note_id, source, refresh=True) is not None
        return await self._notes.replace(note, source, refresh=False) is not None

    # Several

    async def list(self, connector_id: str | None, statuses: Sequence[str] | None, limit: int) -> list[SyncJob]:
        """Returns jobs, newest first."""
        if limit <= 0 or (statuses is not None and not statuses):
            return []
        conditions: list[dict[str, Any]] = []
        if connector_id is not None:
            conditions.append({"term": {"connector.id": connector_id}})
        if statuses is not None:
            conditions.append({"terms": {"status": list(statuses)}})
        found = await self._index.search({"bool": {"filter": conditions}}, sort=_NEWEST_FIRST, limit=limit + _MORE)
        jobs = sorted(map(job_of, found), key=_age, reverse=True)
        return jobs[:limit]

    async def remove(self, connector_id: str) -> None:
        """Removes all jobs of a connector, and what is noted of them."""
        await self._index.delete({"bool": {"filter": [{"term": {"connector.id": connector_id}}]}})
        notes = [{"term": {"kind": "pending"}}, {"term": {"connector_id": connector_id}}]
        await self._notes.delete({"bool": {"filter": notes}})

    async def purge(self, before: datetime, unchanged_before: datetime | None) -> int:
        """Removes jobs that ended before; those that found nothing changed may go earlier. Returns their number."""
        limit, unchanged_limit = format_time(before), format_time(unchanged_before or before)
        total = 0
        asked = _ended_by(max(limit, unchanged_limit))
        async for page in self._index.scan(asked, sort=_OLDEST_FIRST, size=_PURGED_AT_ONCE):
            gone = [
                document.id
                for document in page
                if (ended := ended_at(document.source))  # here to the microsecond, there to the millisecond
                and (ended < limit or (ended < unchanged_limit and job_of(document).metadata.get("unchanged")))
            ]
            total += await self._index.delete_ids(gone)
        return total


def _age(job: SyncJob) -> tuple[float, str]:
    return (job.created_at.timestamp() if job.created_at else 0.0, job.id)


def _ended_by(limit: str) -> dict[str, Any]:
    """Asks for ended jobs whose end, or the best guess at it, was not after this time."""
    alternatives: list[dict[str, Any]] = []
    absent: list[dict[str, Any]] = []
    for name in ("completed_at", "canceled_at", "last_seen", "created_at"):
        reached = {"range": {name: {"lte": limit}}}
        alternatives.append({"bool": {"filter": [reached], "must_not": list(absent)}})
        absent.append({"exists": {"field": name}})
    statuses = {"terms": {"status": list(ENDED_JOB_STATUSES)}}
    return {"bool": {"filter": [statuses], "should": alternatives, "minimum_should_match": 1}}
