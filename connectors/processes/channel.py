"""Frames of bytes between two processes of ours, over a socket pair that no other process can reach."""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Mapping
from typing import Any, Final, cast

import orjson

__all__ = ["Channel"]

_LENGTH: Final = 4
_BUFFER: Final = 1 << 20
#: A longer frame is none of ours: the two ends have lost step.
_LONGEST: Final = 2**31 - 1


class Channel:
    """One end of it, in the running loop. The end of the other process is the end of the stream."""

    def __init__(self, transport: asyncio.Transport, frames: _Frames) -> None:
        self._transport = transport
        self._frames = frames

    @classmethod
    async def open(cls, end: socket.socket) -> Channel:
        """Takes a connected socket over."""
        end.setblocking(False)
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):  # a page or two, in place of a part of one
            end.setsockopt(socket.SOL_SOCKET, option, _BUFFER)
        transport, frames = await asyncio.get_running_loop().create_connection(_Frames, sock=end)
        return cls(transport, frames)

    def post(self, *parts: bytes) -> None:
        """Sends one frame, made of these parts, without a wait; for what is bounded by something else."""
        size = sum(map(len, parts))
        if size > _LONGEST:
            raise ValueError(f"a frame of {size} bytes is longer than {_LONGEST}")
        self._transport.writelines((size.to_bytes(_LENGTH, "big"), *parts))

    async def send(self, *parts: bytes) -> None:
        """Sends one frame, and waits while the other end takes none; OSError: there is no other end any more."""
        self.post(*parts)
        await self._frames.drain()

    def tell(self, **message: Any) -> None:
        """Posts a JSON object."""
        self.post(orjson.dumps(message))

    async def receive(self) -> bytearray | None:
        """Returns the next frame; None when the other end is closed or gone."""
        return await self._frames.receive()

    async def hear(self) -> Mapping[str, Any] | None:
        """Returns the next frame as the JSON object that it is; None at the end."""
        frame = await self.receive()
        return None if frame is None else orjson.loads(frame)

    def close(self) -> None:
        """Closes this end, which ends the stream of the other."""
        self._transport.close()


class _Frames(asyncio.BufferedProtocol):
    """Receives each frame straight into its place, since a page is large: no byte of it is copied on its way."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._here: deque[bytearray] = deque()
        self._size = 0
        self._paused = False
        self._ended = False
        self._received: asyncio.Future[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._begin(bytearray(_LENGTH), is_head=True)

    def _begin(self, frame: bytearray, *, is_head: bool) -> None:
        self._frame, self._rest, self._is_head = frame, memoryview(frame), is_head

    # What the loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begins."""
        self._transport = cast("asyncio.Transport", transport)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - it is known how much is to come
        """Returns where the next bytes belong."""
        return self._rest

    def buffer_updated(self, nbytes: int) -> None:
        """Takes so many bytes as received."""
        self._rest = self._rest[nbytes:]
        while not self._rest:
            frame = self._frame
            if self._is_head:
                size = int.from_bytes(frame, "big")
                if size > _LONGEST and self._transport is not None:
                    self._transport.abort()
                    return
                self._begin(bytearray(size), is_head=False)
            else:
                self._begin(bytearray(_LENGTH), is_head=True)
                self._take(frame)

    def _take(self, frame: bytearray) -> None:
        self._here.append(frame)
        self._size += len(frame)
        if self._size > _BUFFER and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()
        self._wake()

    def _wake(self) -> None:
        if self._received is not None and not self._received.done():
            self._received.set_result(None)

    def eof_received(self) -> None:
        """The other end is closed."""

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - however it came about, it is the end
        """Nothing comes any more."""
        self._ended = True
        self._wake()
        self._writable.set()

    def pause_writing(self) -> None:
        """The other end takes nothing at the moment."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """It does again."""
        self._writable.set()

    # What the channel calls

    async def receive(self) -> bytearray | None:
        """Returns the next frame; None at the end."""
        while not self._here:
            if self._ended:
                return None
            self._received = asyncio.get_running_loop().create_future()
            try:
                await self._received
            finally:
                self._received = None
        frame = self._here.popleft()
        self._size -= len(frame)
        if self._paused and self._size <= _BUFFER and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
        return frame

    async def drain(self) -> None:
        """Waits until the other end takes more."""
        await self._writable.wait()
        if self._ended or (self._transport is not None and self._transport.is_closing()):
            raise ConnectionResetError("the other end is closed")
