"""The ledger: what it knows, and when it is not to be trusted."""

from __future__ import annotations

import os
import random
import re
from pathlib import Path

import numpy as np
import orjson
import pytest
from xxhash import xxh3_64

from connectors.sync.encode import id_digest
from connectors.sync.ledger import CHANGED, NEW, REPEATED, UNCHANGED, Ledger, LedgerHeader, LedgerLog
from connectors.sync.seen import SeenLog

HEADER = LedgerHeader("uuid", 7, "fingerprint")


def digest(number: int) -> bytes:
    return id_digest(f"d{number}")


def content(number: int) -> bytes:
    return (number + 1).to_bytes(8)


def log_of(folder: Path, entries: dict[bytes, bytes]) -> LedgerLog:
    log = LedgerLog(folder / "job.log")
    log.append(b"".join(entries), b"".join(entries.values()), list(range(len(entries))))
    return log


def stored(folder: Path, number: int = 10) -> None:
    """Stores a ledger of some documents."""
    log = log_of(folder, {digest(n): content(n) for n in range(number)})
    Ledger(folder).merge(log, HEADER)
    log.close()


def codes(ledger: Ledger, *pairs: tuple[bytes, bytes]) -> list[int]:
    found: list[int] = ledger.classify(b"".join(d for d, _ in pairs), b"".join(h for _, h in pairs)).tolist()
    return found


def test_documents_are_classified_and_marked(tmp_path: Path) -> None:
    stored(tmp_path)
    ledger = Ledger(tmp_path)
    assert ledger.open(HEADER)
    assert len(ledger) == 10
    page = [(digest(1), content(1)), (digest(2), content(99)), (digest(50), content(50)), (digest(3), bytes(8))]
    assert codes(ledger, *page) == [UNCHANGED, CHANGED, NEW, CHANGED]
    assert codes(ledger, *page) == [REPEATED, REPEATED, NEW, REPEATED]
    assert (ledger.seen_count, ledger.vanished_count) == (3, 7)
    gone = [d for page_ in ledger.vanished(3) for d in page_]
    assert sorted(gone) == sorted(digest(n) for n in (0, 4, 5, 6, 7, 8, 9))


def test_marking_counts_each_document_once(tmp_path: Path) -> None:
    stored(tmp_path)
    ledger = Ledger(tmp_path)
    assert ledger.open(HEADER)
    ledger.mark_seen(digest(1) + digest(1) + digest(77) + digest(2))
    ledger.mark_seen(digest(2) + digest(3))
    assert ledger.seen_count == 3
    assert codes(ledger, (digest(1), content(1))) == [REPEATED]


def test_an_empty_ledger_knows_nothing(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "not-there")
    assert not ledger.open(HEADER)
    assert codes(ledger, (digest(1), content(1))) == [NEW]
    ledger.mark_seen(digest(1))
    assert ledger.vanished_count == 0
    assert list(ledger.vanished(10)) == []
    log = LedgerLog(tmp_path / "not-there" / "job.log")
    assert ledger.merge(log, HEADER) == 0
    log.close()
    assert Ledger(tmp_path / "not-there").open(HEADER)


@pytest.mark.parametrize(
    "header",
    [LedgerHeader("other", 7, "fingerprint"), LedgerHeader("uuid", 6, "fingerprint"), LedgerHeader("uuid", 8, "")],
)
def test_it_is_valid_only_for_its_index_and_epoch(tmp_path: Path, header: LedgerHeader) -> None:
    stored(tmp_path)
    ledger = Ledger(tmp_path)
    assert not ledger.open(header)
    assert len(ledger) == 0


def test_another_fingerprint_makes_every_document_count_as_changed(tmp_path: Path) -> None:
    stored(tmp_path)
    ledger = Ledger(tmp_path)
    assert ledger.open(LedgerHeader("uuid", 7, "other"))
    assert codes(ledger, (digest(1), content(1)), (digest(20), content(20))) == [CHANGED, NEW]
    # That is kept when the job ends before all is written.
    log = LedgerLog(tmp_path / "job.log")
    ledger.merge(log, LedgerHeader("uuid", 8, "other"))
    log.close()
    again = Ledger(tmp_path)
    assert again.open(LedgerHeader("uuid", 8, "other"))
    assert codes(again, (digest(1), content(1))) == [CHANGED]


@pytest.mark.parametrize("damage", ["truncated", "flipped", "grown", "gone", "header", "list", "keys"])
def test_a_damaged_file_is_not_used(tmp_path: Path, damage: str) -> None:
    stored(tmp_path)
    header = tmp_path / "ledger.json"
    path = tmp_path / orjson.loads(header.read_bytes())["file"]
    if damage == "truncated":
        os.truncate(path, 24 * 9)
    elif damage == "flipped":
        whole = bytearray(path.read_bytes())
        whole[100] ^= 1
        path.write_bytes(whole)
    elif damage == "grown":
        path.write_bytes(path.read_bytes() * 2)
    elif damage == "gone":
        path.unlink()
    else:
        header.write_bytes({"header": b'{"uuid": "u', "list": b"[]", "keys": b'{"uuid": "uuid"}'}[damage])
    assert not Ledger(tmp_path).open(HEADER)


def test_what_a_killed_job_left_behind_is_swept(tmp_path: Path) -> None:
    stored(tmp_path)
    for name in ("old.log", "old.stamps", "ledger-3.new", "ledger.json.new"):
        (tmp_path / name).write_bytes(b"x")
    assert Ledger(tmp_path).open(HEADER)
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".bin"}


def test_the_last_entry_of_an_id_counts_whatever_the_order_of_appending(tmp_path: Path) -> None:
    stored(tmp_path)
    ledger = Ledger(tmp_path)
    assert ledger.open(HEADER)
    log = LedgerLog(tmp_path / "job.log")
    log.append(digest(1) * 3, content(71) + content(73) + content(72), [1, 3, 2])
    log.append(digest(2) * 2, content(0) + content(80), [5, 4], [True, False])
    log.append(digest(30) * 2, content(0) + content(81), [6, 7], [True, False])
    assert ledger.merge(log, LedgerHeader("uuid", 8, "fingerprint")) == 1
    log.close()
    assert len(ledger) == 10
    page = [(digest(1), content(73)), (digest(2), content(80)), (digest(30), content(81)), (digest(3), content(3))]
    assert codes(ledger, *page) == [UNCHANGED, NEW, UNCHANGED, UNCHANGED]


def test_a_merge_without_changes_writes_no_new_array(tmp_path: Path) -> None:
    stored(tmp_path)
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.bin")}
    ledger = Ledger(tmp_path)
    assert ledger.open(HEADER)
    log = LedgerLog(tmp_path / "job.log")
    ledger.merge(log, LedgerHeader("uuid", 8, "fingerprint"))
    log.close()
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.bin")} == before
    assert Ledger(tmp_path).open(LedgerHeader("uuid", 8, "fingerprint"))
    assert not Ledger(tmp_path).open(HEADER)


def test_ids_that_share_half_a_digest_are_told_apart(tmp_path: Path) -> None:
    half = b"\x80" * 8
    ids = [half + n.to_bytes(8) for n in (1, 5, 9)]
    log = log_of(tmp_path, {id_: content(n) for n, id_ in enumerate(ids)})
    ledger = Ledger(tmp_path)
    ledger.merge(log, HEADER)
    log.close()
    page = [(id_, content(n)) for n, id_ in enumerate(ids)]
    assert codes(ledger, page[2], page[1], (half + (6).to_bytes(8), content(0)), page[0]) == [
        UNCHANGED, UNCHANGED, NEW, UNCHANGED,
    ]  # fmt: skip


def test_a_merge_in_many_ranges_equals_a_dict(tmp_path: Path) -> None:
    rng = random.Random(3)
    held: dict[bytes, bytes] = {}
    ledger = Ledger(tmp_path)
    for epoch, number in enumerate((150_000, 300_000)):
        log, order = LedgerLog(tmp_path / f"{epoch}.log"), 0
        for _ in range(number // 5000):
            numbers = [rng.randrange(200_000) for _ in range(5000)]
            digests, hashes = [digest(n) for n in numbers], [rng.randbytes(8) for _ in numbers]
            deleted = [rng.random() < 0.1 for _ in numbers]
            log.append(b"".join(digests), b"".join(hashes), list(range(order, order + 5000)), deleted)
            order += 5000
            for id_, hash_, gone in zip(digests, hashes, deleted, strict=True):
                if gone:
                    held.pop(id_, None)
                else:
                    held[id_] = hash_
        ledger.merge(log, LedgerHeader("uuid", epoch, ""))
        log.close()
        again = Ledger(tmp_path)
        assert again.open(LedgerHeader("uuid", epoch, ""))
        assert len(again) == len(held)
        assert not again.classify(b"".join(held), b"".join(held.values())).any()


def resident() -> tuple[int, int]:
    """Returns the memory of this process and the most that it was since the last call, in bytes."""
    found = re.findall(r"(VmHWM|VmRSS):\s+(\d+) kB", Path("/proc/self/status").read_text())
    Path("/proc/self/clear_refs").write_text("5")
    sizes = {name: int(kibibytes) * 1024 for name, kibibytes in found}
    return sizes["VmRSS"], sizes["VmHWM"]


def test_memory_hardly_grows_with_the_ledger(tmp_path: Path) -> None:
    number, page = 2_000_000, 512
    entries = np.random.default_rng(5).integers(0, 2**64, (number, 3), dtype=np.uint64)
    entries = entries[np.argsort(entries[:, 0])]
    entries.tofile(tmp_path / "some.bin")
    some = entries[np.random.default_rng(6).permutation(number)[: 40 * page]]
    digests, hashes = some[:, :2].astype(">u8").tobytes(), some[:, 2].astype(">u8").tobytes()
    checksum = xxh3_64((tmp_path / "some.bin").read_bytes()).hexdigest()
    record = {"uuid": "uuid", "epoch": 7, "fingerprint": "fingerprint", "file": "some.bin", "checksum": checksum}
    (tmp_path / "ledger.json").write_bytes(orjson.dumps(record))
    del entries, some

    ledger = Ledger(tmp_path)
    before, _ = resident()
    assert ledger.open(HEADER)
    ledger.forget_hashes()
    assert ledger.open(HEADER)
    for at in range(0, 40 * page, page):
        codes = ledger.classify(digests[at * 16 : (at + page) * 16], hashes[at * 8 : (at + page) * 8])
        assert not codes.any()
    assert sum(len(gone) for gone in ledger.vanished(1000)) == number - 40 * page
    log = log_of(tmp_path, {digest(1): content(1)})
    repeats = ledger.merge(log, LedgerHeader("uuid", 8, "fingerprint"))
    log.close()
    assert repeats == 0
    _, most = resident()
    # The index of the keys, the seen flags, the windows of the file, and what one range of the merge takes.
    assert most - before < 30_000_000


def test_the_seen_log_is_cut_to_what_its_checkpoint_covers(tmp_path: Path) -> None:
    seen = SeenLog.create(tmp_path / "seen", "job")
    for number in range(10):
        seen.append(digest(number))
    seen.sync()
    seen.append(digest(10))
    seen.close()
    again = SeenLog.reopen(tmp_path / "seen", "job", seen.token, 4)
    assert again is not None
    assert b"".join(again.read()) == b"".join(digest(n) for n in range(4))
    again.append(digest(50))
    assert b"".join(again.read()) == b"".join(digest(n) for n in (0, 1, 2, 3, 50))
    again.close()
    SeenLog.create(tmp_path / "seen", "next").close()
    assert [path.name for path in (tmp_path / "seen").iterdir()] == ["next.seen"]


def test_a_worker_that_lost_its_job_writes_into_a_seen_log_that_nobody_reads(tmp_path: Path) -> None:
    stale = SeenLog.create(tmp_path / "seen", "job")
    stale.append(digest(1))
    stale.sync()
    owner = SeenLog.reopen(tmp_path / "seen", "job", stale.token, 1)
    assert owner is not None
    owner.append(digest(2))
    stale.append(digest(3) * 5)
    stale.close()
    assert b"".join(owner.read()) == digest(1) + digest(2)
    owner.close()


def test_a_seen_log_that_is_not_there_in_full_is_told(tmp_path: Path) -> None:
    seen = SeenLog.create(tmp_path / "seen", "job")
    seen.append(digest(1))
    seen.close()
    assert SeenLog.reopen(tmp_path / "seen", "job", seen.token, 2) is None
    assert SeenLog.reopen(tmp_path / "seen", "job", "00" * 16, 1) is None
    assert SeenLog.reopen(tmp_path / "seen", "other", seen.token, 1) is None
    other = SeenLog.create(tmp_path / "seen", "other")
    other.close()
    assert SeenLog.reopen(tmp_path / "seen", "job", seen.token, 1) is None
