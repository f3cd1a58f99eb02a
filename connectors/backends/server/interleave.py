"""Several readers read at once, one step of each ahead of who consumes them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from typing import TypeVar

__all__ = ["interleaved"]

T = TypeVar("T")


async def interleaved(readers: Iterable[Callable[[], Awaitable[T | None]]], at_once: int) -> AsyncGenerator[T, None]:
    """Yields what the readers read, in the order in which it comes.

    A reader is called again and again, never twice at a time, until it returns None; then the next one takes its place.
    At most `at_once` items are being read or wait to be consumed. However this ends (an error of a reader, the
    consumer is cancelled or stops early), all calls have ended before it does.

    Tasks by hand, not a task group: that would cancel the task in which it was entered, and an async generator may be
    closed in another one, or be left standing at its `yield`.
    """
    waiting = iter(readers)
    running: dict[asyncio.Future[T | None], Callable[[], Awaitable[T | None]]] = {}

    def begin(reader: Callable[[], Awaitable[T | None]] | None) -> None:
        if reader is not None:
            running[asyncio.ensure_future(reader())] = reader

    try:
        for _ in range(at_once):
            begin(next(waiting, None))
        while running:
            done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                item = task.result()
                reader = running.pop(task)
                begin(next(waiting, None) if item is None else reader)
                if item is not None:
                    yield item
    finally:
        for task in running:
            task.cancel()
        # Their errors are looked at too: one is raised already, and the next attempt would meet any other.
        await asyncio.gather(*running, return_exceptions=True)
