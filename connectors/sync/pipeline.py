"""The path of a document: rules, encoding, comparison, lazy download, batch.

Everything per document happens in plain functions inside the reading task. Documents gather in a page, which one look
at the ledger classifies; only those that changed go on.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any, Final, TypeVar

import numpy as np

from connectors.backends.ports import IndexHandle, Operation
from connectors.errors import SkippableError, SyncError, describe
from connectors.filtering.basic_rule import BasicRuleEngine
from connectors.source import Checkpoint, Skipped
from connectors.sync.context import SyncContext
from connectors.sync.contract import durable, opened, told
from connectors.sync.counters import OUTCOMES
from connectors.sync.deadletters import DeadLetters
from connectors.sync.downloads import Downloads
from connectors.sync.dropped import DroppedDocuments
from connectors.sync.encode import decode, id_digest
from connectors.sync.intake import EXCLUDE, Intake
from connectors.sync.ledger import NEW, REPEATED, UNCHANGED, Ledger
from connectors.sync.page import INCOMPARABLE, PAGE_BYTES, PAGE_DOCUMENTS, PAGE_READ, Page, ReadPage, Refused
from connectors.sync.patience import patiently
from connectors.sync.progress import Progress, Segment
from connectors.sync.seen import SeenLog
from connectors.sync.threads import CANCEL_AGAIN
from connectors.sync.writer import BulkWriter
from connectors.utils import format_size

__all__ = ["Pipeline"]

T = TypeVar("T")

#: Seconds after which the loop is given back while documents come without a pause.
_SLICE: Final = 0.004
#: Seconds after which a wait for what is under way looks again.
_LOOK_AGAIN: Final = 0.2
_MAX_REASONS: Final = 20


class Pipeline:
    """Takes the stream of one source and puts what changed into the writer.

    Attributes:
        incomplete: reasons why the enumeration is not complete.
        kept: documents that passed the rules.
        dropped: documents of the index that the rules drop, where these changed since the last completed sync.
        last_checkpoint: the last one that the source yielded, stored or not.
    """

    def __init__(
        self,
        context: SyncContext,
        *,
        handle: IndexHandle,
        ledger: Ledger,
        seen: SeenLog | None,
        progress: Progress,
        writer: BulkWriter,
        dead_letters: DeadLetters,
        group: asyncio.TaskGroup,
        first_version: int,
    ) -> None:
        self._context = context
        self._handle = handle
        self._ledger = ledger
        self._seen = seen
        self._progress = progress
        self._writer = writer
        self._dead_letters = dead_letters
        self._version = first_version
        self._page = Page()
        self._page_begun = 0.0
        self._page_lock = asyncio.Lock()
        self._downloads = Downloads(
            context, progress=progress, writer=writer, dead_letters=dead_letters, group=group, write=self._write
        )
        self._checkpoint_at = float("-inf")
        self._max_bytes = context.config.max_document_bytes
        self._slice_ends = 0.0
        self._full = context.job_type == "full"
        self._repeated = "duplicate" if self._full else "indexed"
        engine = BasicRuleEngine.from_records(context.filtering.basic_rules)
        watched = self._full and not engine.is_trivial and context.changed("basic_rules")
        self.dropped = DroppedDocuments(engine, ledger) if watched else None
        self._service_type = context.connector.service_type
        self._intake = Intake(context.source, self._service_type, engine, full=self._full, dropped=self.dropped)
        self.incomplete: list[str] = []
        self.kept = 0
        self.last_checkpoint: Checkpoint | None = None
        context.watch.marks = lambda: (progress.total(), self.last_checkpoint)

    # Reading

    async def read(self, stream: AsyncIterator[Any]) -> None:
        """Reads the stream to its end. When it fails, what was read before is sent on first."""
        what = f"waiting for the next document of the source {self._context.connector.service_type}"
        with self._context.watch.doing(what, below="Pipeline._read"):
            try:
                await self._read(stream)
            except Exception:
                await self.flush_page()
                raise
            except SystemExit as error:  # of a library of the source: it shall not end the daemon
                await self.flush_page()
                message = f"the source {self._service_type} tried to end the whole process (SystemExit)"
                raise SyncError(message) from error
            await self.flush_page()

    async def _read(self, stream: AsyncIterator[Any]) -> None:
        take = self._intake.take
        async with opened(stream, self._service_type) as items:
            async for item in items:
                if item.__class__ is Checkpoint:
                    await self._checkpoint(item)
                elif item.__class__ is Skipped:
                    await self._skip(item)
                elif item.__class__ is ReadPage:
                    await self._take_page(item)
                elif item.__class__ is Refused:
                    self._refuse(*item)
                else:
                    page = self._page
                    if not page.read:
                        self._page_begun = self._context.runtime.monotonic()
                    try:
                        refused = take(page, *item)
                    except (TypeError, AttributeError) as error:
                        raise told(error, item, self._service_type, incremental=not self._full) from None
                    if refused is not None:
                        if refused.id in page.ids:  # an earlier copy: its outcome shall not pass for the later one's
                            await self.flush_page()
                        self._refuse(*refused)
                    if len(page.ids) < PAGE_DOCUMENTS and page.size < PAGE_BYTES and page.read < PAGE_READ:
                        continue
                    await self.flush_page()
                await self._give_back()

    async def _give_back(self) -> None:
        """Lets the rest of the process run, every few milliseconds."""
        if self._dead_letters.full:
            await self._dead_letters.flush()
        monotonic = self._context.runtime.monotonic
        if monotonic() >= self._slice_ends:
            await asyncio.sleep(0)
            self._slice_ends = monotonic() + _SLICE

    def _refuse(self, document_id: str, reason: str) -> None:
        """One document that ends as a dead letter before it has a body; it counts as seen."""
        segment = self._progress.begin()
        segment.counters.read += 1
        self._mark_seen(id_digest(document_id))
        self.kept += 1
        self._version += 1
        self._dead_letters.add(document_id, "index", reason, None, version=self._version)
        self._progress.settle(segment, "dead_lettered")

    def _mark_seen(self, digests: bytes) -> None:
        self._ledger.mark_seen(digests)
        if self._seen is not None:
            self._seen.append(digests)

    async def _skip(self, item: Skipped) -> None:
        await self.flush_page()
        if item.id is not None:
            document_id = self._intake.identify(item.id)
            self._context.logger.log(self._dead_letters.log_level(document_id), "%s", item.reason)
            self._refuse(document_id, item.reason)
            return
        if len(self.incomplete) < _MAX_REASONS:
            self.incomplete.append(item.reason)
            self._context.logger.warning("%s; this sync deletes nothing", item.reason)

    async def _checkpoint(self, item: Checkpoint) -> None:
        self.last_checkpoint = item
        now = self._context.runtime.monotonic()
        if now - self._checkpoint_at < self._context.config.checkpoint_interval:
            return
        self._checkpoint_at = now
        durable(item.state, f"the state of a checkpoint of the source {self._service_type}")
        await self.flush_page()
        async with self._page_lock:
            self._progress.close_segment(item.state, self._seen.length if self._seen else 0)

    # From the page onwards

    async def flush_page(self) -> None:
        """Classifies the documents that have gathered and sends on what changed."""
        async with self._page_lock:
            page, self._page = self._page, Page()
            if page.read:
                await self._enter(page)

    async def _take_page(self, page: ReadPage) -> None:
        """Takes a page that another process has read."""
        async with self._page_lock:
            await self._enter(page)

    async def _enter(self, page: Page) -> None:
        counters = self._progress.current.counters
        counters.read += page.read
        counters.filtered += page.filtered
        self.kept += len(page)
        if self._dead_letters.any_known:
            for document_id in page.ids:
                self._dead_letters.met(document_id)
        if len(page):
            for part in page.parts():
                await self._classify(part)
        await self._writer.room()

    async def flush_page_if_older(self, seconds: float) -> bool:
        """Does so when the oldest of them has waited this long; returns whether it had."""
        if self._page.read and self._context.runtime.monotonic() - self._page_begun >= seconds:
            await self.flush_page()
            return True
        return False

    async def interrupt(self, work: asyncio.Task[None]) -> None:
        """Cancels the reading or deleting task, not within a page, and sends on what has gathered.

        Again and again, for a library of the source may swallow a cancellation, as `wait_for` of Python 3.11 may.
        """
        while not work.done():
            async with self._page_lock:
                work.cancel()
            await asyncio.wait([work], timeout=CANCEL_AGAIN)
        await self.flush_page()

    async def wait_a_little(self) -> None:
        """Waits until something that is under way may have ended; what downloads bring is to be flushed then."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_LOOK_AGAIN):
                if self._downloads.over.is_set():
                    await self._progress.idle()
                else:
                    await self._downloads.over.wait()

    @property
    def downloads(self) -> list[asyncio.Task[None]]:
        """The tasks that download."""
        return self._downloads.tasks

    async def _classify(self, page: Page) -> None:
        if "update" in page.operations.values():
            await self._merge_updates(page)
        joined, hashes = page.joined()
        codes = self._ledger.classify(joined, hashes)
        if self._seen is not None:
            self._seen.append(joined)
        changed = np.flatnonzero(codes).tolist()
        if len(changed) < len(page):
            await self._leave(page, codes, len(page) - len(changed))
        if not changed:
            return
        page.split()
        if self._full and page.operations:
            self._spare(page, codes)
        ids, digests, hashed, bodies = page.ids, page.digests, page.hashes, page.bodies
        segment = self._progress.begin(len(changed)) if page.plain else None
        for position in changed:
            outcome = "indexed" if codes[position] != REPEATED else self._repeated
            self._version += 1
            # The version is taken in the order of reading, however long the download takes: the last one wins.
            operation = Operation(ids[position], digests[position], hashed[position], self._version, bodies[position])
            if segment is not None:
                self._write(operation, outcome, segment)
            else:
                await self._send(page, position, operation, outcome)

    def _spare(self, page: Page, codes: np.ndarray[Any, Any]) -> None:
        """What a rule keeps out of an index that does not hold it needs no request."""
        for position, todo in page.operations.items():
            if todo is EXCLUDE and codes[position] == NEW:
                page.operations[position] = "filtered"

    async def _leave(self, page: Page, codes: np.ndarray[Any, Any], unchanged: int) -> None:
        """Counts the documents that are in the index as they are, and lets go of their downloads."""
        self._progress.current.counters.unchanged += unchanged
        if not self._dead_letters.any_known and not page.lazies:
            return
        for position in np.flatnonzero(codes == UNCHANGED).tolist():
            self._dead_letters.healed(page.ids[position])
            lazy = page.lazies.get(position)
            if lazy is not None:
                await lazy(doit=False)

    async def _send(self, page: Page, position: int, operation: Operation, outcome: str) -> None:
        todo, lazy = page.operations.get(position), page.lazies.get(position)
        if todo in {"delete", EXCLUDE}:
            deletion = operation._replace(content_hash=INCOMPARABLE, body=None)
            self._write(deletion, "deleted" if todo == "delete" else "filtered", self._progress.begin())
        elif todo in OUTCOMES:
            self._progress.settle(self._progress.begin(), todo)
        elif lazy is None:
            self._write(operation, outcome, self._progress.begin())
        else:
            await self._downloads.start(page.documents[position], lazy, operation, outcome)

    def _write(self, operation: Operation, outcome: str, segment: Segment) -> None:
        body, limit = operation.body, self._max_bytes
        if body is not None and len(body) > limit:
            reason = (
                f"the document has {format_size(len(body))}, more than sync.max_document_bytes ({format_size(limit)})"
            )
            self._dead_letters.add(operation.id, "index", reason, None, version=operation.version)
            self._progress.settle(segment, "dead_lettered")
        else:
            self._writer.add(operation, outcome, segment)

    async def _merge_updates(self, page: Page) -> None:
        """Turns partial documents into whole ones: what the index holds, with the update's fields put in."""
        while self._progress.in_flight:
            self._writer.flush()
            await self.wait_a_little()
        wanted = [page.ids[at] for at, operation in page.operations.items() if operation == "update"]
        held = await self._patiently(
            lambda: self._context.destination.fetch(self._handle.index, wanted), f"reading from {self._handle.index}"
        )
        for position, operation in list(page.operations.items()):
            if operation == "update":
                self._merge_update(page, position, held.get(page.ids[position]))

    def _merge_update(self, page: Page, position: int, before: bytes | None) -> None:
        document_id = page.ids[position]
        merged = {**(decode(before) if before else {}), **page.documents[position]}
        merged.pop("_id", None)
        if not self._intake.keeps({"_id": document_id, **merged}):
            page.operations[position] = EXCLUDE
            return
        try:
            page.put_merged(position, merged)
        except SkippableError as error:
            page.operations[position] = "dead_lettered"
            self._dead_letters.add(document_id, "update", describe(error), before, version=self._version)

    async def _patiently(self, call: Callable[[], Awaitable[T]], what: str) -> T:
        context = self._context
        with context.watch.doing(what):
            return await patiently(call, what=what, seconds=context.config.retry_patience, runtime=context.runtime)

    # Deleting

    async def delete_vanished(self, page_size: int = 1000) -> None:
        """Deletes what the ledger knows and this job has not seen."""
        destination, handle = self._context.destination, self._handle
        for digests in self._ledger.vanished(page_size):
            await self._writer.room()
            found = await self._patiently(
                functools.partial(destination.find_ids, handle, digests), f"searching {handle.index}"
            )
            self._writer.forget(set(digests).difference(digest for digest, _ in found))
            segment = self._progress.begin_deletions(len(found))
            for digest, document_id in found:
                self._version += 1
                self._writer.add(Operation(document_id, digest, INCOMPARABLE, self._version, None), "vanished", segment)
