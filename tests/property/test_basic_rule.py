"""Basic rules on any value: nothing raises, and a slow and obvious reference agrees."""

from __future__ import annotations

import contextlib
import re
import string
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from connectors.errors import InvalidFilteringError
from connectors.filtering.basic_rule import DEFAULT_RULE, BasicRule, BasicRuleEngine, Policy, Rule

# Values and rules are drawn from the same small words, so that they meet often, and from everything there is.
WORDS: Final = [
    *("", "a", "ab", "abc", "b", "A", " a", "a.b", "é", "true", "False", "yes", "off"),
    *("0", "1", "1.0", "+1", "-1", " 1 ", "01", "1e3", "1000", ".5", "5.", "1.5", "nan", "inf", "1_0", "1,5", "0x1"),
    *("2024-05-31", "2024-05-31T00:00:00", "2024-05-31T02:00:00+02:00", "2024-05-31 00:00Z", "2024-5-31", "20240531"),
    *("2024-02-30", "2024-05-31T24", "9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59", "2024-W01-1"),
]
PATTERNS: Final = [
    "a",
    "^a",
    "b$",
    "^$",
    "[0-9]+",
    "a.c",
    "(?i)TRUE",
    r"\.",
    "^2024-",
    "(a+)+$",
    r"^\-?[0-9.]+$",
    "Z|z",
]

zones = st.none() | st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes)))
FIRST: Final = datetime(1, 1, 1)  # noqa: DTZ001 - without a zone, to count from
moments = st.just(FIRST) | st.sampled_from(["2024-05-31", "2024-05-30T22:00", "9999-12-31T23:59:59.999999"]).map(
    datetime.fromisoformat
)
any_text = st.sampled_from(WORDS) | st.text(max_size=8)
scalars = st.one_of(
    any_text,
    any_text.map(str.encode),
    st.binary(max_size=6),
    st.booleans(),
    st.sampled_from([0, 1, -1, 1000, 2**53 + 1]),
    st.sampled_from([400, 5000]).map(lambda digits: 10**digits),
    st.integers(),
    st.sampled_from([0.0, -0.0, 0.5, 1.0, 1.5, 1e3, float(2**53)]),
    st.floats(),
    st.decimals(),
    st.sampled_from([Decimal("1.50"), Decimal("1E+3"), Decimal("sNaN"), Decimal("NaN"), Decimal("-Infinity")]),
    st.dates() | st.just(date(2024, 5, 31)),
    st.datetimes(timezones=zones),
    st.builds(lambda moment, zone: moment.replace(tzinfo=zone), moments, zones),
    st.uuids(),
    st.none(),
)
strange = st.sampled_from([object(), 1j, bytearray(b"a"), range(3), timedelta(1), Ellipsis, int, string])
values = st.recursive(
    scalars | strange,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.sampled_from(["a", "b", "a.b", "b.c", "c"]), inner, max_size=3)
    ),
    max_leaves=8,
)
operators = st.sampled_from(sorted(set(Rule) - {Rule.REGEX}))


# The reference


def reference(rule: Rule, wanted: str, value: Any) -> bool:
    """The answer that docs/SYNC_RULES.md gives, without a thought for speed."""
    if isinstance(value, list | tuple):
        return any(reference(rule, wanted, item) for item in value)
    if isinstance(value, bytes):
        try:
            value = value.decode()
        except UnicodeDecodeError:
            return False
    if isinstance(value, UUID):
        value = str(value)
    if rule in {Rule.EQUALS, Rule.GREATER_THAN, Rule.LESS_THAN}:
        pair = comparable(rule, wanted, value)
        if pair is None:
            return False
        left, right = pair
        return bool(
            left == right if rule == Rule.EQUALS else left > right if rule == Rule.GREATER_THAN else left < right
        )
    text = text_of(value)
    if text is None:
        return False
    if rule == Rule.REGEX:
        return re.search(wanted.replace("$", r"\Z"), text) is not None
    positions = [at for at in range(len(text) - len(wanted) + 1) if text[at : at + len(wanted)] == wanted]
    if rule == Rule.STARTS_WITH:
        return 0 in positions
    if rule == Rule.ENDS_WITH:
        return len(text) - len(wanted) in positions
    return bool(positions)


def comparable(rule: Rule, wanted: str, value: Any) -> tuple[Any, Any] | None:
    """Both sides as what they are compared as; None when they are not."""
    number, instant = number_of(wanted), instant_of(wanted)
    if isinstance(value, str):
        if rule != Rule.EQUALS and number is not None and number_of(value) is not None:
            return number_of(value), number
        if rule != Rule.EQUALS and instant is not None and instant_of(value) is not None:
            return instant_of(value), instant
        return value, wanted
    if isinstance(value, bool):
        word, names = wanted.strip().lower(), {"true", "yes", "on", "1"} if value else {"false", "no", "off", "0"}
        return (word in names, True) if rule == Rule.EQUALS else None
    if isinstance(value, int | float | Decimal):
        if number is None or "nan" in str(value if isinstance(value, float | Decimal) else 0).lower():
            return None
        if isinstance(value, float):
            return value, float(number)
        if isinstance(value, Decimal) and value.is_infinite():
            return (1 if value > 0 else -1), 0  # beyond every number
        return Fraction(value), number
    if isinstance(value, date):
        if instant is None:
            return None
        return microseconds(instant_of_date(value)), microseconds(instant)
    return None


def microseconds(moment: datetime) -> int:
    """Counted without `astimezone`, which fails near the ends of the calendar."""
    offset = moment.utcoffset()
    assert offset is not None
    return (moment.replace(tzinfo=None) - FIRST - offset) // timedelta(microseconds=1)


def instant_of_date(value: date) -> datetime:
    if not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)  # noqa: DTZ001 - the zone follows
    return value if value.tzinfo is not None else value.replace(tzinfo=UTC)


def number_of(text: str) -> Fraction | None:
    text = text.strip()
    mantissa, _, exponent = text.lower().partition("e")
    digits = mantissa.lstrip("+-").replace(".", "", 1)
    whole = (set(digits) | set(exponent.lstrip("+-"))) <= set("0123456789")
    if not whole or not digits or (("e" in text.lower()) and not exponent.lstrip("+-")):
        return None
    try:
        number = Fraction(Decimal(text))
        float(number)
    except (ArithmeticError, ValueError):
        return None
    return number


def instant_of(text: str) -> datetime | None:
    text = text.strip()
    if [text[at : at + 1] for at in (4, 7)] != ["-", "-"] or text[10:11] not in {"", "T", " "} or "W" in text:
        return None
    try:
        return instant_of_date(datetime.fromisoformat(text))
    except ValueError:
        return None


def text_of(value: Any) -> str | None:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, str | int | float | Decimal):
        try:
            return str(value)
        except ValueError:
            return None
    return None


def spellings(document: Any, parts: list[str]) -> list[Any]:
    """All values that a path may mean, the preferred one first."""
    if isinstance(document, list | tuple):
        inner = [spellings(item, parts) for item in flat(document)]
        found = [values[0] for values in inner if values]
        return [found] if found else []
    if not isinstance(document, dict):
        return []
    result = []
    for size in range(len(parts), 0, -1):
        value = document.get(".".join(parts[:size]))
        if value is not None:
            result += [value] if size == len(parts) else spellings(value, parts[size:])
    return result


def flat(items: Any) -> list[Any]:
    return [one for item in items for one in (flat(item) if isinstance(item, list | tuple) else [item])]


# The properties


def matches(rule: Rule, wanted: str, document: dict[str, Any], field: str = "a") -> bool:
    basic_rule = BasicRule("1", 1, Policy.EXCLUDE, field, rule, wanted)
    engine = BasicRuleEngine([basic_rule])
    ingested = engine.should_ingest(document)
    assert engine.explain(document) is (DEFAULT_RULE if ingested else basic_rule)
    return not ingested


@given(operators, any_text, values)
def test_agrees_with_the_reference(rule: Rule, wanted: str, value: Any) -> None:
    assert matches(rule, wanted, {"a": value}) == reference(rule, wanted, value)


@given(operators, scalars, st.data())
def test_agrees_with_the_reference_on_values_that_are_near(rule: Rule, value: Any, data: st.DataObject) -> None:
    text = text_of(value) or "1"
    wanted = data.draw(st.sampled_from([text, text[:3], text[-3:], text[1:-1], f" {text} ", text.upper(), text + "0"]))
    assert matches(rule, wanted, {"a": value}) == reference(rule, wanted, value)


@given(st.sampled_from(PATTERNS), values)
def test_a_pattern_agrees_with_the_reference(pattern: str, value: Any) -> None:
    assert matches(Rule.REGEX, pattern, {"a": value}) == reference(Rule.REGEX, pattern, value)


@given(st.text(st.characters(), max_size=6), st.text(st.characters(), max_size=12))
def test_any_pattern_is_refused_or_matches_without_raising(pattern: str, text: str) -> None:
    with contextlib.suppress(InvalidFilteringError):
        matches(Rule.REGEX, pattern, {"a": text})


@given(
    st.sampled_from(["a", "a.b", "a.b.c", "b.c"]),
    st.dictionaries(st.sampled_from(["a", "b", "c", "a.b", "b.c", "a.b.c"]), values, max_size=4),
)
def test_a_field_is_found_as_documented(field: str, document: dict[str, Any]) -> None:
    found = spellings(document, field.split("."))
    for wanted in ("a", "1", "2024-05-31"):
        expected = bool(found) and reference(Rule.EQUALS, wanted, found[0])
        assert matches(Rule.EQUALS, wanted, document, field) == expected


policies = st.sampled_from(Policy)
rule_lists = st.lists(
    st.builds(
        BasicRule,
        id=st.uuids().map(str),
        order=st.integers(0, 5),
        policy=policies,
        field=st.sampled_from(["a", "b"]),
        rule=operators,
        value=st.sampled_from(WORDS),
    ),
    max_size=6,
)


@given(rule_lists, policies, st.fixed_dictionaries({"a": scalars, "b": scalars}))
def test_the_first_match_decides(rules: list[BasicRule], policy: Policy, document: dict[str, Any]) -> None:
    default = BasicRule("DEFAULT", 0, policy, "_", Rule.REGEX, ".*")
    engine = BasicRuleEngine([default, *rules])
    decided = default
    for rule in sorted(rules, key=lambda rule: rule.order):
        if document[rule.field] is not None and reference(rule.rule, rule.value, document[rule.field]):
            decided = rule
            break
    assert engine.explain(document) is decided
    assert engine.should_ingest(document) is (decided.policy == Policy.INCLUDE)
    assert engine.is_trivial is False or engine.should_ingest(document)
    again = BasicRuleEngine.from_records([rule.to_record() for rule in (default, *rules)])
    assert (again.rules, again.default) == (engine.rules, engine.default)
