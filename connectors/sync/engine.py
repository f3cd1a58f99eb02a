"""Runs one sync job from its first read to the last acknowledged write.

The parts: the pipeline reads and compares, the writer writes, the ticker flushes what waits and stores progress. They
live in one TaskGroup, so that the failure of one ends them all. Storing the final status belongs to the caller, who
holds the lease.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, Final, ParamSpec, TypeVar

from connectors.byoc import JobType
from connectors.errors import SyncError, describe
from connectors.sync.context import SyncContext, SyncResult
from connectors.sync.contract import durable
from connectors.sync.counters import Counters
from connectors.sync.deadletters import DeadLetters
from connectors.sync.failures import most_telling
from connectors.sync.guard import guard_deletion
from connectors.sync.ledger import Ledger, LedgerHeader, LedgerLog
from connectors.sync.opening import read_ledger, rebuild_ledger
from connectors.sync.patience import patiently
from connectors.sync.pipeline import Pipeline
from connectors.sync.progress import Checkpointed, Progress
from connectors.sync.readers import full_stream
from connectors.sync.seen import SeenLog
from connectors.sync.threads import cancel_to_its_end, in_thread_to_its_end
from connectors.sync.tweaks import tweaked
from connectors.sync.writer import BulkWriter
from connectors.utils import file_name

__all__ = ["Sync", "run_sync"]

P = ParamSpec("P")
T = TypeVar("T")

_EPOCH_SHIFT: Final = 40


async def run_sync(context: SyncContext) -> SyncResult:
    """Runs the job of `context` and returns how it ended.

    Raises:
        SyncError: or one of its kinds; what was acknowledged and checkpointed before is kept.
        Exception: whatever the source raised.
    """
    try:
        return await Sync(tweaked(context)).run()
    except BaseExceptionGroup as group:
        raise most_telling(group) from group


class Sync:
    """One run of one job; not used twice."""

    def __init__(self, context: SyncContext) -> None:
        self._context = context
        self._lease = context.lease()
        self._full = context.job_type is JobType.FULL
        self._handle = context.handle
        self._ledger = Ledger(context.folder)
        self._log = LedgerLog(context.folder / f"{file_name(context.job.id)}-{self._lease.epoch}.log")
        self._seen: SeenLog | None = None
        self._checkpoint: Any = None
        self._can_delete, self._completed = True, False
        self._committing = asyncio.Lock()
        self._drain_ends: float | None = None
        self._due: Checkpointed | None = None
        self._cursor: Callable[[], Any] = context.source.sync_cursor
        self._stored: tuple[Checkpointed, dict[str, int]] | None = None
        self._progress = Progress()
        self._dead_letters = DeadLetters(
            context.store,
            context.connector.id,
            context.job.id,
            limit=context.config.max_dead_letters,
            patience=context.config.retry_patience,
            runtime=context.runtime,
            fingerprint=self._handle.fingerprint,
        )

    async def run(self) -> SyncResult:
        """Runs it; see `run_sync`."""
        context = self._context
        try:
            await self._open_ledger()
            if self._full:
                await self._open_checkpoint()
            await self._dead_letters.load()
            if context.observer is not None:
                context.observer.begin(context.connector.id, self._progress.total())
            async with asyncio.TaskGroup() as group:
                result = await self._run_in(group)
        finally:
            self._log.close()
            if self._seen is not None:
                self._seen.close()
            if context.observer is not None:
                context.observer.progress(context.connector.id, self._progress.total(), 0)
        return result

    # Before the first read

    async def _open_ledger(self) -> None:
        context = self._context
        header = LedgerHeader(self._handle.uuid, self._lease.epoch - 1, self._handle.fingerprint)
        known = await read_ledger(self._ledger, header, context.runtime)
        if context.mends or not known:
            await self._patiently(
                lambda: rebuild_ledger(self._ledger, context, self._handle),
                f"reading the stamps of {self._handle.index}",
            )
        if context.write_again != b"":
            await self._in_thread(self._ledger.forget_hashes, context.write_again)

    async def _open_checkpoint(self) -> None:
        """Goes on where this job was, if the source can and what is needed is there."""
        context = self._context
        saved: Mapping[str, Any] = context.state.data.get("progress") or {}
        resumes = (
            context.source.resumable
            and saved.get("checkpoint") is not None
            # A job that hung ended, and left its checkpoint to the next one; its counters are its own.
            and saved.get("job") in {context.job.id, context.state.data.get("goes_on")}
            and context.basis.items() <= {"mends": None, **saved}.items()
        )
        if resumes:
            self._checkpoint = saved["checkpoint"]
            counters = Counters.from_dict(saved.get("counters"))
            context.logger.info("goes on behind %s documents", counters.read)
            if saved["job"] == context.job.id:
                self._progress = Progress(counters)
        if context.source.resumable:
            await self._in_thread(self._open_seen, saved if resumes else None)
        if resumes and self._seen is not None:
            self._due = Checkpointed(self._checkpoint, self._seen.length)

    def _open_seen(self, saved: Mapping[str, Any] | None) -> None:
        folder, job_id = self._context.folder / "seen", self._context.job.id
        if saved is not None:
            token, length, of = str(saved["seen_token"]), int(saved["seen"]), str(saved["job"])
            self._seen = SeenLog.reopen(folder, job_id, token, length, of=of)
            # Once part of the seen set is lost, it stays lost for the whole of this job.
            self._can_delete = self._seen is not None and not saved.get("incomplete")
            for digests in self._seen.read() if self._seen is not None else ():
                self._ledger.mark_seen(digests)
        if self._seen is None and self._context.source.resumable:
            self._seen = SeenLog.create(folder, job_id)

    async def _read(self, pipeline: Pipeline) -> None:
        context = self._context
        if self._full:
            stream, self._cursor = await full_stream(context, self._checkpoint, len(self._ledger))
        else:
            stream = context.source.get_docs_incrementally(context.connector.sync_cursor, context.filtering)
        await pipeline.read(stream)

    # The run itself

    async def _run_in(self, group: asyncio.TaskGroup) -> SyncResult:
        context = self._context
        writer = BulkWriter(
            context.destination,
            self._handle,
            config=context.config,
            progress=self._progress,
            log=self._log,
            dead_letters=self._dead_letters,
            limit=context.limit,
            runtime=context.runtime,
            guard=context.lease,
            watch=context.watch,
            group=group,
        )
        pipeline = Pipeline(
            context,
            handle=self._handle,
            ledger=self._ledger,
            seen=self._seen,
            progress=self._progress,
            writer=writer,
            dead_letters=self._dead_letters,
            group=group,
            first_version=self._lease.epoch << _EPOCH_SHIFT,
        )
        ticking = group.create_task(self._tick(pipeline, writer))
        resumed = self._checkpoint is not None
        result = SyncResult(Counters(), suspended=True, incomplete=pipeline.incomplete, resumed=resumed)
        try:
            await self._work(group, pipeline, writer, result)
        except Exception:  # what was read before shall still be written and checkpointed
            await self._finish(pipeline, writer, ticking, result)
            raise
        await self._finish(pipeline, writer, ticking, result)
        return result

    async def _work(self, group: asyncio.TaskGroup, pipeline: Pipeline, writer: BulkWriter, result: SyncResult) -> None:
        """Reads, writes and deletes; takes `suspended` off the result when all of it is done."""
        context = self._context
        read_all = await self._until_stopped(group, pipeline, lambda: self._read(pipeline))
        if not read_all or not await self._drain(pipeline, writer):
            return
        result.cursor = durable(self._cursor(), f"sync_cursor() of the source {context.connector.service_type}")
        if not self._full and pipeline.last_checkpoint is not None:
            result.cursor = pipeline.last_checkpoint.state
        filled = context.state.data.get("index")  # the index that the last completed full sync filled
        lists_all = context.source.lists_all
        moved = not self._full and filled not in (None, self._handle.uuid)
        result.needs_full = moved or (lists_all and not self._can_delete)
        if self._full and lists_all and self._can_delete and not pipeline.incomplete:
            read = self._progress.total().read
            guard_deletion(context, self._ledger, read=read, kept=pipeline.kept, dropped=pipeline.dropped)
            self._dead_letters.forget_vanished()
            if self._ledger.vanished_count:
                deleted_all = await self._until_stopped(group, pipeline, pipeline.delete_vanished)
                if not deleted_all or not await self._drain(pipeline, writer):
                    return
        self._progress.finish()
        self._completed, result.suspended = True, False

    async def _finish(
        self, pipeline: Pipeline, writer: BulkWriter, ticking: asyncio.Task[None], result: SyncResult
    ) -> None:
        """Ends what is under way, and stores what was reached."""
        if result.suspended:
            await self._drain(pipeline, writer, stopping=True)
        async with self._committing:  # cut short, a commit of the ticker might overtake ours
            tasks = [ticking, *writer.tasks, *pipeline.downloads]
            for task in tasks:
                task.cancel()
        await asyncio.wait(tasks)
        if result.suspended:
            self._progress.abandon()
            await self._commit(pipeline)
        else:  # the counters are stored with the end of the job, by the caller
            await self._dead_letters.flush()
            self._context.lease()
        try:
            await self._save_ledger(result)
        except Exception:
            await self._commit(pipeline)  # such an end has no counters of its own
            raise

    async def _until_stopped(
        self, group: asyncio.TaskGroup, pipeline: Pipeline, work: Callable[[], Awaitable[None]]
    ) -> bool:
        """Runs a part of the sync until its end or the wish to stop; returns whether it ended, or raises its error."""
        context, failures = self._context, list[Exception]()

        async def guarded() -> None:
            try:
                await work()
            except Exception as error:  # noqa: BLE001 - raised below: it shall not end the writing of what was read
                failures.append(error)

        task = group.create_task(guarded())
        stopping = group.create_task(context.stop.wait())
        try:
            await asyncio.wait([task, stopping], return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._drain_seconds()):
                        await pipeline.interrupt(task)
                if failures:
                    context.logger.info("suspended, while the source failed: %s", describe(failures[0]))
                return False
        finally:
            stopping.cancel()
            await cancel_to_its_end(task)
        if task.cancelled():  # from within, by a library of the source, say: what it listed is not everything
            raise SyncError("a part of the sync was cancelled, and nobody asked for it; nothing was deleted")
        if failures:
            raise failures[0]
        return True

    def _drain_seconds(self) -> float:
        """Returns what is left of the time to drain, which starts when this is first asked."""
        now = self._context.runtime.monotonic()
        if self._drain_ends is None:
            self._drain_ends = now + self._context.drain_timeout
        return self._drain_ends - now

    async def _drain(self, pipeline: Pipeline, writer: BulkWriter, *, stopping: bool = False) -> bool:
        """Waits until all that is under way has its outcome, a limited time when we stop; returns whether it has."""
        while self._progress.in_flight:
            if (stopping or self._context.stop.is_set()) and self._drain_seconds() <= 0:
                return False
            writer.flush()
            await pipeline.wait_a_little()
        return True

    async def _tick(self, pipeline: Pipeline, writer: BulkWriter) -> None:
        """Flushes what has waited long enough, and stores progress."""
        context = self._context
        pause = max(0.05, context.config.flush_interval / 4)
        committed_at = context.runtime.monotonic()
        while True:
            await context.runtime.sleep(pause)
            if await pipeline.flush_page_if_older(context.config.flush_interval):
                writer.flush()
            writer.flush_if_older(context.config.flush_interval)
            if context.observer is not None:
                context.observer.progress(context.connector.id, self._progress.total(), writer.queued)
            if context.runtime.monotonic() - committed_at >= context.config.checkpoint_interval:
                await self._commit(pipeline)
                committed_at = context.runtime.monotonic()

    async def _commit(self, pipeline: Pipeline) -> None:
        """Stores the counters, and the checkpoint that is due, after what they speak of is durable."""
        async with self._committing:
            what = f"storing the progress of {self._handle.connector_id}"
            await self._patiently(lambda: self._commit_once(pipeline), what)

    async def _commit_once(self, pipeline: Pipeline) -> None:
        context = self._context
        self._due = self._progress.advance() or self._due
        due, counters = self._due, self._progress.committed.to_dict()
        if self._completed or (due is not None and self._stored == (due, counters)):
            due = None
        if due is not None and self._seen is not None:
            await self._in_thread(self._seen.sync)
        await self._dead_letters.flush()
        state: dict[str, Any] | None = None
        connector: dict[str, Any] | None = None
        if due is not None and self._full and self._seen is not None:
            state = {
                "progress": {
                    **context.basis,
                    "job": context.job.id,
                    "checkpoint": due.state,
                    "counters": counters,
                    "seen": due.seen,
                    "seen_token": self._seen.token,
                    "incomplete": bool(pipeline.incomplete) or not self._can_delete,
                }
            }
        elif due is not None and not self._full:
            connector = {"sync_cursor": due.state}
        await context.store.commit(
            context.lease(), job_id=context.job.id, job=self._job_changes(), connector=connector, state=state
        )
        if due is not None:
            self._stored = due, counters

    def _job_changes(self) -> dict[str, Any]:
        total = self._progress.total()
        return {
            "indexed_document_count": total.indexed,
            "indexed_document_volume": total.bytes,
            "deleted_document_count": total.deleted + total.vanished,
            "last_seen": self._context.runtime.now(),
            "metadata": {**self._context.job.metadata, "counters": total.to_dict()},
        }

    # After the last read

    async def _save_ledger(self, result: SyncResult) -> None:
        """Stores the ledger if it is true, that is, if nothing has an unknown outcome."""
        context = self._context
        if not self._progress.in_flight:
            header = LedgerHeader(self._handle.uuid, self._lease.epoch, self._handle.fingerprint)
            repeats = await self._in_thread(self._ledger.merge, self._log, header)
            if self._full and not result.suspended:
                committed = self._progress.committed
                repeats = min(repeats, committed.indexed)
                committed.indexed -= repeats
                committed.duplicate += repeats
        result.counters = self._progress.total()
        result.provisional = self._ledger.recheck_at is not None
        if result.suspended:
            return
        result.state.update(progress=None, goes_on=None)
        if self._full:
            done = {"configuration": context.configuration_fingerprint, "made_with": dict(context.made_with)}
            result.state.update(done | {"index": self._handle.uuid, "rewrite": None})

    # Calls

    async def _patiently(self, call: Callable[[], Awaitable[T]], what: str) -> T:
        context = self._context
        seconds = context.drain_timeout if context.stop.is_set() else context.config.retry_patience
        with context.watch.doing(what):
            return await patiently(call, what=what, seconds=seconds, runtime=context.runtime)

    async def _in_thread(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await in_thread_to_its_end(self._context.runtime, function, *args, **kwargs)
