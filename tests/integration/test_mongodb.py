"""The MongoDB source on a server: the contract, changes, and what goes wrong in the middle of a sync."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any, ClassVar, Self

import pytest
from bson import Decimal128, MaxKey, MinKey, ObjectId, Regex, Timestamp

from connectors.byoc import Filter, JobType
from connectors.errors import ConfigurationError, ConnectorsError, FullSyncNeededError, RetryableError, SyncError
from connectors.source import Checkpoint, DataSourceConfiguration
from connectors.sources.mongodb import MongoDBDataSource
from connectors.sources.mongodb.values import CODEC
from connectors.testing.acceptance import SourceAcceptance
from tests.servers.mongo import Cable, MongoServer
from tests.servers.tls import Certificates, TlsProxy
from tests.support.world import World

pytestmark = [
    pytest.mark.server,
    # The driver leaves a socket that it is just connecting when it is cancelled or closed to the collector of garbage.
    # What the source itself leaves open, the kit counts at the server's end.
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
]

_NUMBERS = count()


@pytest.fixture(scope="module")
def mongo() -> Iterator[MongoServer]:
    """Gives the module's server."""
    server = MongoServer.or_skip()
    yield server
    server.stop()


@pytest.fixture(autouse=True)
def _tidy() -> Iterator[None]:
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

    async def __aenter__(self) -> Self:
        self.server.client.drop_database(self.name)
        self.orders.insert_many([self.order(number) for number in range(12)])
        self.database["customers"].insert_many([{"_id": f"c{number}", "name": f"N{number}"} for number in range(3)])
        await self.cable.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
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

    def cut(self) -> None:
        self.cable.cut()

    def connections(self) -> int:
        return self.cable.connections

    def configuration(self, **given: Any) -> dict[str, Any]:
        return {"host": self.cable.url, "database": self.name, "batch_size": 5, **given}

    def source(self, **given: Any) -> MongoDBDataSource:
        fields = MongoDBDataSource.get_default_configuration()
        return MongoDBDataSource(DataSourceConfiguration.merge(fields, self.configuration(**given)))


class TestContract(SourceAcceptance):
    """The acceptance kit, with all collections of a database."""

    source_class = MongoDBDataSource
    incremental_sees_deletes = True
    good_advanced_rules: ClassVar = [
        {"collection": "orders", "find": {"filter": {"open": True}}},
        [{"collection": "orders", "aggregate": {"pipeline": [{"$match": {"total": {"$gt": 20}}}]}}],
    ]
    exempt: ClassVar = dict.fromkeys(
        ["test_what_cannot_be_read_is_told", "test_what_cannot_be_read_stays_in_the_index"],
        "no server stores broken BSON; tests/unit/test_mongodb.py breaks some",
    )
    bad_advanced_rules: ClassVar = [
        {"find": {"filter": {}}},
        {"collection": "orders", "find": {"filters": {}}},
        {"collection": "orders", "aggregate": {"pipeline": [{"$out": "stolen"}]}},
    ]

    @pytest.fixture(autouse=True)
    def _server(self, mongo: MongoServer) -> None:
        self.server = mongo

    def data(self, folder: Path) -> Shop:
        return Shop(self.server)

    def configuration(self, data: Shop) -> dict[str, Any]:
        return data.configuration()

    def wrong_configuration(self, data: Shop) -> list[dict[str, Any]]:
        return [
            {"user": "nobody", "password": "opensesame"},
            {"collection": ["oders"]},
            {"database": "connectors_test_nowhere"},
            {"host": "postgresql://localhost"},
        ]


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


# Values and ids


async def test_ids_of_every_type_are_read_whatever_is_resumed(shop: Shop) -> None:
    keys = [
        *(MinKey(), None, -1, 1.5, 2**40, Decimal128("3.1"), "", "42", "b", {"a": 1}, {"a": 2}, b"abc"),
        *(ObjectId(), True, False, datetime(2026, 1, 1), Timestamp(5, 1), MaxKey()),  # noqa: DTZ001 - as the driver takes them
    ]
    shop.database.get_collection("keys", CODEC).insert_many([{"_id": key} for key in keys])
    source = shop.source(collection=["keys"], batch_size=2)
    try:
        items = await read(source)
        assert len(documents(items)) == len(keys)
        for place, item in enumerate(items):
            if isinstance(item, Checkpoint):
                rest = documents(await read(source, checkpoint=item.state))
                assert documents(items[:place]).keys() | rest.keys() == documents(items).keys()
                assert not documents(items[:place]).keys() & rest.keys()
    finally:
        await source.close()


async def test_values_become_json(shop: Shop, tmp_path: Path) -> None:
    key = ObjectId()
    shop.orders.insert_one(
        {"_id": key, "ref": key, "price": Decimal128("12.50"), "raw": b"ab", "deep": [{"rule": Regex("^a", "i")}]}
    )
    world = World(tmp_path)
    source = shop.source(collection=["orders"])
    await world.sync(source)
    await source.close()
    found = world.indexed[str(key)]
    assert found["ref"] == str(key)
    assert found["price"] == 12.5
    assert found["raw"] == "YWI="
    assert found["deep"] == [{"rule": "/^a/i"}]
    assert world.indexed["3"]["when"] == "2026-01-01T00:00:00Z"


# Rules


async def test_rules_select(shop: Shop, source: MongoDBDataSource) -> None:
    found = documents(await read(source, {"find": {"filter": {"open": True}, "projection": {"open": 1}}}))
    assert found["2"] == {"_id": "2", "open": True}
    assert len(found) == 6
    newest = {"find": {"sort": {"total": -1}, "limit": 2}}
    assert list(documents(await read(source, newest))) == ["11", "10"]
    pipeline = [{"$match": {"open": False}}, {"$group": {"_id": {"open": "$open"}, "sum": {"$sum": "$total"}}}]
    group = documents(await read(source, {"aggregate": {"pipeline": pipeline}}))
    assert group['bson:{"open":false}'] == {"_id": 'bson:{"open":false}', "id": {"open": False}, "sum": 360}
    one_by_one = [{"$match": {"open": True}}, {"$project": {"total": 1}}]
    items = await read(source, {"aggregate": {"pipeline": one_by_one}})
    assert len(documents(items)) == 6
    assert sum(isinstance(item, Checkpoint) for item in items) == 3


async def test_an_aggregation_without_ids_is_refused(source: MongoDBDataSource) -> None:
    with pytest.raises(ConfigurationError, match="without _id"):
        await read(source, {"aggregate": {"pipeline": [{"$project": {"_id": 0, "total": 1}}]}})


async def test_what_leaves_a_rule_is_deleted_by_an_incremental_sync(shop: Shop, source: MongoDBDataSource) -> None:
    rule = {"find": {"filter": {"open": True}}}
    await read(source, rule)
    shop.orders.update_one({"_id": 2}, {"$set": {"open": False}})
    shop.orders.update_one({"_id": 1}, {"$set": {"open": True}})
    assert await follow(source, rule) == {"1": "index", "2": "delete"}


async def test_rules_that_cannot_be_followed_say_so(source: MongoDBDataSource) -> None:
    rule = {"find": {"limit": 3}}
    await read(source, rule)
    with pytest.raises(ConfigurationError, match="cannot be followed"):
        await follow(source, rule)


async def test_other_rules_need_a_full_sync(source: MongoDBDataSource) -> None:
    await read(source)
    with pytest.raises(FullSyncNeededError, match="other collections or rules"):
        await follow(source, {"find": {"filter": {"open": True}}})


# Changes


async def test_changed_looks_at_what_is_read_only(shop: Shop, source: MongoDBDataSource) -> None:
    assert await source.changed()
    await read(source)
    assert not await source.changed()
    shop.database["customers"].insert_one({"_id": "c9"})
    assert not await source.changed()
    shop.add()
    assert await source.changed()
    await follow(source)
    assert not await source.changed()


async def test_rules_that_look_elsewhere_are_always_read(source: MongoDBDataSource) -> None:
    rule = {"find": {"filter": {"$expr": {"$lt": ["$when", "$$NOW"]}}}}
    assert source._plan(Filter.of(advanced=rule)).steady is False
    stage = {"$lookup": {"from": "customers", "localField": "x", "foreignField": "_id", "as": "c"}}
    await read(source, {"aggregate": {"pipeline": [stage]}})
    assert await source.changed()


async def test_each_kind_of_change_is_followed(shop: Shop, source: MongoDBDataSource) -> None:
    await read(source)
    shop.orders.insert_one({"_id": "new"})
    shop.orders.update_one({"_id": 1}, {"$set": {"total": 5}})
    shop.orders.replace_one({"_id": 2}, {"other": True})
    shop.orders.delete_one({"_id": 3})
    shop.orders.delete_one({"_id": 5})
    shop.orders.insert_one({"_id": 5, "again": True})
    shop.orders.insert_one({"_id": "brief"})
    shop.orders.delete_one({"_id": "brief"})
    shop.database["customers"].delete_one({"_id": "c1"})
    wanted = {"new": "index", "1": "index", "2": "index", "3": "delete", "5": "index", "brief": "delete"}
    assert await follow(source) == wanted
    assert await follow(source) == {}


async def test_many_changes_come_in_batches_that_can_be_resumed(shop: Shop) -> None:
    source = shop.source(batch_size=100)
    await read(source)
    cursor = source.sync_cursor()
    shop.orders.insert_many([{"_id": f"n{number}"} for number in range(1200)])
    shop.database["customers"].update_many({}, {"$set": {"seen": True}})
    items = await changes(source, cursor)
    places = [place for place, item in enumerate(items) if isinstance(item, Checkpoint)]
    assert len(places) == 3
    assert len(items) - len(places) == 1203
    rest = await changes(source, items[places[0]].state)
    assert rest == items[places[0] + 1 :]
    await source.close()


async def test_what_did_not_concern_us_moves_the_position(shop: Shop, source: MongoDBDataSource) -> None:
    await read(source)
    stored = source.sync_cursor()
    shop.database["customers"].update_many({}, {"$set": {"seen": True}})
    assert not await source.changed()
    assert stored is not None
    assert source._quiet is not None
    assert source._quiet[2] != stored["token"]
    shop.change()
    assert await follow(source) == {"3": "index"}


@pytest.mark.parametrize("all_of_them", [True, False])
async def test_a_dropped_or_renamed_collection_needs_a_full_sync(shop: Shop, all_of_them: bool) -> None:
    source = shop.source(collection=["*"] if all_of_them else ["customers", "orders"])
    for change in (shop.orders.drop, lambda: shop.database["customers"].rename("buyers")):
        await read(source)
        cursor = source.sync_cursor()
        change()
        assert await source.changed()
        with pytest.raises(FullSyncNeededError if all_of_them else ConnectorsError, match=r"dropped|renamed|no coll"):
            await changes(source, cursor)
        for name in ("orders", "customers"):
            shop.database[name].replace_one({"_id": 1}, {"again": True}, upsert=True)
    await source.close()


async def test_a_lost_token_needs_a_full_sync(shop: Shop, source: MongoDBDataSource) -> None:
    await read(source)
    lost = pytest.raises(FullSyncNeededError, match="no longer knows where the last sync ended")
    with shop.server.failing("aggregate", errorCode=286), lost:
        await follow(source)
    assert await source.changed()
    await read(source)
    assert await follow(source) == {}


async def test_without_change_streams_full_syncs_work_and_incremental_ones_say_why(
    shop: Shop, source: MongoDBDataSource
) -> None:
    with shop.server.failing("aggregate", errorCode=40573):
        assert len(documents(await read(source))) == 12
        assert source.sync_cursor() is None
        assert await source.changed()
        with pytest.raises(ConfigurationError, match=r"no change streams here.*remove scheduling.incremental"):
            await follow(source)
    with shop.server.failing("aggregate", errorCode=13):
        await read(source)
        with pytest.raises(ConfigurationError, match="may not open change streams"):
            await follow(source)


async def test_an_incremental_sync_makes_the_index_equal(shop: Shop, tmp_path: Path) -> None:
    world, source = World(tmp_path), shop.source()
    result = await world.sync(source)
    world.connector = world.connector.with_(sync_cursor=result.cursor)
    added, changed, deleted = shop.add(), shop.change(), shop.delete()
    await world.sync(source, JobType.INCREMENTAL)
    assert added in world.indexed
    assert world.indexed[changed]["total"] >= 100
    assert deleted not in world.indexed
    again = await world.sync(source)
    assert (again.counters.indexed, again.counters.vanished, again.counters.unchanged) == (0, 0, 15)
    await source.close()


# What goes wrong


async def test_cut_connections_are_resumed(shop: Shop, tmp_path: Path) -> None:
    shop.orders.insert_many([{"_id": f"m{number:04}"} for number in range(600)])
    world, source = World(tmp_path, checkpoint_interval=0.001), shop.source(batch_size=50)
    job = await world.job()
    with (
        shop.server.failing("getMore", closeConnection=True, mode={"skip": 5}),
        pytest.raises(RetryableError, match="does not answer, or hung up"),
    ):
        await world.sync(source, job=job)
    assert 0 < len(world.indexed) < 615
    before = len(world.indexed)
    result = await world.sync(source, job=job)
    assert len(world.indexed) == 615
    assert result.counters.vanished == 0
    assert result.counters.unchanged <= before
    await source.close()


@pytest.mark.parametrize("code", [43, 50, 175])
async def test_a_cursor_that_the_server_gives_up_is_opened_anew(
    shop: Shop, source: MongoDBDataSource, code: int
) -> None:
    with shop.server.failing("getMore", errorCode=code, mode={"times": 1}):
        found = documents(await read(source))
    assert list(found) == [str(number) for number in range(12)]


async def test_a_query_that_is_too_slow_is_told(shop: Shop, source: MongoDBDataSource) -> None:
    with shop.server.failing("find", errorCode=50), pytest.raises(RetryableError, match="query_timeout"):
        await read(source)


async def test_a_revoked_grant_wipes_nothing(shop: Shop, tmp_path: Path) -> None:
    world, source = World(tmp_path), shop.source()
    await world.sync(source)
    shop.delete()
    with shop.server.failing("getMore", errorCode=13), pytest.raises(ConfigurationError, match="grant the role read"):
        await world.sync(source)
    assert len(world.indexed) == 15
    await world.sync(source)
    assert len(world.indexed) == 14
    await source.close()


async def test_a_collection_dropped_while_it_is_read_wipes_nothing(shop: Shop, tmp_path: Path) -> None:
    world = World(tmp_path)
    source = shop.source()
    await world.sync(source)
    async with aclosing(source.get_docs()) as items:
        async for item in items:
            if isinstance(item, tuple) and item[0]["_id"] == "orders/2":
                break
        shop.orders.drop()
        with pytest.raises(SyncError, match="dropped, renamed or replaced"):
            async for _ in items:
                pass
    assert len(world.indexed) == 15
    await source.close()


async def test_a_collection_replaced_before_a_sync_goes_on_is_noticed(shop: Shop, source: MongoDBDataSource) -> None:
    items = await read(source)
    checkpoint = next(item.state for item in items if isinstance(item, Checkpoint))
    shop.orders.drop()
    shop.orders.insert_one({"_id": 1})
    with pytest.raises(SyncError, match="dropped, renamed or replaced"):
        await read(source, checkpoint=checkpoint)


async def test_a_user_who_may_not_list_the_database_reads_what_is_named(shop: Shop, source: MongoDBDataSource) -> None:
    with shop.server.failing("listCollections", errorCode=13, mode={"times": 1}):
        await source.ping()
    with shop.server.failing("listCollections", errorCode=13), pytest.raises(ConfigurationError, match="grant"):
        await source.ping()


async def test_names_that_are_not_there_are_told_with_the_nearest(shop: Shop) -> None:
    source = shop.source(collection=["oders"])
    with pytest.raises(ConfigurationError, match='did you mean "orders"'):
        await source.ping()
    await source.close()


async def test_a_server_that_is_away_is_tried_again(shop: Shop) -> None:
    source = shop.source(host="mongodb://127.0.0.1:9/?serverSelectionTimeoutMS=200")
    with pytest.raises(RetryableError, match="does not answer"):
        await source.ping()
    await source.close()


async def test_tls(shop: Shop, tmp_path: Path) -> None:
    certificates = Certificates(tmp_path)
    address = shop.server.url.replace("mongodb://", "http://")
    async with TlsProxy(address, certificates, demand_client=True) as proxy:
        host = proxy.url.replace("https://", "mongodb://") + "?directConnection=true"
        if "/?" not in host:
            host = host.replace("?", "/?")
        client = tmp_path / "both.pem"
        both = certificates.client_key.read_text() + certificates.client_certificate.read_text()
        await asyncio.to_thread(client.write_text, both)
        given = {"host": host, "ssl_enabled": True, "ssl_client_certificate": str(client)}
        for authority in (str(certificates.ca), certificates.ca.read_text()):
            source = shop.source(**given, ssl_ca=authority)
            await source.ping()
            await source.close()
        stranger = shop.source(**{**given, "host": host + "&serverSelectionTimeoutMS=500"})
        with pytest.raises(ConfigurationError, match="certificate is not trusted") as info:
            await stranger.ping()
        assert info.value.field == "ssl_ca"
        await stranger.close()
        trusting = shop.source(**given, tls_insecure=True)
        await trusting.ping()
        await trusting.close()


async def test_discover_lists_the_collections(shop: Shop, source: MongoDBDataSource) -> None:
    found = await source.discover()
    assert [one.name for one in found] == [f"{shop.name}.customers", f"{shop.name}.orders"]
    assert found[1].configuration == {"database": shop.name, "collection": ["orders"]}
