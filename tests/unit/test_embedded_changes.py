"""Changes of records that wait at the same time share one transaction of the embedded index, and nothing else."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from connectors.backends.embedded import EmbeddedBackend
from connectors.backends.embedded.connection import Database
from connectors.byoc import Connector
from connectors.errors import ConflictError, LeaseLostError


@pytest.fixture
async def backend(tmp_path: Path) -> AsyncIterator[EmbeddedBackend]:
    opened = await EmbeddedBackend.open(tmp_path / "index.db")
    yield opened
    await opened.close()


async def together(backend: EmbeddedBackend, *calls: Any) -> tuple[list[Any], list[str]]:
    """Awaits calls that all wait when the writer comes to them; returns the results and the transactions' ends."""
    entered, leave = threading.Event(), threading.Event()
    ends: list[str] = []

    def hold(database: Database) -> None:
        entered.set()
        assert leave.wait(10)
        words = {"COMMIT", "ROLLBACK"}
        database.set_trace_callback(lambda statement: ends.append(statement) if statement in words else None)

    holding = asyncio.create_task(backend._writer.run(hold))
    await asyncio.to_thread(entered.wait, 10)
    waiting = [asyncio.ensure_future(call) for call in calls]
    await asyncio.sleep(0)
    leave.set()
    await holding
    results = await asyncio.gather(*waiting, return_exceptions=True)
    return results, ends


def label(text: str) -> Callable[[Database], str]:
    def add(database: Database) -> str:
        with database.writing():
            database.execute("INSERT INTO labels (label) VALUES (?)", (text,))
        return text

    return add


async def labels(backend: EmbeddedBackend) -> list[str]:
    def read(database: Database) -> list[str]:
        return [row[0] for row in database.execute("SELECT label FROM labels ORDER BY label")]

    return await backend._reader.run(read)


async def test_changes_that_wait_at_the_same_time_are_committed_once(backend: EmbeddedBackend) -> None:
    store = backend.store
    leases, ends = await together(backend, *(store.acquire(f"c{n}", "w", ttl=9, now=0) for n in range(20)))
    assert [lease.epoch for lease in leases] == [1] * 20
    assert ends == ["COMMIT"]
    assert (await store.state("c19")).worker == "w"


async def test_of_hundreds_none_is_forgotten(backend: EmbeddedBackend) -> None:
    store = backend.store
    leases, ends = await together(backend, *(store.acquire("c", "w", ttl=9, now=0) for _ in range(300)))
    assert sorted(lease.epoch for lease in leases) == list(range(1, 301))
    assert len(ends) < 10


async def test_one_that_fails_takes_nobody_with_it(backend: EmbeddedBackend) -> None:
    store = backend.store
    await store.put_connector(Connector(id="c"))
    lost = await store.acquire("c", "w", ttl=9, now=0)
    assert lost is not None
    lease = await store.acquire("c", "w", ttl=9, now=0)
    assert lease is not None

    def half(database: Database) -> None:
        with database.writing():
            database.execute("INSERT INTO labels (label) VALUES ('half')")
            raise LookupError

    results, ends = await together(
        backend,
        store.commit(lease, job_id="", connector={"name": "given"}, state={"at": 1}),
        store.commit(lost, job_id="", connector={"name": "late"}),
        backend._writer.change(half),
        store.put_connector(Connector(id="c")),
        backend._writer.change(label("whole")),
    )
    assert [type(result) for result in results] == [type(None), LeaseLostError, LookupError, ConflictError, str]
    assert ends == ["COMMIT"]
    assert (await store.connector("c")).name == "given"
    assert (await store.state("c")).data == {"at": 1}
    assert await labels(backend) == ["whole"]


async def test_when_one_ends_the_transaction_of_all_each_is_made_by_itself(backend: EmbeddedBackend) -> None:
    def end_it(database: Database) -> None:
        with database.writing():
            database.execute("INSERT INTO labels (label) VALUES ('half')")
            database.execute("ROLLBACK")  # as SQLite does it by itself when the disk is full
            raise sqlite3.IntegrityError("ended")

    change = backend._writer.change
    results, _ = await together(backend, change(label("a")), change(end_it), change(label("b")))
    assert results[::2] == ["a", "b"]
    assert isinstance(results[1], sqlite3.IntegrityError)
    assert await labels(backend) == ["a", "b"]


async def test_when_they_cannot_be_committed_all_are_told_and_none_is_done(backend: EmbeddedBackend) -> None:
    def prepare(database: Database) -> None:
        database.execute("PRAGMA foreign_keys = ON")
        database.execute("CREATE TABLE child (of INTEGER REFERENCES indices (pk) DEFERRABLE INITIALLY DEFERRED)")

    def orphan(database: Database) -> None:
        with database.writing():
            database.execute("INSERT INTO child VALUES (1000)")

    change = backend._writer.change
    await backend._writer.run(prepare)
    results, ends = await together(backend, change(label("a")), change(orphan))
    assert [type(result) for result in results] == [sqlite3.IntegrityError] * 2
    assert ends == ["COMMIT", "ROLLBACK"]
    assert await labels(backend) == []
    assert await change(label("later")) == "later"


async def test_a_change_that_was_cancelled_before_its_turn_is_never_made(backend: EmbeddedBackend) -> None:
    change = backend._writer.change
    entered, leave = threading.Event(), threading.Event()

    def hold(_: Database) -> None:
        entered.set()
        assert leave.wait(10)

    holding = asyncio.create_task(backend._writer.run(hold))
    await asyncio.to_thread(entered.wait, 10)
    never = asyncio.create_task(change(label("never")))
    others = [asyncio.create_task(change(label(text))) for text in "ab"]
    await asyncio.sleep(0)
    never.cancel()
    await asyncio.wait([never])
    leave.set()
    await asyncio.gather(holding, *others)
    assert never.cancelled()
    assert await labels(backend) == ["a", "b"]


async def test_after_the_end_there_are_no_changes(tmp_path: Path) -> None:
    backend = await EmbeddedBackend.open(tmp_path / "other.db")
    await backend.close()
    with pytest.raises(RuntimeError, match="closed"):
        await backend._writer.change(label("late"))
