"""A small world for sync jobs: destination and store in memory, a folder, and what the service does around a job."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import orjson

from connectors.backends.ports import IndexHandle, IndexSpec, Lease
from connectors.byoc import Connector, Filter, JobStatus, JobType, SyncJob, TriggerMethod
from connectors.config import SyncConfig
from connectors.errors import LeaseLostError
from connectors.runtime import Runtime
from connectors.source import BaseDataSource
from connectors.sync.context import Extractor, ReaderPlan, SyncContext, SyncResult
from connectors.sync.engine import run_sync
from connectors.sync.ledger import Ledger, LedgerHeader
from connectors.sync.limits import FlightLimit
from connectors.testing.memory import MemoryStore
from tests.support.clock import InlineRuntime
from tests.support.destination import FaultyDestination

__all__ = ["RecordingStore", "World", "counted"]

CONNECTOR = "c"
INDEX = "i"
TTL = 3600.0


class RecordingStore(MemoryStore):
    """Remembers the commits; `on_commit` is called before each, and may raise; each takes `seconds`."""

    def __init__(self) -> None:
        super().__init__()
        self.commits: list[dict[str, Any]] = []
        self.on_commit: Callable[[dict[str, Any]], None] = lambda _: None
        self.seconds = 0.0
        self.cut_short = 0

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
        changes = {"job": job, "connector": connector, "state": state}
        self.on_commit(changes)
        try:
            await asyncio.sleep(self.seconds)
        except asyncio.CancelledError:
            self.cut_short += 1
            raise
        self.commits.append(changes)
        await super().commit(lease, job_id=job_id, job=job, connector=connector, state=state, release=release)


class World:
    """Create it inside a running loop. Attributes may be changed between syncs."""

    def __init__(self, folder: Path, *, destination: FaultyDestination | None = None, **config: Any) -> None:
        self.folder = folder
        self.runtime: Runtime = InlineRuntime()
        self.destination = destination or FaultyDestination(clock=self.runtime.time)
        self.store = RecordingStore()
        self.config = SyncConfig(**config)
        self.connector = Connector(id=CONNECTOR, service_type="scripted", index_name=INDEX)
        self.rules: list[dict[str, Any]] = []
        self.configuration = "configuration-1"
        self.made_with: dict[str, str] | None = None
        self.fingerprint = ""
        self.drain_timeout = 10.0
        self.extractor: Extractor | None = None
        self.readers: ReaderPlan | None = None
        self.stop = asyncio.Event()
        self.lease: Lease | None = None
        self.lost = False

    # One job

    async def job(self, job_type: JobType = JobType.FULL, **metadata: Any) -> SyncJob:
        """Creates a job."""
        if not await self.store.connectors():
            await self.store.put_connector(self.connector)
        return await self.store.create_job(
            self.connector, job_type, TriggerMethod.SCHEDULED, now=self.runtime.now(), **metadata
        )

    async def context(self, source: BaseDataSource, job: SyncJob) -> SyncContext:
        """Claims the connector, in the name of another worker, and builds the context of a job."""
        if self.lease is not None:
            await self.store.release(self.lease)
        lease = await self.store.acquire(CONNECTOR, "w", ttl=TTL, now=self.runtime.time())
        assert lease is not None
        self.lease, self.stop, self.lost = lease, asyncio.Event(), False
        index = await self.destination.prepare(IndexSpec(INDEX))
        if self.fingerprint:
            index = type(index)(index.name, index.uuid, self.fingerprint)
        return SyncContext(
            connector=await self.store.connector(CONNECTOR),
            job=job,
            source=source,
            filtering=Filter.of(self.rules),
            destination=self.destination,
            store=self.store,
            index=index,
            lease=self._check_lease,
            state=await self.store.state(CONNECTOR),
            config=self.config,
            runtime=self.runtime,
            folder=self.folder,
            stop=self.stop,
            limit=FlightLimit(8, self.config.bytes_in_flight),
            logger=logging.getLogger("connectors.test"),
            configuration_fingerprint=self.configuration,
            max_delete_ratio=self.config.max_delete_ratio,
            drain_timeout=self.drain_timeout,
            extractor=self.extractor,
            readers=self.readers,
            made_with=self.made_with or {"settings": self.configuration, "basic_rules": str(self.rules)},
        )

    def _check_lease(self) -> Lease:
        if self.lost or self.lease is None:
            raise LeaseLostError("the lease is lost")
        return self.lease

    async def run(self, source: BaseDataSource, job: SyncJob) -> SyncResult:
        """Runs a job, or goes on with it, and stores how it ended, as the service does."""
        context = await self.context(source, job)
        result = await run_sync(context)
        status = JobStatus.SUSPENDED if result.suspended else JobStatus.COMPLETED
        cursor = {} if result.suspended or result.cursor is None else {"sync_cursor": result.cursor}
        changes = {"status": status, "metadata": {**job.metadata, "counters": result.counters.to_dict()}}
        await self.store.commit(context.lease(), job_id=job.id, job=changes, connector=cursor, state=result.state)
        return result

    async def sync(
        self,
        source: BaseDataSource,
        job_type: JobType = JobType.FULL,
        *,
        stop_after: float | None = None,
        job: SyncJob | None = None,
        **metadata: Any,
    ) -> SyncResult:
        """Runs a new job, or the one that is given; `stop_after` so many seconds asks it to suspend."""
        job = job or await self.job(job_type, **metadata)
        running = asyncio.create_task(self.run(source, job))
        if stop_after is not None:
            await asyncio.wait([running], timeout=stop_after)
            self.stop.set()
        try:
            return await running
        finally:
            running.cancel()

    async def kill(self, source: BaseDataSource, *, after: float, job: SyncJob | None = None) -> bool:
        """Cancels a sync after some seconds, and forgets it; returns whether it was still running."""
        job = job or await self.job()
        running = asyncio.create_task(self.run(source, job))
        await asyncio.wait([running], timeout=after)
        alive = not running.done()
        running.cancel()
        await asyncio.wait([running])
        if not running.cancelled() and (error := running.exception()) is not None:
            raise error
        if alive:
            await self.store.update_job(job.id, {"status": JobStatus.ERROR}, statuses=list(JobStatus))
        return alive

    # What is there

    @property
    def handle(self) -> IndexHandle:
        """The connector's view of the index."""
        index = self.destination._indices[INDEX]
        return IndexHandle(INDEX, index.uuid, CONNECTOR, "")

    @property
    def indexed(self) -> dict[str, dict[str, Any]]:
        """The documents in the index, by id."""
        found = self.destination._indices[INDEX].documents if INDEX in self.destination._indices else {}
        return {id_: orjson.loads(operation.body or b"") for id_, (_, operation) in found.items()}

    async def letters(self) -> dict[str, str]:
        """Dead letters: id → reason."""
        return {letter.id: letter.reason for letter in await self.store.dead_letters(CONNECTOR, limit=10_000)}

    def stamps(self) -> dict[bytes, bytes]:
        """Digest → content hash, as the index has them."""
        documents = self.destination._indices[INDEX].documents.values()
        return {operation.digest: operation.content_hash for _, operation in documents}

    async def ledger(self) -> dict[bytes, bytes] | None:
        """Digest → content hash, as the ledger on disk has them; None when it is not valid for the next job."""
        assert self.lease is not None
        ledger = Ledger(self.folder)
        fingerprint = orjson.loads((self.folder / "ledger.json").read_bytes())["fingerprint"]
        if not ledger.open(LedgerHeader(self.handle.uuid, self.lease.epoch, fingerprint)):
            return None
        return {
            int(entry["hi"]).to_bytes(8) + int(entry["lo"]).to_bytes(8): int(entry["hash"]).to_bytes(8)
            for entry in ledger._entries.array
        }


def counted(result: SyncResult) -> dict[str, int]:
    """Returns the counters that are not zero, without the bytes."""
    assert result.counters.balanced
    return {name: value for name, value in result.counters.to_dict().items() if value and name != "bytes"}
