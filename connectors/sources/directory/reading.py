"""Reading files for downloads: small ones that are wanted at about the same time are read together, in one thread.

A hop to a thread and back costs several times what the reading of a small file does. But a file that is slow to come,
on a network or on a disk that sleeps, must hold up no other: what a thread has not begun after a moment is read in
threads of its own. Where that happens again and again, each file is, until they come quickly.
"""

from __future__ import annotations

import asyncio
import errno
import os
import stat
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple, Self

from connectors.source import SkippableError
from connectors.sources.directory.paths import shown
from connectors.sources.directory.walk import Root
from connectors.utils import format_size

__all__ = ["FileReader"]

#: Bytes up to which a file is read together with others.
_SMALL: Final = 64 * 1024
#: Seconds that a thread has for files that are read together; ten small ones on a local disk take a tenth of it.
_TOGETHER: Final = 0.002
#: Seconds within which a file that has a thread of its own is quick.
_QUICK: Final = 0.0005
#: Score of slowness from which on each file has a thread of its own. Files together that took too long raise it by half
#: of that, those in time lower it by one: a busy machine that is late now and then has no slow disk.
_SLOW: Final = 10
_SLOWEST: Final = 20
#: Turns of the loop within which those whose files were read want the next ones.
_TURNS: Final = 3

_READ_ATTEMPTS: Final = 3
_PAUSE_BETWEEN_READS: Final = 0.1

# Not blocking: else the opening of a pipe would wait for somebody to write into it.
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class FileReader:
    """Reads the files of one enumeration, in the threads of the running loop.

    Args:
        root: the folder that they are in.
        limit: bytes that a file may have.
    """

    def __init__(self, root: Root, limit: int) -> None:
        self._root = root
        self._limit = limit
        self._waiting: list[_Wanted] = []
        self._together: _Hop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._slowness = 0

    async def read(self, path: str, size: int) -> bytes:
        """Returns the content of a file as it was at one moment.

        Args:
            size: bytes that it had when it was listed.

        Raises:
            SkippableError: it cannot be read.
            SyncError: the root is not what it was.
        """
        loop = asyncio.get_running_loop()
        wanted = _Wanted(path, loop.create_future())
        if size > _SMALL:
            self._start(_Hop([wanted]), _Hop.tell)
        elif self._slowness >= _SLOW:
            self._start(_Hop([wanted]), self._read_apart)
        else:
            self._waiting.append(wanted)
            if len(self._waiting) == 1 and self._together is None:
                loop.call_soon(self._begin, 0)
        return await wanted.content

    def _start(self, hop: _Hop, ended: Callable[[_Hop], None]) -> None:
        running = asyncio.get_running_loop().run_in_executor(None, hop.run, self._root, self._limit)
        running.add_done_callback(lambda _: ended(hop))

    def _begin(self, turns: int) -> None:
        """Has all files that wait read together, after so many turns of the loop."""
        if turns:
            asyncio.get_running_loop().call_soon(self._begin, turns - 1)
            return
        self._together, self._waiting = _Hop(self._waiting), []
        self._timer = asyncio.get_running_loop().call_later(_TOGETHER, self._spread, self._together)
        self._start(self._together, self._read_together)

    def _read_together(self, hop: _Hop) -> None:
        hop.tell()
        if self._together is hop and self._timer is not None:
            self._timer.cancel()
            self._together = None
            self._slowness = max(0, self._slowness - 1)
            if self._waiting:
                asyncio.get_running_loop().call_soon(self._begin, _TURNS)

    def _spread(self, hop: _Hop) -> None:
        """Has what a slow thread has not begun read in threads of its own, and what is wanted next."""
        self._together = None
        hop.tell()
        files = [*hop.left(), *self._waiting]
        self._waiting.clear()
        if files:
            self._slowness = min(self._slowness + _SLOW // 2, _SLOWEST)
        for wanted in files:
            self._start(_Hop([wanted]), self._read_apart)

    def _read_apart(self, hop: _Hop) -> None:
        hop.tell()
        change = -1 if hop.seconds < _QUICK else 1
        self._slowness = min(max(0, self._slowness + change), _SLOWEST)


class _Wanted(NamedTuple):
    """A file, and what becomes of it."""

    path: str
    content: asyncio.Future[bytes]


class _Hop:
    """Files that one thread reads, one after the other.

    Attributes:
        seconds: that it took.
    """

    __slots__ = ("_read", "_todo", "seconds")

    def __init__(self, files: Iterable[_Wanted]) -> None:
        self.seconds = 0.0
        self._todo = deque(files)
        self._read: deque[tuple[_Wanted, bytes | Exception]] = deque()

    def run(self, root: Root, limit: int) -> None:
        """Reads them. Blocks; the only method that is not for the loop."""
        began = time.monotonic()
        with _Opener(root) as opener:
            for wanted in self.left():
                try:
                    self._read.append((wanted, _read(opener, wanted.path, limit)))
                except Exception as error:  # noqa: BLE001 - raised where the file is waited for
                    self._read.append((wanted, error))
        self.seconds = time.monotonic() - began

    def left(self) -> Iterator[_Wanted]:
        """Takes those that nobody has begun, one by one: whoever asks, thread or loop, has the next one for himself."""
        while True:
            try:
                wanted = self._todo.popleft()
            except IndexError:
                return
            if not wanted.content.cancelled():
                yield wanted

    def tell(self) -> None:
        """Gives what was read so far to those who wait for it."""
        while self._read:
            (_, content), outcome = self._read.popleft()
            if content.done():
                continue  # nobody waits any more
            if isinstance(outcome, Exception):
                content.set_exception(outcome)
            else:
                content.set_result(outcome)


class _Opener:
    """Opens files below a root; the folder of the last one stays open for the next. Blocks."""

    __slots__ = ("_descriptor", "_folder", "_root")

    def __init__(self, root: Root) -> None:
        self._root = root
        self._folder: str | None = None
        self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def _close(self) -> None:
        if self._folder is not None:
            self._folder = None
            os.close(self._descriptor)

    def open(self, path: str) -> int:
        """Returns the descriptor of a file, open for reading; a link is followed if it stays inside.

        Raises:
            SyncError: the root is not what it was.
            OSError: there is no such file, or it cannot be opened.
        """
        try:
            return self._open(path)
        except OSError as error:
            if error.errno not in {errno.ELOOP, errno.EMLINK}:
                raise
        target = self._root.target_of_link(path)
        if target is None:
            raise OSError(errno.ELOOP, "it is a link that leads out of the folder")
        return self._open(target)

    def _open(self, path: str) -> int:
        folder, _, name = path.rpartition("/")
        if folder != self._folder:
            self._close()
            self._descriptor = self._root.open_folder(folder.split("/") if folder else [])
            self._folder = folder
        return os.open(name, _FILE, dir_fd=self._descriptor)


def _read(opener: _Opener, path: str, limit: int) -> bytes:
    """Returns the content of a file as it was at one moment. Blocks."""
    try:
        for attempt in range(_READ_ATTEMPTS):
            if attempt:
                time.sleep(_PAUSE_BETWEEN_READS)
            descriptor = opener.open(path)
            try:
                content = _read_whole(descriptor, path, limit)
            finally:
                os.close(descriptor)
            if content is not None:
                return content
    except (FileNotFoundError, NotADirectoryError):
        raise SkippableError(
            f"{shown(path)}: the file vanished after it was listed; the next sync settles it"
        ) from None
    except OSError as error:
        raise SkippableError(f"{shown(path)}: the file cannot be read: {error.strerror or error}") from None
    raise SkippableError(f"{shown(path)}: the file keeps changing while it is read; the next sync tries again")


def _read_whole(descriptor: int, path: str, limit: int) -> bytes | None:
    """Returns the content of an open file, None when it changed meanwhile."""
    before = os.fstat(descriptor)
    if not stat.S_ISREG(before.st_mode):
        raise OSError(errno.EINVAL, "it is a file no longer")
    if before.st_size > limit:
        raise SkippableError(f"{shown(path)}: it grew to more than {format_size(limit)}; the next sync settles it")
    content = os.read(descriptor, before.st_size + 1)
    while len(content) < before.st_size and (more := os.read(descriptor, before.st_size + 1 - len(content))):
        content += more  # one read may return less than was asked for
    after = os.fstat(descriptor)
    unchanged = (before.st_size, before.st_mtime_ns, before.st_ctime_ns) == (
        after.st_size,
        after.st_mtime_ns,
        after.st_ctime_ns,
    )
    return content if unchanged and len(content) == before.st_size else None
