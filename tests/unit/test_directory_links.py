"""The directory source: what cannot be listed, and links that lead elsewhere."""

from __future__ import annotations

import asyncio
import concurrent.futures.thread  # noqa: F401 - asyncio loads it late, when the test's user may not read it
import logging
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path

import psutil
import pytest

from connectors.errors import SyncError
from connectors.source import (
    SkippableError,
    Skipped,
)
from connectors.sources.directory import source as source_module
from tests.support.directory import downloads, items, paths, source, tree, unprivileged

__all__ = ["unprivileged"]  # the fixture is found by its name here


# What cannot be listed


@pytest.mark.parametrize("mode", [0o000, 0o300, 0o400])
async def test_an_unreadable_folder_makes_the_enumeration_incomplete(unprivileged: Path, mode: int) -> None:
    tree(unprivileged, "a", "b/1", "b/2", "c")
    (unprivileged / "b").chmod(mode)
    it = source(unprivileged)
    skipped = [item for item in await items(it) if isinstance(item, Skipped)]
    assert skipped == [Skipped("b: cannot be listed: Permission denied")]
    assert await paths(it) == ["a", "c"]
    assert await it.changed()


async def test_a_link_into_an_unreadable_folder_may_lead_to_a_file(unprivileged: Path) -> None:
    tree(unprivileged, "b/1")
    (unprivileged / "link").symlink_to("b/1")
    (unprivileged / "b").chmod(0)
    it = source(unprivileged, exclude=["b"])
    assert await items(it) == [Skipped("link: cannot be listed: Permission denied")]
    (unprivileged / "b").chmod(0o700)
    assert await paths(it) == ["link"]


async def test_a_folder_that_vanishes_meanwhile_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_module, "_BATCH", 2)
    tree(tmp_path, "a/1", "a/2", "a/3", "b/1", "c/1")
    it = source(tmp_path)
    found: list[str] = []
    async with aclosing(it.get_docs()) as stream:
        async for item in stream:
            assert not isinstance(item, Skipped)
            if isinstance(item, tuple):
                found.append(item[0]["path"])
                if found == ["a/1"]:
                    await asyncio.to_thread(shutil.rmtree, tmp_path / "a")
                    await asyncio.to_thread(shutil.rmtree, tmp_path / "b")
    assert found == ["a/1", "a/2", "c/1"]


@pytest.mark.parametrize("again", [True, False])
async def test_a_root_that_goes_away_fails_the_sync(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, again: bool
) -> None:
    monkeypatch.setattr(source_module, "_BATCH", 1)
    root = tmp_path / "root"
    tree(root, "a", "b")
    found = await downloads(source(root))
    stream = aiter(source(root).get_docs())
    await anext(stream)
    root.rename(tmp_path / "moved")
    if again:
        root.mkdir()
    await anext(stream)  # the checkpoint of the first batch
    with pytest.raises(SyncError, match=r"cannot be read any more|was replaced, mounted or unmounted"):
        await anext(stream)
    with pytest.raises(SyncError):
        await found["a"]()


# Links and other things


async def test_links_never_lead_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    tree(root, "a", "folder/b")
    tree(outside, "secret", "folder/secret")
    (tmp_path / "root2").mkdir()
    tree(tmp_path / "root2", "secret")
    (root / "link_inside").symlink_to("folder/b")
    (root / "link_to_link").symlink_to("link_inside")
    (root / "link_out").symlink_to(outside / "secret")
    (root / "link_out_relative").symlink_to("../outside/secret")
    (root / "link_sibling").symlink_to("../root2/secret")
    (root / "link_folder").symlink_to("folder")
    (root / "link_folder_out").symlink_to(outside)
    (root / "link_loop").symlink_to("link_loop")
    (root / "link_nowhere").symlink_to("missing")
    (root / "link_root").symlink_to(".")
    os.mkfifo(root / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        os.chdir(root)  # a socket's path must be short
        listener.bind("socket")
    it = source(root)
    with caplog.at_level(logging.INFO):
        found = await downloads(it)
    assert list(found) == ["a", "folder/b", "link_inside", "link_to_link"]
    assert await found["link_to_link"]() == {"_attachment": b"content of folder/b"}
    assert "8 symbolic links" in caplog.text
    assert "2 pipes, sockets" in caplog.text


async def test_no_descriptor_stays_open(tmp_path: Path) -> None:
    tree(tmp_path, "a", "b/c", "b/d", "e")
    (tmp_path / "link").symlink_to("a")
    it = source(tmp_path)
    await items(it)
    before = psutil.Process().num_fds()
    found = await downloads(it)
    (tmp_path / "a").unlink()
    (tmp_path / "a").mkdir()
    shutil.rmtree(tmp_path / "b")
    for path, download in found.items():
        if path == "e":
            await download()
            continue
        with pytest.raises(SkippableError):
            await download()
    async with aclosing(it.get_docs()) as stream:
        await anext(stream)
    assert psutil.Process().num_fds() == before


@pytest.fixture(autouse=True)
def same_folder_afterwards() -> Iterator[None]:
    before = Path.cwd()
    yield
    os.chdir(before)


async def test_a_folder_swapped_for_a_link_during_the_sync_leads_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_module, "_BATCH", 1)
    root, outside = tmp_path / "root", tmp_path / "outside"
    tree(root, "a/1", "a/2", "b/1")
    tree(outside, "1", "2", "3")
    found = {}
    async for item in source(root).get_docs():
        if isinstance(item, tuple):
            found[item[0]["path"]] = item[1]
            if len(found) == 1:
                (root / "a").rename(root / "was_a")
                (root / "a").symlink_to(outside)
    assert list(found) == ["a/1", "b/1"]
    download = found["a/1"]
    assert download is not None
    with pytest.raises(SkippableError, match=r"^a/1: the file"):
        await download()


async def test_a_file_swapped_for_a_link_leads_nowhere(tmp_path: Path) -> None:
    root = tmp_path / "root"
    tree(root, "a", "b")
    tree(tmp_path, "secret")
    found = await downloads(source(root))
    (root / "a").unlink()
    (root / "a").symlink_to("../secret")
    (root / "b").unlink()
    (root / "b").mkdir()
    with pytest.raises(SkippableError, match="it is a link that leads out of the folder"):
        await found["a"]()
    with pytest.raises(SkippableError, match="it is a file no longer"):
        await found["b"]()


async def test_the_root_itself_may_be_a_link(tmp_path: Path) -> None:
    tree(tmp_path, "real/a")
    (tmp_path / "link").symlink_to("real")
    found = await downloads(source(tmp_path / "link"))
    assert await found["a"]() == {"_attachment": b"content of real/a"}
