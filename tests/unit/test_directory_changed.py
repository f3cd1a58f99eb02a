"""The directory source: whether anything changed since the last sync."""

from __future__ import annotations

import concurrent.futures.thread  # noqa: F401 - asyncio loads it late, when the test's user may not read it
import os
import time
from contextlib import aclosing
from pathlib import Path

import pytest

from connectors.byoc import Filter
from tests.support.directory import items, source, tree, unprivileged

__all__ = ["unprivileged"]  # the fixture is found by its name here

LONG_AGO = 1_700_000_000_000_000_000


# Whether anything changed


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """The source's clock goes ten seconds ahead, so that the files just made are old."""
    real = time.time_ns
    monkeypatch.setattr("connectors.sources.directory.source.time.time_ns", lambda: real() + 10_000_000_000)


@pytest.mark.usefixtures("later")
@pytest.mark.parametrize("change", ["write", "touch", "add", "delete", "rename", "mode", "same size and time"])
async def test_changed(tmp_path: Path, change: str) -> None:
    tree(tmp_path, "a", "b/c", "skipped.tmp")
    os.utime(tmp_path / "a", ns=(LONG_AGO, LONG_AGO))
    it = source(tmp_path, exclude=["*.tmp"])
    assert await it.changed()  # it never ran
    await items(it)
    assert not await it.changed()
    (tmp_path / "skipped.tmp").write_text("not indexed, so no matter")
    assert not await it.changed()
    match change:
        case "write":
            (tmp_path / "a").write_text("new")
        case "touch":
            os.utime(tmp_path / "a")
        case "add":
            tree(tmp_path, "b/d")
        case "delete":
            (tmp_path / "b" / "c").unlink()
        case "rename":
            (tmp_path / "a").rename(tmp_path / "b" / "a")
        case "mode":
            (tmp_path / "a").chmod(0o600)
        case "same size and time":
            (tmp_path / "a").write_text("CONTENT OF a")
            os.utime(tmp_path / "a", ns=(LONG_AGO, LONG_AGO))
    assert await it.changed()
    await items(it)
    assert not await it.changed()


async def test_a_file_changed_just_now_may_change_again_unseen(tmp_path: Path) -> None:
    tree(tmp_path, "a")
    it = source(tmp_path)
    await items(it)
    assert await it.changed()


@pytest.mark.usefixtures("later")
async def test_an_enumeration_that_was_not_whole_says_nothing(tmp_path: Path) -> None:
    tree(tmp_path, "a", "b", "c")
    it = source(tmp_path)
    await items(it)
    assert not await it.changed()
    async with aclosing(it.get_docs()) as stream:
        async for _ in stream:
            break
    assert await it.changed()
    await items(it, checkpoint={"after": "a"})
    assert await it.changed()
    await items(it)
    assert not await it.changed()


@pytest.mark.usefixtures("later")
async def test_changed_when_it_cannot_know(unprivileged: Path) -> None:
    root = unprivileged / "root"
    tree(root, "a", "b/c")
    it = source(root)
    await items(it)
    assert not await it.changed()
    (root / "b").chmod(0)
    assert await it.changed()
    (root / "b").chmod(0o700)
    assert not await it.changed()
    root.rename(unprivileged / "other")
    assert await it.changed()
    root.mkdir()
    assert await it.changed()


@pytest.mark.usefixtures("later")
async def test_changed_follows_the_rules_of_the_last_sync(tmp_path: Path) -> None:
    tree(tmp_path, "a.md", "b.txt")
    it = source(tmp_path)
    await items(it, filtering=Filter.of(advanced=[{"pattern": "*.md"}]))
    (tmp_path / "b.txt").write_text("another text")
    assert not await it.changed()
    (tmp_path / "a.md").write_text("another text")
    assert await it.changed()
