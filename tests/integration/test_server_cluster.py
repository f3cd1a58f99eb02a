"""A cluster of two nodes of which one dies in the middle of a sync."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import orjson
import pytest
import yaml

from connectors.app import open_application, read_config
from connectors.backends.ports import IndexHandle
from tests.servers.fixtures import SearchServers
from tests.servers.search import SearchServer
from tests.support.backends import RECORDS, open_backend
from tests.support.generated import HalfwayDataSource, generated

pytestmark = pytest.mark.server

DOCUMENTS: Final = 30_000
INDEX: Final = "cluster-things"


@pytest.fixture
def cluster(search_servers: SearchServers) -> Iterator[tuple[SearchServer, SearchServer]]:
    """Gives two nodes; the second one holds documents and has no say, so that the first can go on alone."""
    search_servers.get("es8")  # fetched, or the reason told
    common = {"discovery.type": "multi-node", "cluster.name": "connectors-cluster"}
    with ExitStack() as stack:
        first = SearchServer("es8", settings={**common, "node.name": "n1", "cluster.initial_master_nodes": "n1"})
        stack.enter_context(first)
        nodes = first.request("GET", "/_nodes/_local/transport").body["nodes"]
        address = next(iter(nodes.values()))["transport"]["publish_address"]
        second = SearchServer(
            "es8",
            settings={**common, "node.name": "n2", "node.roles": "data,ingest", "discovery.seed_hosts": address},
        )
        yield first, stack.enter_context(second)


async def test_a_node_that_dies_in_mid_sync_costs_nothing(
    tmp_path: Path, cluster: tuple[SearchServer, SearchServer]
) -> None:
    staying, dying = cluster
    # Its only primary shard is on the node that will die, and the copy on the other.
    alone = {"number_of_replicas": 0, "routing.allocation.include._name": "n2"}
    assert (await staying.arequest("PUT", f"/{INDEX}", {"settings": alone})).status == 200
    health = f"/_cluster/health/{INDEX}?wait_for_status=green&wait_for_no_relocating_shards=true&timeout=30s"
    assert (await staying.arequest("GET", health)).status == 200
    both = {"number_of_replicas": 1, "routing.allocation.include._name": None}
    assert (await staying.arequest("PUT", f"/{INDEX}/_settings", {"index": both})).status == 200
    assert (await staying.arequest("GET", health)).status == 200
    shards = (await staying.arequest("GET", f"/_cat/shards/{INDEX}?format=json")).body
    assert {(shard["node"], shard["prirep"]) for shard in shards} == {("n2", "p"), ("n1", "r")}

    path = tmp_path / "config.yml"
    source = {"count": DOCUMENTS, "prefix": "d"}
    config = {
        "elasticsearch": {"url": dying.url, "hosts": [staying.url], **RECORDS},
        "web": {"enabled": False},
        "sync": {"batch_bytes": "100KB"},
        "sources": {"halfway": "tests.support.generated:HalfwayDataSource"},
        "connectors": [{"id": "one", "service_type": "halfway", "index": INDEX, "configuration": source}],
    }
    path.write_text(yaml.safe_dump(config), "utf-8")
    HalfwayDataSource.reached, HalfwayDataSource.go_on = asyncio.Event(), asyncio.Event()
    async with open_application(await asyncio.to_thread(read_config, path)) as application:
        syncing = asyncio.create_task(application.daemon.run_once(asyncio.Event()))
        await HalfwayDataSource.reached.wait()
        await asyncio.to_thread(dying.stop)  # the last requests of the first half are on their way
        HalfwayDataSource.go_on.set()
        (job,) = await syncing
    assert (job.status, job.error) == ("completed", None)
    counters = job.metadata["counters"]
    assert counters["indexed"] == counters["read"] == DOCUMENTS
    async with open_backend(staying) as backend:
        info = await backend.destination.info(INDEX)
        assert info is not None
        handle = IndexHandle(INDEX, info.uuid, "one", "")
        held = sum([len(page.digests) // 16 async for page in backend.destination.stamps(handle)])
        assert held == DOCUMENTS == await backend.destination.count(INDEX)
        for start in range(0, DOCUMENTS, 2000):
            numbers = range(start, start + 2000)
            found = await backend.destination.fetch(INDEX, [f"d{number}" for number in numbers])
            assert {id_: orjson.loads(body) for id_, body in found.items()} == {
                f"d{number}": generated(number) for number in numbers
            }
