"""Looks whether a sync gets on, says where it hangs when it does not, and gives it up where it is told to."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final

from connectors.config import ServiceConfig
from connectors.errors import ConnectorsError, StalledError
from connectors.logger import mask
from connectors.runtime import Runtime
from connectors.sync.watch import Watch
from connectors.utils import format_duration

__all__ = ["Watchdog"]

#: Seconds between two looks: a part of the time-out, within these.
_PART: Final = 10
_SHORTEST: Final = 0.05
_LONGEST: Final = 15.0
#: It is told again when it has lasted this many times as long as when it was told last.
_AGAIN: Final = 4


class Watchdog:
    """Belongs to one job.

    Args:
        record: stores where the job hangs in its record; None: it gets on again.
        measure: is told for how many seconds it has hung; 0: it gets on again.
    """

    def __init__(
        self,
        watch: Watch,
        config: ServiceConfig,
        *,
        runtime: Runtime,
        record: Callable[[str | None], Awaitable[object]],
        measure: Callable[[float], None],
        logger: logging.Logger | logging.LoggerAdapter[Any],
    ) -> None:
        self._watch = watch
        self._timeout = config.stall_timeout
        self._cancels = config.stall_action == "cancel"
        self._runtime = runtime
        self._record = record
        self._measure = measure
        self._logger = logger

    async def run(self) -> StalledError:
        """Watches until cancelled, or until the job is to be given up; returns why, then.

        Time is counted in looks, so that a machine that slept, or a loop that was held up, is no stall.
        """
        if not self._timeout:
            await asyncio.Event().wait()  # nobody asked to watch
        pause = min(max(_SHORTEST, self._timeout / _PART), _LONGEST)
        mark, still, tell_at = self._watch.mark(), 0.0, self._timeout
        while True:
            await self._runtime.sleep(pause)
            before, mark = mark, self._watch.mark()
            if mark != before:
                if still >= self._timeout:
                    await self._recover(still)
                still, tell_at = 0.0, self._timeout
                continue
            still += pause
            if still < self._timeout:
                continue
            self._measure(still)
            if still < tell_at:
                continue
            text = mask(f"no progress for {format_duration(still)}: {self._watch.where()}")
            if self._cancels:
                return StalledError(text)
            tell_at = still * _AGAIN
            self._logger.warning("%s", text)
            await self._note(text)

    async def _recover(self, after: float) -> None:
        self._logger.info("gets on again, after %s without progress", format_duration(after))
        self._measure(0.0)
        await self._note(None)

    async def _note(self, text: str | None) -> None:
        # The store may be what the sync hangs on; the log has it all the same.
        with suppress(ConnectorsError):
            await self._record(text)
