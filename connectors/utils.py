"""Small helpers that know nothing of the project: durations, sizes, back-off, nearest names, times, safe text."""

from __future__ import annotations

import difflib
import hashlib
import math
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from random import Random
from typing import Final

__all__ = [
    "Backoff",
    "escape_controls",
    "file_name",
    "format_duration",
    "format_size",
    "nearest",
    "parse_duration",
    "parse_size",
    "quoted",
    "truncate",
    "utc_now",
]

_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION_PART: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)\s*", re.ASCII)
_DURATION: Final = re.compile(rf"(?:{_DURATION_PART.pattern})+", re.ASCII)
# A century. Longer waits are typing errors, and overflow the timers of the event loop.
_LONGEST: Final = 36525 * 86400.0

_BYTES: Final = {
    "": 1, "b": 1,
    "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12,
    "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40,
}  # fmt: skip
_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)", re.ASCII | re.IGNORECASE)
_LARGEST: Final = 2**63 - 1

_PLAIN_NAME: Final = re.compile(r"[a-zA-Z0-9_-][a-zA-Z0-9._-]{0,99}", re.ASCII)

# C0 and C1 controls, DEL, the line and paragraph separators, the marks that reorder text, and lone surrogates.
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
_SHORT_ESCAPES: Final = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def quoted(value: object) -> str:
    """Returns a value as a message quotes it: at most 60 characters on one line, between double quotes."""
    return f'"{truncate(escape_controls(str(value)), 60)}"'


def _bare_number(text: str) -> float | None:
    """Returns the number that `text` is, if it is a plain decimal one."""
    return float(text) if re.fullmatch(r"\d{1,30}(?:\.\d{1,30})?", text, re.ASCII) else None


def parse_duration(value: str | float) -> float:
    """Reads a duration such as `500ms`, `30s`, `15m`, `1h 30m` or `30d`; a bare number counts seconds.

    Returns:
        Seconds, finite and not negative.

    Raises:
        ValueError: it is no duration, is negative, or is longer than a century; the message says what to write.
    """
    seconds: float | None = None
    if isinstance(value, int | float) and not isinstance(value, bool):
        seconds = value if value >= 0 else None  # NaN compares false
    elif isinstance(value, str):
        text = value.strip().lower()
        seconds = _bare_number(text)
        if seconds is None and len(text) <= 100 and _DURATION.fullmatch(text):
            # Rounded to microseconds, so that 100 times 0.001 is what it looks like.
            seconds = round(sum(float(n) * _SECONDS[unit] for n, unit in _DURATION_PART.findall(text)), 6)
    if seconds is None:
        raise ValueError(
            f"{quoted(value)} is not a duration; write a number and a unit (ms, s, m, h or d), such as 30s or 15m"
        )
    if seconds > _LONGEST:
        raise ValueError(f"{quoted(value)} is longer than a century; write a shorter duration, such as 30d")
    return float(seconds)


def format_duration(seconds: float) -> str:
    """Returns a duration for people in at most two units: `250ms`, `12.3s`, `1m 05s`, `2h`, `1d 04h`.

    Parts that are zero are left out; `parse_duration` reads the result back.
    """
    if not math.isfinite(seconds) or seconds < 0:
        return "unknown"
    if seconds < 1:
        return f"{round(seconds * 1000)}ms" if 0 < round(seconds * 1000) < 1000 else f"{round(seconds)}s"
    if seconds < 59.95:
        return f"{seconds:.1f}".removesuffix(".0") + "s"
    whole = round(seconds)
    if whole < 3600:
        return _two_units(whole, 60, "m", "s")
    if (minutes := round(whole / 60)) < 24 * 60:
        return _two_units(minutes, 60, "h", "m")
    return _two_units(round(whole / 3600), 24, "d", "h")


def _two_units(number: int, size: int, upper: str, lower: str) -> str:
    units, rest = divmod(number, size)
    return f"{units}{upper} {rest:02d}{lower}" if rest else f"{units}{upper}"


def parse_size(value: str | float) -> int:
    """Reads a size such as `5MB` (millions of bytes), `512KiB` (multiples of 1024) or a bare number of bytes.

    Returns:
        Bytes, not negative.

    Raises:
        ValueError: it is no size, or not a whole number of bytes; the message says what to write.
    """
    size: float | None = None
    if isinstance(value, int | float) and not isinstance(value, bool):
        size = value if math.isfinite(value) else None
    elif isinstance(value, str) and len(value) <= 50:
        found = _SIZE.fullmatch(value.strip())
        unit = _BYTES.get(found[2].lower()) if found else None
        if found and unit:
            # Whole numbers stay exact beyond 2**53.
            size = int(found[1]) * unit if found[1].isdigit() else round(float(found[1]) * unit, 3)
    if size is None or size < 0 or size != int(size):
        raise ValueError(f"{quoted(value)} is not a size; write a number and a unit, such as 5MB, 512KiB or 1GiB")
    if size > _LARGEST:
        raise ValueError(f"{quoted(value)} is larger than any disk; write a smaller size, such as 1GiB")
    return int(size)


def format_size(size: float) -> str:
    """Returns a number of bytes for people, in decimal units: `17 B`, `4.2 kB`, `5 MB`."""
    if size < 999.5:
        return f"{size:.0f} B"
    number, unit = float(size), "B"
    for unit in ("kB", "MB", "GB", "TB", "PB"):  # noqa: B007 - the unit reached is used after the loop
        number /= 1000
        if number < 999.95:
            break
    return f"{number:.1f}".removesuffix(".0") + f" {unit}"


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Returns the known name that `name` was probably meant to be; None when none is near.

    Case and the choice among `-`, `_` and space do not count.
    """
    folded = {_fold(candidate): candidate for candidate in known}
    found = difflib.get_close_matches(_fold(name[:200]), folded, n=1, cutoff=0.6)
    return folded[found[0]] if found else None


def _fold(name: str) -> str:
    return name.lower().replace("-", "_").replace(" ", "_")


class Backoff:
    """Exponential back-off with full jitter: each wait is uniform between nothing and a ceiling that grows.

    Args:
        random: source of randomness, injected so that a simulation repeats.
        initial: first ceiling, in seconds.
        factor: growth of the ceiling per try.
        maximum: highest ceiling, in seconds.
    """

    __slots__ = ("_ceiling", "_factor", "_initial", "_maximum", "_random")

    def __init__(self, random: Random, *, initial: float = 0.5, factor: float = 2.0, maximum: float = 60.0) -> None:
        if not (0 < initial <= maximum and factor >= 1):
            raise ValueError("a back-off needs 0 < initial <= maximum and factor >= 1")
        self._random = random
        self._initial = self._ceiling = initial
        self._factor = factor
        self._maximum = maximum

    def next(self, retry_after: float | None = None) -> float:
        """Returns the seconds to wait before the next try.

        Args:
            retry_after: seconds that the other side asked for; the wait is then that long and a jitter more, so that
                all who were told the same do not return in the same instant.
        """
        jitter = self._random.uniform(0, self._ceiling)
        self._ceiling = min(self._maximum, self._ceiling * self._factor)
        return jitter + max(0.0, retry_after or 0.0)


def utc_now() -> datetime:
    """Returns the present time, aware, in UTC."""
    return datetime.now(UTC)


def file_name(name: str) -> str:
    """Returns a name as that of a file or folder: the same where it is a plain one, else a digest of it.

    What another tool made up may be no name of a file, or lead out of a folder. No two names give the same.
    """
    if _PLAIN_NAME.fullmatch(name):
        return name
    return f".{hashlib.sha256(name.encode(errors='surrogatepass')).hexdigest()}"


def truncate(text: str, limit: int) -> str:
    """Returns at most `limit` characters of the text; where some were cut, the last one is an ellipsis."""
    return text if len(text) <= limit else text[: max(0, limit - 1)] + "…"[:limit]


def escape_controls(text: str) -> str:
    r"""Writes control characters as `\n`, `\x1b`, `\u202e`, so that the text stays on its line and gives a terminal
    no orders. Ordinary text is returned as it is."""
    return text if text.isascii() and text.isprintable() else _CONTROL.sub(_escape, text)


def _escape(found: re.Match[str]) -> str:
    char = found[0]
    code = ord(char)
    return _SHORT_ESCAPES.get(char) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")
