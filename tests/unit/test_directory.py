"""The directory source: what it yields, what it leaves alone, and what it says when something is wrong."""

from __future__ import annotations

import concurrent.futures.thread  # noqa: F401 - asyncio loads it late, when the test's user may not read it
import os
from pathlib import Path
from typing import Any

import pytest

from connectors.byoc import Filter
from connectors.source import (
    Checkpoint,
    ConfigurationError,
    FrameworkConfig,
    SkippableError,
    Skipped,
)
from connectors.sources.directory import reading
from connectors.sources.directory import source as source_module
from connectors.sources.directory.walk import Root
from tests.support.directory import documents, downloads, items, paths, source, tree, unprivileged

__all__ = ["unprivileged"]  # the fixture is found by its name here

LONG_AGO = 1_700_000_000_000_000_000


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
    monkeypatch.setattr(reading, "_PAUSE_BETWEEN_READS", 0.0)
    found = await downloads(source(tmp_path))
    real, calls = os.fstat, 0

    def grow(descriptor: int) -> os.stat_result:
        """Appends to the file while it is being read, that is, before the last of two looks at it."""
        nonlocal calls
        calls += 1
        if calls % 2 == 0 and calls <= changes * 2:
            with (tmp_path / "a").open("a") as file:
                file.write("+")
        return real(descriptor)

    monkeypatch.setattr("connectors.sources.directory.reading.os.fstat", grow)
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
