"""Sync jobs in memory: the real pipeline between a source and a destination and a store that last as long as a test."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import Any, Final, cast

import orjson

from connectors.backends.ports import DIGEST_SIZE, IndexHandle, IndexSpec
from connectors.byoc import Connector, Filter, JobStatus, JobType, SyncJob, TriggerMethod
from connectors.config import SyncConfig
from connectors.errors import NotFoundError
from connectors.runtime import Runtime
from connectors.source import BaseDataSource
from connectors.sync.context import SyncContext, SyncResult
from connectors.sync.engine import run_sync
from connectors.sync.limits import FlightLimit
from connectors.testing.memory import MemoryDestination, MemoryStore

__all__ = ["MemorySync"]

_ID: Final = "acceptance"
_TTL: Final = 3600.0


class MemorySync:
    """One connector and its index. What the service does around a job is done here: lease, cursor, final status.

    Args:
        folder: for the ledger and the seen set.
        settings: of `SyncConfig`. Unless they say otherwise, each checkpoint is stored, and no deletion has to be
            allowed but that of everything.

    Attributes:
        destination: holds the documents.
        store: holds the records.
    """

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.folder = folder
        self.destination = MemoryDestination()
        self.store = MemoryStore()
        defaults = {"max_delete_ratio": 1.0, "checkpoint_interval": 0.001, "flush_interval": 0.05}
        self.config = SyncConfig(**{**defaults, **settings})
        self._runtime = _Brisk()

    async def run(
        self,
        source: BaseDataSource,
        job_type: JobType = JobType.FULL,
        *,
        filtering: Filter | None = None,
        job: SyncJob | None = None,
        stop_after: int | None = None,
    ) -> tuple[SyncResult, SyncJob]:
        """Runs a job to its end; returns how it ended, and its record.

        Args:
            filtering: the sync rules.
            job: one that was suspended, to go on with.
            stop_after: items after which the job is asked to suspend.

        Raises:
            Exception: what ended the job.
        """
        connector = await self._connector(source)
        job = job or await self.store.create_job(connector, job_type, TriggerMethod.SCHEDULED, now=self._runtime.now())
        stop = asyncio.Event()
        context = await self._context(source, connector, job, filtering or Filter(), stop)
        lease = context.lease()
        try:
            with _stopping(source, stop, stop_after):
                result = await run_sync(context)
        except BaseException:
            await self.store.commit(lease, job_id=job.id, job={"status": JobStatus.ERROR})
            raise
        status = JobStatus.SUSPENDED if result.suspended else JobStatus.COMPLETED
        cursor = {} if result.suspended or result.cursor is None else {"sync_cursor": result.cursor}
        await self.store.commit(lease, job_id=job.id, job={"status": status}, connector=cursor, state=result.state)
        return result, await self.store.job(job.id)

    async def _connector(self, source: BaseDataSource) -> Connector:
        try:
            return await self.store.connector(_ID)
        except NotFoundError:
            new = Connector(id=_ID, service_type=source.service_type or _ID, index_name=_ID)
            return await self.store.put_connector(new)

    async def _context(
        self, source: BaseDataSource, connector: Connector, job: SyncJob, filtering: Filter, stop: asyncio.Event
    ) -> SyncContext:
        lease = await self.store.acquire(_ID, _ID, ttl=_TTL, now=self._runtime.time())
        if lease is None:
            raise RuntimeError("one job at a time: another one of this MemorySync is still running")
        return SyncContext(
            connector=connector,
            job=job,
            source=source,
            filtering=filtering,
            destination=self.destination,
            store=self.store,
            index=await self.destination.prepare(IndexSpec(_ID)),
            lease=lambda: lease,
            state=await self.store.state(_ID),
            config=self.config,
            runtime=self._runtime,
            folder=self.folder,
            stop=stop,
            limit=FlightLimit(self.config.writes_in_flight, self.config.bytes_in_flight),
            logger=logging.getLogger("connectors.testing"),
            configuration_fingerprint=_ID,
            max_delete_ratio=self.config.max_delete_ratio,
            drain_timeout=10.0,
        )

    async def indexed(self) -> dict[str, dict[str, Any]]:
        """Returns the documents of the index: `_id` → document."""
        info = await self.destination.prepare(IndexSpec(_ID))
        handle = IndexHandle(_ID, info.uuid, _ID, "")
        found: dict[str, dict[str, Any]] = {}
        async for page in self.destination.stamps(handle):
            digests = [page.digests[at : at + DIGEST_SIZE] for at in range(0, len(page.digests), DIGEST_SIZE)]
            ids = [id_ for _, id_ in await self.destination.find_ids(handle, digests)]
            found |= {id_: orjson.loads(body) for id_, body in (await self.destination.fetch(_ID, ids)).items()}
        return found

    async def dead_letters(self) -> dict[str, str]:
        """Returns the dead letters: `_id` → reason."""
        return {letter.id: letter.reason for letter in await self.store.dead_letters(_ID, limit=100_000)}


class _Brisk(Runtime):
    """Pauses of the framework, which are for the sake of others, are cut short."""

    __slots__ = ()

    async def sleep(self, seconds: float) -> None:
        """Sleeps for five milliseconds at most."""
        await asyncio.sleep(min(seconds, 0.005))


@contextmanager
def _stopping(source: BaseDataSource, stop: asyncio.Event, after: int | None) -> Iterator[None]:
    """Within the block, the source asks the job to suspend after so many items, and yields no more."""
    if after is None:
        yield
        return
    original = source.get_docs

    async def get_docs(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        left = after
        async with aclosing(cast("Any", original(*args, **kwargs))) as items:
            async for item in items:
                yield item
                left -= 1
                if left <= 0:
                    stop.set()
                    await asyncio.Event().wait()  # until the job cancels the reading

    source.get_docs = get_docs  # type: ignore[method-assign]  # of this object, and taken away again
    try:
        yield
    finally:
        del source.get_docs  # the method of the class is behind it
