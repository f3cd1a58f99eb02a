"""One simulated world: what is in it, what time does to it, and its end."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import Context
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from random import Random
from typing import Any

from connectors.backends.ports import DeadLetter, IndexHandle, Operation, WriteResult
from connectors.config import Config
from connectors.errors import ConnectorsError
from connectors.logger import TextFormatter
from tests.simulation import ending, events
from tests.simulation.database import Database
from tests.simulation.kernel import OWNER, Disk, deterministic, run_simulated
from tests.simulation.operator import Operator
from tests.simulation.plan import Plan, make_plan
from tests.simulation.process import Machine, Process
from tests.simulation.readers import READING
from tests.simulation.server import Server
from tests.simulation.source import SimulatedError
from tests.simulation.stores import open_backend
from tests.simulation.watch import SECRET, Watch

__all__ = ["BrokenPromiseError", "Outcome", "World", "simulate"]

_MEMORY = Path("/dev/shm")  # noqa: S108 - a disk in memory, where there is one; a new folder is made in it


class BrokenPromiseError(AssertionError):
    """A promise was broken."""


@dataclass(slots=True)
class Outcome:
    """How one seed ended.

    Attributes:
        violation: what broke a promise, None when nothing did.
        trace: moment, process, and what happened.
        seen: how often things happened, to know what the seeds exercise.
        folder: where its files were; each run has another one, so the trace leaves it out.
    """

    plan: Plan
    violation: str | None = None
    trace: list[tuple[float, str, tuple[Any, ...]]] = field(default_factory=list)
    seen: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    folder: str = "/"

    def lines(self) -> Iterator[str]:
        """Yields the trace as text."""
        for moment, who, what in self.trace:
            yield f"{moment:9.3f} {who:<9} {' '.join(map(_short, what))}".replace(self.folder, "/")

    def digest(self) -> str:
        """Returns a hash of the trace: the same seed has the same."""
        found = blake2b(digest_size=8)
        for line in self.lines():
            found.update(line.encode())
        return found.hexdigest()


def _short(what: Any) -> str:
    """Returns something of the trace as text that fits a line."""
    if isinstance(what, Operation):
        return f"{what.id}@{what.version >> 40}.{what.version & 0xFFFF}={(what.body or b'deleted').decode()}"
    if isinstance(what, IndexHandle):
        return f"{what.index}/{what.uuid[:4]}/{what.connector_id}"
    if isinstance(what, DeadLetter):
        return f"{what.id}: {what.reason}"
    if isinstance(what, WriteResult):
        return f"failed: {[*what.failures]}" if what.failures else ""
    if isinstance(what, Mapping):
        left = {key: value for key, value in what.items() if value and key not in {"last_seen", "completed_at"}}
        return "{" + ", ".join(f"{key}: {_short(value)}" for key, value in left.items()) + "}"
    return "[" + ", ".join(map(_short, what)) + "]" if isinstance(what, list | tuple) else str(what)


class World:
    """Create it inside the simulated loop.

    Attributes:
        edition: of the configuration; grows with each edit.
        calm: nothing misbehaves any more.
        foreign: by index UUID, the documents of somebody else: id → content.
    """

    def __init__(self, plan: Plan, outcome: Outcome, folder: Path, disk: Disk, random: Random) -> None:
        self.plan = plan
        self.outcome = outcome
        self.folder = folder
        self.disk = disk
        self.random = random
        self.calm = False
        self.edition = 1
        self.settings = 1
        self.rules: list[str] = []
        self.declared = list(plan.connectors)
        self.foreign: dict[str, dict[str, bytes]] = {}
        self.store_away_until = 0.0
        self.processes: list[Process] = []
        self.dead: set[str] = set()
        self._configs: dict[int, Config] = {}
        self._started = 0
        self._commands: list[asyncio.Task[None]] = []
        self._loop = asyncio.get_running_loop()
        sync = plan.sync
        self.watch = Watch(self.fail, ratio=sync["max_delete_ratio"], least=sync["min_documents_for_ratio"])
        self.databases = {
            name: Database(name, random, files=plan.files, troubles=plan.troubles) for name in plan.connectors
        }
        self.machines = {name: Machine(name, folder) for name in plan.machines}
        self.store, destination = open_backend(plan, folder, random)
        self.server = Server(self, destination)
        self.operator = Operator(self)
        disk.on_sync = self._file_work

    # What everybody asks

    def note(self, who: str, *what: Any) -> None:
        """Writes a line of the trace."""
        self.outcome.trace.append((self._loop.time(), who, what))

    def fail(self, text: str, error: BaseException | None = None) -> None:
        """Takes a broken promise; the world ends at the next occasion."""
        self.note("VIOLATION", text, error or "")
        if self.outcome.violation is None:
            self.outcome.violation = text

    def chance(self, fault: str) -> bool:
        """Whether this fault happens now."""
        rate = self.plan.rates.get(fault)
        if rate is None or self.calm or self.random.random() >= rate:
            return False
        self.watch.seen[fault] += 1
        return True

    def index_of(self, connector: str) -> str:
        """Returns the name of the index of a connector."""
        return "shared" if self.plan.one_index else f"index-{connector}"

    def config(self) -> Config:
        """Returns the configuration as it is in `config.yml` now."""
        if self.edition not in self._configs:
            self._configs[self.edition] = Config.model_validate(
                {
                    "service": self.plan.service,
                    "sync": self.plan.sync
                    | {"readers": self.plan.readers if self.settings % 2 else 1}
                    # The operator raises the limit of dead letters in the end.
                    | ({"max_dead_letters": 10_000} if self.calm else {}),
                    "connectors": [self._declared(name) for name in self.declared],
                }
            ).hiding(frozenset({SECRET}))
        return self._configs[self.edition]

    def _declared(self, name: str) -> dict[str, Any]:
        return {
            "id": name,
            "service_type": "sim",
            "index": self.index_of(name),
            "configuration": {"name": name, "password": SECRET, "edition": self.settings},
            "scheduling": {"full": self.plan.full, "incremental": self.plan.changes},
            "filtering": {
                "rules": [
                    {"policy": "exclude", "field": "kind", "rule": "equals", "value": kind} for kind in self.rules
                ]
            },
        }

    def died(self, worker: str) -> bool:
        """Whether a worker of the asking process's machine is dead; asked in place of the operating system."""
        process = OWNER.get()
        return isinstance(process, Process) and worker.startswith(f"{process.machine.name}:") and worker in self.dead

    def _file_work(self) -> None:
        process = OWNER.get()
        if isinstance(process, Process) and process.in_file_work and self.chance("die in file work"):
            self.kill(process)
            raise asyncio.CancelledError
        if isinstance(process, Process) and process.in_file_work and self.chance("disk full"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    # Life

    def kill(self, process: Process, *, power_cut: bool = False) -> None:
        """Kills a process, or all of its machine."""
        for victim in list(process.machine.processes) if power_cut else [process]:
            self.note(victim.name, "power cut" if power_cut else "killed")
            self.dead.add(victim.name)
            victim.kill(power_cut=power_cut)

    async def run(self) -> None:
        """Lives through the plan, heals, and looks at what is there."""
        for database in self.databases.values():
            database.fill(self.plan.documents)
        keepers = [
            asyncio.create_task(self._keep_alive(self.machines[name], skew))
            for name, skew in zip(self.plan.machines, self.plan.skew, strict=True)
        ]
        changing = asyncio.create_task(self._change())
        try:
            for event in self.plan.events:
                await self._until(event.at)
                self.note("world", event.what)
                self.watch.seen[event.what] += 1
                await events.EVENTS[event.what](self)
            await self._until(self.plan.lasts)
            await self._end([changing])
            await ending.heal(self)
            await ending.converge(self)
            await self._end(keepers)
            await ending.stop(self)
        finally:
            await self._end([changing, *keepers, *self._commands])
            for process in list(self.processes):
                await process.destroy()
            for work in list(self.server.busy):
                work.cancel()
            await self.store.close()
            await self.server.inner.close()
        ending.look_for_tasks(self)

    async def _until(self, moment: float) -> None:
        await asyncio.sleep(max(0.0, moment - self._loop.time()))
        self.check()

    def check(self) -> None:
        """Raises BrokenPromiseError if a promise was broken."""
        if self.outcome.violation is not None:
            raise BrokenPromiseError(self.outcome.violation)

    async def _end(self, tasks: list[asyncio.Task[None]]) -> None:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)

    async def _change(self) -> None:
        while True:
            await asyncio.sleep(self.random.expovariate(1 / self.plan.change_every))
            database = self.databases[self.random.choice(self.plan.connectors)]
            self.note("database", database.change())

    async def _keep_alive(self, machine: Machine, skew: float) -> None:
        """Starts a process on a machine again and again."""
        while True:
            await self._live(machine, skew, None)
            await asyncio.sleep(0.5 if self.calm else 0.1 + self.random.random() * self.plan.restart)

    def command(self, connector: str) -> None:
        """Somebody types `connectors sync` on one of the machines."""
        machine = self.machines[self.random.choice(self.plan.machines)]
        life = self._live(machine, self.plan.skew[self.plan.machines.index(machine.name)], connector)
        self._commands.append(asyncio.create_task(life))

    async def _live(self, machine: Machine, skew: float, command: str | None) -> None:
        self._started += 1
        await self._see_through(Process(self, machine, self._started, skew, command=command))

    def engage(self, parent: Process) -> Process:
        """Starts a further worker of a daemon."""
        self._started += 1
        process = Process(self, parent.machine, self._started, parent.skew, parent=parent)
        self._commands.append(self._loop.create_task(self._see_through(process), context=Context()))
        return process

    async def _see_through(self, process: Process) -> None:
        self.processes.append(process)
        process.start()
        await process.done.wait()
        self.dead.add(process.name)
        self.processes.remove(process)


class _Log(logging.Handler):
    """Takes the log of the service: it holds no secret, and tells of no defect."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world
        self.setFormatter(TextFormatter())

    def emit(self, record: logging.LogRecord) -> None:
        text = self.format(record)
        process = OWNER.get()
        name = process.name if process is not None else "world"
        self._world.note(name, record.levelname, text[9:])
        if SECRET in text:
            self._world.fail(f"the log holds a secret: {text}")
        error = record.exc_info[1] if record.exc_info else None
        dead = process is not None and process.dead
        expected = (
            isinstance(error, ConnectorsError)
            or type(error).__name__ == SimulatedError.__name__  # a reader tells the name alone
            or getattr(error, "errno", 0) == errno.ENOSPC
        )
        if error is not None and not dead and not expected:
            self._world.fail(f"a defect: {text}", error)


@contextmanager
def _logged(world: World) -> Iterator[None]:
    logger, handler = logging.getLogger("connectors"), _Log(world)
    before = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before[0])
        logger.propagate = before[1]


def simulate(seed: int) -> Outcome:
    """Runs one seed."""
    plan = make_plan(seed)
    folder = Path(tempfile.mkdtemp(prefix="simulation-", dir=_MEMORY if _MEMORY.is_dir() else None))
    outcome = Outcome(plan, folder=f"{folder}/")
    random, disk = Random(f"world {seed}"), Disk()

    async def scenario() -> None:
        world = World(plan, outcome, folder, disk, random)
        asyncio.get_running_loop().set_exception_handler(
            lambda _, context: world.fail(f"the event loop: {context['message']}", context.get("exception"))
        )
        with deterministic(random, disk, world.died, *READING), _logged(world), suppress(BrokenPromiseError):
            await world.run()
        outcome.seen, outcome.seconds = dict(world.watch.seen), asyncio.get_running_loop().time()

    try:
        run_simulated(scenario())
    except BaseException as error:  # also Stuck, which is a deadlock; told with the seed that led to it
        if isinstance(error, KeyboardInterrupt):
            raise
        outcome.violation = outcome.violation or f"the simulation ended with {error!r}"
        outcome.trace.append((0.0, "VIOLATION", (repr(error),)))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return outcome
