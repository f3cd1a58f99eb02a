"""The MongoDB source on a database of its own, behind a cable."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from datetime import datetime
from itertools import count
from typing import Any, Self

import pytest

from connectors.byoc import Filter
from connectors.source import Checkpoint, DataSourceConfiguration
from connectors.sources.mongodb import MongoDBDataSource
from connectors.sources.mongodb.connection import CollectionInfo, Connection
from tests.servers.mongo import Cable, MongoServer

__all__ = ["Listing", "Shop", "changes", "documents", "follow", "mongo", "read", "settings", "shop", "source", "tidy"]

_NUMBERS = count()


@pytest.fixture(scope="module")
def mongo() -> Iterator[MongoServer]:
    """Gives the module's server."""
    server = MongoServer.or_skip()
    yield server
    server.stop()


@pytest.fixture(autouse=True)
def tidy() -> Iterator[None]:
    """Lets no such socket be collected, and told of, in the middle of another module's test."""
    yield
    gc.collect()


class Shop:
    """A database of its own with twelve orders and three customers, behind a cable."""

    def __init__(self, server: MongoServer) -> None:
        self.server = server
        self.name = f"connectors_test_{next(_NUMBERS)}"
        self.database = server.client[self.name]
        self.orders = self.database["orders"]
        self.cable = Cable(server.url)
        self.numbers = count(100)
        self.mends = ExitStack()

    async def __aenter__(self) -> Self:
        self.server.client.drop_database(self.name)
        self.orders.insert_many([self.order(number) for number in range(12)])
        self.database["customers"].insert_many([{"_id": f"c{number}", "name": f"N{number}"} for number in range(3)])
        await self.cable.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.mends.close()
        await self.cable.__aexit__()
        self.server.client.drop_database(self.name)

    @staticmethod
    def order(number: int) -> dict[str, Any]:
        return {"_id": number, "open": number % 2 == 0, "total": number * 10, "when": datetime(2026, 1, 1)}  # noqa: DTZ001 - as the driver takes them

    def add(self) -> str:
        number = next(self.numbers)
        self.orders.insert_one(self.order(number))
        return f"orders/{number}"

    def change(self) -> str:
        self.orders.update_one({"_id": 3}, {"$set": {"total": next(self.numbers)}})
        return "orders/3"

    def delete(self) -> str:
        self.orders.delete_one({"_id": 4})
        return "orders/4"

    def spoil(self) -> None:
        """Takes the right to read one of the collections."""
        namespace = f"{self.name}.customers"
        self.mends.enter_context(self.server.failing("find", "getMore", errorCode=13, namespace=namespace))

    def cut(self) -> None:
        self.cable.cut()

    def connections(self) -> int:
        return self.cable.connections

    def configuration(self, **given: Any) -> dict[str, Any]:
        return {"host": self.cable.url, "database": self.name, "batch_size": 5, **given}

    def source(self, **given: Any) -> MongoDBDataSource:
        fields = MongoDBDataSource.get_default_configuration()
        return MongoDBDataSource(DataSourceConfiguration.merge(fields, self.configuration(**given)))


@pytest.fixture
async def shop(mongo: MongoServer) -> AsyncIterator[Shop]:
    """Gives a database."""
    async with Shop(mongo) as shop:
        yield shop


@pytest.fixture
async def source(shop: Shop) -> AsyncIterator[MongoDBDataSource]:
    """Gives the source of its orders."""
    source = shop.source(collection=["orders"])
    yield source
    await source.close()


async def read(source: MongoDBDataSource, rules: Any = None, *, checkpoint: Any = None) -> list[Any]:
    """Returns all that a full reading yields."""
    return [item async for item in source.get_docs(Filter.of(advanced=rules), checkpoint=checkpoint)]


async def changes(source: MongoDBDataSource, cursor: Any, rules: Any = None) -> list[Any]:
    """Returns all that an incremental reading yields."""
    return [item async for item in source.get_docs_incrementally(cursor, Filter.of(advanced=rules))]


async def follow(source: MongoDBDataSource, rules: Any = None) -> dict[str, str]:
    """Reads what changed since the source's last reading; returns id → operation."""
    found = await changes(source, source.sync_cursor(), rules)
    items = [item for item in found if not isinstance(item, Checkpoint)]
    assert len({item[0]["_id"] for item in items}) == len(items)
    return {item[0]["_id"]: item[2] for item in items}


def documents(items: list[Any]) -> dict[str, Any]:
    found = {item[0]["_id"]: item[0] for item in items if isinstance(item, tuple)}
    assert len(found) == sum(isinstance(item, tuple) for item in items)
    return found


# Without a server

GIVEN = {"host": "mongodb://db.example.com", "database": "shop"}


def settings(**given: Any) -> DataSourceConfiguration:
    return DataSourceConfiguration.merge(MongoDBDataSource.get_default_configuration(), {**GIVEN, **given})


class Listing:
    """A connection that lists what a test says."""

    name = "shop"

    def __init__(self, **kinds: str) -> None:
        self.kinds = kinds
        self.database = self.client = None

    async def inventory(self) -> dict[str, CollectionInfo]:
        return {name: CollectionInfo(name, kind, None) for name, kind in sorted(self.kinds.items())}

    expect = Connection.expect
