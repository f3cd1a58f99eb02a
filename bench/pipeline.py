"""Measures what the framework costs per document: `run_sync` with a destination that only says yes.

Run: `python bench/pipeline.py [--documents N] [--rounds R]`. The generated documents have about 1 KB and pass two basic
rules; the ledger is the real one, on disk. "new" is a first sync, "unchanged" the second one over the same documents,
"changed" one in which every document differs. Making the documents is measured apart and taken off. Medians.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import resource
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

from bench.generated import GeneratedDataSource
from connectors.backends.ports import (
    ConnectorState,
    Destination,
    IndexInfo,
    Lease,
    StampPage,
    Store,
    WriteResult,
)
from connectors.byoc import Connector, Filter, SyncJob
from connectors.config import SyncConfig
from connectors.runtime import Runtime
from connectors.source import DataSourceConfiguration
from connectors.sync.context import SyncContext
from connectors.sync.engine import run_sync
from connectors.sync.limits import FlightLimit

RULES = [
    {"id": "1", "order": 1, "policy": "exclude", "field": "path", "rule": "starts_with", "value": "drafts/"},
    {"id": "2", "order": 2, "policy": "exclude", "field": "size", "rule": ">", "value": "1000000000"},
]


class NullDestination:
    """Acknowledges everything at once."""

    async def write(self, *_: object) -> WriteResult:
        """Returns that all is well."""
        return WriteResult()

    async def stamps(self, _: object) -> AsyncIterator[StampPage]:
        """Yields nothing: the index is empty."""
        pages: list[StampPage] = []
        for page in pages:
            yield page

    async def find_ids(self, *_: object) -> list[tuple[bytes, str]]:
        """Finds nothing."""
        return []


class NullStore:
    """Takes everything and keeps nothing."""

    async def commit(self, *_: object, **__: object) -> None:
        """Does nothing."""

    async def dead_letter_ids(self, _: str) -> dict[str, str]:
        """Returns that there are none."""
        return {}


def generated(documents: int, edition: int) -> GeneratedDataSource:
    """Builds the source."""
    given = {"documents": documents, "edition": edition}
    return GeneratedDataSource(DataSourceConfiguration.merge(GeneratedDataSource.get_default_configuration(), given))


def context(folder: Path, documents: int, edition: int, epoch: int) -> SyncContext:
    """Builds the context of one sync."""
    connector = Connector(id="bench", service_type="generated", index_name="bench")
    config = SyncConfig()
    return SyncContext(
        connector=connector,
        job=SyncJob(id=f"job-{epoch}", connector={"id": "bench"}),
        source=generated(documents, edition),
        filtering=Filter.of(RULES),
        destination=cast("Destination", NullDestination()),
        store=cast("Store", NullStore()),
        index=IndexInfo("bench", "uuid", "fingerprint"),
        lease=lambda: Lease("bench", "bench", epoch, time.time() + 3600),
        state=ConnectorState("bench", epoch=epoch),
        config=config,
        runtime=Runtime(),
        folder=folder,
        stop=asyncio.Event(),
        limit=FlightLimit(8, config.bytes_in_flight),
        logger=logging.getLogger("bench"),
        configuration_fingerprint="c",
        max_delete_ratio=config.max_delete_ratio,
        drain_timeout=10.0,
    )


async def generating(documents: int) -> float:
    """Returns CPU seconds of making and yielding the documents alone."""
    started = time.process_time()
    async for _ in generated(documents, 1).get_docs():
        pass
    return time.process_time() - started


async def one_round(folder: Path, documents: int) -> dict[str, tuple[float, float]]:
    """Runs the syncs of one round; returns name → (CPU seconds without the generating, wall seconds)."""
    own = await generating(documents)
    found: dict[str, tuple[float, float]] = {}
    for epoch, (name, edition, outcome) in enumerate(
        [("new", 1, "indexed"), ("unchanged", 1, "unchanged"), ("changed", 2, "indexed")], start=1
    ):
        cpu, wall = time.process_time(), time.perf_counter()
        result = await run_sync(context(folder, documents, edition, epoch))
        found[name] = time.process_time() - cpu - own, time.perf_counter() - wall
        assert result.counters.balanced
        assert result.counters.to_dict()[outcome] == documents, result.counters
    return found


def main() -> None:
    """Prints one line per case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    rounds = []
    for _ in range(options.rounds):
        with tempfile.TemporaryDirectory() as folder:
            rounds.append(asyncio.run(one_round(Path(folder), options.documents)))
    for name in rounds[0]:
        cpu = statistics.median(found[name][0] for found in rounds) / options.documents * 1e6
        rate = options.documents / statistics.median(found[name][1] for found in rounds)
        print(f"{name:<10} {cpu:6.2f} µs CPU/document   {rate:10,.0f} documents/s with their making")
    print(f"peak RSS   {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:6.0f} MiB")


if __name__ == "__main__":
    main()
