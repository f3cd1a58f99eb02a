"""Limits of what is under way towards one destination, shared by all syncs of the process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

__all__ = ["FlightLimit"]


class FlightLimit:
    """Bounds the requests and the bytes that are in flight at once.

    Args:
        requests: number of requests.
        size: bytes; one request that is larger than all of it goes alone.
    """

    def __init__(self, requests: int, size: int) -> None:
        self._requests = requests
        self._size = size
        self._in_flight = 0
        self._bytes = 0
        self._room = asyncio.Event()

    @asynccontextmanager
    async def slot(self, size: int) -> AsyncIterator[None]:
        """Waits for room for one request of `size` bytes and holds it."""
        while not self._fits(size):
            self._room.clear()
            await self._room.wait()
        self._in_flight += 1
        self._bytes += size
        try:
            yield
        finally:
            self._in_flight -= 1
            self._bytes -= size
            self._room.set()

    def _fits(self, size: int) -> bool:
        if not self._in_flight:
            return True
        return self._in_flight < self._requests and self._bytes + size <= self._size
