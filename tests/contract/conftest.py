"""The adapters that the contract tests run against. Another one is one more line in `ADAPTERS`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from connectors.backends.embedded import EmbeddedBackend
from connectors.backends.ports import Destination, IndexHandle, IndexSpec, Store
from connectors.testing.memory import MemoryDestination, MemoryStore


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


ADAPTERS: Final = (memory, embedded)


@pytest.fixture(params=ADAPTERS, ids=lambda adapter: adapter.__name__)
async def adapter(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Adapter]:
    async with request.param(tmp_path) as opened:
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
