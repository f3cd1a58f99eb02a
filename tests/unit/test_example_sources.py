"""The example sources, run as the product runs them."""

from __future__ import annotations

import asyncio
import importlib
import sqlite3
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from connectors.app import Application, open_application, read_config
from connectors.byoc import JobStatus, JobType, SyncJob
from connectors.source import (
    BaseDataSource,
    Checkpoint,
    ConfigurationError,
    DataSourceConfiguration,
    FrameworkConfig,
    RetryableError,
)

FOLDER = Path(__file__).parents[2] / "examples/sources"
SETTINGS = "{file: notes.db, page_size: 2}"


@pytest.fixture
def example_sources(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Makes the modules of `examples/sources` importable, as PYTHONPATH does."""
    monkeypatch.syspath_prepend(FOLDER)
    yield
    for name in ("notes", "recent_notes"):
        sys.modules.pop(name, None)


class Notebook:
    """A file with notes 1 to 7, of which the third is locked, and a configuration that reads it in pages of two."""

    def __init__(self, folder: Path, source: str) -> None:
        self.file = folder / "notes.db"
        self.config = folder / "config.yml"
        module = source.partition(":")[0]
        self.config.write_text(
            f"sources: {{{module}: '{source}'}}\n"
            "web.enabled: false\n"
            "connectors:\n"
            f"  - {{id: notes, service_type: {module}, index: notes, configuration: {SETTINGS}}}\n",
            "utf-8",
        )
        self.write("CREATE TABLE notes (id INTEGER PRIMARY KEY, changed TEXT, title TEXT, text TEXT, locked INT)")
        for number in range(1, 8):
            self.write(
                "INSERT INTO notes VALUES (?, ?, ?, ?, ?)",
                number,
                f"2026-05-0{number} 12:00:00",
                f"Note {number}",
                f"lantern{number}",
                number == 3,
            )

    def write(self, statement: str, *values: object) -> None:
        with closing(sqlite3.connect(self.file)) as database, database:
            database.execute(statement, values)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Application]:
        async with open_application(read_config(self.config)) as application:
            yield application

    async def sync(self) -> SyncJob:
        """Runs one full sync as `connectors run --once` does."""
        async with self.opened() as application:
            return (await application.daemon.run_once(asyncio.Event()))[0]

    async def found(self, words: str) -> list[str]:
        async with self.opened() as application:
            page = await application.app.operations.search("notes", words)
        return sorted(hit.id for hit in page.hits)


def outcomes(job: SyncJob) -> dict[str, int]:
    """Returns the counters that are not zero, without the bytes."""
    return {name: number for name, number in job.metadata["counters"].items() if number and name != "bytes"}


async def test_the_example_syncs_resumes_and_tells_what_it_cannot_read(tmp_path: Path, example_sources: None) -> None:
    notebook = Notebook(tmp_path, "notes:NotesDataSource")
    first = await notebook.sync()
    assert first.status == JobStatus.COMPLETED, first.error
    assert outcomes(first) == {"read": 7, "indexed": 6, "dead_lettered": 1}
    assert await notebook.found("lantern5") == ["5"]

    notebook.write("UPDATE notes SET text = 'meadow', changed = '2026-05-20 12:00:00' WHERE id = 5")
    notebook.write("DELETE FROM notes WHERE id = 7")
    notebook.write("UPDATE notes SET locked = 0 WHERE id = 3")
    second = await notebook.sync()
    assert outcomes(second) == {"read": 6, "indexed": 2, "unchanged": 4, "vanished": 1}
    assert await notebook.found("meadow OR lantern3 OR lantern7") == ["3", "5"]


def make_source(module: str, name: str, folder: Path, **values: object) -> BaseDataSource:
    """Makes an example source as the framework does."""
    source_class: type[BaseDataSource] = getattr(importlib.import_module(module), name)
    defaults = source_class.get_default_configuration()
    source = source_class(DataSourceConfiguration.merge(defaults, {"file": "notes.db", **values}))
    source.set_framework_config(FrameworkConfig(base_dir=folder))
    return source


async def test_the_example_goes_on_behind_each_of_its_checkpoints(tmp_path: Path, example_sources: None) -> None:
    Notebook(tmp_path, "notes:NotesDataSource")
    source = make_source("notes", "NotesDataSource", tmp_path, page_size=2)
    items = [item async for item in source.get_docs()]
    checkpoints = [place for place, item in enumerate(items) if isinstance(item, Checkpoint)]
    assert len(checkpoints) == 4
    for place in checkpoints:
        state = items[place].state  # type: ignore[union-attr]  # a checkpoint, as selected above
        rest = [item async for item in source.get_docs(checkpoint=state)]
        assert [_id_of(item) for item in rest] == [_id_of(item) for item in items[place + 1 :]]


def _id_of(item: Any) -> Any:
    return item[0]["_id"] if isinstance(item, tuple) else item


async def test_the_example_says_what_is_wrong(
    tmp_path: Path, example_sources: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    notebook = Notebook(tmp_path, "notes:NotesDataSource")
    make = partial(make_source, "notes", "NotesDataSource", tmp_path)
    with pytest.raises(ConfigurationError, match='"Notes a query" must be greater than 0'):
        await make(page_size=0).validate_config()
    with pytest.raises(ConfigurationError, match='"SQLite file" is required'):
        await make(file="").validate_config()
    with pytest.raises(ConfigurationError, match=r"missing\.db: unable to open .*; name a file with notes"):
        await make(file="missing.db").ping()
    monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, timeout=0))
    with closing(sqlite3.connect(notebook.file)) as database:
        database.execute("BEGIN EXCLUSIVE")
        with pytest.raises(RetryableError, match="locked by another program"):
            await make().ping()


async def test_the_incremental_example_misses_nothing(tmp_path: Path, example_sources: None) -> None:
    notebook = Notebook(tmp_path, "recent_notes:RecentNotesDataSource")
    full = await notebook.sync()
    assert outcomes(full) == {"read": 7, "indexed": 6, "dead_lettered": 1}

    async with notebook.opened() as application:
        # Written before the newest note, and committed only now.
        notebook.write("INSERT INTO notes VALUES (8, '2026-05-07 11:58:00', 'Late', 'lantern8', 0)")
        notebook.write("INSERT INTO notes VALUES (9, '2026-05-30 12:00:00', 'New', 'lantern9', 0)")
        job = await application.app.operations.sync_now("notes", JobType.INCREMENTAL)
        ended = (await application.daemon.finish([job.id], asyncio.Event()))[0]
        connector = await application.app.store.connector("notes")
    assert outcomes(ended) == {"read": 3, "indexed": 2, "unchanged": 1}
    assert connector.sync_cursor == "2026-05-30 12:00:00"
    assert await notebook.found("lantern8 OR lantern9") == ["8", "9"]


async def test_the_incremental_example_carries_its_position_in_the_checkpoints(
    tmp_path: Path, example_sources: None
) -> None:
    notebook = Notebook(tmp_path, "recent_notes:RecentNotesDataSource")
    interrupted = make_source("recent_notes", "RecentNotesDataSource", tmp_path, page_size=2)
    items = [item async for item in interrupted.get_docs()]
    state = next(item.state for item in items if isinstance(item, Checkpoint))

    notebook.write("UPDATE notes SET changed = '2026-06-01 12:00:00' WHERE id = 1")
    notebook.write("UPDATE notes SET changed = '2026-06-02 12:00:00' WHERE id = 7")
    resumed = make_source("recent_notes", "RecentNotesDataSource", tmp_path, page_size=2)
    assert [item async for item in resumed.get_docs(checkpoint=state)]
    changed = [item async for item in resumed.get_docs_incrementally(resumed.sync_cursor())]
    assert "1" in {item[0]["_id"] for item in changed if isinstance(item, tuple)}
