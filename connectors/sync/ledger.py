"""The ledger: a local cache of what the destination holds of one connector, id digest → content hash.

Sorted arrays mapped from disk, 24 bytes a document, looked up a page of documents at a time. What was acknowledged in
a job is appended to a log and merged in at the job's end, in ranges of the key, so that memory stays flat.

The truth about the index is in the index. A ledger is used only if it was written for the same index (its UUID), by
the very job that claimed the connector last (its epoch); otherwise it is rebuilt from the stamps.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import IO, Any, BinaryIO, Final

import numpy as np
import numpy.typing as npt
import orjson
from xxhash import xxh3_64

from connectors.sync.mapped import ENTRY, U64, Found, MappedEntries, locate

__all__ = ["CHANGED", "NEW", "REPEATED", "UNCHANGED", "Ledger", "LedgerHeader", "LedgerLog", "carry_ledger_over"]

UNCHANGED: Final = 0
CHANGED: Final = 1
NEW: Final = 2
REPEATED: Final = 3

_LOGGED: Final = np.dtype([("hi", "<u8"), ("lo", "<u8"), ("hash", "<u8"), ("order", "<u8")])
_CHUNK: Final = 1 << 17
_DELETED: Final = np.uint64(1 << 63)
#: Digests are uniform, so a range of the key holds about this many entries of the ledger, and no more of the log.
_RANGE: Final = 1 << 16


def split_digests(digests: bytes) -> tuple[U64, U64]:
    """Returns the high and low halves of joined 16-byte digests as numbers that sort as the bytes do."""
    pairs = np.frombuffer(digests, dtype=">u8").reshape(-1, 2)
    return pairs[:, 0].astype(np.uint64), pairs[:, 1].astype(np.uint64)


def join_digests(hi: U64, lo: U64) -> bytes:
    """The inverse of `split_digests`."""
    pairs = np.empty((len(hi), 2), dtype=">u8")
    pairs[:, 0] = hi
    pairs[:, 1] = lo
    return pairs.tobytes()


def _read(file: IO[bytes], start: int, end: int) -> npt.NDArray[Any]:
    file.seek(int(start) * _LOGGED.itemsize)
    return np.fromfile(file, dtype=_LOGGED, count=int(end - start))


def _lows(count: int) -> U64:
    """Returns where the ranges of the key begin into which so many entries are cut."""
    ranges = max(1, -(-count // _RANGE))
    return np.array([(1 << 64) * index // ranges for index in range(ranges)], dtype=np.uint64)


def _last_of_each(parts: list[npt.NDArray[Any]]) -> tuple[npt.NDArray[Any], npt.NDArray[np.intp]]:
    """Returns the last entry of each id, sorted by id, and how many entries the id has."""
    found = np.concatenate([np.empty(0, dtype=_LOGGED), *parts])
    found = found[np.lexsort((found["order"] & ~_DELETED, found["lo"], found["hi"]))]
    last = np.ones(len(found), dtype=bool)
    last[:-1] = (found["hi"][1:] != found["hi"][:-1]) | (found["lo"][1:] != found["lo"][:-1])
    ends = np.flatnonzero(last)
    return found[ends], np.diff(ends, prepend=-1)


@dataclass(frozen=True, slots=True)
class LedgerHeader:
    """What a ledger is valid for."""

    uuid: str
    epoch: int
    fingerprint: str


def _read_header(folder: Path) -> dict[str, Any] | None:
    try:
        record = orjson.loads((folder / "ledger.json").read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return None
    keys = {"uuid", "epoch", "fingerprint", "file", "checksum"}
    return record if isinstance(record, dict) and keys <= record.keys() else None


def _remove(folder: Path, endings: tuple[str, ...], *, but: str | None = None) -> None:
    """Removes the files of a folder, which may be missing, whose names end so."""
    with suppress(FileNotFoundError), os.scandir(folder) as found:
        for entry in found:
            if entry.name.endswith(endings) and entry.name != but:
                Path(entry).unlink(missing_ok=True)


def _checksum(path: Path) -> str:
    checksum = xxh3_64()
    with path.open("rb") as file:
        while content := file.read(1 << 20):
            checksum.update(content)
    return checksum.hexdigest()


def _write_header(folder: Path, record: dict[str, Any]) -> None:
    temporary = folder / "ledger.json.new"
    with temporary.open("wb") as file:
        file.write(orjson.dumps(record))
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(folder / "ledger.json")


def carry_ledger_over(folder: Path, before: int, now: int) -> None:
    """Makes the ledger of one epoch valid for the next, after a job that wrote nothing."""
    record = _read_header(folder)
    if record is not None and record["epoch"] == before:
        _write_header(folder, {**record, "epoch": now})


class LedgerLog:
    """Append-only log of acknowledged writes and deletes; there is a file from the first entry until `close`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self.count = 0

    def append(self, digests: bytes, hashes: bytes, orders: list[int], deleted: list[bool] | None = None) -> None:
        """Adds entries: joined digests and hashes, the running numbers of the writes, and which were deletes."""
        entries = np.empty(len(orders), dtype=_LOGGED)
        entries["hi"], entries["lo"] = split_digests(digests)
        entries["hash"] = np.frombuffer(hashes, dtype=">u8")
        entries["order"] = orders
        if deleted is not None:
            entries["order"][np.array(deleted)] |= _DELETED
        if self._file is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("wb")
        self._file.write(entries.tobytes())
        self.count += len(orders)

    def chunks(self) -> Iterator[npt.NDArray[Any]]:
        """Yields the entries in their order of appending."""
        if self._file is None:
            return
        self._file.flush()
        with self._path.open("rb") as file:
            while len(chunk := np.fromfile(file, dtype=_LOGGED, count=_CHUNK)):
                yield chunk

    def ranges(self, lows: U64) -> Iterator[tuple[npt.NDArray[Any], npt.NDArray[np.intp]]]:
        """Yields for each range of the high half, which begins at one of `lows`, the last entry of each id, sorted,
        and how many entries the id has.

        Each chunk is sorted once and cut at the bounds, so that the work grows with the entries alone, not with the
        number of ranges, and no more than a few ranges are in memory.
        """
        if len(lows) == 1 and self.count <= _CHUNK:  # most logs: nothing to cut
            yield _last_of_each(list(self.chunks()))
            return
        with tempfile.TemporaryFile(dir=self._path.parent) as file:
            starts: list[npt.NDArray[np.intp]] = []
            for chunk in self.chunks():
                ordered = chunk[np.argsort(chunk["hi"], kind="stable")]
                cuts = np.searchsorted(np.ascontiguousarray(ordered["hi"]), lows)
                starts.append(np.append(cuts, len(ordered)) + len(starts) * _CHUNK)
                file.write(ordered.tobytes())
            file.flush()
            for index in range(len(lows)):
                yield _last_of_each([_read(file, cuts[index], cuts[index + 1]) for cuts in starts])

    def distinct(self) -> int:
        """Returns the number of ids in the log."""
        return sum(len(last) for last, _ in self.ranges(_lows(self.count)))

    def close(self) -> None:
        """Closes and removes the log."""
        if self._file is not None:
            self._file.close()
            self._path.unlink(missing_ok=True)


class Ledger:
    """What the destination holds of one connector, with a mark for each document that this job has seen."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        #: The file that holds exactly what is mapped, None when memory differs from it.
        self._name: str | None = None
        self._checksum = ""
        self._entries = MappedEntries()
        #: Whether every document counts as changed, whatever the entries say.
        self._forgotten = False
        #: High halves of the digests of single ones that do; two that share one do no harm.
        self._again: U64 = np.empty(0, dtype=np.uint64)
        self._seen: npt.NDArray[np.bool_] = np.zeros(0, dtype=bool)
        self.seen_count = 0
        #: Seconds since the Unix epoch from which on it must be rebuilt once more, since writes of an earlier claim may
        #: land after it was; None: it knows all. Stored with it.
        self.recheck_at: float | None = None

    # Opening

    def open(self, header: LedgerHeader) -> bool:
        """Maps the stored arrays if they are whole, and valid for the job before this one; returns whether they are."""
        _remove(self._folder, (".new", ".log", ".stamps"))  # of a job that was killed
        record = _read_header(self._folder)
        if record is None or record["uuid"] != header.uuid or record["epoch"] != header.epoch:
            return False
        path = self._folder / str(record["file"])
        try:
            whole = _checksum(path) == record["checksum"]
        except OSError:
            return False
        if not whole:
            return False
        self._map(path)
        self._name, self._checksum = path.name, record["checksum"]
        self.recheck_at = record.get("recheck_at")
        if record["fingerprint"] != header.fingerprint:
            self.forget_hashes()
        return True

    def _map(self, path: Path) -> None:
        self._entries = MappedEntries(path)
        self._forgotten = False
        self._seen = np.zeros(len(self._entries), dtype=bool)
        self.seen_count = 0

    def forget_hashes(self, digests: bytes | None = None) -> None:
        """Makes these documents count as changed in this job, or all in this and later ones."""
        if digests is None:
            self._forgotten = True
            self._name = None
        else:
            self._again = split_digests(digests)[0]

    def rebuild(self, stamps: LedgerLog) -> None:
        """Builds the arrays from stamps that were appended to a log, and from nothing else."""
        self._entries, self._name, self._forgotten = MappedEntries(), None, False
        self._seen, self.seen_count = np.zeros(0, dtype=bool), 0
        if stamps.count:
            self._map_merged(stamps, "rebuilt.bin")

    # Looking up

    def __len__(self) -> int:
        return len(self._entries)

    def _find(self, digests: bytes) -> Found:
        return self._entries.find(*split_digests(digests))

    def classify(self, digests: bytes, hashes: bytes) -> npt.NDArray[np.uint8]:
        """Marks a page of documents as seen and says of each NEW, CHANGED, UNCHANGED, or REPEATED in this job.

        No id may be twice in one page. A hash of zero is always CHANGED.
        """
        position, there, held = self._find(digests)
        codes = np.full(len(there), NEW, dtype=np.uint8)
        known = position[there]
        if len(known):
            wanted = np.frombuffer(hashes, dtype=">u8")[there]
            same = (held[there] == wanted) & (wanted != 0) & (not self._forgotten)
            if len(self._again):
                same &= ~np.isin(split_digests(digests)[0][there], self._again)
            before = self._seen[known]
            codes[there] = np.where(before, REPEATED, np.where(same, UNCHANGED, CHANGED))
            self._seen[known] = True
            self.seen_count += int(len(known) - np.count_nonzero(before))
        return codes

    def locate(self, digests: bytes) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.bool_]]:
        """Returns for each of the joined digests its place among the documents, and whether it is one of them."""
        found = self._find(digests)
        return found.position, found.there

    @property
    def seen(self) -> npt.NDArray[np.bool_]:
        """Which of the documents this job has seen, by their places; not to be changed."""
        return self._seen

    def mark_seen(self, digests: bytes) -> npt.NDArray[np.bool_]:
        """Marks documents as seen, twice the same one too, and returns which of them the ledger knows."""
        found = self._find(digests)
        known = np.unique(found.position[found.there])
        known = known[~self._seen[known]]
        self._seen[known] = True
        self.seen_count += len(known)
        return found.there

    @property
    def vanished_count(self) -> int:
        """Documents that the destination holds and this job has not seen."""
        return len(self._entries) - self.seen_count

    def vanished(self, page: int) -> Iterator[list[bytes]]:
        """Yields the digests of the documents that were not seen, in pages."""
        missing = np.empty(0, dtype=np.intp)
        for start in range(0, len(self._seen), _CHUNK):
            missing = np.append(missing, np.flatnonzero(~self._seen[start : start + _CHUNK]) + start)
            while len(missing) >= page:
                yield self._digests(missing[:page])
                missing = missing[page:]
        if len(missing):
            yield self._digests(missing)

    def _digests(self, positions: npt.NDArray[np.intp]) -> list[bytes]:
        entries = self._entries.pick(positions)
        joined = join_digests(entries["hi"], entries["lo"])
        return [joined[at : at + 16] for at in range(0, len(joined), 16)]

    # Closing

    def merge(self, log: LedgerLog, header: LedgerHeader) -> int:
        """Merges the log in and stores the result as valid for `header`; durable on return.

        Returns the number of acknowledged writes beyond the first of an id that the ledger did not know before, that
        is, of documents that the source listed twice.
        """
        repeats = 0
        if log.count or self._name is None:
            repeats = self._map_merged(log, f"ledger-{header.epoch}.bin")
        record = {
            "uuid": header.uuid, "epoch": header.epoch, "fingerprint": header.fingerprint, "file": self._name,
            "checksum": self._checksum, "recheck_at": self.recheck_at,
        }  # fmt: skip
        _write_header(self._folder, record)
        _remove(self._folder, (".bin",), but=self._name)
        return repeats

    def _map_merged(self, log: LedgerLog, name: str) -> int:
        self._folder.mkdir(parents=True, exist_ok=True)
        lows = _lows(max(log.count, len(self._entries)))
        bounds = pairwise([*self._entries.first(lows), len(self._entries)])
        repeats = 0
        path = self._folder / name
        temporary = path.with_suffix(".new")
        checksum = xxh3_64()
        with temporary.open("wb") as file:
            for (logged, counts), (start, end) in zip(log.ranges(lows), bounds, strict=True):
                merged, known = self._merge_range(logged, self._entries.read(start, end))
                repeats += int(np.sum(counts[~known] - 1))
                file.write(content := merged.view(np.uint8).data)
                checksum.update(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        self._map(path)
        self._name, self._checksum = name, checksum.hexdigest()
        return repeats

    def _merge_range(
        self, logged: npt.NDArray[Any], base: npt.NDArray[Any]
    ) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
        """Returns the entries of one range after the merge, and which of the logged ids were known before it."""
        if self._forgotten:
            base["hash"] = 0
        known = _locate_in(base, logged).there
        fresh = np.empty(len(logged), dtype=ENTRY)
        for key in ("hi", "lo", "hash"):
            fresh[key] = logged[key]
        kept = (logged["order"] & _DELETED) == 0
        base = base[~_locate_in(logged, base).there]
        merged = np.concatenate([base, fresh[kept]])
        # Two sorted parts, which this kind of sort merges. Where ids share the high half, any order of them will do.
        return merged[np.argsort(merged["hi"], kind="stable")], known


def _locate_in(entries: npt.NDArray[Any], ids: npt.NDArray[Any]) -> Found:
    at = np.searchsorted(np.ascontiguousarray(entries["hi"]), ids["hi"])
    return locate(entries, at, ids["hi"], ids["lo"])
