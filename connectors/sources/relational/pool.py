"""A pool of connections: opened when they are needed, reused while they are young, and never trusted blindly."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from connectors.errors import ConnectorsError
from connectors.sources.relational.dialect import Session
from connectors.sources.relational.model import Statement

__all__ = ["Pool"]

#: Seconds of idleness after which a connection is tried before it is given out: a firewall may have dropped it.
_IDLE: Final = 15.0


@dataclass(slots=True)
class _Pooled:
    session: Session
    opened: float
    used: float
    generation: int


class Pool:
    """At most `size` sessions at a time.

    Args:
        open_session: opens a new one.
        lifetime: seconds after which one is replaced rather than given out again.
    """

    def __init__(
        self,
        open_session: Callable[[], Awaitable[Session]],
        *,
        size: int,
        lifetime: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._open = open_session
        self._lifetime = lifetime
        self._clock = clock
        self._free = asyncio.Semaphore(size)
        self._idle: list[_Pooled] = []
        self._generation = 0

    @asynccontextmanager
    async def lease(self) -> AsyncIterator[Session]:
        """Lends a session; one that is not usable afterwards is closed. Raises what opening one raises."""
        async with self._free:
            pooled = await self._take()
            try:
                yield pooled.session
            finally:
                if pooled.session.usable and pooled.generation == self._generation:
                    pooled.used = self._clock()
                    self._idle.append(pooled)
                else:
                    await pooled.session.close()

    async def close(self) -> None:
        """Closes what is idle now, and what is lent out when it comes back; may be called twice, and used again."""
        self._generation += 1
        while self._idle:
            await self._idle.pop().session.close()

    async def _take(self) -> _Pooled:
        while self._idle:
            pooled = self._idle.pop()
            if await self._is_fit(pooled):
                return pooled
            await pooled.session.close()
        now = self._clock()
        generation = self._generation
        return _Pooled(await self._open(), now, now, generation)

    async def _is_fit(self, pooled: _Pooled) -> bool:
        now = self._clock()
        if not pooled.session.usable or now - pooled.opened >= self._lifetime:
            return False
        if now - pooled.used < _IDLE:
            return True
        try:
            await pooled.session.fetch(Statement("SELECT 1"))
        except ConnectorsError:  # a new one is opened, and tells what is wrong if it is more than that
            return False
        return True
