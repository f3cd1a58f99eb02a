"""Connectors, their states and leases, and jobs as rows; run in a database thread.

Each function does what the method of `EmbeddedStore` that calls it says, in one transaction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from connectors.backends.embedded.connection import Database, with_rows
from connectors.backends.ports import Claim, ClaimRequest, ConnectorState, Lease
from connectors.backends.records import JobIds, apply_changes, connector_snapshot, decode, encode, ended_at
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

__all__ = [
    "acquire",
    "claim",
    "commit",
    "create_job",
    "get_connector",
    "get_job",
    "get_state",
    "list_connectors",
    "list_jobs",
    "purge_jobs",
    "put_connector",
    "release",
    "remove_connector",
    "renew",
    "update_connector",
    "update_job",
]

_PART: Final = 500  # ids of one statement

_LIST_JOBS: Final = """
SELECT id, record, version FROM jobs WHERE @conditions ORDER BY id DESC LIMIT ?
"""


# Connectors


def list_connectors(database: Database) -> list[Connector]:
    rows = database.execute("SELECT id, record, version FROM connectors ORDER BY id").fetchall()
    return [Connector.from_record(id_, decode(record), version=version) for id_, record, version in rows]


def get_connector(database: Database, connector_id: str) -> Connector:
    row = database.execute("SELECT record, version FROM connectors WHERE id = ?", (connector_id,)).fetchone()
    if row is None:
        raise NotFoundError(f'There is no connector "{connector_id}"')
    return Connector.from_record(connector_id, decode(row[0]), version=row[1])


def put_connector(database: Database, connector: Connector) -> Connector:
    record = encode(connector.to_record())
    with database.writing():
        if connector.version == 0:
            changed = database.execute(
                "INSERT INTO connectors VALUES (?, 1, ?) ON CONFLICT DO NOTHING", (connector.id, record)
            ).rowcount
        else:
            changed = database.execute(
                "UPDATE connectors SET record = ?, version = version + 1 WHERE id = ? AND version = ?",
                (record, connector.id, connector.version),
            ).rowcount
    if not changed:
        raise ConflictError(
            f'The connector "{connector.id}" was created, changed or removed by somebody else. Read it again'
        )
    return Connector.from_record(connector.id, decode(record), version=connector.version + 1)


def update_connector(database: Database, connector_id: str, changes: Mapping[str, Any]) -> Connector:
    with database.writing():
        return _change_connector(database, connector_id, changes)


def _change_connector(database: Database, connector_id: str, changes: Mapping[str, Any]) -> Connector:
    return _write_connector(database, get_connector(database, connector_id), changes)


def _write_connector(database: Database, held: Connector, changes: Mapping[str, Any]) -> Connector:
    record = apply_changes(held.to_record(), changes)
    changed = Connector.from_record(held.id, record, version=held.version + 1)
    database.execute(
        "UPDATE connectors SET record = ?, version = ? WHERE id = ?", (encode(record), changed.version, held.id)
    )
    return changed


def remove_connector(database: Database, connector_id: str) -> None:
    with database.writing():
        database.execute("DELETE FROM connectors WHERE id = ?", (connector_id,))
        database.execute("DELETE FROM jobs WHERE connector_id = ?", (connector_id,))
        database.execute("DELETE FROM dead_letters WHERE connector_id = ?", (connector_id,))
        # The epoch outlives the connector, one further: a worker that still runs it has lost its lease, and a connector
        # created later under the same id writes newer versions than those that the index may still hold.
        database.execute(
            "UPDATE states SET epoch = epoch + 1, worker = NULL, expires_at = 0, data = ? WHERE connector_id = ?",
            (encode({}), connector_id),
        )


# Leases and state


def get_state(database: Database, connector_id: str) -> ConnectorState:
    row = database.execute(
        "SELECT epoch, worker, expires_at, data FROM states WHERE connector_id = ?", (connector_id,)
    ).fetchone()
    if row is None:
        return ConnectorState(connector_id)
    return ConnectorState(connector_id, row[0], row[1], row[2], decode(row[3]))


def acquire(database: Database, connector_id: str, worker: str, ttl: float, now: float) -> Lease | None:
    with database.writing():
        state = _take(database, connector_id, worker, ttl, now)
    return Lease(connector_id, worker, state.epoch, state.expires_at) if state else None


def _take(database: Database, connector_id: str, worker: str, ttl: float, now: float) -> ConnectorState | None:
    row = database.execute(
        "INSERT INTO states VALUES (?1, 1, ?2, ?3, ?4) ON CONFLICT DO UPDATE"
        " SET epoch = epoch + 1, worker = ?2, expires_at = ?3"
        " WHERE worker IS NULL OR worker = ?2 OR expires_at <= ?5 RETURNING epoch, data",
        (connector_id, worker, now + ttl, encode({}), now),
    ).fetchone()
    return ConnectorState(connector_id, row[0], worker, now + ttl, decode(row[1])) if row else None


def claim(database: Database, wanted: ClaimRequest, worker: str, *, ttl: float, now: float) -> Claim | None:
    job, connector = wanted.job, wanted.connector
    with database.writing():
        versions = database.execute(
            "SELECT (SELECT version FROM jobs WHERE id = ?), (SELECT version FROM connectors WHERE id = ?)",
            (job.id, connector.id),
        ).fetchone()
        if versions != (job.version, connector.version):
            return None
        state = _take(database, connector.id, worker, ttl, now)
        if state is None:
            return None
        return Claim(
            Lease(connector.id, worker, state.epoch, state.expires_at),
            _change_job(database, job, wanted.job_changes),
            _write_connector(database, connector, wanted.connector_changes),
            state,
        )


def renew(database: Database, lease: Lease, ttl: float, now: float) -> Lease:
    with database.writing():
        changed = database.execute(
            "UPDATE states SET expires_at = ? WHERE connector_id = ? AND epoch = ? AND worker = ?",
            (now + ttl, lease.connector_id, lease.epoch, lease.worker),
        ).rowcount
    if not changed:
        raise _lost(lease)
    return Lease(lease.connector_id, lease.worker, lease.epoch, now + ttl)


def release(database: Database, lease: Lease) -> None:
    with database.writing():
        _give_back(database, lease)


def _give_back(database: Database, lease: Lease) -> None:
    database.execute(
        "UPDATE states SET worker = NULL, expires_at = 0 WHERE connector_id = ? AND epoch = ? AND worker = ?",
        (lease.connector_id, lease.epoch, lease.worker),
    )


def commit(
    database: Database,
    lease: Lease,
    *,
    job_id: str,
    job: Mapping[str, Any] | None,
    connector: Mapping[str, Any] | None,
    state: Mapping[str, Any] | None,
    release: bool,
) -> None:
    with database.writing():
        held = get_state(database, lease.connector_id)
        if held.epoch != lease.epoch:
            raise _lost(lease)
        if job:
            _change_job(database, get_job(database, job_id), job)
        if connector:
            _change_connector(database, lease.connector_id, connector)
        if state:
            merged = {key: value for key, value in {**held.data, **state}.items() if value is not None}
            _set_data(database, lease.connector_id, merged)
        if release:
            _give_back(database, lease)


def _lost(lease: Lease) -> LeaseLostError:
    return LeaseLostError(
        f'The worker {lease.worker} no longer owns the connector "{lease.connector_id}" (epoch {lease.epoch}): another '
        "one took it over after the lease expired, or it was removed"
    )


def _set_data(database: Database, connector_id: str, data: Mapping[str, Any]) -> None:
    database.execute("UPDATE states SET data = ? WHERE connector_id = ?", (encode(data), connector_id))


# Jobs


def create_job(
    database: Database,
    ids: JobIds,
    connector: Connector,
    job_type: JobType,
    trigger: TriggerMethod,
    *,
    now: datetime,
    metadata: Mapping[str, Any],
) -> SyncJob:
    with database.writing():
        row = database.execute(
            "SELECT id FROM jobs WHERE connector_id = ? AND job_type = ? AND status = ? LIMIT 1",
            (connector.id, job_type, JobStatus.PENDING),
        ).fetchone()
        if row is not None:
            pending = get_job(database, row[0])
            if not metadata:
                return pending
            return _change_job(database, pending, {"metadata": {**pending.metadata, **metadata}})
        new = SyncJob(
            id=ids.next(now),
            connector=connector_snapshot(connector),
            job_type=job_type,
            trigger_method=trigger,
            created_at=now,
            last_seen=now,
            metadata=dict(metadata),
        )
        record = apply_changes(new.to_record(), {})
        database.execute(
            "INSERT INTO jobs VALUES (?, ?, ?, ?, NULL, 1, ?)",
            (new.id, connector.id, job_type, JobStatus.PENDING, encode(record)),
        )
    return SyncJob.from_record(new.id, record, version=1)


def get_job(database: Database, job_id: str) -> SyncJob:
    row = database.execute("SELECT record, version FROM jobs WHERE id = ?", (job_id,)).fetchone()
    if row is None:
        raise NotFoundError(f'There is no job "{job_id}"; it may have been purged')
    return SyncJob.from_record(job_id, decode(row[0]), version=row[1])


def list_jobs(
    database: Database, connector_id: str | None, statuses: Sequence[str] | None, limit: int
) -> list[SyncJob]:
    conditions = ["TRUE"]
    parameters: list[Any] = []
    if connector_id is not None:
        conditions.append("connector_id = ?")
        parameters.append(connector_id)
    if statuses is not None:
        conditions.append(with_rows("status IN (@rows)", len(statuses)))
        parameters += statuses
    statement = _LIST_JOBS.replace("@conditions", " AND ".join(conditions))
    rows = database.execute(statement, (*parameters, max(limit, 0))).fetchall()
    return [SyncJob.from_record(id_, decode(record), version=version) for id_, record, version in rows]


def update_job(database: Database, job_id: str, changes: Mapping[str, Any], statuses: Sequence[str]) -> SyncJob:
    with database.writing():
        job = get_job(database, job_id)
        if job.status not in statuses:
            raise ConflictError(f"The job {job_id} is {job.status} by now, not {' or '.join(statuses)}")
        return _change_job(database, job, changes)


def _change_job(database: Database, job: SyncJob, changes: Mapping[str, Any]) -> SyncJob:
    record = apply_changes(job.to_record(), changes)
    status = record["status"]
    database.execute(
        "UPDATE jobs SET job_type = ?, status = ?, ended_at = ?, version = version + 1, record = ? WHERE id = ?",
        (
            record["job_type"],
            status,
            ended_at(record) if status in ENDED_JOB_STATUSES else None,
            encode(record),
            job.id,
        ),
    )
    return SyncJob.from_record(job.id, record, version=job.version + 1)


def purge_jobs(database: Database, before: datetime, unchanged_before: datetime) -> int:
    with database.writing():
        return database.execute(
            "DELETE FROM jobs WHERE ended_at < ? OR (ended_at < ? AND "
            "json_extract(CAST(record AS TEXT), '$.metadata.unchanged'))",
            (format_time(before), format_time(unchanged_before)),
        ).rowcount
