"""Bulk writing of one sync: batches by bytes, several in flight, back-pressure, retries, outcome per item."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from connectors.backends.ports import Documents, FailureKind, IndexHandle, Operation, WriteResult
from connectors.config import SyncConfig
from connectors.errors import RetryableError, describe
from connectors.runtime import Runtime
from connectors.sync.deadletters import DeadLetters
from connectors.sync.ledger import LedgerLog
from connectors.sync.limits import FlightLimit
from connectors.sync.page import INCOMPARABLE
from connectors.sync.patience import Patience
from connectors.sync.progress import Progress, Segment
from connectors.sync.watch import Doing, Watch
from connectors.utils import format_size

__all__ = ["BulkWriter"]

#: An action line and a stamp on the wire, about.
_OVERHEAD: Final = 200
#: The running number within an epoch: the low bits of a version.
_SEQUENCE: Final = (1 << 40) - 1
#: Batches of one sync that wait, for their turn or for another try, when its source has to wait too.
_MAX_WAITING: Final = 2


@dataclass(slots=True)
class _Batch:
    """Operations with, in parallel lists, the segment each belongs to and its outcome when acknowledged."""

    operations: list[Operation] = field(default_factory=list)
    segments: list[Segment] = field(default_factory=list)
    outcomes: list[str] = field(default_factory=list)
    size: int = 0

    def add(self, operation: Operation, segment: Segment, outcome: str) -> None:
        """Puts one operation at the end."""
        self.operations.append(operation)
        self.segments.append(segment)
        self.outcomes.append(outcome)
        self.size += _size(operation)

    def cut(self, size: int) -> tuple[_Batch, _Batch]:
        """Returns the front that has at most this many bytes, one operation at least, and the rest."""
        if self.size <= size or len(self.operations) == 1:
            return self, _Batch()
        front, rest = _Batch(), _Batch()
        for item in zip(self.operations, self.segments, self.outcomes, strict=True):
            full = rest.operations or (front.operations and front.size + _size(item[0]) > size)
            (rest if full else front).add(*item)
        return front, rest

    def joined(self, other: _Batch) -> _Batch:
        """Returns both as one, the other's operations behind."""
        if not other.operations:
            return self
        return _Batch(
            self.operations + other.operations,
            self.segments + other.segments,
            self.outcomes + other.outcomes,
            self.size + other.size,
        )


def _size(operation: Operation) -> int:
    return _OVERHEAD + len(operation.body or b"")


class BulkWriter:
    """Takes operations one by one and writes them in batches.

    `add` never waits: callers await `room()` before they produce more. That makes it safe to cancel a caller at any
    await without losing an operation.

    Args:
        guard: called before each request; raises LeaseLostError when the worker must stop sending.
        group: where the tasks that write run, as many as requests may be in flight; begun when there is work for them.

    Attributes:
        tasks: those that were begun; they write until they are cancelled.
    """

    def __init__(
        self,
        destination: Documents,
        handle: IndexHandle,
        *,
        config: SyncConfig,
        progress: Progress,
        log: LedgerLog,
        dead_letters: DeadLetters,
        limit: FlightLimit,
        runtime: Runtime,
        guard: Callable[[], object],
        group: asyncio.TaskGroup,
        watch: Watch | None = None,
    ) -> None:
        self._destination = destination
        self._handle = handle
        self._config = config
        self._progress = progress
        self._log = log
        self._dead_letters = dead_letters
        self._limit = limit
        self._runtime = runtime
        self._guard = guard
        self._group = group
        self.tasks: list[asyncio.Task[None]] = []
        self._idle = 0
        self._watch = watch or Watch()
        self._batch = _Batch()
        self._begun = 0.0
        self._ready: deque[_Batch] = deque()
        self._work = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._waiting = self._waiting_operations = 0  # batches that are not sent yet, or came back whole
        self._max_bytes, self._max_documents = 0, config.batch_documents
        self._taken_at = float("-inf")  # when the destination last took any of ours

    # Producers' side

    def add(self, operation: Operation, outcome: str, segment: Segment) -> None:
        """Adds one operation, which `Progress.begin` has counted, and what it ends as when it is acknowledged."""
        size = _OVERHEAD + len(operation.body or b"")
        if self._batch.size + size > self._max_bytes:
            self.flush()
        batch = self._batch
        if not batch.operations:
            self._begun = self._runtime.monotonic()
            self._max_bytes = min(self._config.batch_bytes, self._limit.body)
        batch.operations.append(operation)
        batch.segments.append(segment)
        batch.outcomes.append(outcome)
        batch.size += size
        if len(batch.operations) >= self._max_documents:
            self.flush()

    def flush(self) -> None:
        """Hands the partial batch over."""
        if self._batch.operations:
            self._ready.append(self._batch)
            self._wait(len(self._batch.operations))
            self._batch = _Batch()
            self._work.set()
            if self._idle < len(self._ready) and len(self.tasks) < self._config.writes_in_flight:
                self.tasks.append(self._group.create_task(self._run()))

    def flush_if_older(self, seconds: float) -> None:
        """Hands a partial batch over that has waited this long."""
        if self._batch.operations and self._runtime.monotonic() - self._begun >= seconds:
            self.flush()

    def forget(self, digests: Collection[bytes]) -> None:
        """Notes that the destination no longer holds these documents."""
        if digests:
            number = len(digests)
            self._log.append(b"".join(digests), INCOMPARABLE * number, [0] * number, [True] * number)

    async def room(self) -> None:
        """Waits while as many batches wait as may."""
        await self._room.wait()

    @property
    def queued(self) -> int:
        """Operations that wait for a request."""
        return len(self._batch.operations) + self._waiting_operations

    # Writers' side

    async def _run(self) -> None:
        """Writes batches until cancelled; several of these run at once."""
        while True:
            while not self._ready:
                self._work.clear()
                self._idle += 1
                await self._work.wait()
                self._idle -= 1
            batch = self._ready.popleft()
            what = f"writing {len(batch.operations):,} documents ({format_size(batch.size)}) to {self._handle.index}"
            with self._watch.doing(what) as doing:
                await self._write(batch, doing)

    async def _write(self, batch: _Batch, doing: Doing) -> None:
        """Sends a batch until each operation has its outcome; in parts when bodies have to be smaller by now."""
        patience: Patience | None = None  # begins with a failure: waiting for one's turn is none
        waiting = len(batch.operations)
        while batch.operations:
            part, rest = batch.cut(self._limit.body)
            retry_after: float | None = None
            try:
                doing.note = self._limit.why_waiting
                async with self._limit.slot(self._handle.connector_id, part.size) as flight:
                    doing.note = str
                    self._sent(waiting)
                    waiting = 0
                    self._guard()
                    flight.result = result = await self._destination.write(self._handle, part.operations)
            except RetryableError as error:
                again, retry_after, reason = part, error.retry_after, describe(error)
            else:
                retry_after = result.retry_after
                again, reason = self._settle(part, result)
                if self._dead_letters.full:
                    await self._dead_letters.flush()
            batch = again.joined(rest)
            if len(again.operations) == len(part.operations):
                waiting = len(batch.operations)
                self._wait(waiting)
            else:
                self._taken_at = self._runtime.monotonic()
            if again.operations:
                doing.refused += 1
                doing.note = partial("the last time: {}".format, reason)
                if patience is None:
                    patience = Patience(f"writing to {self._handle.index}", self._config.retry_patience, self._runtime)
                patience.renew(self._taken_at)  # also what was taken of others: the destination is slow, not away
                await patience.pause(reason, retry_after)

    def _wait(self, operations: int) -> None:
        """Counts a batch as waiting, which holds up the source when there are some."""
        self._waiting += 1
        self._waiting_operations += operations
        if self._waiting >= _MAX_WAITING:
            self._room.clear()

    def _sent(self, operations: int) -> None:
        """Takes that back when the batch goes out; 0: it was not counted."""
        if operations:
            self._waiting -= 1
            self._waiting_operations -= operations
            if self._waiting < _MAX_WAITING:
                self._room.set()

    def _settle(self, batch: _Batch, result: WriteResult) -> tuple[_Batch, str]:
        """Gives each operation its outcome; returns those to be sent again, and why."""
        if not result.failures:
            self._acknowledge(batch)
            return _Batch(), ""
        done, again, reason = _Batch(), _Batch(), ""
        for position, operation in enumerate(batch.operations):
            failure = result.failures.get(position)
            segment, outcome = batch.segments[position], batch.outcomes[position]
            if failure is None:
                done.add(operation, segment, outcome)
                continue
            if outcome == "vanished" and failure.kind is not FailureKind.OVERLOADED:
                segment.counters.read += 1  # it was never read, and yet has one of the outcomes of a document now
            if failure.kind is FailureKind.OVERLOADED:
                again.add(operation, segment, outcome)
                reason = failure.reason
            elif failure.kind is FailureKind.SUPERSEDED:
                self._progress.settle(segment, "superseded")
            else:
                self._dead_letters.refused(operation, failure.reason)
                self._progress.settle(segment, "dead_lettered")
        self._acknowledge(done)
        return again, reason

    def _acknowledge(self, batch: _Batch) -> None:
        operations = batch.operations
        if not operations:
            return
        deleted = [operation.body is None for operation in operations]
        self._log.append(
            b"".join([operation.digest for operation in operations]),
            b"".join([operation.content_hash for operation in operations]),
            [operation.version & _SEQUENCE for operation in operations],
            deleted if any(deleted) else None,
        )
        if self._dead_letters.any_known:
            for operation in operations:
                self._dead_letters.healed(operation.id, operation.version)
        for operation, segment in zip(operations, batch.segments, strict=True):
            segment.counters.bytes += len(operation.body or b"")
        for (segment, outcome), number in Counter(zip(batch.segments, batch.outcomes, strict=True)).items():
            self._progress.settle(segment, outcome, number)
