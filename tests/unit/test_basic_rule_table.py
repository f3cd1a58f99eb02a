"""The tables of docs/SYNC_RULES.md, cell by cell: the documentation is the expectation."""

from __future__ import annotations

import operator
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import pytest

from connectors.filtering.basic_rule import BasicRule, BasicRuleEngine, Policy, Rule
from connectors.filtering.coercion import as_text

PAGE: Final = (Path(__file__).parents[2] / "docs" / "SYNC_RULES.md").read_text(encoding="utf-8")
MEANINGS: Final = {"text", "number", "instant", "truth", "never"}


@dataclass(frozen=True)
class Sample:
    """One value and what it is when it is taken as text, number, instant or truth."""

    value: Any
    text: str | None = None
    number: Fraction | None = None
    instant: datetime | None = None
    truth: bool | None = None


def moment(day: int, hour: int = 0) -> datetime:
    return datetime(2024, 5, day, hour, tzinfo=UTC)


def text_samples(*texts: str) -> list[Sample]:
    return [Sample(text, text) for text in texts]


NUMBERS: Final = {"5": Fraction(5), "-1.5": Fraction(-3, 2), "1e1": Fraction(10), "10": Fraction(10), "9": Fraction(9)}
DATES: Final = {
    "2024-05-31": moment(31),
    "2024-05-31T12:00:00+02:00": moment(31, 10),
    "2024-05-30T23:00:00-05:00": moment(31, 4),
}
TRUTHS: Final = {"true": True, "No": False, "on": True, "OFF": False}

RULE_VALUES: Final[dict[str, list[Sample]]] = {
    "number": [Sample(text, text, number=number) for text, number in NUMBERS.items()],
    "date": [Sample(text, text, instant=instant) for text, instant in DATES.items()],
    "truth word": [Sample(text, text, truth=truth) for text, truth in TRUTHS.items()],
    "other text": text_samples("abc", "a", "c", "T", "2024-", "5/9", "ABC"),
}
DOCUMENTS: Final[dict[str, list[Sample]]] = {
    "text": text_samples("abc", "true", "No", "", "a.c", "b", "x 5 2024-05-31"),
    "text that reads as a number": [Sample(text, text, number=number) for text, number in NUMBERS.items()],
    "text that reads as a date": [Sample(text, text, instant=instant) for text, instant in DATES.items()],
    "bytes in UTF-8": text_samples("abc", "é", "true"),
    "UUID": [Sample(UUID(int=n), f"00000000-0000-0000-0000-{n:012}") for n in (0, 5)],
    "whole number": [Sample(n, str(n), number=Fraction(n)) for n in (5, 10, -1, 2024)],
    "floating-point number": [Sample(n, repr(n), number=Fraction(n)) for n in (5.0, -1.5, 10.0, 9.25)],
    "decimal number": [Sample(Decimal(n), n, number=Fraction(n)) for n in ("5.0", "-1.50", "10", "9")],
    "truth value": [Sample(True, "true", truth=True), Sample(False, "false", truth=False)],
    "date": [Sample(date(2024, 5, day), f"2024-05-{day}", instant=moment(day)) for day in (30, 31)],
    "date and time without a zone": [
        Sample(datetime(2024, 5, 31, hour), f"2024-05-31T{hour:02}:00:00", instant=moment(31, hour))  # noqa: DTZ001 - naive on purpose
        for hour in (0, 4, 10, 12)
    ],
    "date and time with a zone": [
        Sample(datetime(2024, 5, 31, 12, tzinfo=UTC), "2024-05-31T12:00:00+00:00", instant=moment(31, 12)),
        Sample(
            datetime(2024, 5, 31, 2, tzinfo=timezone(timedelta(hours=2))),
            "2024-05-31T02:00:00+02:00",
            instant=moment(31),
        ),
    ],
    "null or missing": [Sample(None)],
    "object": [Sample({}), Sample({"abc": "abc"})],
    "bytes not in UTF-8": [Sample(b"\xff5"), Sample(b"abc\xc3")],
    "any other type": [
        Sample(5 + 0j),
        Sample(timedelta(5)),
        Sample(object()),
        Sample(bytearray(b"abc")),
        Sample(range(9)),
    ],
}
DOCUMENTS["bytes in UTF-8"] = [Sample(str(item.value).encode(), item.text) for item in DOCUMENTS["bytes in UTF-8"]]


def tables() -> Iterator[tuple[list[str], list[list[str]]]]:
    """Yields the operators in the heading and the rows of each table below one."""
    for section in re.split(r"^#### ", PAGE, flags=re.MULTILINE)[1:]:
        heading, _, body = section.partition("\n")
        lines = re.match(r"\s*((?:\|.*\n)+)", body)
        assert lines is not None
        rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[1].splitlines()]
        yield re.findall(r"`([^`]+)`", heading), rows


def cells() -> list[Any]:
    return [
        pytest.param(Rule(word), row[0], column, meaning, id=f"{word}-{row[0]}-{column}")
        for words, (header, _, *rows) in tables()
        for word in words
        for row in rows
        for column, meaning in zip(header[1:], row[1:], strict=True)
    ]


def test_the_tables_are_complete() -> None:
    words = [word for words, _ in tables() for word in words]
    assert sorted(words) == sorted(Rule)
    for _, (header, _, *rows) in tables():
        assert header[1:] == list(RULE_VALUES)
        assert [row[0] for row in rows] == list(DOCUMENTS)
        assert {cell for row in rows for cell in row[1:]} <= MEANINGS


OPERATORS: Final[dict[Rule, Any]] = {
    Rule.EQUALS: operator.eq,
    Rule.GREATER_THAN: operator.gt,
    Rule.LESS_THAN: operator.lt,
    Rule.CONTAINS: lambda found, wanted: wanted in found,
    Rule.STARTS_WITH: lambda found, wanted: found[: len(wanted)] == wanted,
    Rule.ENDS_WITH: lambda found, wanted: found[len(found) - len(wanted) :] == wanted if wanted in found else False,
    Rule.REGEX: lambda found, wanted: re.search(wanted, found) is not None,
}


@pytest.mark.parametrize(("rule", "row", "column", "meaning"), cells())
def test_a_cell_says_what_happens(rule: Rule, row: str, column: str, meaning: str) -> None:
    for wanted in RULE_VALUES[column]:
        engine = BasicRuleEngine([BasicRule("1", 1, Policy.EXCLUDE, "a", rule, str(wanted.value))])
        for document in DOCUMENTS[row]:
            if meaning == "never":
                expected = False
            else:
                expected = OPERATORS[rule](getattr(document, meaning), getattr(wanted, meaning))
            for value in (document.value, [document.value], ((), {"x": 1}, [document.value])):
                assert engine.should_ingest({"a": value}) is not expected, (document, wanted, value)


def test_bytes_that_hold_a_number_or_a_date_are_ordered_as_one() -> None:
    def excludes(value: bytes, wanted: str) -> bool:
        return not BasicRuleEngine([BasicRule("1", 1, Policy.EXCLUDE, "a", Rule.GREATER_THAN, wanted)]).should_ingest(
            {"a": value}
        )

    assert excludes(b"10", "9")
    assert excludes(b"2024-05-31T23:30:00-01:00", "2024-06-01")


def text_rows() -> list[tuple[str, str]]:
    table = PAGE.split("| document | example | its text |")[1].split("\n\n", maxsplit=1)[0]
    return [(example, text) for example, text in re.findall(r"\| `([^`]+)` \| `([^`]+)` \|", table)]


@pytest.mark.parametrize(("example", "text"), text_rows())
def test_the_text_of_a_value_is_the_documented_one(example: str, text: str) -> None:
    names = {"Decimal": Decimal, "date": date, "datetime": datetime, "UTC": UTC, "UUID": UUID}
    value = eval(example, names)  # noqa: S307 - the examples of our own page, which are Python
    assert as_text(value) == text
    engine = BasicRuleEngine([BasicRule("1", 1, Policy.EXCLUDE, "a", Rule.REGEX, f"^{re.escape(text)}$")])
    assert not engine.should_ingest({"a": value})


def test_all_examples_of_text_are_read() -> None:
    assert len(text_rows()) == 9
