"""Bounds on what a source takes: rows a second, bytes at a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from connectors.sources.relational.model import Row

__all__ = ["BatchSize", "Throttle"]

#: Bytes of text and binary values that one batch should not much exceed.
_BATCH_BYTES: Final = 4_000_000
_FIRST_BATCH: Final = 50
_SAMPLE: Final = 20


class Throttle:
    """Keeps reading below a rate, by a pause after each batch.

    Args:
        rate: rows a second; 0 is no limit.
    """

    def __init__(
        self,
        rate: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._rate = rate
        self._clock = clock
        self._sleep = sleep
        self._free_at = clock()

    async def spent(self, rows: int) -> None:
        """Waits as long as these rows should have taken; time in which nobody read is not made up for."""
        if self._rate <= 0:
            return
        now = self._clock()
        self._free_at = max(self._free_at, now) + rows / self._rate
        await self._sleep(self._free_at - now)


class BatchSize:
    """How many rows to fetch next, so that wide rows do not fill the memory.

    Args:
        most: rows; what narrow tables are read by.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self.rows = min(most, _FIRST_BATCH)

    def saw(self, rows: Sequence[Row]) -> None:
        """Learns from a batch how wide the rows are."""
        sample = rows[:: max(1, len(rows) // _SAMPLE)]
        if not sample:
            return
        sizes = [len(value) for row in sample for value in row if isinstance(value, str | bytes)]
        wanted = _BATCH_BYTES // max(1, sum(sizes) // len(sample))
        self.rows = max(1, min(self._most, wanted, 10 * self.rows))
