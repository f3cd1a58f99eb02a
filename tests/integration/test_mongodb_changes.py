"""The MongoDB source on a server: what changed, by its change stream."""

from __future__ import annotations

from pathlib import Path

import pytest

from connectors.byoc import Filter, JobType
from connectors.errors import ConfigurationError, ConnectorsError, FullSyncNeededError
from connectors.source import Checkpoint
from connectors.sources.mongodb import MongoDBDataSource
from tests.support.mongodb import Shop, changes, documents, follow, mongo, read, shop, source, tidy
from tests.support.world import World

__all__ = ["mongo", "shop", "source", "tidy"]  # fixtures are found by their names here

pytestmark = [
    pytest.mark.server,
    # The driver leaves a socket that it is just connecting when it is cancelled or closed to the collector of garbage.
    # What the source itself leaves open, the kit counts at the server's end.
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
]


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
