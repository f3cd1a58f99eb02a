"""Measures what the way to a search server costs per document: the whole of `run_sync`, over HTTP, less the pipeline.

Run: `python -m bench.wire [--documents N] [--rounds R] [--latency SECONDS]`. The server is a process of its own that
reads a bulk request, waits `latency`, and says yes to each item; what it costs is not counted. The documents are those
of `bench.pipeline`, all of them new. "nothing" is the pipeline alone, with a destination that only says yes. Medians.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final, cast

from bench.null_server import serving
from bench.pipeline import NullDestination, context, generating
from connectors.backends.elasticsearch import open_elasticsearch
from connectors.backends.opensearch import open_opensearch
from connectors.backends.ports import Destination, IndexHandle, Operation, WriteResult
from connectors.config import ElasticsearchConfig, OpenSearchConfig
from connectors.sync.engine import run_sync
from connectors.sync.limits import FlightLimit, PaceReading

KINDS: Final = ("nothing", "elasticsearch", "opensearch")


class Wire(NullDestination):
    """Writes to a server, and knows of no document that is there already."""

    def __init__(self, destination: Destination) -> None:
        self.destination = destination

    async def write(self, *call: object) -> WriteResult:
        """Writes."""
        handle, operations = cast("tuple[IndexHandle, Sequence[Operation]]", call)
        return await self.destination.write(handle, operations)


@asynccontextmanager
async def destination(kind: str, url: str) -> AsyncIterator[Destination]:
    """Opens the destination of a kind."""
    if kind == "nothing":
        yield cast("Destination", NullDestination())
        return
    backend = (
        open_elasticsearch(ElasticsearchConfig(url=url))
        if kind == "elasticsearch"
        else open_opensearch(OpenSearchConfig(url=url))
    )
    try:
        yield cast("Destination", Wire(backend.destination))
    finally:
        await backend.close()


async def one_sync(kind: str, url: str, documents: int) -> tuple[float, float, PaceReading]:
    """Runs one sync; returns CPU seconds without the making of the documents, wall seconds, and the pace at its end."""
    own = await generating(documents)
    with tempfile.TemporaryDirectory() as folder:
        async with destination(kind, url) as written:
            plan = context(Path(folder), documents, 1, 1)
            limit = FlightLimit(plan.config.writes_in_flight, plan.config.bytes_in_flight, body=plan.config.batch_bytes)
            cpu, wall = time.process_time(), time.perf_counter()
            result = await run_sync(replace(plan, destination=written, limit=limit))
            cpu, wall = time.process_time() - cpu - own, time.perf_counter() - wall
    assert result.counters.indexed == documents, result.counters
    return cpu, wall, limit.reading()


def main() -> None:
    """Prints one line per kind of destination."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--latency", type=float, default=0.02, help="seconds that the server takes for a request")
    options = parser.parse_args()
    base = 0.0
    with serving(options.latency) as url:
        for kind in KINDS:
            rounds = [asyncio.run(one_sync(kind, url, options.documents)) for _ in range(options.rounds)]
            cpu = statistics.median(found[0] for found in rounds) / options.documents * 1e6
            rate = options.documents / statistics.median(found[1] for found in rounds)
            base = cpu if kind == "nothing" else base
            pace = rounds[-1][2]
            print(
                f"{kind:<14} {cpu:6.2f} µs CPU/document, of which the wire {cpu - base:5.2f}   {rate:9,.0f} documents/s"
                f"   at the end {pace.requests} requests of {pace.body / 1e6:.1f} MB"
            )


if __name__ == "__main__":
    main()
