# ruff: noqa: S608 - the test's own table
"""Random tables, folders and histories, read in partitions: together these are the whole, and the promises hold."""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
from collections.abc import Coroutine
from contextlib import closing, suppress
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.errors import RetryableError
from connectors.source import Checkpoint, DataSourceConfiguration, FrameworkConfig
from connectors.sources.directory import DirectoryDataSource, split
from connectors.sync import readers
from tests.property.test_sync import RULES, Step, check_completed, expected, misbehave, steps
from tests.support.clock import run_virtual
from tests.support.readers import InLoopReaders, PartitionedSource
from tests.support.relational import SqliteDataSource, SqliteDialect, make_source, table
from tests.support.sources import checkpointed
from tests.support.world import World

_CELLS = st.one_of(st.integers(-5, 5), st.text("ab%", max_size=2))
_ROWS = st.integers(1, 3).flatmap(lambda width: st.lists(st.tuples(*[_CELLS] * width), max_size=40, unique=True))


async def listed(source: Any, **given: Any) -> tuple[list[str], list[tuple[int, Any]]]:
    """Returns ids, and checkpoints with the number of ids before them."""
    ids: list[str] = []
    checkpoints: list[tuple[int, Any]] = []
    async for item in source.get_docs(None, **given):
        if isinstance(item, Checkpoint):
            checkpoints.append((len(ids), item.state))
        else:
            ids.append(item[0]["_id"])
    return ids, checkpoints


async def check_table(rows: list[Any], later: list[Any], *, compares_rows: bool, size: int, batch: int) -> None:
    width = len((rows or later or [(0,)])[0])
    names = [f"k{number}" for number in range(width)]
    with closing(sqlite3.connect(":memory:", check_same_thread=False)) as database:
        database.execute(f"CREATE TABLE t ({', '.join(names)}, v, PRIMARY KEY ({', '.join(names)}))")
        insert = f"INSERT INTO t VALUES ({', '.join('?' * width)}, 'v')"
        database.executemany(insert, rows)
        source = make_source(database, [table("t", " ".join([*names, "v"]), " ".join(names))], batch_size=batch)
        with (
            patch.object(SqliteDataSource, "partition_rows", size),
            patch.object(SqliteDataSource, "dialect", SqliteDialect(compares_rows=compares_rows)),
        ):
            parts = await source.partitions()
            assert (len(parts) > 1) == (len(rows) >= size)
            database.executemany(insert, later)
            if parts:
                whole, _ = await listed(source)
                found: list[str] = []
                for part in parts:
                    ids, checkpoints = await listed(source, partition=part)
                    found += ids
                    for at, state in checkpoints:
                        rest, _ = await listed(source, partition=part, checkpoint=state)
                        assert ids[:at] + rest == ids
                assert found == whole


@given(_ROWS, st.data(), st.booleans(), st.integers(1, 9), st.integers(1, 7))
def test_ranges_of_a_key_are_the_table_whatever_is_added(
    rows: list[Any], data: st.DataObject, compares_rows: bool, size: int, batch: int
) -> None:
    width = len(rows[0]) if rows else 1
    more = data.draw(st.lists(st.tuples(*[_CELLS] * width), max_size=10, unique=True))
    later = [row for row in more if row not in rows]
    asyncio.run(check_table(rows, later, compares_rows=compares_rows, size=size, batch=batch))


_NAME = st.text("ab-.", min_size=1, max_size=3).filter(lambda name: set(name) != {"."})
_TREE = st.lists(st.lists(_NAME, min_size=1, max_size=4), max_size=30)


def grow(folder: Path, paths: list[list[str]]) -> None:
    for path in paths:
        place = folder.joinpath(*path)
        with suppress(FileExistsError, NotADirectoryError):  # a file stands where a folder should
            place.parent.mkdir(parents=True, exist_ok=True)
            if not place.exists():
                place.touch()


async def check_tree(folder: Path, paths: list[list[str]], later: list[list[str]]) -> None:
    grow(folder, paths)
    defaults = DirectoryDataSource.get_default_configuration()
    source = DirectoryDataSource(DataSourceConfiguration.merge(defaults, {"directory": str(folder)}))
    source.set_framework_config(FrameworkConfig(base_dir=folder))
    parts = await source.partitions()
    grow(folder, later)
    if parts:
        whole, _ = await listed(source)
        found = [id_ for part in parts for id_ in (await listed(source, partition=part))[0]]
        assert found == whole


@given(_TREE, _TREE, st.integers(2, 6), st.integers(1, 12))
def test_spans_of_a_folder_are_the_folder_whatever_is_added(
    paths: list[list[str]], later: list[list[str]], parts: int, entries: int
) -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        patch.object(split, "_PARTS", parts),
        patch.object(split, "_ENTRIES", entries),
    ):
        asyncio.run(check_tree(Path(folder), paths, later))


# Histories


def source_of(step: Step, parts: int) -> PartitionedSource:
    """Gives each document one partition; what is listed twice is listed there twice."""
    scripts: list[list[Any]] = [[] for _ in range(parts)]
    for item in step.listing:
        scripts[int(item.id[1:]) % parts].append(item.item())
    return PartitionedSource([checkpointed(script, step.every, pause=step.pause) for script in scripts])


async def killing(staff: InLoopReaders, random: Random) -> None:
    for _ in range(4):
        await asyncio.sleep(random.uniform(0, 3))
        if alive := staff.alive:
            await random.choice(alive).kill()


async def attempt(world: World, step: Step, parts: int, *, kills: bool, **given: Any) -> Any:
    """Runs a sync; None where it was suspended because readers were lost."""
    source = source_of(step, parts)
    staff = InLoopReaders(source, 2, RULES)
    world.readers = staff.plan
    harm = asyncio.create_task(killing(staff, Random(step.seed)) if kills else asyncio.sleep(0))
    try:
        return await world.sync(source, **given)
    except RetryableError:
        assert kills
        return None
    finally:
        harm.cancel()
        await asyncio.wait([harm])
        assert not staff.alive


async def play(folder: Path, history: list[Step], parts: int) -> None:
    world = World(folder, max_delete_ratio=1.0)
    world.rules = RULES
    for step in history:
        misbehave(world, step.seed)
        before = world.indexed
        job = await world.job(allow_deletes=1_000_000)
        kills = step.seed % 3 == 0
        for number in range(5):
            stop_after = step.after if step.ending != "completed" and number < 3 else None
            result = await attempt(world, step, parts, kills=kills and number < 4, job=job, stop_after=stop_after)
            assert result is None or result.counters.balanced
            if result is not None and not result.suspended:
                if not kills:
                    await check_completed(world, step, before, result)
                else:
                    assert world.indexed == expected(before, step.listing)
                break


def run_quickly(scenario: Coroutine[Any, Any, None]) -> None:
    with patch("os.fsync"), patch.object(readers, "_WORTHWHILE", 0):
        run_virtual(scenario)


@settings(max_examples=60)
@given(history=st.lists(steps, min_size=1, max_size=3), parts=st.integers(2, 5))
def test_after_each_completed_sync_of_several_readers_the_index_is_what_was_promised(
    history: list[Step], parts: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        run_quickly(play(Path(folder), history, parts))
