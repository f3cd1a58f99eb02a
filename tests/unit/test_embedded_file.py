"""The file of the embedded backend: how it is made, what is wrong with it, its schema and the versions of that."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import threading
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

import pytest

from connectors.backends.embedded import EmbeddedBackend
from connectors.backends.embedded.connection import Database, create_file
from connectors.backends.embedded.faults import translate
from connectors.backends.embedded.schema import MIGRATIONS, migrate
from connectors.backends.ports import DeadLetter, IndexHandle
from connectors.errors import ConfigurationError, RetryableError, SuspendSync
from tests.support.embedded import handle_of, plain, put


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "index.db"


@pytest.fixture
async def backend(path: Path) -> AsyncIterator[EmbeddedBackend]:
    opened = await EmbeddedBackend.open(path)
    yield opened
    await opened.close()


@pytest.fixture
async def handle(backend: EmbeddedBackend) -> IndexHandle:
    return await handle_of(backend)


def embedded_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("embedded-")]


# The file


async def test_the_folder_is_created_and_the_file_is_its_owners(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "index.db"
    backend = await EmbeddedBackend.open(path)
    modes = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}
    await backend.close()
    assert set(modes) == {"index.db", "index.db-wal", "index.db-shm"}
    assert set(modes.values()) == {0o600}


async def test_closing_leaves_one_file_and_no_thread(path: Path) -> None:
    backend = await EmbeddedBackend.open(path)
    handle = await handle_of(backend)
    await backend.destination.write(handle, [put("a", title="x")])
    await backend.destination.search("things", "x")
    await backend.destination.count("things")
    assert len(embedded_threads()) == 3
    await backend.close()
    await backend.close()
    assert embedded_threads() == []
    assert [file.name for file in path.parent.iterdir()] == ["index.db"]
    with pytest.raises(RuntimeError, match="closed"):
        await backend.store.connectors()


async def test_the_threads_end_when_destination_and_store_are_closed(path: Path) -> None:
    backend = await EmbeddedBackend.open(path)
    await backend.destination.close()
    await backend.destination.close()
    assert await backend.store.connectors() == []
    await backend.store.close()
    assert embedded_threads() == []


async def test_writes_are_synced_and_logged(path: Path) -> None:
    with closing(open_writer(path)) as database:
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert database.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL: durable at a power cut too


async def test_readers_cannot_write(backend: EmbeddedBackend) -> None:
    with pytest.raises(SuspendSync, match="cannot be written"):
        await backend._reader.run(lambda database: database.execute("DELETE FROM jobs").close())


async def test_what_was_written_is_there_after_opening_again(path: Path) -> None:
    for n in range(3):
        backend = await EmbeddedBackend.open(path)
        handle = await handle_of(backend)
        await backend.destination.write(handle, [put(str(n), title="word")])
        assert (await backend.destination.search("things", "word")).total == n + 1
        await backend.close()


@pytest.mark.parametrize(
    "content", [b"not a database at all, but long enough to look at" * 99, b"SQLite format 3\0broken"]
)
def test_a_file_that_is_no_database_is_left_alone(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"index\.db.*move it away") as caught:
        asyncio.run(EmbeddedBackend.open(path))
    assert caught.value.field == "embedded.path"
    assert path.read_bytes() == content
    assert embedded_threads() == []


async def test_a_database_of_another_program_is_left_alone(path: Path) -> None:
    with plain(path) as other:
        other.execute("CREATE TABLE mine (x)")
    with pytest.raises(ConfigurationError, match="another program"):
        await EmbeddedBackend.open(path)
    with plain(path) as other:
        assert other.execute("SELECT name FROM sqlite_schema").fetchall() == [("mine",)]


async def test_a_folder_or_a_file_in_the_way(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="is a folder"):
        await EmbeddedBackend.open(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="file"):
        await EmbeddedBackend.open(tmp_path / "file" / "index.db")


def test_a_path_that_cannot_be_created(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("os.open", refuse)
    with pytest.raises(ConfigurationError, match="Permission denied"):
        create_file(tmp_path / "index.db")


async def test_damage_that_shows_later(path: Path) -> None:
    backend = await EmbeddedBackend.open(path)
    handle = await handle_of(backend)
    await backend.destination.write(handle, [put(f"{n}", body="x" * 5000) for n in range(200)])
    await backend.close()
    damage(path)
    backend = await EmbeddedBackend.open(path)
    with pytest.raises(SuspendSync, match=r"damaged.*keep a copy"):
        await backend.destination.write(handle, [put(f"{n}", 2, body="y" * 5000) for n in range(200)])
    await backend.close()


def damage(path: Path) -> None:
    """Overwrites everything but the first page, which has the header and the schema."""
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(8192)
        file.write(random.Random(1).randbytes(size - 8192))


async def test_a_full_disk(backend: EmbeddedBackend, handle: IndexHandle) -> None:
    await backend.destination.write(handle, [put("a", n=1)])
    await backend._writer.run(lambda database: database.execute("PRAGMA max_page_count = 1").close())
    big = [put(f"big{n}", body="word " * 20_000) for n in range(20)]
    with pytest.raises(SuspendSync, match="disk is full"):
        await backend.destination.write(handle, big)
    await backend._writer.run(lambda database: database.execute("PRAGMA max_page_count = 1000000").close())
    assert not (await backend.destination.write(handle, big)).failures
    assert await backend.destination.count("things") == 21


def test_faults_in_words(path: Path) -> None:
    def fault(code: int) -> sqlite3.OperationalError:
        error = sqlite3.OperationalError("words of SQLite")
        error.sqlite_errorcode = code
        return error

    busy_snapshot = sqlite3.SQLITE_BUSY | 2 << 8
    for code, kind in [
        (busy_snapshot, RetryableError), (sqlite3.SQLITE_LOCKED, RetryableError), (sqlite3.SQLITE_FULL, SuspendSync),
        (sqlite3.SQLITE_READONLY, SuspendSync), (sqlite3.SQLITE_PERM, SuspendSync), (sqlite3.SQLITE_IOERR, SuspendSync),
        (sqlite3.SQLITE_CANTOPEN, SuspendSync), (sqlite3.SQLITE_CORRUPT, SuspendSync),
    ]:  # fmt: skip
        translated = translate(fault(code), path)
        assert type(translated) is kind
        assert str(path) in str(translated)
    ours = fault(sqlite3.SQLITE_ERROR)
    assert translate(ours, path) is ours
    unknown = sqlite3.ProgrammingError("no code")
    assert translate(unknown, path) is unknown


# Schema versions


def open_writer(path: Path) -> Database:
    create_file(path)
    return Database.connect(path, write=True, busy_timeout=5)


VERSION_1_TABLES: Final = {
    "connectors", "dead_letters", "documents", "indices", "jobs", "labels", "states", "tombstones",
}  # fmt: skip


def test_version_1_has_its_tables(path: Path) -> None:
    with closing(open_writer(path)) as database:
        migrate(database, MIGRATIONS[:1])
        tables = {name for (name,) in database.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
        assert tables == VERSION_1_TABLES
        assert database.execute("PRAGMA user_version").fetchone() == (1,)


def test_a_released_migration_never_changes() -> None:
    statements = "\n".join(" ".join(statement.split()) for statement in MIGRATIONS[0])
    assert blake2b(statements.encode(), digest_size=8).hexdigest() == "6d091e89737a3b5a", (
        "add a migration; do not change this one"
    )


def test_a_file_goes_through_every_version_it_lacks(path: Path) -> None:
    second = ("ALTER TABLE connectors ADD COLUMN note TEXT", "UPDATE connectors SET note = 'was here'")
    with closing(open_writer(path)) as database:
        migrate(database)
        database.execute("INSERT INTO connectors VALUES ('one', 1, '{}')")
    with closing(open_writer(path)) as database:
        migrate(database, [*MIGRATIONS, second, ("CREATE TABLE third (x)",)])
        assert database.execute("SELECT note FROM connectors").fetchall() == [("was here",)]
        assert database.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS) + 2,)


def test_a_migration_that_fails_changes_nothing(path: Path) -> None:
    with closing(open_writer(path)) as database:
        migrate(database)
        with pytest.raises(sqlite3.OperationalError, match="no such table"):
            migrate(database, [*MIGRATIONS, ("CREATE TABLE half (x)", "UPDATE nowhere SET x = 1")])
        assert database.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'half'").fetchone() == (0,)
        assert database.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)


def test_many_open_a_new_file_at_once(path: Path) -> None:
    failures: list[BaseException] = []
    barrier = threading.Barrier(6)

    def run() -> None:
        try:
            barrier.wait()
            with closing(open_writer(path)) as database:
                migrate(database, [*MIGRATIONS, ("CREATE TABLE second (x)",), ("DROP TABLE second",)])
        except BaseException as error:  # noqa: BLE001 - shown by the assertion below
            failures.append(error)

    threads = [threading.Thread(target=run) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


async def test_a_file_of_a_newer_release_is_refused(path: Path) -> None:
    await (await EmbeddedBackend.open(path)).close()
    with plain(path) as other:
        other.execute("PRAGMA user_version = 99")
    with pytest.raises(ConfigurationError, match="Upgrade"):
        await EmbeddedBackend.open(path)


def test_sqlite_without_full_text_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Poor(Database):
        def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
            if "fts5_source_id" in sql:
                raise sqlite3.OperationalError("no such function: fts5_source_id")
            return super().execute(sql, parameters)

    create_file(path)
    with closing(Poor.connect(path, write=True)) as database, pytest.raises(ConfigurationError, match="FTS5"):
        migrate(database)


async def test_a_letter_of_an_earlier_release_is_listed_with_its_size(backend: EmbeddedBackend) -> None:
    now = datetime.now(UTC)
    letters = [DeadLetter("a", name, "index", "r", "job", now, body) for name, body in (("1", b"{}"), ("2", None))]
    await backend.store.add_dead_letters(letters)
    await backend._writer.run(_without_sizes)
    assert await backend.store.dead_letters("a") == [letter.listed() for letter in letters]
    assert await backend.store.dead_letters("a", bodies=True) == letters
    assert await backend.store.dead_letter("a", "1") == letters[0]


def _without_sizes(database: Database) -> None:
    database.execute("UPDATE dead_letters SET size = NULL")


@pytest.mark.parametrize("replaced", [False, True])
async def test_a_file_that_goes_while_it_is_open_is_told(path: Path, replaced: bool) -> None:
    """SQLite goes on writing into the file that has no name any more."""

    def take_away() -> None:
        path.unlink()
        if replaced:
            path.write_bytes(b"")

    backend = await EmbeddedBackend.open(path)
    handle = await handle_of(backend)
    await backend.destination.maintain()
    take_away()
    await backend.destination.write(handle, [put("a")])
    with pytest.raises(SuspendSync, match=r"index\.db was removed or replaced while it is open"):
        await backend.destination.maintain()
    await backend.close()
