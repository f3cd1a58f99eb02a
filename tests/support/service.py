"""A small service: workers and schedulers on one store in memory, and sources that play scripts."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, TypeVar

import orjson

from connectors.byoc import Connector, JobStatus, JobType, SyncJob
from connectors.config import Config
from connectors.service.catalog import SourceCatalog
from connectors.service.daemon import Daemon
from connectors.service.metrics import Metrics
from connectors.service.operations import Operations
from connectors.service.registry import Registry
from connectors.service.reporting import ProgressReporter
from connectors.service.scheduler import Scheduler
from connectors.service.services import Services
from connectors.service.worker import Worker
from connectors.source import BaseDataSource
from connectors.sync.limits import FlightLimit
from connectors.testing.memory import MemoryStore
from tests.support.clock import InlineRuntime, run_virtual
from tests.support.destination import FaultyDestination
from tests.support.sources import ResumableSource, documents

__all__ = ["FaultyStore", "Service", "Site", "connector", "play"]

T = TypeVar("T")


class FaultyStore(MemoryStore):
    """Counts its calls; `before` is called with the name of each call, and may raise or wait."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()
        self.before: Callable[[str], Coroutine[Any, Any, None] | None] = lambda _: None

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name.startswith("_") or name in {"calls", "before"} or not callable(found):
            return found

        async def call(*args: Any, **kwargs: Any) -> Any:
            self.calls[name] += 1
            waiting = self.before(name)
            if waiting is not None:
                await waiting
            return await found(*args, **kwargs)

        return call


class Site:
    """What the sources of a test read, by connector id, and what they were asked."""

    def __init__(self) -> None:
        self.scripts: dict[str, list[Any]] = {}
        self.ping_errors: dict[str, Exception] = {}
        self.make_errors: dict[str, Exception] = {}
        self.close_errors: dict[str, Exception] = {}
        self.unchanged: set[str] = set()
        self.asked: list[str] = []
        self.pings: list[str] = []
        self.checkpoints: list[Any] = []
        self.made: list[ScriptSource] = []
        self.closed: list[ScriptSource] = []


class ScriptSource(ResumableSource):
    """Plays the site's script for the connector that its setting `name` names."""

    site: Site

    def __init__(self, configuration: Any) -> None:
        self.settings = configuration
        name = configuration["name"]
        if name in self.site.make_errors:
            raise self.site.make_errors[name]
        super().__init__(())
        self.configuration = configuration
        self.name_of_connector = name
        self.site.made.append(self)

    @classmethod
    def get_default_configuration(cls) -> dict[str, Any]:
        return {
            "name": {"type": "str", "value": ""},
            "url": {"type": "str", "value": "", "required": False},
            "tags": {"type": "list", "value": [], "required": False},
            "password": {"type": "str", "value": "", "required": False, "sensitive": True},
        }

    async def ping(self) -> None:
        self.site.pings.append(self.name_of_connector)
        if self.name_of_connector in self.site.ping_errors:
            raise self.site.ping_errors[self.name_of_connector]

    async def changed(self) -> bool:
        self.site.asked.append(self.name_of_connector)
        return self.name_of_connector not in self.site.unchanged

    async def close(self) -> None:
        self.site.closed.append(self)
        if self.name_of_connector in self.site.close_errors:
            raise self.site.close_errors[self.name_of_connector]

    async def get_docs(self, filtering: Any = None, *, checkpoint: Any = None) -> AsyncIterator[Any]:
        self.site.checkpoints.append(checkpoint)
        self.script = self.site.scripts.get(self.name_of_connector, documents(range(3)))
        async for item in super().get_docs(filtering, checkpoint=checkpoint):
            yield item

    async def get_docs_incrementally(self, sync_cursor: Any, filtering: Any = None) -> AsyncIterator[Any]:
        self.script = self.site.scripts.get(f"{self.name_of_connector}+", [])
        async for item in super().get_docs_incrementally(sync_cursor, filtering):
            yield item


def connector(
    name_: str, /, *, full: str | None = "every 10m", incremental: str | None = None, **more: Any
) -> dict[str, Any]:
    """Returns a connector as it stands in `config.yml`."""
    scheduling = {"full": full, "incremental": incremental}
    settings = {"name": name_, **more.pop("configuration", {})}
    own = {"id": name_, "service_type": "script", "index": "shelf", "configuration": settings, "scheduling": scheduling}
    return own | more


class Service:
    """Create it inside a running virtual loop."""

    def __init__(self, folder: Path, *connectors: Mapping[str, Any], **settings: Any) -> None:
        self.folder = folder
        self.runtime = InlineRuntime()
        self.store = FaultyStore()
        self.destination = FaultyDestination(clock=self.runtime.time)
        self.site = Site()
        source_class = type("SiteSource", (ScriptSource,), {"site": self.site, "incremental_sync_enabled": True})
        self.source_class: type[BaseDataSource] = source_class
        self.catalog = SourceCatalog({"script": "tests.support.service:ScriptSource"})
        self.catalog._loaded["script"] = source_class
        self.registry = Registry(self.store, self.catalog)
        self.operations = Operations(self.store, self.destination, self.runtime, "operator")
        self.metrics = Metrics(wall=self.runtime.time)
        self.config = self.configured(*connectors, **settings)
        self.workers: list[Worker] = []

    def configured(
        self, *connectors: Mapping[str, Any], secrets: frozenset[str] = frozenset(), **settings: Any
    ) -> Config:
        """Returns a configuration with these connectors."""
        service = {"data_dir": str(self.folder), **settings.pop("service", {})}
        config = Config.model_validate({"service": service, "connectors": list(connectors), **settings})
        return config.hiding(secrets)

    async def apply(self, *connectors: Mapping[str, Any], **settings: Any) -> None:
        """Edits the configuration, if connectors are given, and brings records and workers in line with it."""
        if connectors or settings:
            self.config = self.configured(*connectors, **settings)
        for worker in self.workers:
            worker.configure(self.config)
        await self.registry.apply(self.config)

    def services(self, name: str) -> Services:
        """Builds what a worker works with; `disk-1` and `disk-2` share a disk."""
        return Services(
            destination=self.destination,
            store=self.store,
            service=self.config.service,
            sync=self.config.sync,
            runtime=self.runtime,
            limit=FlightLimit(8, 64_000_000),
            data_dir=self.folder / name.partition("-")[0],
            worker=name,
            observer=ProgressReporter(self.metrics, self.runtime),
        )

    def worker(self, name: str = "one") -> Worker:
        """Starts another worker, see `services`."""
        worker = Worker(self.services(name), self.catalog, self.config, self.metrics)
        self.workers.append(worker)
        return worker

    def daemon(self, file: Any = None) -> Daemon:
        """Builds a daemon with a worker of its own."""
        return Daemon(
            self.config,
            file,
            store=self.store,
            destination=self.destination,
            registry=self.registry,
            worker=self.worker(f"daemon-{len(self.workers)}"),
            operations=self.operations,
            metrics=self.metrics,
            runtime=self.runtime,
            on_config=lambda _: None,
        )

    async def run(self, seconds: float, worker: Worker | None = None, *, schedule: bool = True) -> None:
        """Lets a scheduler and a worker look for work every second."""
        worker = worker or (self.workers[0] if self.workers else self.worker())
        scheduler = Scheduler(self.store, self.runtime)
        ends = self.runtime.monotonic() + seconds
        while self.runtime.monotonic() < ends:
            if schedule:
                await scheduler.tick()
            await worker.tick()
            await asyncio.sleep(min(1.0, max(0.0, ends - self.runtime.monotonic())))

    async def stop(self) -> None:
        """Shuts all workers down."""
        for worker in self.workers:
            await worker.shutdown()
        self.workers.clear()

    # What is there

    async def record(self, name: str) -> Connector:
        return await self.store.connector(name)

    async def jobs(self, name: str | None = None, **more: Any) -> list[SyncJob]:
        """All jobs, oldest first."""
        return list(reversed(await self.store.jobs(connector_id=name, limit=10_000, **more)))

    async def statuses(self, name: str | None = None) -> list[str]:
        return [job.status for job in await self.jobs(name)]

    async def sync(self, name: str, job_type: JobType = JobType.FULL, **more: Any) -> SyncJob:
        """Runs a job that somebody asks for to its end, or until it is suspended."""
        job = queued = await self.operations.sync_now(name, job_type, **more)
        worker = self.workers[0] if self.workers else self.worker()
        while not job.ended and (job.status != JobStatus.SUSPENDED or job.version == queued.version):
            await worker.tick()
            await asyncio.sleep(0.5)
            job = await self.store.job(job.id)
        await self.idle()
        return job

    async def idle(self) -> None:
        """Waits until no worker runs anything."""
        while running := [task for worker in self.workers for task in worker.running.values()]:
            await asyncio.wait(running)

    def indexed(self, index: str = "shelf") -> dict[str, dict[str, Any]]:
        found = self.destination._indices[index].documents if index in self.destination._indices else {}
        return {id_: orjson.loads(operation.body or b"") for id_, (_, operation) in found.items()}

    def written(self) -> list[str]:
        """Ids of all operations that were sent, in order."""
        return [operation.id for request in self.destination.requests for operation in request]


def play(scenario: Callable[[Service], Coroutine[Any, Any, T]], folder: Path, *connectors: Any, **settings: Any) -> T:
    """Runs a scenario on a service, shuts it down, and sees that no task is left behind."""

    async def run() -> T:
        service = Service(folder, *connectors, **settings)
        await service.apply()
        try:
            result = await scenario(service)
        finally:
            await service.stop()
        await asyncio.sleep(0)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, left
        assert len(service.site.closed) >= len(service.site.made)
        return result

    return run_virtual(run())
