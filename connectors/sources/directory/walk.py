"""Walking a folder in the order of its paths, a batch of files at a time, without ever leaving it.

The walk holds the names of one folder per level and nothing else: no open files between two batches, no list of the
tree. Everything is opened from the root downwards, component by component and never through a symbolic link, so a
folder that somebody swaps for a link during the walk leads nowhere.

All functions block; the source calls them in threads.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import monotonic
from typing import NamedTuple, TypeAlias

from connectors.errors import SyncError

__all__ = ["Found", "FoundFile", "Root", "Selection", "Span", "Unreadable", "Walker"]

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

_GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
"""What one gets for something that was removed, or replaced by a file or a link, since it was listed."""

_LONGEST_CALL = 0.25
"""Seconds after which a batch is handed over however few files it has."""


class FoundFile(NamedTuple):
    """A file to be indexed: its path relative to the root, and its state when it was met."""

    path: str
    stat: os.stat_result


class Unreadable(NamedTuple):
    """Something whose content is not known, so that nobody can tell which files exist."""

    path: str
    reason: str


Found: TypeAlias = FoundFile | Unreadable


@dataclass(frozen=True, slots=True)
class Root:
    """The folder that is walked.

    Attributes:
        path: absolute, without symbolic links.
        identity: device and inode, by which a folder is known that was replaced or unmounted.
    """

    path: str
    identity: tuple[int, int]

    @classmethod
    def at(cls, path: str) -> Root:
        """Looks at the folder. Raises OSError when it is missing, no folder, or may not be listed."""
        real = os.path.realpath(path)
        with _closing(os.open(real, _FOLDER)) as descriptor:
            state = os.stat(".", dir_fd=descriptor)  # which takes the right to look at what is in it
        return cls(real, (state.st_dev, state.st_ino))

    def open_folder(self, components: list[str]) -> int:
        """Returns a descriptor of a folder below the root.

        Raises:
            SyncError: the root is not what it was; nothing that is missing may be taken for deleted.
            OSError: the folder cannot be opened.
        """
        descriptor = self._open()
        for component in components:
            with _closing(descriptor) as parent:
                descriptor = os.open(component, _FOLDER, dir_fd=parent)
        return descriptor

    def _open(self) -> int:
        try:
            descriptor = os.open(self.path, _FOLDER)
        except OSError as error:
            raise SyncError(f"the folder {self.path} cannot be read any more: {error.strerror}") from error
        state = os.fstat(descriptor)
        if (state.st_dev, state.st_ino) == self.identity:
            return descriptor
        os.close(descriptor)
        raise SyncError(f"the folder {self.path} was replaced, mounted or unmounted during the sync")

    def target_of_link(self, path: str) -> str | None:
        """Returns the path, relative to the root, that a link leads to in the end; None when it is outside."""
        target = os.path.realpath(os.path.join(self.path, path))  # noqa: PTH118 - pathlib would normalise the bytes
        start = self.path.rstrip("/") + "/"
        return target[len(start) :] if target.startswith(start) else None


@dataclass(frozen=True, slots=True)
class Selection:
    """Which files are wanted: two questions about paths relative to the root."""

    wants_file: Callable[[str], bool]
    enters_folder: Callable[[str], bool]


class Span(NamedTuple):
    """A part of a tree, in the order of its paths' components.

    Attributes:
        start, end: the first path of it, and the first one behind it, as components; None: no limit. Both may name
            what is not there.
    """

    start: list[str] | None = None
    end: list[str] | None = None

    def names(self, folder: list[str], names: list[str]) -> list[str]:
        """Returns those of a folder's names that belong to it, or lead to what does."""
        depth = len(folder)
        if self.start is not None and self.start[:depth] == folder and len(self.start) > depth:
            names = [name for name in names if name >= self.start[depth]]
        if self.end is not None and self.end[:depth] == folder and len(self.end) > depth:
            leads = len(self.end) > depth + 1
            names = [name for name in names if name < self.end[depth] or (leads and name == self.end[depth])]
        return names


_EVERYTHING = Span()


@dataclass(slots=True)
class _Level:
    """A folder that is being walked: the names still to come, the next one last."""

    components: list[str]
    names: list[str]
    edge: list[str] | None
    """Where to go on from, inside this folder; None once we are past it."""
    prefix: str = field(init=False)
    """The folder's own path with a slash behind it; empty for the root."""

    def __post_init__(self) -> None:
        self.prefix = "".join(component + "/" for component in self.components)


@dataclass(slots=True)
class Walker:
    """The state of one walk.

    Args:
        root: the folder.
        selection: which files are wanted.
        after: the path after which the walk begins, if it is not to begin at the beginning.
        within: the part of the tree that is walked.

    Attributes:
        done: whether everything was met.
        links_ignored: number of links that were left alone: to folders, to nothing, or out of the root.
        special: number of pipes, sockets and devices that were left alone.
    """

    root: Root
    selection: Selection
    after: str | None = None
    within: Span = _EVERYTHING
    done: bool = False
    links_ignored: int = 0
    special: int = 0
    _started: bool = field(default=False, init=False)
    _levels: list[_Level] = field(default_factory=list, init=False)

    def next_batch(self, limit: int) -> list[Found]:
        """Returns at most `limit` of the next files, in the order of their paths' components.

        The list can be short or empty before the end; `done` tells.

        Raises:
            SyncError: the root is gone or was replaced.
        """
        found: list[Found] = []
        deadline = monotonic() + _LONGEST_CALL
        if not self._started:
            self._started = True
            edge = None if self.after is None else self.after.split("/")
            self._enter([], edge, found)
        while self._levels:
            level = self._levels[-1]
            if level.names:
                self._continue(level, limit, deadline, found)
            else:
                self._levels.pop()
            if len(found) >= limit or monotonic() > deadline:
                break
        if not self._levels:
            os.close(self.root.open_folder([]))  # a root that went away meanwhile did not end here
            self.done = True
        return found

    def _enter(self, components: list[str], edge: list[str] | None, found: list[Found]) -> None:
        """Begins a folder."""
        try:
            with _closing(self.root.open_folder(components)) as descriptor:
                names = sorted(os.listdir(descriptor), reverse=True)  # noqa: PTH208 - pathlib cannot list a descriptor
        except OSError as error:
            self._report("/".join(components), error, found)
            return
        if self.within != _EVERYTHING:
            names = self.within.names(components, names)
        if edge is not None:
            while names and names[-1] < edge[0]:
                names.pop()
        self._levels.append(_Level(components, names, edge))

    def _continue(self, level: _Level, limit: int, deadline: float, found: list[Found]) -> None:
        """Meets the next names of a folder, down to the first one that is a folder itself."""
        try:
            descriptor = self.root.open_folder(level.components)
        except OSError as error:
            level.names.clear()
            self._report("/".join(level.components), error, found)
            return
        with _closing(descriptor):
            while level.names and len(found) < limit:
                name = level.names.pop()
                path = level.prefix + name
                edge, level.edge = level.edge, None
                at_edge = edge is not None and edge[0] == name
                try:
                    state = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
                except PermissionError as error:
                    level.names.clear()  # names may be listed here, but nothing may be known of them
                    self._report("/".join(level.components), error, found)
                    return
                except OSError as error:
                    self._report(path, error, found)
                    continue
                if stat.S_ISDIR(state.st_mode):
                    if self.selection.enters_folder(path):
                        self._enter([*level.components, name], (edge[1:] or None) if edge and at_edge else None, found)
                        return
                elif not at_edge and self.selection.wants_file(path):
                    self._meet(path, state, found)
                if monotonic() > deadline:
                    return

    def _meet(self, path: str, state: os.stat_result, found: list[Found]) -> None:
        """Takes what is no folder, if it is a file or a link to a file inside."""
        if stat.S_ISLNK(state.st_mode):
            self._follow(path, found)
        elif stat.S_ISREG(state.st_mode):
            found.append(FoundFile(path, state))
        else:
            self.special += 1

    def _follow(self, path: str, found: list[Found]) -> None:
        """Takes a link if it leads to a file inside."""
        target = self.root.target_of_link(path)
        if target is None:
            self.links_ignored += 1
            return
        *folders, name = target.split("/")
        try:
            with _closing(self.root.open_folder(folders)) as parent:
                state = os.stat(name, dir_fd=parent, follow_symlinks=False)
        except OSError as error:
            self.links_ignored += error.errno in _GONE
            self._report(path, error, found)  # what it leads to may well be there
            return
        if stat.S_ISREG(state.st_mode):
            found.append(FoundFile(path, state))
        else:
            self.links_ignored += 1

    @staticmethod
    def _report(path: str, error: OSError, found: list[Found]) -> None:
        if error.errno not in _GONE:
            found.append(Unreadable(path or ".", error.strerror or str(error)))


@contextmanager
def _closing(descriptor: int) -> Iterator[int]:
    try:
        yield descriptor
    finally:
        os.close(descriptor)
