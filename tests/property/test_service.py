"""Whatever happens to workers and jobs: in the end the index is what the source is, and no job is left behind."""

from __future__ import annotations

import asyncio
import tempfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.byoc import JobStatus
from connectors.errors import ConflictError, RetryableError
from connectors.service.scheduler import Scheduler
from connectors.service.worker import Worker
from tests.support.service import Service, connector, play
from tests.support.sources import checkpointed, documents

NAMES = ("a", "b")
EVENTS = st.sampled_from(
    ["kill", "stop", "cancel", "sync", "pause", "resume", "edit", "fault", "store", "lease", "reset", "wait"]
)


class Chaos:
    """Two workers and what befalls them."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.scheduler = Scheduler(service.store, service.runtime)
        self.started = 0
        self.workers = [self.start(), self.start()]
        self.edition = 1

    def start(self) -> Worker:
        self.started += 1
        return self.service.worker(f"disk-{self.started}")

    def write(self, name: str, number: int) -> None:
        self.edition += 1
        docs = documents(range(number), edition=self.edition)
        for document, _ in docs:
            document["_id"] = f"{name}{document['_id']}"
        self.service.site.scripts[name] = checkpointed(docs, 2, pause=0.4)

    async def watch(self) -> None:
        """Sees that no connector is read twice at the same time."""
        for name in NAMES:
            running = [worker for worker in self.workers if name in worker.running]
            jobs = await self.service.store.jobs(connector_id=name, statuses=[JobStatus.IN_PROGRESS])
            assert len(running) <= 1 or len(jobs) <= 1, name

    async def live(self, seconds: float) -> None:
        for _ in range(round(seconds)):
            await self.scheduler.tick()
            for worker in self.workers:
                await worker.tick()
            await self.watch()
            await asyncio.sleep(1)

    async def befall(self, event: str, name: str, number: int) -> None:
        await getattr(self, f"_{event}")(name, number)

    async def _kill(self, name: str, number: int) -> None:
        """What the worker would do on its way out reaches the store no more."""
        self.service.store.before = unreachable
        tasks = list(self.workers[number % 2].running.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        self.service.store.before = lambda _: None
        self.workers[number % 2] = self.start()

    async def _stop(self, name: str, number: int) -> None:
        await self.workers[number % 2].shutdown()
        self.workers[number % 2] = self.start()

    async def _cancel(self, name: str, number: int) -> None:
        for job in await self.service.store.jobs(connector_id=name, limit=1):
            if not job.ended:
                await self.service.operations.cancel(job.id)

    async def _sync(self, name: str, number: int) -> None:
        await self.service.operations.sync_now(name)

    async def _pause(self, name: str, number: int) -> None:
        await self.service.operations.pause(name)

    async def _resume(self, name: str, number: int) -> None:
        await self.service.operations.pause(name, paused=False)

    async def _edit(self, name: str, number: int) -> None:
        self.write(name, 1 + number)

    async def _fault(self, name: str, number: int) -> None:
        scripts = self.service.site.scripts
        script, scripts[name] = scripts[name], [*scripts[name][: number + 1], RetryableError("cut off")]
        await self.live(8)
        scripts[name] = script

    async def _store(self, name: str, number: int) -> None:
        """The store is away for up to a minute."""
        self.service.store.before = unreachable
        await asyncio.sleep(number * 3)
        self.service.store.before = lambda _: None

    async def _lease(self, name: str, number: int) -> None:
        """The lease ends before its time, as if a clock had jumped."""
        states = self.service.store._states
        if name in states:
            states[name] = replace(states[name], expires_at=0.0)

    async def _reset(self, name: str, number: int) -> None:
        with suppress(ConflictError):
            await self.service.operations.reset(name)

    async def _wait(self, name: str, number: int) -> None:
        await self.live(number)


def unreachable(call: str) -> None:
    raise RetryableError("the store is not there")


@settings(max_examples=25)
@given(st.lists(st.tuples(EVENTS, st.sampled_from(NAMES), st.integers(1, 20)), max_size=12))
def test_the_index_converges_whatever_befalls_the_workers(events: list[tuple[str, str, int]]) -> None:
    async def scenario(service: Service) -> None:
        chaos = Chaos(service)
        for name in NAMES:
            chaos.write(name, 8)
        await chaos.live(2)
        for event in events:
            await chaos.befall(*event)
            await chaos.live(2)
        for name in NAMES:
            await service.operations.pause(name, paused=False)
        for _ in range(2):  # an edit may have come too late for a job that was under way
            await chaos.live(200)
            for name in NAMES:
                await service.operations.sync_now(name)
        await chaos.live(200)
        await service.idle()
        await check(service)

    with tempfile.TemporaryDirectory() as folder:
        limits: Any = {"sync": {"max_delete_ratio": 1.0}}
        play(scenario, Path(folder), *(connector(name, full="every 1h") for name in NAMES), **limits)


async def check(service: Service) -> None:
    wanted = {
        item[0]["_id"]: item[0]["edition"]
        for name in NAMES
        for item in service.site.scripts[name]
        if isinstance(item, tuple)
    }
    assert {id_: body["edition"] for id_, body in service.indexed().items()} == wanted
    for job in await service.jobs():
        assert job.ended, job
        if job.status == JobStatus.COMPLETED:
            counters = job.metadata["counters"]
            outcomes = sum(number for key, number in counters.items() if key not in {"read", "vanished", "bytes"})
            assert counters["read"] == outcomes
    for name in NAMES:
        assert (await service.store.state(name)).worker is None
        record = await service.record(name)
        assert (record.status, record.error, record.last_sync_status) == ("connected", None, "completed")
