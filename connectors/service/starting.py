"""The start of a daemon: it may come up before the index does, and says what comes next when there is nothing to do."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from connectors.byoc import UNFINISHED_JOB_STATUSES
from connectors.errors import RetryableError, describe
from connectors.logger import mask
from connectors.runtime import Runtime
from connectors.service.operations import Operations
from connectors.utils import Backoff, format_duration

__all__ = ["tell_what_comes", "until_reached"]

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
            if told:
                lasted = format_duration(runtime.monotonic() - ends + seconds)
                _logger.info("the index is reached, %s after the first try", lasted)
            return True
        try:
            async with asyncio.timeout(min(pause, max(0.0, ends - runtime.monotonic()))):
                await stop.wait()
        except TimeoutError:
            continue
    return False


async def tell_what_comes(operations: Operations, runtime: Runtime) -> None:
    """Says in the log when the next sync is due, where none is to be done now."""
    connectors = await operations.store.connectors()
    if await operations.store.jobs(statuses=UNFINISHED_JOB_STATUSES, limit=1):
        return
    due = {
        connector.id: min(moments.values()) for connector in connectors if (moments := operations.next_syncs(connector))
    }
    if not due:
        ask = "none is scheduled; start one with: connectors sync NAME" if connectors else "there are no connectors yet"
        _logger.info("no sync to do: %s", ask)
        return
    soonest = min(due, key=lambda connector_id: due[connector_id])
    seconds = max(0.0, (due[soonest] - runtime.now()).total_seconds())
    others = f"; of {len(due) - 1} more later" if len(due) > 1 else ""
    _logger.info("next sync of %s in %s%s", soonest, format_duration(seconds), others)
