"""The ledger equals a dict, whatever is merged into it, in however many ranges."""

from __future__ import annotations

import tempfile
from pathlib import Path
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.sync import ledger as module
from connectors.sync import mapped
from connectors.sync.ledger import CHANGED, NEW, REPEATED, UNCHANGED, Ledger, LedgerHeader, LedgerLog

# Few high halves, the smallest and the largest among them, so that ids share them and lie on the bounds of ranges.
digests = st.tuples(
    st.sampled_from([0, 1, 2**32, 2**63 - 1, 2**63, 2**64 - 1]), st.sampled_from([0, 1, 2**63, 2**64 - 1])
).map(lambda pair: pair[0].to_bytes(8) + pair[1].to_bytes(8))
hashes = st.integers(1, 4).map(lambda number: number.to_bytes(8))
entries = st.lists(st.tuples(digests, hashes, st.booleans()), max_size=40)


def merged(folder: Path, epoch: int, held: dict[bytes, bytes], log_entries: list[tuple[bytes, bytes, bool]]) -> int:
    """Merges a log whose entries are appended in reverse; returns the repeats, and changes `held` as a dict would."""
    ledger, log = Ledger(folder), LedgerLog(folder / "job.log")
    assert ledger.open(LedgerHeader("u", epoch - 1, "")) == (epoch > 1)
    for order, (digest, content, gone) in reversed(list(enumerate(log_entries))):
        log.append(digest, content, [order], [gone])
    for digest, content, gone in log_entries:
        held.pop(digest, None)
        if not gone:
            held[digest] = content
    repeats = ledger.merge(log, LedgerHeader("u", epoch, ""))
    log.close()
    return repeats


@settings(max_examples=100)
@given(logs=st.lists(entries, min_size=1, max_size=4), size=st.integers(1, 50))
def test_merging_equals_a_dict(logs: list[list[tuple[bytes, bytes, bool]]], size: int) -> None:
    held: dict[bytes, bytes] = {}
    with (
        tempfile.TemporaryDirectory() as name,
        patch("os.fsync"),
        patch.object(module, "_RANGE", size),
        patch.object(module, "_CHUNK", 7),
    ):
        for epoch, log_entries in enumerate(logs, start=1):
            known = set(held)
            repeats = merged(Path(name), epoch, held, log_entries)
            new = [digest for digest, _, _ in log_entries if digest not in known]
            assert repeats == len(new) - len(set(new))
        ledger = Ledger(Path(name))
        assert ledger.open(LedgerHeader("u", len(logs), ""))
        assert len(ledger) == len(held)
        assert sorted(digest for page in ledger.vanished(3) for digest in page) == sorted(held)
        assert not held or not ledger.classify(b"".join(held), b"".join(held.values())).any()


@settings(max_examples=200)
@given(
    held=st.dictionaries(digests, hashes),
    pages=st.lists(st.dictionaries(digests, hashes), max_size=5),
    stride=st.integers(1, 8),
    window=st.sampled_from([24, 50, 2 << 20]),
    data=st.data(),
)
def test_classifying_equals_a_dict(
    held: dict[bytes, bytes], pages: list[dict[bytes, bytes]], stride: int, window: int, data: st.DataObject
) -> None:
    with (
        tempfile.TemporaryDirectory() as name,
        patch("os.fsync"),
        patch.object(mapped, "_STRIDE", stride),
        patch.object(mapped, "_CHUNK", 3 * stride),
        patch.object(mapped, "_WINDOW", window),
    ):
        merged(Path(name), 1, {}, [(digest, content, False) for digest, content in held.items()])
        ledger = Ledger(Path(name))
        assert ledger.open(LedgerHeader("u", 1, ""))
        seen = set(data.draw(st.lists(digests)))
        ledger.mark_seen(b"".join(seen) * 2)
        seen &= held.keys()
        for page in pages:
            wanted = []
            for digest, content in page.items():
                if digest not in held:
                    wanted.append(NEW)
                else:
                    wanted.append(REPEATED if digest in seen else UNCHANGED if held[digest] == content else CHANGED)
            assert ledger.classify(b"".join(page), b"".join(page.values())).tolist() == wanted
            seen |= page.keys() & held.keys()
        assert ledger.seen_count == len(seen)
        assert {digest for part in ledger.vanished(2) for digest in part} == held.keys() - seen
