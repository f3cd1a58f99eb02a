"""A simulated process: one daemon of the real service, and the ways in which a process ends or stands still."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, ParamSpec, TypeVar, cast

from connectors.backends.ports import Destination, Store
from connectors.config import Config, ConfigFile
from connectors.errors import ConnectorsError
from connectors.processes import Channel, Child
from connectors.runtime import Runtime
from connectors.service.catalog import SourceCatalog
from connectors.service.crew import Crew
from connectors.service.daemon import Daemon
from connectors.service.member import Member
from connectors.service.metrics import Metrics
from connectors.service.operations import Operations
from connectors.service.registry import Registry
from connectors.service.reporting import ProgressReporter
from connectors.service.services import Services
from connectors.service.worker import Worker
from connectors.sync.counters import Counters
from connectors.sync.limits import FlightLimit
from tests.simulation.kernel import EPOCH, OWNER, Owner
from tests.simulation.pipe import Pipe
from tests.simulation.records import StoreClient
from tests.simulation.server import DestinationClient
from tests.simulation.source import SimulatedSource

if TYPE_CHECKING:
    from tests.simulation.readers import SimulatedReader
    from tests.simulation.world import World

__all__ = ["Machine", "Process"]

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(slots=True)
class Machine:
    """A disk, and the processes that share it. A killed process leaves the disk as it was at that instant: those who
    come after it work on a copy, so that nothing of it can be written any more."""

    name: str
    base: Path
    generation: int = 0
    processes: dict[Process, None] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Where processes that start now keep their files."""
        return self.base / f"{self.name}-{self.generation}"


class _Clock(Runtime):
    """Time, randomness and threads of one process."""

    def __init__(self, process: Process, random: Random, skew: float) -> None:
        loop = asyncio.get_running_loop()
        super().__init__(wall=lambda: EPOCH + skew + loop.time(), random=random)
        object.__setattr__(self, "_process", process)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await cast("Process", self._process).gate()  # type: ignore[attr-defined]  # the class is frozen, see above

    async def in_thread(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        process = cast("Process", self._process)  # type: ignore[attr-defined]  # see above
        await process.gate()
        await asyncio.sleep(process.world.random.random() if process.world.chance("disk slow") else 0)
        if process.dead:
            raise asyncio.CancelledError
        process.in_file_work = True
        try:
            return function(*args, **kwargs)
        finally:
            process.in_file_work = False


class _File:
    """The config file, as one process sees it."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._seen = world.edition

    def poll(self) -> Config | None:
        """Returns the configuration when it was edited since the last look."""
        if self._seen == self._world.edition:
            return None
        self._seen = self._world.edition
        return self._world.config()


class _Reporter(ProgressReporter):
    """Also sees that no more waits than may."""

    process: Process

    def progress(self, connector_id: str, counters: Counters, queued: int) -> None:
        super().progress(connector_id, counters, queued)
        sync = self.process.config.sync
        # A page, and the batches that may wait behind those that are being sent.
        most = 256 + (sync.writes_in_flight + 3) * sync.batch_documents
        if queued > most:
            self.process.world.fail(f"{queued} operations wait, and {most} may")


class _Child:
    """A further worker, in place of a `Child`."""

    how_it_ended = "it ended"

    def __init__(self, process: Process) -> None:
        self._process = process
        self.end = process.end

    async def ended(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._process.done.wait()
        except TimeoutError:
            return False
        return True

    async def kill(self) -> None:
        self._process.world.kill(self._process)
        await self._process.done.wait()


class Process(Owner):
    """One daemon; with a `command`, one that only syncs this connector, and ends; with a `parent`, a further worker of
    that daemon.

    Attributes:
        done: set when it has ended, in whatever way.
        readers: processes that it started, `started` in all, and that may not have ended.
        crew: looks after its further workers; `is_member`: it is one.
        end: the parent's end of the pipe to it.
    """

    #: Whether it is spared all faults.
    spared = False

    def __init__(
        self,
        world: World,
        machine: Machine,
        number: int,
        skew: float,
        *,
        command: str | None = None,
        parent: Process | None = None,
    ) -> None:
        super().__init__(f"{machine.name}:{number}")
        self.world = world
        self.machine = machine
        self.skew = skew
        self.end, self._pipe = Pipe.pair(parent or self, self)
        self.config = world.config()
        self.in_file_work = False
        self._moving = asyncio.Event()
        self._moving.set()
        self._stop = asyncio.Event()
        self.done = asyncio.Event()
        self.started = 0
        self.readers: list[SimulatedReader] = []
        self._running: asyncio.Task[None] | None = None
        self._destroying: asyncio.Task[None] | None = None
        self._members: list[Process] = []
        self._command = command
        self.is_member = parent is not None
        self._build()
        machine.processes[self] = None

    def _build(self) -> None:
        world = self.world
        clock = _Clock(self, world.random, self.skew)
        store = cast("Store", StoreClient(self, world.store))
        destination = cast("Destination", DestinationClient(self, world.server))
        catalog = SourceCatalog({"sim": "tests.simulation.source:SimulatedSource"})
        traits = {
            "process": self,
            "resumable": world.plan.resumable,
            "partitioned": world.plan.readers > 1,
            "incremental_sync_enabled": world.plan.incremental,
        }
        catalog._loaded["sim"] = type("Source", (SimulatedSource,), traits)
        metrics = Metrics(wall=clock.time)
        reporter = _Reporter(metrics, clock)
        reporter.process = self
        sync = self.config.sync
        services = Services(
            destination=destination,
            store=store,
            service=self.config.service,
            sync=sync,
            runtime=clock,
            limit=FlightLimit(sync.writes_in_flight, sync.bytes_in_flight, body=sync.batch_bytes),
            data_dir=self.machine.folder,
            worker=self.name,
            observer=reporter,
        )
        self._operations = Operations(store, destination, clock, self.name)
        worker, file = Worker(services, catalog, self.config, metrics), cast("ConfigFile", _File(world))
        self.crew = Crew(
            0 if self.is_member or self._command is not None else world.plan.workers - 1,
            self._launch,
            name=self.name,
            worker=worker,
            metrics=metrics,
            runtime=clock,
            drain_timeout=self.config.service.drain_timeout,
        )
        self._daemon = Daemon(
            self.config,
            file,
            store=store,
            destination=destination,
            registry=Registry(store, catalog),
            worker=worker,
            operations=self._operations,
            metrics=metrics,
            runtime=clock,
            on_config=lambda _: None,
        )
        self._make_member = partial(
            Member,
            self.config,
            file,
            name=self.name,
            store=store,
            worker=worker,
            metrics=metrics,
            runtime=clock,
            channel=cast("Channel", self._pipe),
            on_config=lambda _: None,
        )

    def _launch(self, _: int) -> Child:
        member = self.world.engage(self)
        self._members = [each for each in self._members if not each.done.is_set()] + [member]
        return cast("Child", _Child(member))

    # Life

    def start(self) -> None:
        """Begins to run; `done` is set at the end."""
        context = Context()
        context.run(OWNER.set, self)
        self._running = asyncio.get_running_loop().create_task(self._run(), context=context)

    async def _run(self) -> None:
        self.world.note(self.name, f"starts, in {self.machine.folder.name}")
        try:
            if self.is_member:
                await self._make_member().run(self._stop)
            elif self._command is None:
                async with self.crew.at_work(self._stop):
                    await self._daemon.run(self._stop)
            else:
                job = await self._operations.sync_now(self._command)
                await self._daemon.finish([job.id], self._stop)
        except ConnectorsError as error:
            self.world.note(self.name, f"ends at its start: {error}")
        except Exception as error:  # noqa: BLE001 - a defect, whatever it is
            if not self.dead:
                self.world.fail(f"{self.name} breaks down: {error!r}", error)
        finally:
            if not self.dead:
                self.world.note(self.name, "has ended")
                self._pipe.close()
                children: list[SimulatedReader | Process] = [*self.readers, *self._members]
                if left := [child.name for child in children if not child.done.is_set()]:
                    self.world.fail(f"{self.name} has ended, and left {left}")
                self.dead = True
                self.machine.processes.pop(self, None)
                self.done.set()

    def strike(self) -> None:
        """Passed at each frame to a reader: a dead process sends none."""
        if self.dead:
            raise asyncio.CancelledError

    async def gate(self) -> None:
        """Passed at each call to the outside: a process that stands still waits here, a dead one goes no further."""
        while not self._moving.is_set() and not self.dead:
            await self._moving.wait()
        if self.dead:
            raise asyncio.CancelledError

    def stood_still(self) -> bool:
        """Whether the process stands still at this moment, and so cannot know what time it is."""
        return not self._moving.is_set()

    def terminate(self) -> None:
        """SIGTERM."""
        self._stop.set()

    def stand_still(self) -> None:
        """SIGSTOP, or a machine that swaps."""
        self._moving.clear()

    def move(self) -> None:
        """SIGCONT."""
        self._moving.set()

    def kill(self, *, power_cut: bool = False) -> None:
        """`kill -9`: nothing of it is seen any more. With `power_cut`, what was not synced to disk may be lost too."""
        if self.dead:
            return
        self.dead = True
        self._pipe.tear()
        for reader in self.readers:
            reader.die()  # as `end_with_parent` has it
        for member in self._members:
            member.orphan()
        machine = self.machine
        machine.processes.pop(self, None)
        if not machine.processes:  # else the others go on with the files, and nothing can be taken from them
            before = machine.folder
            machine.generation += 1
            if before.exists():
                self.world.disk.copy(before, machine.folder, power_cut=self.world.random if power_cut else None)
        self._destroying = asyncio.get_running_loop().create_task(self._destroy(), context=Context())

    def orphan(self) -> None:
        """The process that started this one is gone: it ends, by itself or as `end_with_parent` has it."""
        self.end.close()
        grace = self.config.service.drain_timeout + 15.0
        asyncio.get_running_loop().call_later(grace, self.kill, context=Context())

    async def _destroy(self) -> None:
        self._moving.set()
        await self.destroy()
        self.done.set()
