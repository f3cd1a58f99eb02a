"""Threads and tasks in structured concurrency: they have ended when the caller goes on, cancelled or not."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import Any, Final, ParamSpec, TypeVar

from connectors.runtime import Runtime
from connectors.sync.failures import most_telling

__all__ = ["CANCEL_AGAIN", "cancel_to_its_end", "in_thread_to_its_end", "to_its_end", "together"]

#: Seconds after which a task that was cancelled and goes on is cancelled again.
CANCEL_AGAIN: Final = 1.0

P = ParamSpec("P")
T = TypeVar("T")


async def cancel_to_its_end(task: asyncio.Task[Any]) -> None:
    """Cancels a task until it has ended: a library that it uses may swallow a cancellation."""
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=CANCEL_AGAIN)


async def together(calls: Iterable[Callable[[], Awaitable[T]]], *, at_once: int) -> list[T]:
    """Makes calls, so many at a time at most, and returns their results in order. When one fails, the others have ended
    before its error is raised."""
    several = asyncio.Semaphore(at_once)

    async def one(call: Callable[[], Awaitable[T]]) -> T:
        async with several:
            return await call()

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(call)) for call in calls]
    except BaseExceptionGroup as failed:
        raise most_telling(failed) from failed
    return [task.result() for task in tasks]


async def in_thread_to_its_end(runtime: Runtime, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Runs a blocking function in a thread, and never goes on before its end: a thread cannot be stopped, and the files
    that it works on are closed and used again next."""
    return await to_its_end(runtime.in_thread(function, *args, **kwargs))


async def to_its_end(work: Awaitable[T]) -> T:
    """Awaits `work`, which the caller's cancellation does not reach. When cancelled, once or again and again, waits for
    its end before it lets the cancellation go on."""
    future = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        while not future.done():
            with suppress(asyncio.CancelledError):  # the first one is raised below
                await asyncio.wait([future])
        if not future.cancelled():
            future.exception()  # looked at, so that asyncio does not report it
        raise
