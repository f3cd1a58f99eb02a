"""A destination that misbehaves on demand, in front of one that does not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from connectors.backends.ports import Failure, FailureKind, IndexHandle, Operation, WriteResult
from connectors.errors import RetryableError
from connectors.testing.memory import MemoryDestination

__all__ = ["FaultyDestination"]


class FaultyDestination(MemoryDestination):
    """Each fault is a function that a test may replace; requests are numbered from 0.

    Attributes:
        delay, answer_delay: request → seconds before and after the batch is applied.
        verdict: request and operation → failure of that item, which is not applied then.
        down: request → whether it fails as a whole, unapplied.
        cut: request → whether its answer is lost after it was applied.
        requests: operations of each request, as they came in.
        acknowledged: `_id` → highest version whose acknowledgement was returned.
        most_in_flight: of requests.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.delay: Callable[[int], float] = lambda _: 0.0
        self.answer_delay: Callable[[int], float] = lambda _: 0.0
        self.verdict: Callable[[int, Operation], Failure | FailureKind | None] = lambda *_: None
        self.down: Callable[[int], bool] = lambda _: False
        self.cut: Callable[[int], bool] = lambda _: False
        self.failing_reads = 0
        self.requests: list[list[Operation]] = []
        self.times: list[float] = []
        self.acknowledged: dict[str, int] = {}
        self.in_flight = 0
        self.most_in_flight = 0

    async def write(self, handle: IndexHandle, operations: Sequence[Operation]) -> WriteResult:
        number = len(self.requests)
        self.requests.append(list(operations))
        self.times.append(asyncio.get_running_loop().time())
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            return await self._write(number, handle, operations)
        finally:
            self.in_flight -= 1

    async def _write(self, number: int, handle: IndexHandle, operations: Sequence[Operation]) -> WriteResult:
        await asyncio.sleep(self.delay(number))
        if self.down(number):
            raise RetryableError("the destination is down")
        failures: dict[int, Failure] = {}
        passed: list[tuple[int, Operation]] = []
        for position, operation in enumerate(operations):
            verdict = self.verdict(number, operation)
            if verdict is None:
                passed.append((position, operation))
            else:
                failures[position] = verdict if isinstance(verdict, Failure) else Failure(verdict, verdict.value)
        result = await super().write(handle, [operation for _, operation in passed])
        failures.update({passed[at][0]: failure for at, failure in result.failures.items()})
        await asyncio.sleep(self.answer_delay(number))
        if self.cut(number):
            raise RetryableError("the connection was cut")
        for position, operation in passed:
            if position not in failures:
                self.acknowledged[operation.id] = max(self.acknowledged.get(operation.id, 0), operation.version)
        return WriteResult(failures, result.retry_after)

    async def find_ids(self, handle: IndexHandle, digests: Sequence[bytes]) -> list[tuple[bytes, str]]:
        self._fail_read()
        return await super().find_ids(handle, digests)

    async def fetch(self, index: str, ids: Sequence[str]) -> dict[str, bytes]:
        self._fail_read()
        return await super().fetch(index, ids)

    def _fail_read(self) -> None:
        if self.failing_reads:
            self.failing_reads -= 1
            raise RetryableError("the destination is busy")
