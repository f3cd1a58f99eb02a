"""The start of a daemon: it may come up before the index does, and says what comes next when there is nothing to do."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from connectors.errors import RetryableError, describe
from connectors.logger import mask
from connectors.runtime import Runtime
from connectors.utils import Backoff, format_duration

__all__ = ["until_reached"]

_logger = logging.getLogger("connectors.daemon")

_LONGEST_PAUSE: Final = 5.0


async def until_reached(
    call: Callable[[], Awaitable[None]], *, stop: asyncio.Event, seconds: float, runtime: Runtime
) -> bool:
    """Makes a call until it succeeds; a passing fault is told once and borne for so many seconds.

    Returns:
        False when `stop` was set before it succeeded.

    Raises:
        RetryableError: it failed for all that time.
    """
    backoff = Backoff(runtime.random, initial=0.2, maximum=_LONGEST_PAUSE)
    ends, told = runtime.monotonic() + seconds, False
    while not stop.is_set():
        try:
            await call()
        except RetryableError as error:
            if runtime.monotonic() >= ends:
                raise
            if not told:
                _logger.error("%s (tried again for %s)", mask(describe(error)), format_duration(seconds))
                told = True
            pause = backoff.next(error.retry_after)
        else:
            return True
        try:
            async with asyncio.timeout(min(pause, max(0.0, ends - runtime.monotonic()))):
                await stop.wait()
        except TimeoutError:
            continue
    return False
