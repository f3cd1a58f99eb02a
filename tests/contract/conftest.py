"""The adapters that the contract tests run against. Another one is one more line in `ADAPTERS` or `SERVERS`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from connectors.backends.embedded import EmbeddedBackend
from connectors.backends.ports import Destination, IndexHandle, IndexSpec, Store
from connectors.byoc import Connector
from connectors.testing.memory import MemoryDestination, MemoryStore
from tests.servers.connectors_api import connectors_api_proxy
from tests.servers.fixtures import SearchServers
from tests.servers.search import SearchServer
from tests.servers.serverless import serverless_proxy
from tests.support.backends import RECORDS, open_backend
from tests.support.stored import new


@dataclass(frozen=True, slots=True)
class Adapter:
    """One backend under test; `recreate` deletes an index and creates it again, behind the destination's back."""

    destination: Destination
    store: Store
    recreate: Callable[[str], AbstractAsyncContextManager[None]]


@asynccontextmanager
async def memory(folder: Path) -> AsyncIterator[Adapter]:
    destination, store = MemoryDestination(), MemoryStore()

    @asynccontextmanager
    async def recreate(index: str) -> AsyncIterator[None]:
        await destination.delete_index(index)
        yield
        await destination.prepare(IndexSpec(index))

    yield Adapter(destination, store, recreate)
    await destination.close()
    await store.close()


@asynccontextmanager
async def embedded(folder: Path) -> AsyncIterator[Adapter]:
    backend = await EmbeddedBackend.open(folder / "data" / "index.db")

    @asynccontextmanager
    async def recreate(index: str) -> AsyncIterator[None]:
        await backend.destination.delete_index(index)
        yield
        await backend.destination.prepare(IndexSpec(index))

    yield Adapter(backend.destination, backend.store, recreate)
    await backend.destination.close()
    await backend.store.close()


@asynccontextmanager
async def on_server(server: SearchServer, **settings: str) -> AsyncIterator[Adapter]:
    async with open_backend(server, **settings) as backend:

        @asynccontextmanager
        async def recreate(index: str) -> AsyncIterator[None]:
            await backend.client.call("DELETE", f"/{index}")
            yield
            await backend.destination.prepare(IndexSpec(index))

        yield Adapter(backend.destination, backend.store, recreate)
        await backend.destination.close()
        await backend.store.close()


@asynccontextmanager
async def on_serverless(server: SearchServer) -> AsyncIterator[Adapter]:
    """Runs the tests against an imitation of a serverless project, which refuses much."""
    proxy, project = serverless_proxy(server.url)
    async with proxy, on_server(server, url=proxy.url) as adapter:
        yield adapter
        assert not project.refused


@asynccontextmanager
async def on_connectors_api(server: SearchServer) -> AsyncIterator[Adapter]:
    """Runs the tests where the records belong to an imitation of the Connectors API."""
    names = RECORDS["connectors_index"], RECORDS["jobs_index"]
    proxy, api = connectors_api_proxy(server.url, *names)
    async with proxy, on_server(server, url=proxy.url) as adapter:
        yield adapter
    assert api.asked or not proxy.passed


ADAPTERS: Final = (memory, embedded)
SERVERS: Final = ("es8", "es9", "os2", "os3", "serverless")
IMITATIONS: Final = {"serverless": on_serverless, "connectors-api": on_connectors_api}
#: Only the store sees the Connectors API.
STORE_ONLY: Final = ("connectors-api",)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Runs each test on every adapter that it says something about."""
    if "adapter" in metafunc.fixturenames:
        servers = SERVERS if "destination" in metafunc.fixturenames else (*SERVERS, *STORE_ONLY)
        adapters = [
            *(pytest.param(each, id=each.__name__) for each in ADAPTERS),
            *(pytest.param(name, id=name, marks=pytest.mark.server) for name in servers),
        ]
        metafunc.parametrize("adapter", adapters, indirect=True)


@pytest.fixture
async def adapter(
    request: pytest.FixtureRequest, tmp_path: Path, search_servers: SearchServers
) -> AsyncIterator[Adapter]:
    if request.param in IMITATIONS:
        opening = IMITATIONS[request.param](search_servers.get("es8"))
    elif isinstance(request.param, str):
        opening = on_server(search_servers.get(request.param))
    else:
        opening = request.param(tmp_path)
    async with opening as opened:
        yield opened


@pytest.fixture
def destination(adapter: Adapter) -> Destination:
    return adapter.destination


@pytest.fixture
def store(adapter: Adapter) -> Store:
    return adapter.store


@pytest.fixture
async def handle(destination: Destination) -> IndexHandle:
    info = await destination.prepare(IndexSpec("things"))
    return IndexHandle("things", info.uuid, "one", "fingerprint")


@pytest.fixture
async def connector(store: Store) -> Connector:
    return await store.put_connector(new())
