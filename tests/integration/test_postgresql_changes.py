"""Change data capture on a real server: what changed is told, whatever happened to row, slot, table and connection."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from connectors.errors import ConfigurationError, RetryableError
from connectors.source import Checkpoint
from connectors.sources.postgresql import PostgreSQLDataSource, slot
from connectors.sources.postgresql.faults import FullSyncNeededError
from connectors.sources.postgresql.pgoutput import parse_lsn
from tests.servers.postgres import PostgresServer
from tests.support.postgres import Shop, everything, following, server

pytestmark = pytest.mark.server
__all__ = ["server"]  # the fixture is found by its name here


@pytest.fixture
def shop(server: PostgresServer) -> Iterator[Shop]:
    shop = Shop(server)
    shop.run(
        "CREATE TABLE notes (id int PRIMARY KEY, text text, n int)",
        "INSERT INTO notes SELECT n, 'note ' || n, 0 FROM generate_series(1, 20) n",
    )
    shop.give("notes")
    yield shop
    shop.drop()


async def _full(source: PostgreSQLDataSource) -> Any:
    await everything(source)
    return source.sync_cursor()


async def test_inserts_updates_deletes_and_new_keys(shop: Shop) -> None:
    async with shop.source(change_data_capture=True) as source:
        cursor = await _full(source)
        assert (await following(source, cursor))[0] == {}
        shop.run(
            "INSERT INTO notes VALUES (101, 'new', 1)",
            "UPDATE notes SET n = n + 1 WHERE id = 1",
            "UPDATE notes SET n = n + 1 WHERE id = 1",
            "DELETE FROM notes WHERE id = 2",
            "UPDATE notes SET id = 103 WHERE id = 3",
            "INSERT INTO notes VALUES (104); DELETE FROM notes WHERE id = 104",
            "DELETE FROM notes WHERE id = 5; INSERT INTO notes VALUES (5, 'again', 5)",
        )
        found, cursor = await following(source, cursor)
        assert found["public.notes/1"]["n"] == 2
        assert found["public.notes/5"]["text"] == "again"
        gone = {key for key, document in found.items() if document is None}
        assert gone == {"public.notes/2", "public.notes/3", "public.notes/104"}
        assert set(found) - gone == {"public.notes/1", "public.notes/5", "public.notes/101", "public.notes/103"}
        assert (await following(source, cursor))[0] == {}


async def test_documents_are_those_of_a_full_sync(shop: Shop) -> None:
    """Large values that did not change, and generated columns, are not in the log."""
    shop.run(
        "CREATE TABLE large (id int PRIMARY KEY, n numeric, text text, g int GENERATED ALWAYS AS (id * 2) STORED)",
        "ALTER TABLE large ALTER text SET STORAGE EXTERNAL",
        "INSERT INTO large SELECT n, 0, repeat(md5(n::text), 1000) FROM generate_series(1, 3) n",
    )
    shop.give("large")
    async with shop.source(change_data_capture=True) as source:
        cursor = await _full(source)
        shop.run("UPDATE large SET n = 1.50 WHERE id < 3", "UPDATE large SET id = 9 WHERE id = 1")
        found, _ = await following(source, cursor)
        whole, _ = await everything(source)
    assert found.pop("public.large/1") is None
    assert set(found) == {"public.large/2", "public.large/9"}
    assert all(document == whole[key] for key, document in found.items())
    assert all(len(document["text"]) == 32_000 for document in found.values())


async def test_what_is_written_during_a_full_sync_is_told_afterwards(shop: Shop) -> None:
    async with shop.source(change_data_capture=True, batch_size=5) as source:
        items = []
        async for item in source.get_docs():
            items.append(item)
            if len(items) == 8:
                shop.run("UPDATE notes SET n = 7 WHERE id IN (1, 20)", "DELETE FROM notes WHERE id = 2")
        found, _ = await following(source, source.sync_cursor())
    assert found["public.notes/1"]["n"] == 7
    assert found["public.notes/2"] is None


async def test_the_position_travels_with_the_checkpoints(shop: Shop) -> None:
    async with shop.source(change_data_capture=True, batch_size=5) as first:
        states: list[Any] = []
        async for item in first.get_docs():
            if isinstance(item, Checkpoint):
                states.append(item.state)
                break
    shop.run("DELETE FROM notes WHERE id = 1")
    async with shop.source(change_data_capture=True, batch_size=5) as second:
        await everything(second, checkpoint=states[0])
        found, _ = await following(second, second.sync_cursor())
    assert found == {"public.notes/1": None}


async def test_an_unstored_cursor_loses_nothing(shop: Shop) -> None:
    async with shop.source(change_data_capture=True) as source:
        cursor = await _full(source)
        shop.run("DELETE FROM notes WHERE id = 1")
        first, _ = await following(source, cursor)  # and its cursor was not stored
        again, moved = await following(source, cursor)
        assert first == again == {"public.notes/1": None}
        await following(source, moved)
        held = shop.slot()
    assert held is not None
    assert parse_lsn(held[1]) >= parse_lsn(moved["lsn"])  # the server may forget what is behind a stored cursor


async def test_where_nothing_was_written_since_nothing_is_waited_for(shop: Shop) -> None:
    """The server answers a reader who is not behind only once, and maybe before it has caught up itself."""
    async with shop.source(change_data_capture=True) as source:
        cursor = await _full(source)
        for number in range(20):
            shop.run(f"UPDATE notes SET n = {number} WHERE id = 1")  # noqa: S608 - a number
            _, cursor = await following(source, cursor)
            async with asyncio.timeout(5):  # a quiet server writes something of its own every 15 seconds
                found, cursor = await following(source, cursor)
            assert found == {}


async def test_other_peoples_writing_moves_the_slot_on(shop: Shop) -> None:
    async with shop.source(change_data_capture=True, tables=["notes"]) as source:
        cursor = await _full(source)
        shop.run("CREATE TABLE other AS SELECT n FROM generate_series(1, 20000) n")
        found, moved = await following(source, cursor)
    assert found == {}
    assert parse_lsn(moved["lsn"]) - parse_lsn(cursor["lsn"]) > 1_000_000


async def test_a_large_transaction_comes_in_parts_with_the_cursor_at_its_end(shop: Shop) -> None:
    async with shop.source(change_data_capture=True) as source:
        cursor = await _full(source)
        shop.run("INSERT INTO notes SELECT n, 'many', 0 FROM generate_series(1001, 6000) n", "DELETE FROM notes")
        found, _ = await following(source, cursor)
    assert len(found) == 5020
    assert not any(found.values())


async def test_a_transaction_that_is_open_at_the_full_sync_is_told(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slot, "_WRITERS_SECONDS", 0.2)
    async with shop.source(change_data_capture=True) as source:
        await _full(source)  # makes the slot
        with shop.server.connect("shop") as late, late.transaction():
            late.execute("INSERT INTO notes VALUES (200, 'late', 0)")
            whole, _ = await everything(source)
            assert "public.notes/200" not in whole
            cursor = source.sync_cursor()
        found, _ = await following(source, cursor)
    assert "public.notes/200" in found


@pytest.mark.parametrize(
    ("statements", "words"),
    [
        (["TRUNCATE notes"], "TRUNCATE"),
        (["SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = 'shop'"], "not there"),
        (["ALTER PUBLICATION connectors DROP TABLE notes"], "publication"),
        (["ALTER TABLE notes REPLICA IDENTITY NOTHING"], "REPLICA IDENTITY"),
        (
            ["CREATE TABLE new (LIKE notes INCLUDING ALL)", "DROP TABLE notes", "ALTER TABLE new RENAME TO notes"],
            "anew",
        ),
        (
            [
                "INSERT INTO notes VALUES (300)",
                "SELECT pg_replication_slot_advance(slot_name, pg_current_wal_flush_lsn()) FROM pg_replication_slots",
            ],
            "somebody else",
        ),
    ],
)
async def test_what_cannot_be_followed_needs_a_full_sync(shop: Shop, statements: list[str], words: str) -> None:
    async with shop.source(change_data_capture=True) as source:
        cursor = await _full(source)
        _, cursor = await following(source, cursor)
        shop.run(*statements)
        shop.give("notes")
        with pytest.raises(FullSyncNeededError, match=words):
            await following(source, cursor)
        with pytest.raises(FullSyncNeededError, match=words):  # and not only once
            await following(source, cursor)
        if words != "REPLICA IDENTITY":
            cursor = await _full(source)
            shop.run("INSERT INTO notes VALUES (301)")
            found, _ = await following(source, cursor)
            assert "public.notes/301" in found


async def test_a_slot_that_holds_too_much_is_given_up_at_the_next_full_sync(
    shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with shop.source(change_data_capture=True, max_slot_lag=1) as source:
        cursor = await _full(source)
        before = shop.slot()
        shop.run("INSERT INTO notes SELECT n, repeat('x', 100), 0 FROM generate_series(1001, 20000) n")
        found, _ = await following(source, cursor)  # it can still be read
        assert len(found) == 19_000
        assert "more than max_slot_lag: run incremental syncs" in caplog.text
        await _full(source)
        after = shop.slot()
    assert "dropped and made anew" in caplog.text
    assert "makes the server keep" in caplog.text
    assert before is not None
    assert after is not None
    assert parse_lsn(after[1]) > parse_lsn(before[1]) + 1_000_000


async def test_a_slot_that_nobody_reads_any_more_is_told(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    async with shop.source(change_data_capture=True) as source:
        await everything(source)
    async with shop.source() as source:
        await everything(source)
        assert "change_data_capture is off" in caplog.text
        shop.run("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = 'shop'")
        caplog.clear()
        await everything(source)
        assert not caplog.text


async def test_tables_without_identity_are_never_published(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    """The server would refuse their owner's updates and deletes from then on."""
    caplog.set_level(logging.INFO)
    shop.run(
        "CREATE TABLE uniq (a int NOT NULL UNIQUE); INSERT INTO uniq VALUES (1)",
        "CREATE TABLE whole (a int NOT NULL UNIQUE); ALTER TABLE whole REPLICA IDENTITY FULL",
        "CREATE TABLE indexed (a int NOT NULL, b int NOT NULL, CONSTRAINT one UNIQUE (a))",
        "ALTER TABLE indexed REPLICA IDENTITY USING INDEX one",
        "INSERT INTO whole VALUES (1), (2); INSERT INTO indexed VALUES (1, 1), (2, 2)",
    )
    shop.give("uniq", "whole", "indexed")
    async with shop.source(change_data_capture=True) as source:
        cursor = await _full(source)
        assert set(cursor["followed"]) == {"public.notes", "public.whole", "public.indexed"}
        assert "public.uniq" in caplog.text
        shop.run("UPDATE uniq SET a = 2", "DELETE FROM whole WHERE a = 1", "UPDATE indexed SET a = 7 WHERE a = 2")
        found, _ = await following(source, cursor)
    assert {key for key, document in found.items() if document is None} == {"public.whole/1", "public.indexed/2"}
    assert "public.indexed/7" in found


async def test_a_partitioned_table_is_followed_as_one(shop: Shop) -> None:
    shop.run(
        "CREATE TABLE parted (d date, n int, PRIMARY KEY (d, n)) PARTITION BY RANGE (d)",
        "CREATE TABLE parted_26 PARTITION OF parted FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')",
        "CREATE TABLE parted_27 PARTITION OF parted FOR VALUES FROM ('2027-01-01') TO ('2028-01-01')",
        "INSERT INTO parted VALUES ('2026-05-01', 1)",
    )
    shop.give("parted", "parted_26", "parted_27")
    async with shop.source(change_data_capture=True) as source:
        cursor = await _full(source)
        shop.run("UPDATE parted SET d = '2027-05-01'", "INSERT INTO parted_26 VALUES ('2026-06-01', 2)")
        found, _ = await following(source, cursor)
    assert found.pop("public.parted/2026-05-01/1") is None
    assert set(found) == {"public.parted/2027-05-01/1", "public.parted/2026-06-01/2"}


async def test_a_publication_of_partitions_is_refused(shop: Shop) -> None:
    shop.run(
        "CREATE TABLE parted (n int PRIMARY KEY) PARTITION BY RANGE (n)",
        "CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (1) TO (9)",
        "CREATE PUBLICATION connectors FOR TABLE notes, parted",
        "ALTER PUBLICATION connectors OWNER TO reader",
    )
    shop.give("parted", "parted_1")
    async with shop.source(change_data_capture=True) as source:
        with pytest.raises(ConfigurationError, match="publish_via_partition_root"):
            await everything(source)


async def test_a_new_column_is_read_and_told(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    async with shop.source(change_data_capture=True) as source:
        cursor = await _full(source)
        shop.run("ALTER TABLE notes ADD more text DEFAULT 'more'", "UPDATE notes SET n = 5 WHERE id = 4")
        found, _ = await following(source, cursor)
    assert found["public.notes/4"]["more"] == "more"
    assert "other columns" in caplog.text


async def test_a_cut_connection_suspends_and_goes_on(shop: Shop) -> None:
    async with shop.source(change_data_capture=True) as source:
        cursor = await _full(source)
        shop.run("INSERT INTO notes SELECT n, repeat('words ', 500), 0 FROM generate_series(1001, 30000) n")
        items: list[Any] = []

        async def read() -> None:
            async for item in source.get_docs_incrementally(cursor):
                items.append(item)
                if len(items) == 700:
                    await asyncio.to_thread(shop.cut)

        with pytest.raises(RetryableError):
            await read()
        found, _ = await following(source, cursor)
    assert len(found) == 29_000


async def test_who_may_not_publish_is_told_what_to_run(shop: Shop) -> None:
    shop.run("CREATE TABLE theirs (id int PRIMARY KEY)")
    async with shop.source(change_data_capture=True) as source:
        with pytest.raises(
            ConfigurationError, match='have the owner of the tables run: CREATE PUBLICATION "connectors"'
        ):
            await everything(source)
    shop.run("CREATE PUBLICATION connectors FOR TABLE notes, theirs WITH (publish = 'insert')")
    async with shop.source(change_data_capture=True) as source:
        with pytest.raises(ConfigurationError, match="does not publish all changes"):
            await everything(source)
    shop.run("ALTER PUBLICATION connectors SET (publish = 'insert, update, delete, truncate')")
    async with shop.source(change_data_capture=True) as source:
        cursor = await _full(source)
        shop.run("INSERT INTO theirs VALUES (1)")
        found, _ = await following(source, cursor)
    assert set(found) == {"public.theirs/1"}


async def test_a_slot_is_not_waited_for_without_end(shop: Shop) -> None:
    with shop.server.connect("shop") as late, late.transaction():
        late.execute("INSERT INTO notes VALUES (400)")
        async with shop.source(change_data_capture=True, query_timeout=1) as source:
            with pytest.raises(RetryableError, match="pg_stat_activity"):
                await everything(source)
    assert shop.slot() is None
    async with shop.source(change_data_capture=True) as source:
        await everything(source)


async def test_nothing_changed_is_known_after_incremental_syncs_too(shop: Shop) -> None:
    async with shop.source(change_data_capture=True) as source:
        cursor = await _full(source)
        _, cursor = await following(source, cursor)
        assert not await source.changed()
        shop.run("DELETE FROM notes WHERE id = 1")
        assert await source.changed()
        _, cursor = await following(source, cursor)
        assert not await source.changed()


async def test_a_server_without_logical_decoding_says_so() -> None:
    with PostgresServer.or_skip(wal_level="replica") as server:
        shop = Shop(server)
        async with shop.source(change_data_capture=True) as source:
            with pytest.raises(ConfigurationError, match="wal_level"):
                await source.ping()
