"""b. How near the pipeline comes to what a real Elasticsearch takes.

The same documents go into the same kind of index by `run_sync` and by a bare loader: bulk bodies made ready before,
with the same action lines and stamps, of the size and as many at once as the pipeline's pace had reached. The server
has one core, the client the other; they take turns, each round in another order, and the ratio of their times counts.
How busy the server's process was meanwhile, as it says itself, tells whether there was anything to be had at all.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import aiohttp

from bench.figures import Bench, working_folder
from bench.generated import make
from bench.pipeline import context
from connectors.backends.elasticsearch import open_elasticsearch
from connectors.backends.ports import IndexHandle, IndexInfo, IndexSpec, Operation
from connectors.backends.server.bulk import ITEM_FILTER, build
from connectors.backends.server.names import write_alias
from connectors.config import ElasticsearchConfig
from connectors.sync.encode import content_hash, encode, id_digest
from connectors.sync.engine import run_sync
from connectors.sync.limits import FlightLimit, PaceReading
from tests.servers.search import SearchServer, available

__all__ = ["measure"]

_ROUNDS = 3
_INDEX = "bench"
_EPOCH = 1 << 40
_OVERHEAD = 200


def measure(scale: float) -> Bench:
    """Measures; at scale 1 with 300,000 documents."""
    bench = Bench("b. Server bound")
    if (reason := available("es8")) is not None:
        bench.note(f"skipped: {reason}")
        return bench
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        bench.note("skipped: server and client need a core each, and there is one only")
        return bench
    os.environ.setdefault("CONNECTORS_TEST_HEAP", "2g")
    os.sched_setaffinity(0, {cores[0]})  # what is started now stays there
    with SearchServer("es8") as server:
        os.sched_setaffinity(0, {cores[1]})
        asyncio.run(_measure(bench, server, max(1000, int(300_000 * scale))))
    return bench


async def _measure(bench: Bench, server: SearchServer, number: int) -> None:
    _, pace = await _pipeline(server, number)  # the server gets warm, and the pace known
    bodies = list(_bodies(number, pace.body))
    await _loader(server, bodies, pace.requests, number)
    times: dict[str, list[float]] = {"pipeline": [], "loader": []}
    busy: dict[str, list[float]] = {"pipeline": [], "loader": []}
    for turn in range(_ROUNDS):
        for name in sorted(times, reverse=bool(turn % 2)):
            cpu, began = await _server_cpu(server), time.perf_counter()
            if name == "loader":
                seconds = await _loader(server, bodies, pace.requests, number)
            else:
                seconds, _ = await _pipeline(server, number)
            times[name].append(seconds)
            busy[name].append((await _server_cpu(server) - cpu) / (time.perf_counter() - began))
    for name, found in times.items():
        bench.add(f"{name}: {number:,} documents", number / statistics.median(found), "documents/s")
        bench.add(f"{name}: the server's core was busy", statistics.median(busy[name]) * 100, "%")
    ratios = [loader / pipeline for loader, pipeline in zip(times["loader"], times["pipeline"], strict=True)]
    bench.add("pipeline / loader, median of the rounds", statistics.median(ratios), "", target=0.95, least=True)
    bench.note(
        f"rounds: {', '.join(f'{ratio:.3f}' for ratio in ratios)}; {pace.requests} requests of "
        f"{pace.body / 1e6:.1f} MB at once"
    )


async def _server_cpu(server: SearchServer) -> float:
    """Returns the CPU seconds of the server's process, as it says itself."""
    nodes = (await server.arequest("GET", "/_nodes/stats/process")).body["nodes"]
    return float(sum(node["process"]["cpu"]["total_in_millis"] for node in nodes.values())) / 1e3


async def _pipeline(server: SearchServer, number: int) -> tuple[float, PaceReading]:
    """Fills a new index by the pipeline; returns the seconds, and the pace at the end."""
    server.delete_indices(_INDEX)
    backend = open_elasticsearch(ElasticsearchConfig(url=server.url))
    try:
        info = await backend.destination.prepare(IndexSpec(_INDEX))
        with working_folder() as folder:
            plan = context(Path(folder), number, 1, 1)
            config = plan.config
            limit = FlightLimit(config.writes_in_flight, config.bytes_in_flight, body=config.batch_bytes)
            began = time.perf_counter()
            result = await run_sync(replace(plan, destination=backend.destination, index=info, limit=limit))
            seconds = time.perf_counter() - began
    finally:
        await backend.close()
    assert result.counters.indexed == number, result.counters
    return seconds, limit.reading()


def _bodies(number: int, size: int) -> Iterator[bytes]:
    """Yields the documents as bulk bodies of this many bytes."""
    handle = IndexHandle(_INDEX, "", "bench", "0123456789abcdef")
    operations: list[Operation] = []
    length = 0
    for place in range(number):
        document = make(place, 1)
        document_id = str(document.pop("_id"))
        body = encode(document)
        if length + len(body) + _OVERHEAD > size:
            yield build(handle, operations, 0, {})[0]
            operations, length = [], 0
        operations.append(Operation(document_id, id_digest(document_id), content_hash(body), _EPOCH + place, body))
        length += len(body) + _OVERHEAD
    yield build(handle, operations, 0, {})[0]


async def _loader(server: SearchServer, bodies: list[bytes], requests: int, number: int) -> float:
    """Fills a new index with ready bodies; returns the seconds."""
    server.delete_indices(_INDEX)
    backend = open_elasticsearch(ElasticsearchConfig(url=server.url))
    try:
        info: IndexInfo = await backend.destination.prepare(IndexSpec(_INDEX))
    finally:
        await backend.close()
    url = f"{server.url}/{write_alias(_INDEX, info.uuid)}/_bulk?require_alias=true&filter_path={ITEM_FILTER}"
    left = iter(bodies)

    async def send(session: aiohttp.ClientSession) -> int:
        done = 0
        for body in left:
            async with session.post(url, data=body, headers={"content-type": "application/x-ndjson"}) as answer:
                said = await answer.json()
            assert not said["errors"], said
            done += len(said["items"])
        return done

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=requests)) as session:
        began = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            senders = [group.create_task(send(session)) for _ in range(requests)]
        seconds = time.perf_counter() - began
    assert sum(task.result() for task in senders) == number
    return seconds
