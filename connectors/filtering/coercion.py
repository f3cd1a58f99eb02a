"""How values are read before they are compared.

A rule's value is text, since that is what a record carries. What it is compared as is decided by the value in the
document: a number there is compared with the number that the text reads as, an instant with an instant, and text
with text. `docs/SYNC_RULES.md` has the whole table, and a test that reads it.

Nothing here raises on any value: what cannot be read is None, and None matches nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from math import isinf
from typing import Final
from uuid import UUID

__all__ = ["RuleValue", "as_instant", "as_text", "elements", "read_instant", "read_number"]

_NUMBER: Final = re.compile(r"[+-]?(?:[0-9]+(\.[0-9]*)?|(\.[0-9]+))([eE][+-]?[0-9]+)?")
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(?:[T ][0-9]{2}.*)?")
# A longer text is no number and no date, however it looks: reading it would cost more than it can tell.
_LONGEST_NUMBER: Final = 400
_LONGEST_DATE: Final = 40

_TRUE: Final = frozenset({"true", "yes", "on", "1"})
_FALSE: Final = frozenset({"false", "no", "off", "0"})


@dataclass(frozen=True, slots=True)
class RuleValue:
    """What the text of a rule's value reads as; None where it does not read as that kind.

    Attributes:
        text: the text as it was written.
        number: exact. Its float is always finite.
        instant: aware; a date is its first moment, and without a time zone it is in UTC.
        truth: of `true`, `yes`, `on`, `1` and their opposites, in any case.
    """

    text: str
    number: int | Decimal | None
    instant: datetime | None
    truth: bool | None

    @classmethod
    def read(cls, text: str) -> RuleValue:
        """Reads `text` as every kind that it can be."""
        word = text.strip().lower()
        truth = True if word in _TRUE else False if word in _FALSE else None
        return cls(text=text, number=read_number(text), instant=read_instant(text), truth=truth)


def read_number(text: str) -> int | Decimal | None:
    """Returns the decimal number that `text` is, exactly; None for other text and for what is beyond a float's range.

    Blanks around it do not matter. `nan`, `inf`, digits of other scripts and thousands separators are no numbers.
    """
    if len(text) > _LONGEST_NUMBER:
        return None
    text = text.strip()
    found = _NUMBER.fullmatch(text)
    if found is None or isinf(float(text)):
        return None
    if found.lastindex is None:
        return int(text)
    try:
        return Decimal(text)
    except InvalidOperation:  # an exponent of twenty digits
        return None


def read_instant(text: str) -> datetime | None:
    """Returns the moment that an ISO 8601 date, or date and time, means; None for other text."""
    if len(text) > _LONGEST_DATE:
        return None
    text = text.strip()
    if _DATE.fullmatch(text) is None:
        return None
    try:
        return as_instant(datetime.fromisoformat(text))
    except ValueError:
        return None


def as_instant(value: date) -> datetime:
    """Returns an aware datetime: without a time zone the value is in UTC, and a date is its first moment."""
    if not isinstance(value, datetime):
        return datetime(value.year, value.month, value.day, tzinfo=UTC)
    return value.replace(tzinfo=UTC) if value.utcoffset() is None else value


def as_text(value: object) -> str | None:
    """Returns the text of a single value as it stands in the index, None for what has none.

    `true` and `false`, numbers in their shortest form, ISO 8601 for dates, bytes as UTF-8.
    """
    match value:
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case int():
            try:
                return int.__repr__(value)
            except ValueError:  # more digits than Python writes out
                return None
        case float():
            return float.__repr__(value)
        case Decimal() | UUID():
            return str(value)
        case date():
            return value.isoformat()
        case bytes():
            try:
                return value.decode()
            except UnicodeDecodeError:
                return None
        case _:
            return None


def elements(values: object) -> Iterator[object]:
    """Yields the single values of a list, tuple or set, of nested ones too; a list that contains itself ends."""
    pending, seen = [values], {id(values)}
    while pending:
        value = pending.pop()
        if not isinstance(value, list | tuple | set | frozenset):
            yield value
            continue
        for item in value:
            if isinstance(item, list | tuple | set | frozenset):
                if id(item) in seen:
                    continue
                seen.add(id(item))
            pending.append(item)
