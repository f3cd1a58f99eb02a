"""Syncs all connectors of a configuration once, in this process, and says what that cost, as JSON.

Run: `python -m bench.daemon CONFIG [--null]`. It is the daemon as `connectors run --once` starts it. With `--null` the
documents go, by the real client, to a server that keeps nothing (see `bench.null_server`), and records to the embedded
store.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

from bench.figures import loop_delays, peak_memory, percentile
from bench.generated import GeneratedDataSource
from bench.sampling import sampled
from connectors.app import App, Application, catalog_for, equip, open_application, read_config
from connectors.backends.ports import Destination, IndexHandle, IndexInfo, IndexSpec, Operation, StampPage, WriteResult
from connectors.config import Config
from connectors.runtime import Runtime

__all__ = ["Nowhere", "null_application", "sync_all"]


class Nowhere:
    """A destination whose writes go to a server that keeps nothing; all else it answers by itself."""

    def __init__(self, written: Destination) -> None:
        self._written = written

    async def prepare(self, spec: IndexSpec) -> IndexInfo:
        """There is always an index."""
        return IndexInfo(spec.name, "uuid", "fingerprint")

    async def info(self, index: str, *_: object) -> IndexInfo:
        """It is always the same one."""
        return IndexInfo(index, "uuid", "fingerprint")

    async def write(self, handle: IndexHandle, operations: Sequence[Operation]) -> WriteResult:
        """Writes."""
        return await self._written.write(handle, operations)

    async def stamps(self, _: object) -> AsyncIterator[StampPage]:
        """Yields nothing: the index is empty."""
        pages: list[StampPage] = []
        for page in pages:
            yield page

    async def find_ids(self, *_: object) -> list[tuple[bytes, str]]:
        """Finds nothing."""
        return []

    async def count(self, *_: object) -> int:
        """There is nothing."""
        return 0

    async def maintain(self) -> None:
        """Does nothing."""


@asynccontextmanager
async def null_application(config: Config) -> AsyncIterator[Application]:
    """Opens the daemon with the embedded store, and with Elasticsearch's client for a server that keeps nothing."""
    from connectors.backends.elasticsearch import open_elasticsearch
    from connectors.backends.embedded import EmbeddedBackend
    from connectors.service.operations import Operations
    from connectors.service.registry import Registry

    assert config.elasticsearch is not None
    server, embedded = open_elasticsearch(config.elasticsearch), await EmbeddedBackend.open(config.embedded_path)
    destination, runtime = cast("Destination", Nowhere(server.destination)), Runtime()
    catalog = catalog_for(config.sources)
    app = App(
        config=config,
        runtime=runtime,
        catalog=catalog,
        store=embedded.store,
        destination=destination,
        registry=Registry(embedded.store, catalog),
        operations=Operations(embedded.store, destination, runtime, "bench"),
        worker_name="bench",
    )
    try:
        async with equip(app) as application:
            yield application
    finally:
        await server.close()
        await embedded.close()


async def making(config: Config) -> float:
    """Returns CPU seconds of making the documents alone, which are no cost of ours."""
    began = time.process_time()
    for declared in config.connectors:
        if declared.service_type == "generated":
            source = GeneratedDataSource(cast("Any", {"edition": 1, **declared.configuration}))
            async for _ in source.get_docs():
                pass
    return time.process_time() - began


async def sync_all(config: Config, *, null: bool = False) -> dict[str, Any]:
    """Syncs once; returns CPU and wall seconds, whose CPU it was, memory in MiB and the counters of all jobs."""
    delays: list[float] = []
    own = await making(config)
    async with null_application(config) if null else open_application(config) as application:
        watching = asyncio.create_task(loop_delays(delays))
        with sampled() as profile:
            cpu, wall = time.process_time(), time.perf_counter()
            jobs = await application.daemon.run_once(asyncio.Event())
            cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        watching.cancel()
        await asyncio.wait([watching])
    counters: dict[str, int] = {}
    for job in jobs:
        assert job.status == "completed", (job.status, job.error)
        for name, number in job.metadata["counters"].items():
            counters[name] = counters.get(name, 0) + number
    return {
        "cpu": cpu - own,
        "wall": wall,
        "peak": peak_memory(),
        "jobs": len(jobs),
        "counters": counters,
        "late": percentile(delays, 0.99) if delays else 0.0,
        "profile": profile.seconds(),
        "latest": max(delays, default=0.0),
    }


def main() -> None:
    """Prints what it cost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=Path)
    parser.add_argument("--null", action="store_true")
    options = parser.parse_args()
    print(json.dumps(asyncio.run(sync_all(read_config(options.config), null=options.null))))


if __name__ == "__main__":
    main()
