"""What the embedded backend promises beyond the ports: its threads, other users of its file, its upkeep."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from connectors.backends.embedded import EmbeddedBackend, destination, upkeep, writing
from connectors.backends.embedded.connection import Database, create_file
from connectors.backends.embedded.schema import migrate
from connectors.backends.embedded.search import MAX_TOTAL
from connectors.backends.ports import FailureKind, IndexHandle, Operation
from connectors.byoc import Connector
from connectors.errors import IndexChangedError, RetryableError
from tests.support.embedded import handle_of, plain, put


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "index.db"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def backend(path: Path, clock: Clock) -> AsyncIterator[EmbeddedBackend]:
    opened = await EmbeddedBackend.open(path, clock=clock)
    yield opened
    await opened.close()


@pytest.fixture
async def handle(backend: EmbeddedBackend) -> IndexHandle:
    return await handle_of(backend)


def delete(id_: str, version: int = 1) -> Operation:
    return put(id_, version)._replace(body=None)


def fetch(database: Database, statement: str) -> list[Any]:
    return database.execute(statement).fetchall()


def embedded_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("embedded-")]


def open_writer(path: Path) -> Database:
    create_file(path)
    return Database.connect(path, write=True, busy_timeout=5)


# Others at the same file


async def test_two_backends_on_one_file(backend: EmbeddedBackend, handle: IndexHandle, path: Path) -> None:
    other = await EmbeddedBackend.open(path)
    theirs = await handle_of(other, "two")
    assert theirs.uuid == handle.uuid
    await asyncio.gather(
        *(backend.destination.write(handle, [put(f"a{n}/{m}", title="w") for m in range(100)]) for n in range(5)),
        *(other.destination.write(theirs, [put(f"b{n}/{m}", title="w") for m in range(100)]) for n in range(5)),
    )
    assert await other.destination.count("things") == 1000
    assert (await backend.destination.search("things", "w")).total == 1000
    connector = await backend.store.put_connector(Connector(id="one", service_type="directory", index_name="things"))
    assert await other.store.connector("one") == connector
    await other.destination.delete_index("things")
    with pytest.raises(IndexChangedError):
        await backend.destination.write(handle, [put("late", n=1)])
    await other.close()


async def test_a_lock_that_stays_is_to_be_retried(path: Path) -> None:
    backend = await EmbeddedBackend.open(path, busy_timeout=0.2)
    handle = await handle_of(backend)
    with plain(path) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(RetryableError, match="stayed locked"):
            await backend.destination.write(handle, [put("a", n=1)])
        assert await backend.destination.count("things") == 0  # reading goes on
        other.execute("ROLLBACK")
    assert not (await backend.destination.write(handle, [put("a", n=1)])).failures
    await backend.close()


async def test_a_foreign_writer_gets_in_during_a_bulk_write(
    backend: EmbeddedBackend, handle: IndexHandle, path: Path
) -> None:
    operations = [put(f"{n}", body=f"some words {n} " * 20) for n in range(10_000)]
    other = await EmbeddedBackend.open(path)
    bulk = asyncio.create_task(backend.destination.write(handle, operations))
    entered = 0
    while not bulk.done():
        await other.store.acquire("one", "w", ttl=1, now=0)
        entered += 1
    await other.close()
    assert not (await bulk).failures
    assert entered > 1  # the first may have come before the bulk write did


def test_emptying_the_log_does_not_insist(path: Path) -> None:
    with closing(open_writer(path)) as database, plain(path) as other:
        migrate(database)
        other.execute("BEGIN IMMEDIATE")
        assert not database.checkpoint(wait=0.01)
        other.execute("ROLLBACK")
        assert database.checkpoint(wait=0.01)


async def test_a_batch_takes_few_statements(backend: EmbeddedBackend, handle: IndexHandle) -> None:
    """Each one has to wait for the interpreter lock while the event loop computes; see docs/EMBEDDED.md."""
    statements: list[str] = []
    await backend.destination.write(handle, [put(f"{n}", title="old") for n in range(0, 400, 2)] + [delete("1")])
    await backend._writer.run(lambda database: database.set_trace_callback(statements.append))
    operations = [put(f"{n}", 2, title=f"new {n}") for n in range(400)]
    await backend.destination.write(handle, [*operations, *(delete(f"{n}", 3) for n in range(50))])
    await backend._writer.run(lambda database: database.set_trace_callback(None))
    own = [statement for statement in statements if not statement.startswith("--")]  # those within FTS5 are marked so
    assert 5 < len(own) <= 15


async def test_own_records_are_written_between_bulk_transactions(
    backend: EmbeddedBackend, handle: IndexHandle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "MAX_OPERATIONS", 10)
    bulk = asyncio.create_task(backend.destination.write(handle, [put(f"{n}", n=n) for n in range(500)]))
    await asyncio.sleep(0)  # its first transaction is asked for
    await backend.store.acquire("one", "w", ttl=1, now=0)
    assert not bulk.done()
    await bulk


async def test_a_search_does_not_wait_for_writes(backend: EmbeddedBackend, handle: IndexHandle) -> None:
    await backend.destination.write(handle, [put("a", title="word")])
    entered, leave = threading.Event(), threading.Event()

    def hold(database: Database) -> None:
        with database.writing():
            entered.set()
            leave.wait(10)

    holder = asyncio.create_task(backend._writer.run(hold))
    await asyncio.to_thread(entered.wait, 10)
    assert (await backend.destination.search("things", "word")).total == 1
    assert await backend.store.jobs() == []
    assert not holder.done()
    leave.set()
    await holder


# Threads


async def test_a_cancelled_call_finishes_and_close_waits_for_it(path: Path) -> None:
    backend = await EmbeddedBackend.open(path)
    entered, leave = threading.Event(), threading.Event()

    def slow(database: Database) -> None:
        with database.writing():
            database.execute("INSERT INTO labels (label) VALUES ('done')")
            entered.set()
            leave.wait(10)

    running = asyncio.create_task(backend._writer.run(slow))
    await asyncio.to_thread(entered.wait, 10)
    never = asyncio.create_task(backend.store.acquire("one", "w", ttl=1, now=0))
    await asyncio.sleep(0)
    for task in (running, never):
        task.cancel()
    await asyncio.gather(running, never, return_exceptions=True)
    assert running.cancelled()
    closing_ = asyncio.create_task(backend.close())
    await asyncio.sleep(0)
    leave.set()
    await closing_
    with plain(path) as other:
        assert other.execute("SELECT label FROM labels").fetchall() == [("done",)]
        assert other.execute("SELECT count(*) FROM states").fetchone() == (0,)


async def test_a_function_that_raises_leaves_no_transaction(backend: EmbeddedBackend) -> None:
    def fail(database: Database) -> None:
        with database.writing():
            database.execute("INSERT INTO labels (label) VALUES ('half')")
            raise LookupError

    with pytest.raises(LookupError):
        await backend._writer.run(fail)
    assert await backend._reader.run(fetch, "SELECT * FROM labels") == []


# Documents


async def test_a_batch_is_split_by_bytes(backend: EmbeddedBackend, handle: IndexHandle) -> None:
    operations = [put(f"{n}", body="x" * 100) for n in range(10)]
    size = len(operations[0].body or b"") + writing._OVERHEAD
    assert writing._end(operations, 0, size * 3) == 3
    assert writing._end(operations, 8, size * 3) == 10
    assert writing._end(operations, 4, 1) == 5  # one at least


async def test_the_size_of_transactions_follows_the_time_they_take(backend: EmbeddedBackend) -> None:
    target = backend.destination
    low, high = destination._BUDGET_RANGE
    for _ in range(50):
        target._adapt(10.0)
    assert target._budget == low
    for _ in range(50):
        target._adapt(0.0)
    assert target._budget == high


async def test_text_that_did_not_change_is_not_indexed_again(backend: EmbeddedBackend, handle: IndexHandle) -> None:
    await backend.destination.write(handle, [put("a", title="word", modified_at="2026-01-01T00:00:00Z")])
    before = await changes_of_text(backend)
    await backend.destination.write(handle, [put("a", 2, title="word", modified_at="2026-02-02T00:00:00Z")])
    assert await changes_of_text(backend) == before
    assert (await backend.destination.search("things", "word")).hits[0].source["modified_at"].startswith("2026-02")
    await backend.destination.write(handle, [put("a", 3, title="other")])
    assert await changes_of_text(backend) != before


async def changes_of_text(backend: EmbeddedBackend) -> list[Any]:
    return await backend._reader.run(fetch, "SELECT id, block FROM text_1_data")


async def test_tombstones_are_kept_for_an_hour_and_then_forgotten(
    backend: EmbeddedBackend, handle: IndexHandle, clock: Clock
) -> None:
    await backend.destination.write(handle, [delete("a", 7)])
    clock.now += 3600
    await backend.destination.maintain()
    late = await backend.destination.write(handle, [put("a", 6, n=1)])
    assert late.failures[0].kind is FailureKind.SUPERSEDED
    clock.now += upkeep.TOMBSTONE_SECONDS
    await backend.destination.maintain()
    assert not (await backend.destination.write(handle, [put("a", 6, n=1)])).failures


async def test_versions_fill_63_bits(backend: EmbeddedBackend, handle: IndexHandle) -> None:
    result = await backend.destination.write(
        handle, [put("a", 2**63 - 1, n=1), put("b", 2**63, n=1), put("c", -1, n=1), put("a", 5, n=2)]
    )
    kinds = {position: failure.kind for position, failure in result.failures.items()}
    assert kinds == {1: FailureKind.REFUSED, 2: FailureKind.REFUSED, 3: FailureKind.SUPERSEDED}


async def test_a_deletion_of_an_index_that_was_cut_short_is_finished(
    backend: EmbeddedBackend, handle: IndexHandle
) -> None:
    await backend.destination.write(handle, [put(f"{n}", n=n) for n in range(50)] + [delete("x")])
    await backend._writer.run(writing.begin_deletion, "things")
    assert await backend.destination.indices() == []
    again = await handle_of(backend)
    assert not (await backend.destination.write(again, [put("1", n=1)])).failures
    await backend.destination.maintain()
    for table, count in {"documents": 1, "tombstones": 0, "indices": 1}.items():
        statement = "SELECT count(*) FROM @table".replace("@table", table)
        assert await backend._reader.run(fetch, statement) == [(count,)], table
    assert not await backend.destination.delete_index("none")


async def test_housekeeping_merges_the_text_and_empties_the_log(
    backend: EmbeddedBackend, handle: IndexHandle, path: Path
) -> None:
    for batch in range(6):
        await backend.destination.write(handle, [put(f"{batch}/{n}", body=f"words {n}") for n in range(50)])
    log = path.with_name("index.db-wal")
    assert log.stat().st_size > 0
    await backend.destination.maintain()
    assert log.stat().st_size == 0

    def segments(database: Database) -> int:
        return int(database.execute("SELECT count(DISTINCT segid) FROM text_1_idx").fetchone()[0])

    assert await backend._reader.run(segments) < 6
    assert (await backend.destination.search("things", "words")).total == 300


async def test_the_log_stays_small_while_somebody_reads(
    backend: EmbeddedBackend, handle: IndexHandle, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "_LOG_LIMIT", 200_000)
    await backend._writer.run(lambda database: database.execute("PRAGMA wal_autocheckpoint = 0").close())
    for n in range(10):
        await backend.destination.write(handle, [put(f"{n}", body="x" * 150_000)])
    assert path.with_name("index.db-wal").stat().st_size < 1_000_000


async def test_the_total_is_counted_up_to_a_limit(backend: EmbeddedBackend, handle: IndexHandle) -> None:
    await backend.destination.write(handle, [put(f"{n}", title="same") for n in range(MAX_TOTAL + 5)])
    page = await backend.destination.search("things", "same", limit=1, offset=MAX_TOTAL)
    assert (page.total, len(page.hits)) == (MAX_TOTAL, 1)


async def test_marks_of_a_hit(backend: EmbeddedBackend, handle: IndexHandle) -> None:
    text = "filler " * 100 + "the \x02needle\x03 here " + "filler " * 100
    await backend.destination.write(
        handle, [put("a", title="A needle", path="x/needle.md", body=text), put("b", title="plain", body="a needle")]
    )
    first, second = (await backend.destination.search("things", "needle")).hits
    assert first.highlights["title"] == ("A \x02needle\x03",)
    assert first.highlights["path"] == ("x/\x02needle\x03.md",)
    (fragment,) = first.highlights["body"]
    assert fragment.count("\x02") == fragment.count("\x03") == 1
    assert "\x02needle\x03" in fragment
    assert len(fragment) < 400
    assert list(second.highlights) == ["body"]


async def test_the_text_and_the_file_stay_sound(backend: EmbeddedBackend, handle: IndexHandle) -> None:
    for version in range(1, 4):
        await backend.destination.write(
            handle, [put(f"{n}", version, title=f"word {n * version}", body="text") for n in range(0, 200, version)]
        )
        await backend.destination.write(handle, [delete(f"{n}", version) for n in range(0, 200, version * 3)])
    await backend._writer.run(check)


def check(database: Database) -> None:
    assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    with database.writing():
        database.execute("INSERT INTO text_1 (text_1) VALUES ('integrity-check')")
    rows = database.execute("SELECT pk FROM documents EXCEPT SELECT rowid FROM text_1").fetchall()
    assert rows == []
    counts = "SELECT (SELECT count(*) FROM documents), (SELECT count(*) FROM text_1)"
    documents, texts = database.execute(counts).fetchone()
    assert documents == texts


async def test_closing_does_not_wait_for_a_search_that_takes_long(backend: EmbeddedBackend) -> None:
    began, closing_begins = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def count(database: Database) -> None:
        loop.call_soon_threadsafe(began.set)
        closing_begins.wait()
        time.sleep(0.01)  # between two statements, where there is nothing to interrupt
        database.execute("WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n")

    search = asyncio.create_task(backend._searcher.run(count))
    waiting = asyncio.create_task(backend._searcher.run(count))
    await began.wait()
    loop.call_soon(closing_begins.set)
    async with asyncio.timeout(5):
        await backend.close()
    with pytest.raises(sqlite3.OperationalError, match="interrupted"):
        await search
    with pytest.raises(RuntimeError, match="closed"):
        await waiting
