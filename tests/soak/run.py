"""One soak from start to verdict."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Final

from connectors.backends.server import ServerBackend
from connectors.byoc import JobStatus, JobType, SyncJob
from connectors.runtime import Runtime
from connectors.service.operations import Operations
from connectors.sync.counters import Counters
from connectors.utils import format_size
from tests.servers.faults import Cut, Delay, Drop, Fault, Garbage, RefuseItems, Respond, Rule, any_request, bulk
from tests.servers.mariadb import MariaDBServer
from tests.servers.proxy import FaultProxy
from tests.servers.search import SearchServer
from tests.soak.fleet import Daemon, Fleet
from tests.soak.verdict import differences, documents_of, problems_of_jobs, problems_of_records
from tests.soak.writer import TABLES, Writer, rows_of
from tests.support.backends import RECORDS, open_backend
from tests.support.counted import SOURCES, read_log
from tests.support.mysql import READER, SECRET

__all__ = ["Soak"]

#: How likely each of these befalls a bulk request, and any other one.
_BULK_FAULTS: Final[tuple[tuple[Fault, float], ...]] = (
    (Drop("before"), 0.02),
    (Drop("midway"), 0.02),
    (Drop("after"), 0.03),
    (Cut(), 0.02),
    (Garbage(), 0.01),
    (Delay(0.5, "answer"), 0.03),
    (Respond(429), 0.03),
    (Respond(503), 0.02),
    (RefuseItems(429, share=0.1), 0.05),
)
_OTHER_FAULTS: Final[tuple[tuple[Fault, float], ...]] = (
    (Drop("before"), 0.01),
    (Drop("after"), 0.01),
    (Respond(503), 0.01),
)
#: Seconds: between two cuts of all connections, at most; that the end may take.
_CUTS: Final = 25.0
_QUIESCING: Final = 240.0
_SCAN: Final = 100_000


@dataclass(slots=True)
class Soak:
    """What is run, and what became of it.

    Attributes:
        figures: what is printed at the end, name → value.
        problems: why it did not end well; empty when it did.
    """

    folder: Path
    seconds: float
    seed: int
    rows: int
    figures: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    cuts: int = 0

    async def run(self) -> None:
        """Runs it to the end."""
        rules = [Rule(fault, match=bulk, times=None, chance=chance) for fault, chance in _BULK_FAULTS]
        rules += [Rule(fault, match=any_request, times=None, chance=chance) for fault, chance in _OTHER_FAULTS]
        async with SearchServer("es8") as search:
            with await asyncio.to_thread(MariaDBServer().start) as database:
                async with FaultProxy(search.url, rules, seed=self.seed) as proxy, open_backend(search) as backend:
                    writer = Writer(database, seed=self.seed, rows=self.rows, journal=self.folder / "journal.jsonl")
                    async with writer:
                        await self._soak(database, proxy, backend, writer)

    async def _soak(self, database: MariaDBServer, proxy: FaultProxy, backend: ServerBackend, writer: Writer) -> None:
        await database.aexecute(
            f"CREATE OR REPLACE USER '{READER}'@'%' IDENTIFIED BY '{SECRET}'",
            f"GRANT SELECT ON shop.* TO '{READER}'@'%'",
        )
        config = _configuration(database, proxy.url)
        fleet = Fleet([Daemon(name, self.folder, config) for name in ("one", "two")], seed=self.seed)
        watching = asyncio.create_task(fleet.watch())
        try:
            fleet.start()
            cutting = asyncio.create_task(self._cut(database, proxy))
            await fleet.disturb(self.seconds)
            cutting.cancel()
            with suppress(asyncio.CancelledError):
                await cutting
            await writer.stop()
            proxy.clear()
            await self._quiesce(database, backend)
            await fleet.stop()
        finally:
            watching.cancel()
            fleet.kill()
        await self._judge(backend, database)
        self._tell(fleet, proxy, writer, await backend.store.jobs(limit=_SCAN))

    async def _cut(self, database: MariaDBServer, proxy: FaultProxy) -> None:
        """Hangs up on everybody, now on the way to the index, now on the way to the database."""
        random = Random(self.seed)
        while True:
            await asyncio.sleep(random.uniform(3.0, _CUTS))
            self.cuts += 1
            if random.random() < 0.5:
                proxy.disconnect()
            else:
                await database.cut(READER)

    # The end

    async def _quiesce(self, database: MariaDBServer, backend: ServerBackend) -> None:
        """An incremental sync must bring all that is new, and a full one all that is gone."""
        began = time.monotonic()
        operations = Operations(backend.store, backend.destination, Runtime(), "soak")
        for table in TABLES:
            await operations.pause(table)
        for table in TABLES:
            await self._settled(operations, table, began)
            await self._sync(operations, table, JobType.INCREMENTAL)
            held = await documents_of(backend, _index(table), table)
            late = differences(await rows_of(database, table), held, extra=True)
            self.problems += [f"after an incremental sync of {table}: {line}" for line in late]
            await self._sync(operations, table, JobType.FULL)
        self.figures["seconds until the world was quiet"] = round(time.monotonic() - began)

    async def _settled(self, operations: Operations, table: str, began: float) -> None:
        """Waits until no job of the connector waits or runs; one that is suspended is woken."""
        while True:
            jobs = [job for job in await operations.jobs(table) if not job.ended]
            if not jobs:
                return
            assert time.monotonic() - began < _QUIESCING, f"jobs that do not end: {jobs}"
            for job in jobs:
                if job.status in {JobStatus.SUSPENDED, JobStatus.PENDING}:
                    await operations.sync_now(table, JobType(job.job_type))
            await asyncio.sleep(0.3)

    async def _sync(self, operations: Operations, table: str, kind: JobType) -> None:
        """Runs one sync that nobody disturbs."""
        began = time.monotonic()
        job = await operations.sync_now(table, kind)
        while not (job := await operations.store.job(job.id)).ended:
            assert time.monotonic() - began < _QUIESCING, f"the last {kind} sync of {table} does not end: {job}"
            await asyncio.sleep(0.2)
        if job.status != JobStatus.COMPLETED:
            self.problems.append(f"the last {kind} sync of {table} ended as {job.status}: {job.error}")

    async def _judge(self, backend: ServerBackend, database: MariaDBServer) -> None:
        for table in TABLES:
            rows, held = await rows_of(database, table), await documents_of(backend, _index(table), table)
            self.problems += [f"{table}: {line}" for line in differences(rows, held)]
            self.figures[f"documents in {_index(table)}, rows in {table}"] = f"{len(held):,}, {len(rows):,}"
        self.problems += problems_of_jobs(await backend.store.jobs(limit=_SCAN))
        self.problems += await problems_of_records(backend, list(TABLES))

    def _tell(self, fleet: Fleet, proxy: FaultProxy, writer: Writer, jobs: list[SyncJob]) -> None:
        counters = [Counters.from_dict(job.metadata.get("counters")) for job in jobs]
        full = sum(counted.read for job, counted in zip(jobs, counters, strict=True) if job.job_type == JobType.FULL)
        read = len(read_log(self.folder))
        faults = sum(number for name, number in proxy.counts.items() if name not in {"forwarded", "unreachable"})
        syncs = _count(jobs, lambda job: f"{job.job_type} {job.status}")
        self.figures |= {
            "rows " + ", ".join(writer.done): ", ".join(f"{number:,}" for number in writer.done.values()),
            "daemons: " + ", ".join(fleet.done): ", ".join(map(str, fleet.done.values())),
            "faulty requests, all connections cut": f"{faults:,}, {self.cuts}",
            "syncs": ", ".join(f"{number} {name}" for name, number in syncs.items()),
            "documents written, deleted": ", ".join(
                f"{number:,}"
                for number in (
                    sum(item.indexed for item in counters),
                    sum(item.deleted + item.vanished for item in counters),
                )
            ),
            "superseded": f"{sum(item.superseded for item in counters):,}",
            "documents read by full syncs, of these again": f"{read:,}, {read - full:,}",
            "memory of a daemon, at most": format_size(max(daemon.peak for daemon in fleet.daemons)),
        }


def _count(jobs: list[SyncJob], name: Callable[[SyncJob], str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for job in jobs:
        found[name(job)] = found.get(name(job), 0) + 1
    return dict(sorted(found.items()))


def _index(table: str) -> str:
    return f"soak-{table}"


def _configuration(database: MariaDBServer, url: str) -> dict[str, Any]:
    """Full syncs take longer than a daemon lives, mostly."""
    settings = {
        "host": database.host,
        "port": database.port,
        "user": READER,
        "password": SECRET,
        "database": "shop",
        "updated_column": "updated",
        "lookback": 15,
        "batch_size": 200,
        "rows_per_second": 2500,
    }
    connectors = [
        {
            "id": table,
            "service_type": "counted-mysql",
            "index": _index(table),
            "configuration": {**settings, "tables": [table]},
            "scheduling": {"full": "every 15s", "incremental": "every 2s"},
        }
        for table in TABLES
    ]
    return {
        "service": {"poll_interval": "300ms", "heartbeat_interval": "1s", "lease": "5s"},
        "web": {"enabled": False},
        "extraction": {"enabled": False},
        "sync": {"batch_bytes": "200KB", "max_delete_ratio": 1},
        "sources": {name: path for name, path in SOURCES.items() if name == "counted-mysql"},
        "connectors": connectors,
        "elasticsearch": {"url": url, **RECORDS},
    }
