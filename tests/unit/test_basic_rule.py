"""Basic rules: reading records, the sequence, fields, and what the engine tells about itself."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import StrEnum
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from connectors.errors import InvalidFilteringError
from connectors.filtering.basic_rule import (
    DEFAULT_RULE,
    DEFAULT_RULE_ID,
    BasicRule,
    BasicRuleEngine,
    Policy,
    Rule,
    parse,
)


def record(rule_id: str = "1", **changes: Any) -> dict[str, Any]:
    return {
        "id": rule_id,
        "order": 1,
        "policy": "exclude",
        "field": "path",
        "rule": "equals",
        "value": "x",
        **changes,
    }


def excludes(document: dict[str, Any], field: str, rule: str, value: Any) -> bool:
    engine = BasicRuleEngine.from_records([record(field=field, rule=rule, value=value)])
    return not engine.should_ingest(document)


# Reading records


def test_parse_sorts_by_order_and_puts_the_default_rule_last() -> None:
    rules = parse(
        [
            {"id": DEFAULT_RULE_ID, "policy": "include", "field": "_", "rule": "regex", "value": ".*", "order": 0},
            record("c", order=30),
            record("a", order=-1),
            record("b", order=2),
        ]
    )
    assert [rule.id for rule in rules] == ["a", "b", "c", DEFAULT_RULE_ID]
    assert rules[-1].is_default


def test_parse_reads_every_key() -> None:
    (rule,) = parse(
        [record("7", order=3, policy="Include", field="a.b", rule="STARTS_WITH", value="v", created_at="x")]
    )
    assert rule == BasicRule("7", 3, Policy.INCLUDE, "a.b", Rule.STARTS_WITH, "v")
    assert parse([rule.to_record()]) == [rule]
    assert json.loads(json.dumps(rule.to_record())) == rule.to_record()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("007", "007"),
        (5, "5"),
        (5.5, "5.5"),
        (True, "true"),
        (date(2024, 5, 31), "2024-05-31"),
        (datetime(2024, 5, 31, 12, tzinfo=UTC), "2024-05-31T12:00:00+00:00"),
        (Decimal("5.10"), "5.10"),
        ("", ""),
    ],
)
def test_parse_reads_a_value_that_yaml_has_typed_as_its_text(value: Any, text: str) -> None:
    assert parse([record(value=value)])[0].value == text


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"policy": "exclud"}, "did you mean exclude"),
        ({"policy": "deny"}, "did you mean exclude"),
        ({"policy": None}, "`policy` is missing"),
        ({"policy": 7}, "write one of include, exclude"),
        ({"rule": "starts with"}, "did you mean starts_with"),
        ({"rule": "startswith"}, "did you mean starts_with"),
        ({"rule": "=="}, "did you mean equals"),
        ({"rule": ">="}, "did you mean >"),
        ({"rule": "zzz"}, "write one of equals, contains, starts_with, ends_with, regex, >, <"),
        ({"field": ""}, "`field` is missing"),
        ({"field": ["a"]}, "`field` is missing"),
        ({"value": None}, "`value` is missing"),
        ({"value": ["a", "b"]}, "one rule for each"),
        ({"value": b"x"}, "one text, number or date"),
        pytest.param({"value": 10**5000}, "one text, number or date", id="too many digits"),
        ({"order": None}, "`order` is missing"),
        ({"order": "1"}, "without quotes"),
        ({"order": True}, "write a whole number"),
    ],
)
def test_a_record_that_is_no_rule_is_refused_with_its_id_and_what_to_write(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidFilteringError) as caught:
        parse([record("r-9", **changes)])
    assert words in str(caught.value)
    assert "r-9" in str(caught.value)


@pytest.mark.parametrize("changes", [{"rule": "regex", "value": "(?=a)"}, {"field": ".".join("a" * 33)}])
def test_a_rule_that_cannot_be_compiled_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidFilteringError, match=r'sync rule "1"'):
        BasicRuleEngine.from_records([record(**changes)])


# The sequence


def test_the_first_rule_that_matches_decides() -> None:
    engine = BasicRuleEngine.from_records(
        [
            record("2", order=2, policy="exclude", rule="starts_with", value="a"),
            record("1", order=1, policy="include", rule="equals", value="abc"),
            record("3", order=3, policy="include", rule="starts_with", value="ab"),
        ]
    )
    decided = {path: engine.explain({"path": path}).id for path in ("abc", "abd", "xyz")}
    assert decided == {"abc": "1", "abd": "2", "xyz": DEFAULT_RULE_ID}
    assert [engine.should_ingest({"path": path}) for path in ("abc", "abd", "xyz")] == [True, False, True]


def test_the_order_of_the_constructor_arguments_does_not_matter() -> None:
    first = BasicRule("1", 1, Policy.EXCLUDE, "a", Rule.EQUALS, "x")
    second = BasicRule("2", 2, Policy.INCLUDE, "a", Rule.EQUALS, "x")
    assert not BasicRuleEngine([second, DEFAULT_RULE, first]).should_ingest({"a": "x"})


@pytest.mark.parametrize(("policy", "ingested"), [("include", True), ("exclude", False)])
@pytest.mark.parametrize("rule_id", ["DEFAULT", "default"])
def test_the_default_rule_decides_by_its_policy_alone(rule_id: str, policy: str, ingested: bool) -> None:
    default = {"id": rule_id, "policy": policy, "field": "a", "rule": "equals", "value": "never"}
    engine = BasicRuleEngine.from_records([record(policy="include", value="kept"), default])
    assert engine.should_ingest({"path": "other"}) is ingested
    assert engine.should_ingest({"path": "kept"}) is True
    assert engine.explain({"path": "other"}) is engine.default


@pytest.mark.parametrize(
    ("rules", "trivial"),
    [
        ([], True),
        ([{"id": "DEFAULT", "policy": "include"}], True),
        ([record(policy="include")], True),
        ([{"id": "DEFAULT", "policy": "exclude"}], False),
        ([record(policy="exclude")], False),
    ],
)
def test_an_engine_that_ingests_everything_says_so(rules: list[dict[str, Any]], trivial: bool) -> None:
    assert BasicRuleEngine.from_records(rules).is_trivial is trivial


def test_a_rule_reads_as_a_sentence() -> None:
    assert str(parse([record("7")])[0]) == "exclude path equals 'x' (rule 7)"
    assert str(DEFAULT_RULE) == "include everything else (default rule)"


# Fields


@pytest.mark.parametrize(
    "document",
    [
        {"a": {"b": {"c": "x"}}},
        {"a.b.c": "x"},
        {"a.b": {"c": "x"}},
        {"a": {"b.c": "x"}},
        {"a.b": {"d": "x"}, "a": {"b": {"c": "x"}}},
        {"a.b.c": None, "a": {"b": {"c": "x"}}},
        {"a": {"b": [{"c": "y"}, {"c": "x"}]}},
        {"a": [{"b": {"c": "y"}}, "z", None, [{"b": {"c": ["y", ["x"]]}}]]},
        {"a": ({"b": {"c": ("y", "x")}},)},
    ],
)
def test_a_nested_field_is_found(document: dict[str, Any]) -> None:
    assert excludes(document, "a.b.c", "equals", "x")


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"a": None},
        {"a": {"b": {"d": "x"}}},
        {"a": {"b": "x"}},
        {"a": "x"},
        {"c": "x"},
        {"a": {"b": {"c": {"d": "x"}}}},
        {"a": []},
        {"a": [{"b": []}]},
        {"a": {"b": {"c": [None]}}},
    ],
)
@pytest.mark.parametrize("rule", list(Rule))
@pytest.mark.parametrize("policy", list(Policy))
def test_a_missing_field_never_matches(document: dict[str, Any], rule: Rule, policy: Policy) -> None:
    engine = BasicRuleEngine([BasicRule("1", 1, policy, "a.b.c", rule, "x")])
    assert engine.explain(document) is DEFAULT_RULE


def test_the_longest_key_goes_first() -> None:
    assert excludes({"a.b": "x", "a": {"b": "y"}}, "a.b", "equals", "x")
    assert not excludes({"a.b": "y", "a": {"b": "x"}}, "a.b", "equals", "x")
    assert not excludes({"a.b": {"c": "y"}, "a": {"b.c": "x"}}, "a.b.c", "equals", "x")


def test_a_list_that_contains_itself_ends() -> None:
    endless: list[Any] = ["y"]
    endless.append(endless)
    endless.append([endless, [[endless]]])
    assert not excludes({"a": endless}, "a", "equals", "x")
    assert not excludes({"a": endless}, "a.b", "equals", "x")
    endless.append("x")
    assert excludes({"a": endless}, "a", "equals", "x")


@pytest.mark.parametrize("values", [["y", "x"], ("y", "x"), {"y", "x"}, frozenset({"x"}), [["x"]], [1, None, "x", {}]])
def test_any_element_of_a_list_decides(values: Any) -> None:
    assert excludes({"a": values}, "a", "equals", "x")
    assert not excludes({"a": values}, "a", "equals", "z")


# Values, beyond the tables of the documentation


class Colour(StrEnum):
    RED = "red"


class Celsius(float):
    def __repr__(self) -> str:
        return f"{float(self)} degrees"


@pytest.mark.parametrize(
    ("value", "rule", "wanted", "matches"),
    [
        ("Abc", "equals", "abc", False),
        ("Abc", "regex", "(?i)^abc$", True),
        ("a/b.pdf", "regex", r"\.pdf$", True),
        ("a/b.pdf.bak", "regex", r"\.pdf$", False),
        ("007", "equals", "7", False),
        (7, "equals", "007", True),
        (0.1, "equals", "0.1", True),
        (0.1, ">", "0.1", False),
        (Decimal("0.1"), "equals", "0.10", True),
        (2**53 + 1, "equals", str(2**53), False),
        (2**53 + 1, ">", str(2**53), True),
        pytest.param(10**5000, ">", "1e300", True, id="huge number compared"),
        pytest.param(10**5000, "contains", "0", False, id="huge number as text"),
        (float("inf"), ">", "1e308", True),
        (float("nan"), "equals", "nan", False),
        (float("nan"), ">", "0", False),
        (Decimal("sNaN"), ">", "0", False),
        (Decimal("-Infinity"), "<", "0", True),
        (5, "<", "1e999", False),
        (5, "<", "1e99999999999999999999", False),
        (5, ">", "1e-99999999999999999999", False),
        (5, ">", "\u0661", False),
        (5, "equals", " 5 ", True),
        (5, "equals", "9" * 500, False),
        (5, ">", "0" * 500, False),
        pytest.param("0" * 5000, ">", "-1", True, id="too long for a number, so compared as text"),
        ("9", "<", "10", True),
        ("9 apples", "<", "10", False),
        ("2024-05-31T23:30:00-01:00", ">", "2024-06-01", True),
        ("2024-05-31 at noon", ">", "2024-05-31", True),
        ("2024-13-01", ">", "2024-05-31", True),
        (date(2024, 5, 31), "equals", "2024-05-31T00:00:00Z", True),
        (datetime(2024, 5, 31, 12), "equals", "2024-05-31", False),  # noqa: DTZ001 - naive on purpose
        (datetime(2024, 5, 31, 12), ">", "2024-05-31", True),  # noqa: DTZ001 - naive on purpose
        (datetime(2024, 5, 31, 1, tzinfo=timezone(timedelta(hours=2))), "equals", "2024-05-30T23:00:00Z", True),
        (datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Paris")), "equals", "2024-10-27T01:30Z", True),
        (datetime.max.replace(tzinfo=timezone(timedelta(hours=-23))), ">", "2024-05-31", True),
        (datetime.min.replace(tzinfo=timezone(timedelta(hours=23))), "<", "2024-05-31", True),
        (datetime(2024, 5, 31, tzinfo=UTC), "starts_with", "2024-05", True),
        (datetime(2024, 5, 31, 10, tzinfo=UTC), "equals", "2024-05-31x10:00Z", False),
        (True, "equals", "YES", True),
        (True, "equals", " yes ", True),
        (False, "equals", "0", True),
        (True, "equals", "2", False),
        (1, "equals", "true", False),
        (Colour.RED, "equals", "red", True),
        (Colour.RED, "starts_with", "r", True),
        (Celsius(21.5), ">", "21", True),
        (Celsius(21.5), "ends_with", ".5", True),
        ("\ud800x", "regex", "x$", True),
        ("a\x00b", "regex", "b$", True),
        (object(), "contains", "object", False),
        (bytearray(b"x"), "equals", "x", False),
    ],
)
def test_how_one_value_is_compared(value: Any, rule: str, wanted: str, matches: bool) -> None:
    assert excludes({"a": value}, "a", rule, wanted) is matches
    assert excludes({"a": ["other", value]}, "a", rule, wanted) in {matches, True}
    assert excludes({"a": {"b": [value]}}, "a.b", rule, wanted) is matches


def test_a_pattern_that_hangs_a_backtracking_engine_takes_no_time() -> None:
    engine = BasicRuleEngine.from_records([record(field="a", rule="regex", value="(a+)+$")])
    assert engine.should_ingest({"a": "a" * 100_000 + "!"})
