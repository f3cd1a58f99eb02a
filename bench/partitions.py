# ruff: noqa: S608 - tables of the benchmark's own
"""Measures what it gives to read one source in several processes: `sync.readers` 1, 2, …

Run: `python -m bench.partitions [--documents N] [--readers 1,2,3] [--sources generated,directory,mysql]`. Each is a
first full sync of documents of about 1 KB through the whole pipeline into a destination that only says yes. The server
of a database runs on the same machine. In one run the numbers of readers take turns; medians over the rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from bench.generated import TEXT
from connectors.byoc import Filter
from connectors.processes import start_child
from connectors.service.catalog import build_source
from connectors.source import BaseDataSource
from connectors.sync.reading import ReaderJob, run_reader

Build = Callable[[], BaseDataSource]


def builder(path: str, service_type: str, values: dict[str, Any]) -> Build:
    """Returns what makes a source, here and in the readers."""
    return partial(
        build_source, path, "bench", service_type, values, features={}, base_dir=Path.cwd(), max_file_size=10_000_000
    )


@contextmanager
def generated(documents: int) -> Iterator[Build]:
    """Documents out of nothing."""
    yield builder("bench.generated:PartitionedDataSource", "generated", {"documents": documents})


@contextmanager
def directory(documents: int) -> Iterator[Build]:
    """Empty files, since what their contents cost is the extraction's."""
    with tempfile.TemporaryDirectory() as folder:
        for number in range(documents):
            place = Path(folder) / f"{number % 97}" / f"{number % 7}"
            place.mkdir(parents=True, exist_ok=True)
            (place / f"page-{number}.md").touch()
        yield builder("connectors.sources.directory:DirectoryDataSource", "directory", {"directory": folder})


@contextmanager
def mysql(documents: int) -> Iterator[Build]:
    """A table of MariaDB."""
    from tests.servers.mariadb import MariaDBServer
    from tests.support.mysql import READER, empty_shop, settings

    with MariaDBServer() as server:
        empty_shop(server)
        server.execute(
            "CREATE TABLE shop.pages (id INT PRIMARY KEY, path VARCHAR(200), size INT, "
            "changed TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP, body TEXT)",
            f"INSERT INTO shop.pages SELECT seq, CONCAT('handbook/page-', seq, '.md'), seq, NOW(), '{TEXT}' "
            f"FROM shop.seq_1_to_{documents}",
            f"GRANT SELECT ON shop.* TO '{READER}'@'%'",
        )
        yield builder("connectors.sources.mysql:MySQLDataSource", "mysql", settings(server))


@contextmanager
def postgresql(documents: int) -> Iterator[Build]:
    """A table of PostgreSQL."""
    from tests.servers.postgres import PostgresServer
    from tests.support.postgres import Shop

    with PostgresServer() as server:
        shop = Shop(server)
        shop.run(
            "CREATE TABLE pages (id int PRIMARY KEY, path text, size int, changed timestamptz NOT NULL DEFAULT now(), "
            "body text)",
            f"INSERT INTO pages SELECT n, 'handbook/page-' || n || '.md', n, now(), '{TEXT}' "
            f"FROM generate_series(1, {documents}) n",
            "GRANT SELECT ON pages TO reader",
            "VACUUM ANALYZE pages",
        )
        yield builder("connectors.sources.postgresql:PostgreSQLDataSource", "postgresql", shop.settings())


async def one_sync(folder: Path, build: Build, documents: int, readers: int) -> tuple[float, float, float]:
    """Returns wall seconds, and CPU seconds of the owner and of its readers."""
    from bench.pipeline import context  # a reader imports this module again, as it does the daemon's: it is to be light
    from connectors.sync.context import ReaderPlan
    from connectors.sync.engine import run_sync

    base = context(folder, documents, 1, epoch=1)
    source = build()
    job = ReaderJob(build, source.service_type, base.filtering, 1.0)

    async def start() -> Any:
        return await asyncio.to_thread(start_child, run_reader, "reader", job)

    given = replace(base, source=source, filtering=Filter(base.filtering), readers=ReaderPlan(readers, start))
    wall, own, others = time.perf_counter(), time.process_time(), cpu_of_children()
    result = await run_sync(given)
    times = time.perf_counter() - wall, time.process_time() - own, cpu_of_children() - others
    await source.close()
    assert result.counters.balanced
    assert result.counters.indexed == documents, result.counters
    return times


def cpu_of_children() -> float:
    """CPU seconds of the processes that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def measure(name: str, documents: int, numbers: Sequence[int], rounds: int) -> None:
    """Prints a line for each number of readers."""
    with SOURCES[name](documents) as build:
        found: dict[int, list[tuple[float, float, float]]] = {number: [] for number in numbers}
        for _ in range(rounds):
            for number in numbers:
                with tempfile.TemporaryDirectory() as folder:
                    found[number].append(asyncio.run(one_sync(Path(folder), build, documents, number)))
    alone = None
    for number, times in found.items():
        wall, own, others = (statistics.median(column) for column in zip(*times, strict=True))
        alone = alone or wall
        print(
            f"{name:<11} {number} {'reader ' if number == 1 else 'readers'}  {documents / wall:10,.0f} documents/s   "
            f"{alone / wall:5.2f} times   CPU µs/document: {own / documents * 1e6:6.2f} owner "
            f"{others / documents * 1e6:6.2f} readers",
            flush=True,
        )


SOURCES = {"generated": generated, "directory": directory, "mysql": mysql, "postgresql": postgresql}


def main() -> None:
    """Prints one line per source and number."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=300_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--readers", default="1,2")
    parser.add_argument("--sources", default=",".join(SOURCES))
    options = parser.parse_args()
    for name in options.sources.split(","):
        measure(name, options.documents, [int(number) for number in options.readers.split(",")], options.rounds)


if __name__ == "__main__":
    main()
