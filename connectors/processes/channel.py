"""Frames of bytes between two processes of ours, over a socket pair that no other process can reach."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from typing import Any, Final

import orjson

__all__ = ["Channel"]

_LENGTH: Final = 4
_BUFFER: Final = 1 << 20
#: A longer frame is none of ours: the two ends have lost step.
_LONGEST: Final = 2**31 - 1


class Channel:
    """One end of it, in the running loop. The end of the other process is the end of the stream."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, end: socket.socket) -> Channel:
        """Takes a connected socket over."""
        end.setblocking(False)
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):  # a page or two, in place of a part of one
            end.setsockopt(socket.SOL_SOCKET, option, _BUFFER)
        reader, writer = await asyncio.open_connection(sock=end, limit=_BUFFER)
        return cls(reader, writer)

    def post(self, *parts: bytes) -> None:
        """Sends one frame, made of these parts, without a wait; for what is small and seldom."""
        size = sum(map(len, parts))
        if size > _LONGEST:
            raise ValueError(f"a frame of {size} bytes is longer than {_LONGEST}")
        self._writer.writelines((size.to_bytes(_LENGTH, "big"), *parts))

    async def send(self, *parts: bytes) -> None:
        """Sends one frame, and waits while the other end takes none; OSError: there is no other end any more."""
        self.post(*parts)
        await self._writer.drain()

    def tell(self, **message: Any) -> None:
        """Posts a JSON object."""
        self.post(orjson.dumps(message))

    async def receive(self) -> bytes | None:
        """Returns the next frame; None when the other end is closed or gone."""
        try:
            size = int.from_bytes(await self._reader.readexactly(_LENGTH), "big")
            return await self._reader.readexactly(size)
        except (asyncio.IncompleteReadError, OSError):
            return None

    async def hear(self) -> Mapping[str, Any] | None:
        """Returns the next frame as the JSON object that it is; None at the end."""
        frame = await self.receive()
        return None if frame is None else orjson.loads(frame)

    def close(self) -> None:
        """Closes this end, which ends the stream of the other."""
        self._writer.close()
