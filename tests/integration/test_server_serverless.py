"""Elastic Cloud Serverless, played by an imitation of what its documentation says in front of a real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import pytest
import yaml

from connectors.app import open_application, read_config
from connectors.backends.ports import IndexHandle, IndexSpec
from connectors.errors import ConfigurationError, SuspendSync
from tests.servers.faults import Respond, Rule, any_request
from tests.servers.fixtures import SearchServers
from tests.servers.proxy import FaultProxy
from tests.servers.search import SearchServer
from tests.servers.serverless import Serverless, serverless_proxy
from tests.support.backends import open_backend

pytestmark = pytest.mark.server

DOCUMENTS: Final = 1500
RECORDS: Final = ("elastic-connectors", "elastic-connectors-sync-jobs", "connectors-state")
OWN: Final = "serverless-own"


@pytest.fixture
async def server(search_servers: SearchServers) -> AsyncIterator[SearchServer]:
    found = search_servers.get("es8")
    yield found
    await asyncio.to_thread(found.delete_indices, *RECORDS, "serverless-*")


@pytest.fixture
async def project(server: SearchServer) -> AsyncIterator[tuple[FaultProxy, Serverless]]:
    proxy, serverless = serverless_proxy(server.url)
    async with proxy:
        yield proxy, serverless


async def test_a_sync_with_nothing_set_but_the_address(
    tmp_path: Path, server: SearchServer, project: tuple[FaultProxy, Serverless]
) -> None:
    proxy, serverless = project
    settings = {
        "elasticsearch": proxy.url,
        "web": {"enabled": False},
        "sources": {"generated": "tests.support.generated:GeneratedDataSource"},
        "connectors": [
            {"id": "one", "service_type": "generated", "index": OWN, "configuration": {"count": DOCUMENTS}},
        ],
    }
    path = tmp_path / "config.yml"
    path.write_text(yaml.safe_dump(settings), "utf-8")
    async with open_application(await asyncio.to_thread(read_config, path)) as application:
        (job,) = await application.daemon.run_once(asyncio.Event())
        assert (job.status, job.error) == ("completed", None)
        assert job.metadata["counters"]["indexed"] == DOCUMENTS
    assert not serverless.refused
    found = await server.arequest("GET", f"/{','.join(RECORDS)}/_count")
    assert found.status == 200, found.body
    made = await server.arequest("GET", f"/{OWN}")
    assert "gc_deletes" not in made.body[OWN]["settings"]["index"]


async def test_an_index_of_the_operators_own_is_left_without_the_setting(
    server: SearchServer, project: tuple[FaultProxy, Serverless]
) -> None:
    proxy, serverless = project
    await server.arequest("PUT", f"/{OWN}", {"mappings": {"dynamic": False}})
    async with open_backend(server, url=proxy.url) as backend:
        info = await backend.destination.prepare(IndexSpec(OWN))
        assert [page async for page in backend.destination.stamps(IndexHandle(OWN, info.uuid, "one", "f"))] == []
    assert not serverless.refused


async def test_an_index_with_a_dot_in_front_is_not_to_be_had(
    server: SearchServer, project: tuple[FaultProxy, Serverless]
) -> None:
    proxy, _ = project
    async with open_backend(server, url=proxy.url) as backend:
        with pytest.raises(ConfigurationError, match=r"beginning with a dot \(\.\) is not allowed"):
            await backend.destination.prepare(IndexSpec(".own"))


async def test_a_key_that_may_not_ask_what_the_server_is(server: SearchServer) -> None:
    who_asks = Rule(Respond(403), lambda _, path: path == "/", times=None)
    rules = [who_asks, Rule(Serverless(), any_request, times=None)]
    new = {name: f"serverless-{name}" for name in ("connectors_index", "jobs_index", "state_index")}
    async with FaultProxy(server.url, rules) as proxy, open_backend(server, url=proxy.url, **new) as backend:
        for call in (backend.destination.prepare(IndexSpec(OWN)), backend.store.connectors()):
            with pytest.raises(ConfigurationError, match="Give our key the privilege monitor"):
                await call


async def test_the_imitation_refuses_what_a_project_refuses(
    server: SearchServer, project: tuple[FaultProxy, Serverless]
) -> None:
    proxy, _ = project
    async with open_backend(server, url=proxy.url) as backend:
        for body in ({"settings": {"index": {"gc_deletes": "1h"}}}, {"settings": {"number_of_shards": 1}}):
            with pytest.raises(ConfigurationError, match="not available when running in serverless mode"):
                await backend.client.call("PUT", f"/{OWN}", body=body)
        with pytest.raises(SuspendSync, match="does not offer"):
            await backend.client.call("GET", "/_cluster/health")
        with pytest.raises(SuspendSync, match="restricted"):
            await backend.client.call("GET", "/.elastic-connectors/_doc/one")
