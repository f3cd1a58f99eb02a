"""The MongoDB source on a server: the contract, values, rules, and what goes wrong in the middle of a sync."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

import pytest
from bson import Decimal128, MaxKey, MinKey, ObjectId, Regex, Timestamp

from connectors.errors import ConfigurationError, FullSyncNeededError, RetryableError, SyncError
from connectors.source import Checkpoint
from connectors.sources.mongodb import MongoDBDataSource
from connectors.sources.mongodb.values import CODEC
from connectors.testing.acceptance import SourceAcceptance
from tests.servers.mongo import MongoServer
from tests.servers.tls import Certificates, TlsProxy
from tests.support.mongodb import Shop, documents, follow, mongo, read, shop, source, tidy
from tests.support.world import World

__all__ = ["mongo", "shop", "source", "tidy"]  # fixtures are found by their names here

pytestmark = [
    pytest.mark.server,
    # The driver leaves a socket that it is just connecting when it is cancelled or closed to the collector of garbage.
    # What the source itself leaves open, the kit counts at the server's end.
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
]


class TestContract(SourceAcceptance):
    """The acceptance kit, with all collections of a database."""

    source_class = MongoDBDataSource
    incremental_sees_deletes = True
    good_advanced_rules: ClassVar = [
        {"collection": "orders", "find": {"filter": {"open": True}}},
        [{"collection": "orders", "aggregate": {"pipeline": [{"$match": {"total": {"$gt": 20}}}]}}],
    ]
    bad_advanced_rules: ClassVar = [
        {"find": {"filter": {}}},
        {"collection": "orders", "find": {"filters": {}}},
        {"collection": "orders", "aggregate": {"pipeline": [{"$out": "stolen"}]}},
    ]

    @pytest.fixture(autouse=True)
    def _server(self, mongo: MongoServer, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(MongoDBDataSource, "partition_documents", 4)
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


async def test_ids_of_every_type_are_divided(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MongoDBDataSource, "partition_documents", 2)
    keys = [
        *(None, -1, 1.5, 2**40, Decimal128("3.1"), "", "42", "b", {"a": 1}, {"a": 2}, b"abc", ObjectId(), True),
        *(False, datetime(2026, 1, 1), Timestamp(5, 1)),  # noqa: DTZ001 - as the driver takes them
    ]
    shop.database.get_collection("keys", CODEC).insert_many([{"_id": key} for key in keys])
    source = shop.source(collection=["keys"], batch_size=1)
    try:
        whole = list(documents(await read(source)))
        parts = await source.partitions()
        assert len(parts) == 8
        found: list[str] = []
        for part in parts:
            items = [item async for item in source.get_docs(partition=part)]
            found += documents(items)
            for place, item in enumerate(items):
                if isinstance(item, Checkpoint):
                    rest = source.get_docs(partition=part, checkpoint=item.state)
                    behind = documents([item async for item in rest])
                    assert [*documents(items[:place]), *behind] == list(documents(items))
        assert found == whole
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
