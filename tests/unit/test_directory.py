"""The directory source: what it yields, what it leaves alone, and what it says when something is wrong."""

from __future__ import annotations

import asyncio
import concurrent.futures.thread  # noqa: F401 - asyncio loads it late, when the test's user may not read it
import logging
import mimetypes
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import psutil
import pytest

from connectors.byoc import Filter
from connectors.errors import SyncError
from connectors.source import (
    Checkpoint,
    ConfigurationError,
    DataSourceConfiguration,
    FrameworkConfig,
    SkippableError,
    Skipped,
)
from connectors.sources.directory import DirectoryDataSource
from connectors.sources.directory import source as source_module
from connectors.sources.directory.walk import Root

LONG_AGO = 1_700_000_000_000_000_000


def source(directory: Path | str, **values: Any) -> DirectoryDataSource:
    defaults = DirectoryDataSource.get_default_configuration()
    return DirectoryDataSource(DataSourceConfiguration.merge(defaults, {"directory": str(directory), **values}))


def tree(root: Path, *paths: str) -> None:
    for path in paths:
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"content of {path}")


async def items(it: DirectoryDataSource, **arguments: Any) -> list[Any]:
    return [item async for item in it.get_docs(**arguments)]


async def documents(it: DirectoryDataSource, **arguments: Any) -> dict[str, dict[str, Any]]:
    return {item[0]["path"]: item[0] for item in await items(it, **arguments) if isinstance(item, tuple)}


async def paths(it: DirectoryDataSource, **arguments: Any) -> list[str]:
    return list(await documents(it, **arguments))


async def downloads(it: DirectoryDataSource) -> dict[str, Any]:
    return {item[0]["path"]: item[1] for item in await items(it) if isinstance(item, tuple)}


@pytest.fixture
def unprivileged() -> Iterator[Path]:
    """A folder of a user who is not root, as whom the test runs: root may read everything."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o777)
    mimetypes.init()
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield folder
    finally:
        if root:
            os.seteuid(0)
        for path in folder.rglob("*"):
            if path.is_dir():
                path.chmod(0o700)
        shutil.rmtree(folder)


# Documents


async def test_a_document_tells_about_the_file(tmp_path: Path) -> None:
    tree(tmp_path, "guide/Restart it.tar.GZ")
    file = tmp_path / "guide" / "Restart it.tar.GZ"
    os.utime(file, ns=(LONG_AGO + 123_456_789, LONG_AGO + 123_456_789))
    state = file.stat()
    ((document, download), checkpoint) = await items(source(tmp_path))
    created, timestamp = document.pop("created_at"), document.pop("_timestamp")
    assert document == {
        "_id": "guide/Restart it.tar.GZ",
        "path": "guide/Restart it.tar.GZ",
        "folder": "guide",
        "name": "Restart it.tar.GZ",
        "title": "Restart it.tar",
        "extension": "gz",
        "mime_type": "application/gzip",
        "size": state.st_size,
        "modified_at": "2023-11-14T22:13:20.123456+00:00",
    }
    assert timestamp > document["modified_at"]  # the file's record changed later than its content
    assert created[:10] >= "2023-11-14"
    assert await download() == {"_attachment": b"content of guide/Restart it.tar.GZ"}
    assert await download(doit=False, timestamp=timestamp) is None
    assert checkpoint == Checkpoint({"after": "guide/Restart it.tar.GZ"})


@pytest.mark.parametrize(
    ("name", "title", "extension", "mime_type"),
    [
        ("a.md", "a", "md", "text/markdown"),
        ("A.PDF", "A", "pdf", "application/pdf"),
        ("README", "README", "", "application/octet-stream"),
        (".bashrc", ".bashrc", "", "application/octet-stream"),
        (".config.json", ".config", "json", "application/json"),
        ("ends.", "ends", "", "application/octet-stream"),
        ("x." + "y" * 200, "x", "y" * 200, "application/octet-stream"),
    ],
)
async def test_names(tmp_path: Path, name: str, title: str, extension: str, mime_type: str) -> None:
    tree(tmp_path, name)
    document = (await documents(source(tmp_path)))[name]
    assert (document["title"], document["extension"], document["mime_type"]) == (title, extension, mime_type)


async def test_names_in_another_encoding_and_long_paths(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9.txt")).write_text("x")
    tree(tmp_path, "/".join(["n" * 100] * 6))
    found = await items(source(tmp_path))
    ids = {item[0]["_id"]: item for item in found if isinstance(item, tuple)}
    odd, long = ids.pop("//bytes/caf%E9.txt"), ids.popitem()[1]
    assert odd[0]["path"] == "caf\ufffd.txt"
    assert await odd[1]() == {"_attachment": b"x"}
    assert long[0]["_id"].startswith("//hash/")
    assert len(long[0]["path"]) == 605
    only_later = await paths(source(tmp_path), checkpoint={"after": "//bytes/caf%E9.txt"})
    assert only_later == [long[0]["path"]]


async def test_times_that_no_calendar_holds(tmp_path: Path) -> None:
    tree(tmp_path, "old", "new")
    os.utime(tmp_path / "old", ns=(-(2**40), -(2**40)))
    os.utime(tmp_path / "new", (2**40, 2**40))
    found = await documents(source(tmp_path))
    assert found["old"]["modified_at"].startswith("1969-12-31")
    assert found["new"]["modified_at"][:4].isdecimal()


async def test_content_replaced_under_its_old_time_is_noticed(tmp_path: Path) -> None:
    tree(tmp_path, "a")
    os.utime(tmp_path / "a", ns=(LONG_AGO, LONG_AGO))
    before = (await documents(source(tmp_path)))["a"]
    (tmp_path / "a").write_text("CONTENT OF a")
    os.utime(tmp_path / "a", ns=(LONG_AGO, LONG_AGO))
    after = (await documents(source(tmp_path)))["a"]
    assert (after["size"], after["modified_at"]) == (before["size"], before["modified_at"])
    assert after["_timestamp"] != before["_timestamp"]


# Order, selection, resumption


async def test_order_is_that_of_the_components(tmp_path: Path) -> None:
    everything = ["B", "a!/x", "a.txt", "a/b", "a/c/d", "a/c.txt", "a0", "b/a", "z", "é"]  # "a!/x" < "a/b" as text
    tree(tmp_path, *reversed(everything))
    assert await paths(source(tmp_path)) == sorted(everything, key=lambda path: path.split("/"))


async def test_batches_go_on_where_the_last_one_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_module, "_BATCH", 3)
    tree(tmp_path, *(f"{folder}/{number}" for folder in "abc" for number in range(4)), "d")
    it = source(tmp_path)
    everything = await items(it)
    files = [item[0]["path"] for item in everything if isinstance(item, tuple)]
    assert len(files) == 13
    checkpoints = [item for item in everything if isinstance(item, Checkpoint)]
    assert [item.state["after"] for item in checkpoints] == [*files[2::3], files[-1]]
    for place, path in enumerate(files):
        assert await paths(it, checkpoint={"after": path}) == files[place + 1 :]
    assert await paths(it, checkpoint={"after": "b/1x"}) == files[files.index("b/2") :]  # that file is gone now
    assert await paths(it, checkpoint={"after": "a"}) == files
    assert await paths(it, checkpoint={"after": "a/0/x"}) == files[1:]  # it was a folder then


async def test_time_is_shared_out_in_a_folder_of_which_nothing_is_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("connectors.sources.directory.walk._LONGEST_CALL", 0.0)
    tree(tmp_path, "a/1", "a/2", "a/b/3", "c")
    assert await paths(source(tmp_path)) == ["a/1", "a/2", "a/b/3", "c"]


async def test_include_exclude_and_advanced_rules(tmp_path: Path) -> None:
    tree(tmp_path, "a.md", "b.txt", "docs/c.md", "docs/old/d.md", "node_modules/e.md", "docs/f.pdf")
    it = source(tmp_path, include=["*.md", "*.pdf"], exclude=["old/", "node_modules"])
    assert await paths(it) == ["a.md", "docs/c.md", "docs/f.pdf"]
    rules = Filter.of(advanced=[{"pattern": "/docs/**"}, {"pattern": "b.*"}])
    assert await paths(it, filtering=rules) == ["b.txt", "docs/c.md", "docs/f.pdf"]
    assert await paths(it, filtering=Filter.of()) == ["a.md", "docs/c.md", "docs/f.pdf"]
    assert await paths(source(tmp_path, include="*.txt, *.pdf")) == ["b.txt", "docs/f.pdf"]


async def test_what_is_left_out_is_not_entered(unprivileged: Path) -> None:
    tree(unprivileged, "a", "private/x", "elsewhere/y")
    (unprivileged / "private").chmod(0)
    (unprivileged / "elsewhere").chmod(0)
    found = await items(source(unprivileged, exclude=["private", "elsewhere/**"]))
    assert not any(isinstance(item, Skipped) for item in found)
    found = await items(source(unprivileged, include=["/a"]))
    assert not any(isinstance(item, Skipped) for item in found)


# Content


async def test_large_and_empty_files_have_metadata_only(tmp_path: Path) -> None:
    tree(tmp_path, "fits")
    (tmp_path / "empty").touch()
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(2**30)
    it = source(tmp_path, max_file_size=12)
    assert {path: download is None for path, download in (await downloads(it)).items()} == {
        "empty": True,
        "fits": True,
        "sparse": True,
    }
    it = source(tmp_path)
    found = await documents(it)
    assert found["sparse"]["content_skipped"] == "larger than 10 MB"
    assert "content_skipped" not in found["fits"]
    assert (await downloads(it))["fits"] is not None
    it.set_framework_config(FrameworkConfig(base_dir=tmp_path, max_file_size=5))
    assert (await documents(it))["fits"]["content_skipped"] == "larger than 5 B"


async def test_a_file_that_vanished_or_grew_is_a_failure_of_its_own(tmp_path: Path) -> None:
    tree(tmp_path, "a", "b", "c")
    found = await downloads(source(tmp_path, max_file_size=100))
    (tmp_path / "a").unlink()
    (tmp_path / "b").write_bytes(b"x" * 101)
    (tmp_path / "c").unlink()
    os.mkfifo(tmp_path / "c")
    for path, words in (
        ("a", "vanished after it was listed"),
        ("b", "grew to more than 100 B"),
        ("c", "a file no longer"),
    ):
        with pytest.raises(SkippableError, match=f"^{path}: .*{words}"):
            await found[path]()


async def test_a_file_that_is_rewritten_is_read_as_it_is_now(tmp_path: Path) -> None:
    tree(tmp_path, "a")
    found = await downloads(source(tmp_path))
    (tmp_path / "a").write_text("something longer than it was before")
    assert await found["a"]() == {"_attachment": b"something longer than it was before"}


async def test_a_torn_read_is_not_taken_for_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree(tmp_path, "a")
    monkeypatch.setattr(source_module, "_PAUSE_BETWEEN_READS", 0.0)
    found = await downloads(source(tmp_path))
    real, calls = os.fstat, 0

    def grow(descriptor: int) -> os.stat_result:
        """Appends to the file while it is being read, that is, before the last of three looks at it."""
        nonlocal calls
        calls += 1
        if calls % 3 == 0 and calls <= changes * 3:
            with (tmp_path / "a").open("a") as file:
                file.write("+")
        return real(descriptor)

    monkeypatch.setattr("connectors.sources.directory.source.os.fstat", grow)
    monkeypatch.setattr(Root, "_open", lambda self: os.open(self.path, os.O_RDONLY))
    changes = 2
    assert await found["a"]() == {"_attachment": b"content of a++"}
    changes, calls = 99, 0
    with pytest.raises(SkippableError, match=r"^a: the file keeps changing"):
        await found["a"]()


async def test_an_unreadable_file_is_named_once_by_its_download(unprivileged: Path) -> None:
    tree(unprivileged, "a", "b")
    (unprivileged / "b").chmod(0)
    everything = await items(source(unprivileged))
    assert not any(isinstance(item, Skipped) for item in everything)
    ((_, _), (document, download), _) = everything
    assert document["_id"] == "b"
    with pytest.raises(SkippableError, match=r"^b: the file cannot be read: Permission denied$"):
        await download()


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


# Configuration


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"directory": ""}, '"Folder" is required'),
        ({"directory": "  "}, '"Folder" is required'),
        ({"directory": "missing"}, r"^directory: .*/missing does not exist; create it"),
        ({"directory": "file"}, r"^directory: .*/file is not a folder"),
        ({"directory": "a\0b"}, "cannot be read"),
        ({"include": ["[a"]}, r"^include: the pattern '\[a' has a \["),
        ({"exclude": ["a", "!b"]}, r"^exclude: the pattern '!b' begins with !"),
        ({"max_file_size": "much"}, "must be a whole number"),
        ({"max_file_size": -1}, "greater than -1"),
    ],
)
async def test_mistakes_are_told_in_human_words(tmp_path: Path, values: dict[str, Any], words: str) -> None:
    tree(tmp_path, "file")
    it = source(**{"directory": ".", **values})
    it.set_framework_config(FrameworkConfig(base_dir=tmp_path))
    with pytest.raises(ConfigurationError, match=words) as told:
        await it.validate_config()
    assert told.value.field in values


async def test_a_folder_that_may_not_be_read(unprivileged: Path) -> None:
    tree(unprivileged, "x/y")
    (unprivileged / "x").chmod(0o400)
    it = source(unprivileged / "x")
    with pytest.raises(ConfigurationError, match="may not be read by this user"):
        await it.ping()
    with pytest.raises(ConfigurationError, match="may not be read by this user"):
        await items(it)


async def test_relative_paths_count_from_the_folder_of_the_configuration(tmp_path: Path) -> None:
    tree(tmp_path, "docs/a")
    it = source("docs")
    it.set_framework_config(FrameworkConfig(base_dir=tmp_path))
    await it.ping()
    await it.validate_config()
    assert await paths(it) == ["a"]


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        ({"pattern": "a"}, ["write a list of patterns"]),
        (["a"], ["rule 1: a is no pattern"]),
        ([{"pattern": 1}], ["rule 1: {'pattern': 1} is no pattern"]),
        ([{"pattern": "a", "more": 1}], ["is no pattern"]),
        ([{"pattern": "ok"}, {"pattern": "[a"}, {"glob": "x"}], ["rule 2: the pattern '[a'", "rule 3: {'glob': 'x'}"]),
        ([{"pattern": "docs/**"}], []),
    ],
)
async def test_advanced_rules_are_validated(tmp_path: Path, rules: Any, words: list[str]) -> None:
    result = await source(tmp_path).validate_filtering(Filter.of(advanced=rules))
    messages = [message for error in result.errors for message in error.messages]
    assert len(messages) == len(words)
    assert all(word in message for word, message in zip(words, messages, strict=True))
