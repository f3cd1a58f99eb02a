"""Bulk writing of one sync: batches by bytes, several in flight, back-pressure, retries, outcome per item."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Final

from connectors.backends.ports import Destination, FailureKind, IndexHandle, Operation, WriteResult
from connectors.config import SyncConfig
from connectors.errors import RetryableError, describe
from connectors.runtime import Runtime
from connectors.sync.deadletters import DeadLetters
from connectors.sync.ledger import LedgerLog
from connectors.sync.limits import FlightLimit
from connectors.sync.page import INCOMPARABLE
from connectors.sync.patience import Patience
from connectors.sync.progress import Progress, Segment

__all__ = ["BulkWriter"]

#: An action line and a stamp on the wire, about.
_OVERHEAD: Final = 200
#: The running number within an epoch: the low bits of a version.
_SEQUENCE: Final = (1 << 40) - 1


@dataclass(slots=True)
class _Batch:
    """Operations with, in parallel lists, the segment each belongs to and its outcome when acknowledged."""

    operations: list[Operation] = field(default_factory=list)
    segments: list[Segment] = field(default_factory=list)
    outcomes: list[str] = field(default_factory=list)
    size: int = 0


class BulkWriter:
    """Takes operations one by one and writes them in batches.

    `add` never waits: callers await `room()` before they produce more. That makes it safe to cancel a caller at any
    await without losing an operation.

    Args:
        guard: called before each request; raises LeaseLostError when the worker must stop sending.
    """

    def __init__(
        self,
        destination: Destination,
        handle: IndexHandle,
        *,
        config: SyncConfig,
        progress: Progress,
        log: LedgerLog,
        dead_letters: DeadLetters,
        limit: FlightLimit,
        runtime: Runtime,
        guard: Callable[[], object],
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
        self._batch = _Batch()
        self._begun = 0.0
        self._ready: deque[_Batch] = deque()
        self._work = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._max_ready = config.writes_in_flight
        self._max_bytes, self._max_documents = config.batch_bytes, config.batch_documents

    # Producers' side

    def add(self, operation: Operation, outcome: str, segment: Segment) -> None:
        """Adds one operation, which `Progress.begin` has counted, and what it ends as when it is acknowledged."""
        batch = self._batch
        if not batch.operations:
            self._begun = self._runtime.monotonic()
        batch.operations.append(operation)
        batch.segments.append(segment)
        batch.outcomes.append(outcome)
        batch.size += _OVERHEAD + len(operation.body or b"")
        if batch.size >= self._max_bytes or len(batch.operations) >= self._max_documents:
            self.flush()

    def flush(self) -> None:
        """Hands the partial batch over."""
        if self._batch.operations:
            self._ready.append(self._batch)
            self._batch = _Batch()
            self._work.set()
            if len(self._ready) >= self._max_ready:
                self._room.clear()

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
        """Waits while as many batches are ready as may be."""
        await self._room.wait()

    @property
    def queued(self) -> int:
        """Operations that wait for a request."""
        return len(self._batch.operations) + sum(len(batch.operations) for batch in self._ready)

    # Writers' side

    async def run(self) -> None:
        """Writes batches until cancelled; several of these run at once."""
        while True:
            while not self._ready:
                self._work.clear()
                await self._work.wait()
            batch = self._ready.popleft()
            if len(self._ready) < self._max_ready:
                self._room.set()
            await self._write(batch)

    async def _write(self, batch: _Batch) -> None:
        patience = Patience(f"writing to {self._handle.index}", self._config.retry_patience, self._runtime)
        while True:
            retry_after: float | None = None
            try:
                async with self._limit.slot(batch.size):
                    self._guard()
                    result = await self._destination.write(self._handle, batch.operations)
            except RetryableError as error:
                retry_after, reason = error.retry_after, describe(error)
            else:
                retry_after = result.retry_after
                remaining, reason = self._settle(batch, result)
                if self._dead_letters.full:
                    await self._dead_letters.flush()
                if not remaining.operations:
                    return
                if len(remaining.operations) < len(batch.operations):
                    patience.renew()
                batch = remaining
            await patience.pause(reason, retry_after)

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
                _append(done, operation, segment, outcome)
                continue
            if outcome == "vanished" and failure.kind is not FailureKind.OVERLOADED:
                segment.counters.read += 1  # it was never read, and yet has one of the outcomes of a document now
            if failure.kind is FailureKind.OVERLOADED:
                _append(again, operation, segment, outcome)
                reason = failure.reason
            elif failure.kind is FailureKind.SUPERSEDED:
                self._progress.settle(segment, "superseded")
            else:
                self._dead_letters.add(
                    operation.id, "index" if operation.body is not None else "delete", failure.reason, operation.body
                )
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
                self._dead_letters.healed(operation.id)
        for operation, segment in zip(operations, batch.segments, strict=True):
            segment.counters.bytes += len(operation.body or b"")
        for (segment, outcome), number in Counter(zip(batch.segments, batch.outcomes, strict=True)).items():
            self._progress.settle(segment, outcome, number)


def _append(batch: _Batch, operation: Operation, segment: Segment, outcome: str) -> None:
    batch.operations.append(operation)
    batch.segments.append(segment)
    batch.outcomes.append(outcome)
    batch.size += _OVERHEAD + len(operation.body or b"")
