"""Durations, sizes, nearest names, back-off, times and safe text."""

from __future__ import annotations

import re
from datetime import UTC
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.utils import (
    Backoff,
    escape_controls,
    file_name,
    format_duration,
    format_size,
    nearest,
    parse_duration,
    parse_size,
    quoted,
    truncate,
    utc_now,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("500ms", 0.5), ("30s", 30), ("15m", 900), ("2h", 7200), ("30d", 2592000), ("1h 30m", 5400), ("1h30m", 5400),
        (" 5 S ", 5), ("1.5h", 5400), ("42", 42), ("0.25", 0.25), (7, 7), (0.5, 0.5), (0, 0), ("100 ms", 0.1),
    ],
)  # fmt: skip
def test_durations_are_read(text: str | float, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    ["", "soon", "5 lightyears", "-5s", "5s5", "1e3", "s", "٣s", -1, float("nan"), float("inf"), True, "9" * 400 + "d",
     "1m" * 60, "101y", "36526d", 1e300],
)  # fmt: skip
def test_what_is_no_duration_says_what_to_write(text: str | float) -> None:
    with pytest.raises(ValueError, match="write a"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"), (0.0001, "0s"), (0.25, "250ms"), (0.9999, "1s"), (1, "1s"), (12.34, "12.3s"), (59.96, "1m"),
        (60, "1m"), (65, "1m 05s"), (3599.6, "1h"), (3900, "1h 05m"), (86399, "1d"), (86400, "1d"),
        (90000, "1d 01h"), (2592000, "30d"), (-1, "unknown"), (float("nan"), "unknown"),
    ],
)  # fmt: skip
def test_durations_are_written_for_people(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@given(st.floats(0, 36500 * 86400))
def test_a_written_duration_is_read_back_within_its_rounding(seconds: float) -> None:
    back = parse_duration(format_duration(seconds))
    assert back == pytest.approx(seconds, rel=0.05, abs=0.001)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("5MB", 5_000_000), ("5 mb", 5_000_000), ("512KiB", 524288), ("1GiB", 2**30), ("1.5kB", 1500), ("17", 17),
        ("17B", 17), (4096, 4096), (4096.0, 4096), ("0", 0), ("2TB", 2 * 10**12), ("9007199254740993", 2**53 + 1),
    ],
)  # fmt: skip
def test_sizes_are_read(text: str | float, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "MB", "5 lightyears", "-1", -1, 0.5, "1.5", True, float("inf"), "9" * 40, "5M"])
def test_what_is_no_size_says_what_to_write(text: str | float) -> None:
    with pytest.raises(ValueError, match="write a"):
        parse_size(text)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (999.6, "1 kB"),
        (4200, "4.2 kB"),
        (5_000_000, "5 MB"),
        (999_999, "1 MB"),
        (10**19, "10000 PB"),
    ],
)
def test_sizes_are_written_for_people(size: float, text: str) -> None:
    assert format_size(size) == text


def test_the_nearest_name_is_found_or_none_is_made_up() -> None:
    known = ["host", "port", "poll_interval"]
    assert nearest("prot", known) == "port"
    assert nearest("Poll-Interval", known) == "poll_interval"
    assert nearest("zebra", known) is None
    assert nearest("x", []) is None


def test_backoff_jitters_under_a_ceiling_that_grows_to_its_maximum() -> None:
    waits = Backoff(Random(1), initial=1, factor=2, maximum=4)
    for ceiling in (1, 2, 4, 4, 4):
        assert 0 <= waits.next() <= ceiling


def test_backoff_waits_at_least_as_long_as_it_is_told() -> None:
    waits = Backoff(Random(1), initial=1, maximum=4)
    assert 30 <= waits.next(retry_after=30) <= 31
    assert waits.next(retry_after=-5) >= 0


def test_backoff_repeats_with_the_same_seed() -> None:
    first, second = Backoff(Random(7)), Backoff(Random(7))
    assert [first.next() for _ in range(20)] == [second.next() for _ in range(20)]


@pytest.mark.parametrize(("initial", "factor", "maximum"), [(0, 2, 1), (2, 2, 1), (1, 0.5, 2)])
def test_backoff_refuses_numbers_that_make_none(initial: float, factor: float, maximum: float) -> None:
    with pytest.raises(ValueError, match="back-off needs"):
        Backoff(Random(1), initial=initial, factor=factor, maximum=maximum)


def test_the_present_is_told_in_utc() -> None:
    assert utc_now().tzinfo is UTC


def test_long_text_is_cut_to_its_limit() -> None:
    assert truncate("abcdef", 6) == "abcdef"
    assert truncate("abcdefg", 6) == "abcde…"
    assert [truncate("abc", n) for n in (0, 1, 2)] == ["", "…", "a…"]


def test_control_characters_are_written_out() -> None:
    assert escape_controls("a\nb\x1b[31m\u202ec\x85\u2028\ud800") == "a\\nb\\x1b[31m\\u202ec\\x85\\u2028\\ud800"
    assert escape_controls("Zürich 東京 🎈") == "Zürich 東京 🎈"
    assert quoted("x" * 100) == '"' + "x" * 59 + '…"'


@given(st.text())
def test_escaped_text_is_one_line_that_can_be_encoded(text: str) -> None:
    escaped = escape_controls(text)
    assert len(escaped.splitlines()) <= 1
    escaped.encode("utf-8")
    assert escape_controls(escaped) == escaped


@pytest.mark.parametrize("name", ["a", "handbook-2", "a.b_c", "x" * 100])
def test_a_plain_name_is_a_file_name(name: str) -> None:
    assert file_name(name) == name


def test_any_other_name_becomes_one_of_its_own() -> None:
    names = ["", ".", "..", ".a", "a/b", "../a", "/etc/passwd", "x" * 101, "a b", "a\n", "ü", "\ud800", "a\0"]
    given = [file_name(name) for name in names]
    assert len(set(given)) == len(names)
    assert all(re.fullmatch(r"\.[0-9a-f]{64}", name) for name in given)
