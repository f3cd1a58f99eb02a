"""The launcher and the proxy against real servers, and the behaviour of servers that the backends rely on."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import httpx
import pytest

from tests.servers.faults import Cut, Drop, RefuseItems, Rule, bulk
from tests.servers.fixtures import PASSWORD, SearchServers
from tests.servers.flavours import FLAVOURS
from tests.servers.proxy import FaultProxy
from tests.servers.search import SearchServer

pytestmark = pytest.mark.server


@pytest.fixture(params=list(FLAVOURS))
def server(request: pytest.FixtureRequest, search_servers: SearchServers) -> SearchServer:
    started = search_servers.get(request.param)
    started.delete_indices("launcher-*")
    return started


def _lines(*lines: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def _versioned(verb: str, id_: str, version: int) -> dict[str, Any]:
    return {verb: {"_id": id_, "version": version, "version_type": "external_gte"}}


def _documents(count: int) -> bytes:
    return b"".join(_lines(_versioned("index", f"{n:04}", 1), {"n": n}) for n in range(count))


def test_the_server_is_what_its_flavour_says(server: SearchServer) -> None:
    assert server.request("GET", "/").body["version"]["number"] == server.flavour.version


def test_a_running_server_is_shared(server: SearchServer, search_servers: SearchServers) -> None:
    assert search_servers.get(server.flavour.name) is server


def test_external_versions_keep_older_writes_out(server: SearchServer) -> None:
    def statuses(*lines: dict[str, Any]) -> list[int]:
        answer = server.request("POST", "/launcher-versions/_bulk", _lines(*lines))
        return [next(iter(item.values()))["status"] for item in answer.body["items"]]

    assert statuses(_versioned("index", "a", 5), {"n": 1}, _versioned("index", "a", 5), {"n": 2}) == [201, 200]
    assert statuses(_versioned("index", "a", 4), {"n": 3}, _versioned("delete", "a", 4)) == [409, 409]
    assert statuses(_versioned("delete", "a", 6), _versioned("delete", "b", 7)) == [200, 404]
    assert statuses(_versioned("index", "a", 5), {"n": 4}, _versioned("index", "b", 6), {"n": 4}) == [409, 409]
    assert statuses(_versioned("index", "a", 6), {"n": 5}) == [201]


def test_a_point_in_time_is_read_page_by_page(server: SearchServer) -> None:
    assert server.request("POST", "/launcher-pages/_bulk?refresh=true", _documents(25)).body["errors"] is False
    elasticsearch = server.flavour.product == "elasticsearch"
    opened = server.request(
        "POST", f"/launcher-pages/{'_pit' if elasticsearch else '_search/point_in_time'}?keep_alive=1m"
    )
    pit = opened.body["id" if elasticsearch else "pit_id"]
    order = "n" if server.flavour.name == "os2" else "_shard_doc"  # OpenSearch has it from 3.3
    met: list[str] = []
    after: dict[str, Any] = {}
    while True:
        page = server.request(
            "POST",
            "/_search",
            {"size": 10, "pit": {"id": pit, "keep_alive": "1m"}, "sort": [{order: "asc"}], "_source": False, **after},
        )
        assert page.status == 200, page.body
        hits = page.body["hits"]["hits"]
        if not hits:
            break
        met += [hit["_id"] for hit in hits]
        after = {"search_after": hits[-1]["sort"]}
    assert sorted(met) == [f"{n:04}" for n in range(25)]


@pytest.mark.parametrize("flavour", ["es8", "es9"])
def test_security_asks_for_credentials_and_knows_api_keys(flavour: str, search_servers: SearchServers) -> None:
    server = search_servers.get(flavour, secured=True)
    assert (server.user, server.password) == ("elastic", PASSWORD)
    assert httpx.get(server.url).status_code == 401
    assert httpx.get(server.url, auth=("elastic", "wrong")).status_code == 401
    made = server.request("POST", "/_security/api_key", {"name": "launcher", "expiration": "1h"})
    assert made.status == 200, made.body
    key = base64.b64encode(f"{made.body['id']}:{made.body['api_key']}".encode()).decode()
    answer = httpx.get(f"{server.url}/_security/_authenticate", headers={"Authorization": f"ApiKey {key}"})
    assert (answer.status_code, answer.json()["authentication_type"]) == (200, "api_key")


def test_a_plugin_asks_for_credentials(search_servers: SearchServers) -> None:
    server = search_servers.get("os2", secured=True)
    assert (server.user, server.password) == ("admin", PASSWORD)
    assert httpx.get(server.url).status_code == 401
    assert httpx.get(server.url, auth=("admin", "wrong")).status_code == 401
    assert server.request("GET", "/").body["version"]["distribution"] == "opensearch"


async def test_a_lost_answer_was_work_done(server: SearchServer) -> None:
    rules = [Rule(Drop("before"), bulk), Rule(Drop("midway"), bulk), Rule(Drop("after"), bulk), Rule(Cut(), bulk)]
    async with FaultProxy(server.url, rules) as proxy, httpx.AsyncClient(base_url=proxy.url) as client:
        counts = []
        for _ in range(5):
            headers = {"Content-Type": "application/x-ndjson"}
            try:
                answer = await client.post("/launcher-lost/_bulk", content=_documents(100), headers=headers)
            except httpx.TransportError:
                pass
            else:
                assert answer.json()["errors"] is False
            await server.arequest("POST", "/launcher-lost/_refresh")
            counts.append((await server.arequest("GET", "/launcher-lost/_count")).body.get("count", 0))
        assert counts == [0, 0, 100, 100, 100]
        assert proxy.counts == {"Drop": 3, "Cut": 1, "forwarded": 3}


async def test_refused_items_are_not_in_the_index(server: SearchServer) -> None:
    refuse = RefuseItems(share=0.2, seed=4)
    async with FaultProxy(server.url, [Rule(refuse, bulk, times=None)]) as proxy:
        headers = {"Content-Type": "application/x-ndjson"}
        async with httpx.AsyncClient(base_url=proxy.url, headers=headers) as client:
            query = "refresh=true&filter_path=items.*.status"
            first = (await client.post(f"/launcher-items/_bulk?{query}", content=_documents(100))).json()
            refused = [n for n, item in enumerate(first["items"]) if item["index"]["status"] == 429]
            assert refused == [n for n in range(100) if refuse.refuses(f"{n:04}")]
            assert 5 < len(refused) < 40
            assert (await client.get("/launcher-items/_count")).json()["count"] == 100 - len(refused)
            again = (await client.post(f"/launcher-items/_bulk?{query}", content=_documents(100))).json()
            assert {item["index"]["status"] for item in again["items"]} == {200, 201}
            assert (await client.get("/launcher-items/_count")).json()["count"] == 100


async def test_a_server_of_ones_own_with_settings(search_servers: SearchServers) -> None:
    search_servers.get("os2")  # fetched, or the reason told
    async with SearchServer("os2", settings={"http.max_content_length": "1mb"}) as server:
        answer = await server.arequest("POST", "/launcher-big/_bulk", _documents(40_000))
        assert answer.status == 413
        url = server.url
    with pytest.raises(httpx.ConnectError):
        await asyncio.to_thread(httpx.get, url)
