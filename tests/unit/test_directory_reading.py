"""The directory source: small files are read together, and none waits for a slow one."""

from __future__ import annotations

import asyncio
import concurrent.futures.thread  # noqa: F401 - asyncio loads it late
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from connectors.errors import SyncError
from connectors.source import SkippableError
from connectors.sources.directory import reading
from connectors.sources.directory.reading import FileReader
from connectors.sources.directory.walk import Root
from tests.support.directory import tree

#: Seconds after which something that waits for what never comes fails; nothing takes so long.
LONG = 30.0

REAL = reading._read


class Threads:
    """What threads were asked to read: the files of each that began, in their order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.hops: list[list[str]] = []
        self.before: Callable[[str], None] = lambda _: None
        run, mine = reading._Hop.run, threading.local()

        def counted_run(hop: reading._Hop, root: Root, limit: int) -> None:
            mine.files = []
            self.hops.append(mine.files)
            run(hop, root, limit)

        def counted_read(opener: reading._Opener, path: str, limit: int) -> bytes:
            mine.files.append(path)
            self.before(path)
            return REAL(opener, path, limit)

        monkeypatch.setattr(reading._Hop, "run", counted_run)
        monkeypatch.setattr(reading, "_read", counted_read)

    @property
    def sizes(self) -> list[int]:
        return sorted(map(len, self.hops))


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> Threads:
    return Threads(monkeypatch)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine makes no file slow."""
    monkeypatch.setattr(reading, "_TOGETHER", LONG)


@contextmanager
def hanging(threads: Threads, *names: str) -> Iterator[threading.Event]:
    """Makes the reading of these files hang until the end of the block."""
    released, begun = threading.Event(), threading.Event()

    def hang(path: str) -> None:
        if path in names:
            begun.set()
            assert released.wait(LONG)

    threads.before = hang
    try:
        yield begun
    finally:
        released.set()


def reader_of(folder: Path, *names: str, limit: int = 10**6) -> FileReader:
    tree(folder, *names)
    return FileReader(Root.at(str(folder)), limit)


def begin(reader: FileReader, *names: str) -> list[asyncio.Task[bytes]]:
    return [asyncio.create_task(reader.read(name, 10)) for name in names]


async def contents(*tasks: asyncio.Task[bytes]) -> list[str]:
    async with asyncio.timeout(LONG):
        return [content.decode() for content in await asyncio.gather(*tasks)]


NAMES = [f"{folder}/{n}" for folder in "ab" for n in range(5)]


@pytest.mark.usefixtures("patient")
async def test_small_files_wanted_at_the_same_time_are_read_by_one_thread(tmp_path: Path, threads: Threads) -> None:
    reader = reader_of(tmp_path, *NAMES, "c")
    assert await contents(*begin(reader, *NAMES)) == [f"content of {name}" for name in NAMES]
    assert threads.hops == [NAMES]
    assert await reader.read("c", 10) == b"content of c"
    assert threads.hops == [NAMES, ["c"]]


@pytest.mark.usefixtures("patient")
async def test_what_is_wanted_meanwhile_is_read_together_too(tmp_path: Path, threads: Threads) -> None:
    reader = reader_of(tmp_path, *NAMES)
    with hanging(threads, NAMES[0]) as begun:
        first = begin(reader, NAMES[0])
        await asyncio.to_thread(begun.wait, LONG)
        others = begin(reader, *NAMES[1:])
        await asyncio.sleep(0)
    await contents(*first, *others)
    assert threads.hops == [NAMES[:1], NAMES[1:]]


async def test_a_file_that_hangs_holds_up_no_other(tmp_path: Path, threads: Threads) -> None:
    reader = reader_of(tmp_path, *NAMES)
    with hanging(threads, NAMES[3]):
        tasks = begin(reader, *NAMES)
        stuck = tasks.pop(3)
        assert len(await contents(*tasks)) == len(NAMES) - 1
        assert await contents(*begin(reader, *NAMES[4:])) == [f"content of {name}" for name in NAMES[4:]]
        assert not stuck.done()
        stuck.cancel()  # its download took too long
        await asyncio.wait([stuck])
    assert await contents(*begin(reader, NAMES[3])) == [f"content of {NAMES[3]}"]


async def test_a_file_that_hangs_holds_up_none_that_is_wanted_meanwhile(
    tmp_path: Path, threads: Threads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "_TOGETHER", 0.2)  # so that they wait for a while
    reader = reader_of(tmp_path, *NAMES)
    with hanging(threads, NAMES[0]) as begun:
        stuck = begin(reader, NAMES[0])
        await asyncio.to_thread(begun.wait, LONG)
        assert len(await contents(*begin(reader, *NAMES[1:]))) == 9
    await contents(*stuck)


async def test_slow_files_are_read_several_at_a_time(tmp_path: Path, threads: Threads) -> None:
    reader = reader_of(tmp_path, *NAMES)
    together = threading.Barrier(3, timeout=LONG)  # which none passes alone

    def wait(_: str) -> None:
        together.wait()

    threads.before = wait
    assert len(await contents(*begin(reader, *NAMES[:3]))) == 3
    assert threads.sizes == [1, 1, 1]


async def test_as_long_as_files_are_slow_each_has_a_thread_of_its_own(
    tmp_path: Path, threads: Threads, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = reader_of(tmp_path, *NAMES)
    monkeypatch.setattr(reading, "_QUICK", -1.0)
    for _ in range(2):  # once may be chance
        with hanging(threads, NAMES[0]):
            slow, *others = begin(reader, *NAMES)
            await contents(*others)
        await contents(slow)
    threads.hops.clear()
    await contents(*begin(reader, *NAMES))
    assert threads.sizes == [1] * 10
    monkeypatch.setattr(reading, "_QUICK", LONG)
    monkeypatch.setattr(reading, "_TOGETHER", LONG)
    for _ in range(2):
        await contents(*begin(reader, *NAMES))
    threads.hops.clear()
    await contents(*begin(reader, *NAMES))
    assert threads.sizes == [10]


@pytest.mark.usefixtures("patient")
async def test_a_large_file_has_a_thread_of_its_own(tmp_path: Path, threads: Threads) -> None:
    reader = reader_of(tmp_path, *NAMES)
    (tmp_path / "large").write_bytes(b"x" * 100_000)
    with hanging(threads, NAMES[0]) as begun:
        small = begin(reader, NAMES[0])
        await asyncio.to_thread(begun.wait, LONG)
        async with asyncio.timeout(LONG):
            assert len(await reader.read("large", 100_000)) == 100_000
    await contents(*small)


@pytest.mark.usefixtures("patient")
async def test_what_nobody_waits_for_any_more_is_not_read(tmp_path: Path, threads: Threads) -> None:
    reader = reader_of(tmp_path, *NAMES)
    with hanging(threads, NAMES[0]) as begun:
        first = begin(reader, *NAMES[:2])
        await asyncio.to_thread(begun.wait, LONG)
        rest = begin(reader, *NAMES[2:])
        await asyncio.sleep(0)
        for task in (first[1], *rest[1:]):
            task.cancel()
        await asyncio.wait([first[1], *rest[1:]])
    await contents(first[0], rest[0])
    assert threads.hops == [NAMES[:1], NAMES[2:3]]


@pytest.mark.usefixtures("patient")
async def test_each_file_fails_for_itself_and_no_descriptor_stays_open(tmp_path: Path, threads: Threads) -> None:
    reader = reader_of(tmp_path, "a/1", "a/2", "b/1", "c/1", "d/link", limit=100)
    (tmp_path / "a" / "1").unlink()
    (tmp_path / "b" / "1").write_bytes(b"x" * 101)
    (tmp_path / "d" / "link").unlink()
    (tmp_path / "d" / "link").symlink_to("../c/1")
    (tmp_path / "d" / "out").symlink_to("/etc/hostname")
    await contents(*begin(reader, "c/1"))  # what the loop opens for its threads is open now
    threads.hops.clear()
    before = psutil.Process().num_fds()
    names = ["a/1", "gone/1", "a/2", "b/1", "c/1", "d/out", "d/link"]
    outcomes = await asyncio.gather(*begin(reader, *names), return_exceptions=True)
    assert threads.hops == [names]
    assert psutil.Process().num_fds() == before
    told = [outcome.decode() if isinstance(outcome, bytes) else f"{outcome!r}" for outcome in outcomes]
    assert [text.partition(": ")[2] or text for text in told] == [
        "the file vanished after it was listed; the next sync settles it')",
        "the file vanished after it was listed; the next sync settles it')",
        "content of a/2",
        "it grew to more than 100 B; the next sync settles it')",
        "content of c/1",
        "the file cannot be read: it is a link that leads out of the folder')",
        "content of c/1",
    ]
    assert all(isinstance(outcome, bytes | SkippableError) for outcome in outcomes)


async def test_a_root_that_was_replaced_fails_whatever_is_read_of_it(tmp_path: Path) -> None:
    reader = reader_of(tmp_path / "root", "a", "b")
    (tmp_path / "root").rename(tmp_path / "moved")
    tree(tmp_path / "root", "a", "b")
    for outcome in await asyncio.gather(*begin(reader, "a", "b"), return_exceptions=True):
        assert isinstance(outcome, SyncError)
        assert not isinstance(outcome, SkippableError)
