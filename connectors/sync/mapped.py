"""Sorted entries of 24 bytes, mapped from disk: id digest → content hash.

Looking ids up touches the file all over, and each part of it that was touched counts as memory of this process until it
is given back. So a lookup finds its place in a small index first, one key of 16; where the file is large, the ids of a
page are looked up in the order of the file, and what was touched is given back every few megabytes. It stays in the
page cache of the system, where touching it again costs a microsecond or less, and the memory of the process hardly
grows with the number of documents.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["ENTRY", "U64", "Found", "MappedEntries", "locate"]

U64 = npt.NDArray[np.uint64]

ENTRY: Final = np.dtype([("hi", "<u8"), ("lo", "<u8"), ("hash", "<u8")])
#: Entries between two keys of the index.
_STRIDE: Final = 16
#: Bytes that the system maps at once, at most, where one of them is touched: a huge page.
_WINDOW: Final = 2 << 20
#: Windows that may be mapped at once.
_WINDOWS: Final = 2
#: A file of no more windows stays mapped as a whole: giving it back would cost more than it holds.
_KEPT: Final = 4
#: Entries that are read one after another until then.
_CHUNK: Final = 1 << 16


class Found(NamedTuple):
    """For each id that was looked for: its position, whether it is there, and if so its content hash."""

    position: npt.NDArray[np.intp]
    there: npt.NDArray[np.bool_]
    hash: U64


def locate(entries: npt.NDArray[Any], at: npt.NDArray[np.intp], hi: U64, lo: U64) -> Found:
    """Looks ids up in sorted entries; `at` is where the first key that is not less than theirs would stand."""
    size = len(entries)
    position = np.minimum(at, size - 1)
    if not size:
        return Found(np.zeros(len(hi), dtype=np.intp), np.zeros(len(hi), dtype=bool), np.zeros(len(hi), dtype="<u8"))
    met = entries[position]
    same_hi = met["hi"] == hi
    there, hashes = same_hi & (met["lo"] == lo), met["hash"]
    for row in np.flatnonzero(same_hi & ~there).tolist():  # several ids share the high half: practically never
        place = int(position[row])
        while place < size and entries["hi"][place] == hi[row]:
            if entries["lo"][place] == lo[row]:
                position[row], there[row], hashes[row] = place, True, entries["hash"][place]
                break
            place += 1
    return Found(position, there, hashes)


class MappedEntries:
    """Entries sorted by their high half; those that share one stand in any order.

    Args:
        path: the file; None where there is none yet.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._map: mmap.mmap | None = None
        self.array: npt.NDArray[Any] = np.empty(0, dtype=ENTRY)
        size = path.stat().st_size // ENTRY.itemsize * ENTRY.itemsize if path is not None else 0
        if path is not None and size:  # empty files cannot be mapped
            with path.open("rb") as file:
                self._map = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ)
            self.array = np.frombuffer(self._map, dtype=ENTRY)
        self._large = size > _KEPT * _WINDOW
        self._keys: U64 = np.empty(-(-len(self.array) // _STRIDE), dtype=np.uint64)
        for start in range(0, len(self.array), _CHUNK):
            part = self.array["hi"][start : start + _CHUNK : _STRIDE]
            self._keys[start // _STRIDE : start // _STRIDE + len(part)] = part
            self._give_back()

    def __len__(self) -> int:
        return len(self.array)

    def find(self, hi: U64, lo: U64) -> Found:
        """Looks ids up, given as halves of their digests."""
        block = self._block(hi)
        found = Found(np.empty(len(hi), np.intp), np.empty(len(hi), np.bool_), np.empty(len(hi), np.uint64))
        for part in self._parts(block):
            some = locate(self.array, self._first(block[part], hi[part]), hi[part], lo[part])
            for whole, values in zip(found, some, strict=True):
                whole[part] = values
        return found

    def first(self, keys: U64) -> list[int]:
        """Returns for each high half the position of the first entry that is not less."""
        block = self._block(keys)
        places = np.empty(len(keys), np.intp)
        for part in self._parts(block):
            places[part] = self._first(block[part], keys[part])
        return [int(place) for place in places]

    def read(self, start: int, end: int) -> npt.NDArray[Any]:
        """Returns a copy of a range."""
        part = self.array[start:end].copy()
        self._give_back()
        return part

    def pick(self, positions: npt.NDArray[np.intp]) -> npt.NDArray[Any]:
        """Returns a copy of the entries at these positions."""
        picked = np.empty(len(positions), dtype=ENTRY)
        for part in self._parts(positions):
            picked[part] = self.array[positions[part]]
        return picked

    def _block(self, hi: U64) -> npt.NDArray[np.intp]:
        """Returns for each key where the entries begin of which the next `_STRIDE` lead to it."""
        # The first entry that is not less stands behind the last key of the index that is less, by up to a stride.
        return np.maximum(np.searchsorted(self._keys, hi) - 1, 0) * _STRIDE

    def _first(self, block: npt.NDArray[np.intp], hi: U64) -> npt.NDArray[np.intp]:
        """Returns for each key the position of the first entry that is not less."""
        if not len(self.array):
            return block
        near = block[:, None] + np.arange(_STRIDE)
        inside = near < len(self.array)
        less = (self.array["hi"][np.where(inside, near, 0)] < hi[:, None]) & inside
        first: npt.NDArray[np.intp] = block + less.sum(axis=1, dtype=np.intp)
        return first

    def _parts(self, places: npt.NDArray[np.intp]) -> Iterator[npt.NDArray[np.intp] | slice]:
        """Yields which of these places to touch together; what they touched is given back afterwards."""
        if not self._large:
            yield slice(None)
            return
        order = np.argsort(places, kind="stable")
        windows = places[order] * ENTRY.itemsize // _WINDOW
        met = np.cumsum(np.diff(windows, prepend=windows[:1]) > 0)
        for part in np.split(order, np.flatnonzero(np.diff(met // _WINDOWS)) + 1):
            yield part
            self._give_back()

    def _give_back(self) -> None:
        if self._large and self._map is not None and hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)
