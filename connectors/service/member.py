"""A further worker: a process that runs syncs, while the first one schedules, serves the page and keeps house."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from connectors.backends.ports import Store
from connectors.config import Config, ConfigFile
from connectors.logger import register_secrets
from connectors.processes import Channel
from connectors.runtime import Runtime
from connectors.service.loops import repeat
from connectors.service.metrics import LoopMonitor, Metrics
from connectors.service.registry import is_orphaned
from connectors.service.worker import Worker

__all__ = ["Member"]

#: Seconds between two reports, at most; what runs is reported when it changes.
_REPORT: Final = 1.0
_METRICS: Final = 5.0
_HOUSEKEEPING: Final = 60.0


class Member:
    """Claims and runs jobs, and reports to the first process over the channel.

    Args:
        name: what this worker calls itself in leases.
        channel: its other end says how many jobs may run here, and when to stop; where it ends, so does this worker.
    """

    def __init__(
        self,
        config: Config,
        file: ConfigFile,
        *,
        name: str,
        store: Store,
        worker: Worker,
        metrics: Metrics,
        runtime: Runtime,
        channel: Channel,
        on_config: Callable[[Config], None],
    ) -> None:
        self._config = config
        self._file = file
        self._name = name
        self._store = store
        self._worker = worker
        self._metrics = metrics
        self._runtime = runtime
        self._channel = channel
        self._on_config = on_config
        self._known: set[str] = set()
        worker.allowed = 0  # until we are told
        worker.on_change = self._report

    async def run(self, stop: asyncio.Event) -> None:
        """Runs until `stop` is set or the other end says so, then suspends what runs."""
        self._report()
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(self._listen(stop)),
                    group.create_task(repeat("jobs", self._claim_next, self._worker.breath, self._runtime)),
                    group.create_task(repeat("work", self._worker.tick, self._poll_interval, self._runtime)),
                    group.create_task(repeat("configuration", self._watch, self._poll_interval, self._runtime)),
                    group.create_task(self._repeat("report", self._report_again, _REPORT)),
                    group.create_task(self._repeat("metrics", self._send_metrics, _METRICS)),
                    group.create_task(self._repeat("housekeeping", self._keep_house, _HOUSEKEEPING)),
                    group.create_task(LoopMonitor(self._metrics).run()),
                ]
                await stop.wait()
                for task in tasks:
                    task.cancel()
        finally:
            await self._worker.shutdown()

    async def _repeat(self, name: str, step: Callable[[], Awaitable[None]], pause: float) -> None:
        await repeat(name, step, lambda: pause, self._runtime)

    def _poll_interval(self) -> float:
        return self._config.service.poll_interval

    async def _listen(self, stop: asyncio.Event) -> None:
        while (message := await self._channel.hear()) is not None:
            if "allowed" in message:
                self._worker.allowed = int(message["allowed"])
                self._worker.freed.set()
            if message.get("stop"):
                break
        stop.set()

    async def _claim_next(self) -> None:
        await self._worker.freed.wait()
        self._worker.freed.clear()
        await self._worker.claim_next()

    async def _watch(self) -> None:
        """Takes up an edit of the configuration; the first process tells of it, and of what is wrong with one."""
        found = await self._runtime.in_thread(self._file.poll)
        if isinstance(found, Config):
            register_secrets(found.secrets)
            self._config = found
            self._on_config(found)
            self._worker.configure(found)

    async def _keep_house(self) -> None:
        connectors = await self._store.connectors()
        await self._worker.close_unused({connector.id for connector in connectors if not is_orphaned(connector)})
        names = {connector.id for connector in connectors}
        for gone in self._known - names:
            self._metrics.forget(gone)
        self._known = names

    def _report(self) -> None:
        self._channel.tell(name=self._name, running=sorted(self._worker.running))

    async def _report_again(self) -> None:
        self._report()

    async def _send_metrics(self) -> None:
        self._channel.tell(metrics=self._metrics.export())
