"""File work in threads, in structured concurrency: it has ended when the caller goes on, cancelled or not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import ParamSpec, TypeVar

from connectors.runtime import Runtime

__all__ = ["in_thread_to_its_end"]

P = ParamSpec("P")
T = TypeVar("T")


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
