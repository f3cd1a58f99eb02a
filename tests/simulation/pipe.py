"""What joins two simulated processes, in place of a socket."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol

import orjson

if TYPE_CHECKING:
    from tests.simulation.world import World

__all__ = ["Pipe"]

#: Frames that fit into the pipe: who sends more waits.
_FULL: Final = 2


class PipeOwner(Protocol):
    """A process at one end."""

    world: World

    def strike(self) -> None:
        """Called at each frame that it sends; it may be killed there."""

    async def gate(self) -> None:
        """Passed at each frame that it receives; it may stand still there."""


class Pipe:
    """One end of a pipe, in place of `Channel`. Its methods are those of the other."""

    def __init__(self, owner: PipeOwner) -> None:
        self._owner = owner
        self._there = self
        self._here: deque[bytearray] = deque()
        self._moved = asyncio.Event()
        self._closed = False

    @classmethod
    def pair(cls, parent: PipeOwner, child: PipeOwner) -> tuple[Pipe, Pipe]:
        """Returns the two ends."""
        ours, theirs = cls(parent), cls(child)
        ours._there, theirs._there = theirs, ours
        return ours, theirs

    @classmethod
    async def open(cls, end: Pipe) -> Pipe:
        """Takes an end over."""
        return end

    @property
    def _over(self) -> bool:
        return self._closed or self._there._closed

    def post(self, *parts: bytes) -> None:
        self._owner.strike()
        if not self._over:
            self._there._here.append(bytearray(b"".join(parts)))
            self._there._moved.set()

    async def send(self, *parts: bytes) -> None:
        self.post(*parts)
        while len(self._there._here) > _FULL and not self._over:
            self._there._moved.clear()
            await self._there._moved.wait()
        if self._over:
            raise ConnectionResetError("the other end is closed")

    def tell(self, **message: Any) -> None:
        self.post(orjson.dumps(message))

    async def receive(self) -> bytearray | None:
        await self._owner.gate()
        while not self._here:
            if self._over:
                return None
            self._moved.clear()
            await self._moved.wait()
            await self._owner.gate()  # what is there may be gone behind it
        self._moved.set()
        return self._here.popleft()

    async def hear(self) -> Mapping[str, Any] | None:
        frame = await self.receive()
        return None if frame is None else orjson.loads(frame)

    def close(self) -> None:
        self._closed = True
        for end in (self, self._there):
            end._moved.set()

    def tear(self) -> None:
        """Its process is killed: what it sent last may never have left it."""
        random = self._owner.world.random
        for _ in range(random.choice((0, random.randrange(len(self._there._here) + 1)))):
            self._there._here.pop()
        self.close()
