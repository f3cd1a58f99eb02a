"""Threads and tasks in structured concurrency: they have ended when the caller goes on, cancelled or not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, ParamSpec, TypeVar

from connectors.runtime import Runtime

__all__ = ["CANCEL_AGAIN", "cancel_to_its_end", "in_thread_to_its_end"]

#: Seconds after which a task that was cancelled and goes on is cancelled again.
CANCEL_AGAIN: Final = 1.0

P = ParamSpec("P")
T = TypeVar("T")


async def cancel_to_its_end(task: asyncio.Task[Any]) -> None:
    """Cancels a task until it has ended: a library that it uses may swallow a cancellation."""
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=CANCEL_AGAIN)


async def in_thread_to_its_end(runtime: Runtime, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Runs a blocking function in a thread. When cancelled, waits for its end before it lets the cancellation go on,
    since a thread cannot be stopped and the files that it works on are closed and used again next."""
    work = asyncio.ensure_future(runtime.in_thread(function, *args, **kwargs))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        while not work.done():
            with suppress(asyncio.CancelledError):  # the first one is raised below
                await asyncio.wait([work])
        if not work.cancelled():
            work.exception()  # looked at, so that asyncio does not report it
        raise
