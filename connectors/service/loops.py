"""Loops that go on whatever happens: a passing fault is told once and tried again, more and more slowly."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Final

from connectors.errors import ConnectorsError, describe
from connectors.logger import mask
from connectors.runtime import Runtime
from connectors.utils import format_duration

__all__ = ["BREATH", "MAX_PAUSE", "repeat"]

_logger = logging.getLogger("connectors.daemon")

#: A loop that fails waits, at most this long, and tries again.
MAX_PAUSE: Final = 30.0
#: Seconds after a job was claimed because another one had ended, until that is done again.
BREATH: Final = 0.1


async def repeat(name: str, step: Callable[[], Awaitable[None]], pause: Callable[[], float], runtime: Runtime) -> None:
    """Repeats one step until it is cancelled."""
    told, failures, since = "", 0, 0.0
    while True:
        began = runtime.monotonic()
        try:
            await step()
            if told:  # who reads no more than what went wrong would think that it still does
                lasted = format_duration(runtime.monotonic() - since)
                _logger.info("%s: goes on, %s after it failed first", name, lasted)
            told, failures = "", 0
        except ConnectorsError as error:
            failures += 1
            since = began if failures == 1 else since
            message = mask(describe(error))
            if message != told:
                _logger.error("%s: %s (tried again)", name, message)
                told = message
        usual = pause()
        await runtime.sleep(min(max(usual, MAX_PAUSE), usual * 2 ** min(failures, 10)))
