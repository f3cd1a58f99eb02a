"""The default validators of basic rules: one mistake, one message, which says what to write instead."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from connectors.filtering.basic_rule import BasicRuleEngine, Rule
from connectors.filtering.regex import RegexError, compile_regex, matches_everything
from connectors.filtering.validation import FilteringValidator
from connectors.filtering.validators import default_basic_rules_validators

DEFAULT: Final = {"id": "DEFAULT", "policy": "include", "field": "_", "rule": "regex", "value": ".*", "order": 99}

SEVEN_MISTAKES: Final = r"""
- {id: words,      order: 1, policy: exclud,  field: path, rule: equals,      value: a}
- {id: operator,   order: 2, policy: exclude, field: path, rule: begins_with, value: a}
- {id: everything, order: 3, policy: exclude, field: path, rule: regex,       value: "^.*$"}
- {id: look,       order: 4, policy: exclude, field: path, rule: regex,       value: "^(?!keep).+[.]tmp$"}
- {id: twin,       order: 6, policy: exclude, field: path, rule: equals,      value: tmp}
- {id: against,    order: 7, policy: include, field: path, rule: equals,      value: tmp}
- {id: original,   order: 5, policy: exclude, field: path, rule: equals,      value: tmp}
- {id: late,       order: 5, policy: exclude, field: size, rule: ">",         value: 1000}
"""


def record(rule_id: str = "1", **changes: Any) -> dict[str, Any]:
    rule = {"id": rule_id, "order": 1, "policy": "exclude", "field": "path", "rule": "equals", "value": "x", **changes}
    return {key: value for key, value in rule.items() if value is not ...}


async def problems(*rules: Any) -> list[tuple[str, str]]:
    result = await FilteringValidator(default_basic_rules_validators()).validate(rules)
    assert all(len(error.ids) == len(error.messages) == 1 for error in result.errors)
    assert result.is_valid is not bool(result.errors)
    return [(error.ids[0], error.messages[0]) for error in result.errors]


async def test_good_rules_have_no_problems_and_compile() -> None:
    rules = [
        record("a", order=1, created_at="2024-01-01T00:00:00Z", updated_at=None),
        record("b", order=2, value="y"),
        record("c", order=3, field="other"),
        record("d", order=4, rule="regex", value=r"\.tmp$"),
        record("e", order=5, policy="include", rule="starts_with", value="x"),
        record("f", order=-6, rule=">", value=5),
        record("g", order=7, value=""),
        record(8, order=8, rule="<", value="2024-01-01"),  # type: ignore[arg-type]  # an id that YAML reads as a number
        DEFAULT,
    ]
    assert await problems(*rules) == []
    assert len(BasicRuleEngine.from_records(rules).rules) == 8


async def test_seven_mistakes_give_seven_messages() -> None:
    found = await problems(*yaml.safe_load(SEVEN_MISTAKES))
    assert {rule_id for rule_id, _ in found} == {
        "words",
        "operator",
        "everything",
        "look",
        "twin",
        "against",
        "late",
    }
    assert len(found) == 7
    said = dict(found)
    assert "did you mean exclude" in said["words"]
    assert "did you mean starts_with" in said["operator"]
    assert "matches every text" in said["everything"]
    assert "write two rules, the exception first" in said["look"]
    assert 'says the same as rule "original"' in said["twin"]
    assert 'rule "original" has the same condition, comes first and says exclude' in said["against"]
    assert 'same order 5 as rule "original"' in said["late"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"policy": ...}, "`policy` is missing: write one of include, exclude"),
        ({"rule": ...}, "`rule` is missing: write one of equals"),
        ({"field": ...}, "`field` is missing"),
        ({"field": "  "}, "`field` is missing"),
        ({"field": ".".join("a" * 40)}, "at most 32 levels deep"),
        ({"value": ...}, "`value` is missing"),
        ({"value": None}, "`value` is missing"),
        ({"value": ["a"]}, "one rule for each"),
        ({"order": ...}, "`order` is missing: write a whole number"),
        ({"order": "first"}, "`order` is 'first'"),
        ({"order": 1.5}, "`order` is 1.5"),
        ({"policy": ..., "polcy": "exclude"}, "there is `polcy`: rename it to `policy`"),
        ({"value": ..., "values": "x"}, "there is `values`: rename it to `value`"),
        ({"policy": "keep"}, "did you mean include"),
        ({"rule": "regx"}, "did you mean regex"),
        ({"rule": "contains", "value": ""}, "matches every text: write the text to look for"),
        ({"rule": "starts_with", "value": ""}, "matches every text"),
        ({"rule": "ends_with", "value": ""}, "matches every text"),
        ({"rule": ">", "value": " "}, "write the number, date or text to compare with"),
        ({"rule": "regex", "value": ""}, "matches every text"),
        ({"rule": "regex", "value": "(a"}, "close the group"),
    ],
)
async def test_one_mistake_gives_one_message(changes: dict[str, Any], words: str) -> None:
    ((rule_id, message),) = await problems(record("r-1", **changes), record("other", order=7, value="z"))
    assert rule_id == "r-1"
    assert words in message


@pytest.mark.parametrize("changes", [{"id": ...}, {"id": ""}, {"id": None}])
async def test_a_rule_without_an_id_is_told_to_get_one(changes: dict[str, Any]) -> None:
    assert await problems(record("other"), record(**{"value": "z", "order": 2, **changes})) == [
        ("#2", "`id` is missing: give the rule an id, so that it can be named")
    ]


async def test_an_id_is_used_once() -> None:
    ((rule_id, message),) = await problems(record("1"), record("1", order=2, value="y"))
    assert rule_id == "1"
    assert 'the id "1" is used twice' in message


async def test_a_duplicate_is_found_however_its_value_is_typed() -> None:
    found = await problems(
        record("a", value=5), record("b", order=2, value="5", policy="EXCLUDE"), record("c", order=3, value=5)
    )
    assert [(rule_id, message.split(":")[0]) for rule_id, message in found] == [
        ("b", 'says the same as rule "a"'),
        ("c", 'says the same as rule "a"'),
    ]


async def test_of_two_contradictory_rules_the_one_that_never_decides_is_named() -> None:
    ((rule_id, message),) = await problems(record("late", order=2), record("early", order=1, policy="include"))
    assert rule_id == "late"
    assert 'rule "early" has the same condition, comes first and says include' in message


async def test_every_rule_with_an_order_that_is_taken_is_named() -> None:
    found = await problems(record("a"), record("b", value="y"), record("c", value="z"), record("d", value="w", order=4))
    assert [rule_id for rule_id, _ in found] == ["b", "c"]
    assert all('same order 1 as rule "a"' in message and "such as 5" in message for _, message in found)


@pytest.mark.parametrize("order", [0, 5])
async def test_the_default_rule_comes_last(order: int) -> None:
    ((rule_id, message),) = await problems({**DEFAULT, "order": order}, record(order=5))
    assert rule_id == "DEFAULT"
    assert "give it the order 6, or none" in message


async def test_of_the_default_rule_only_its_policy_matters() -> None:
    assert await problems({"id": "DEFAULT", "policy": "exclude"}, record()) == []
    assert await problems({**DEFAULT, "order": 0}) == []
    ((rule_id, message),) = await problems({**DEFAULT, "policy": "all"}, record())
    assert (rule_id, "write one of include, exclude" in message) == ("DEFAULT", True)
    ((_, message),) = await problems(DEFAULT, record(), {"id": "default", "policy": "exclude"})
    assert "used twice" in message


async def test_validators_stand_any_mess() -> None:
    mess: list[Any] = [None, [], {}, "x"]
    rules = [{"id": a, "order": b, "policy": a, "field": b, "rule": a, "value": b} for a in mess for b in mess]
    found = await problems(*rules, *mess, {}, {1: 2}, {"id": {"DEFAULT": 1}})
    assert not any("failed" in message for _, message in found), found


# Regular expressions


@pytest.mark.parametrize(
    "pattern",
    [
        "",
        ".",
        ".*",
        ".+",
        "^.*$",
        "(.*)",
        "^",
        "$",
        "a*",
        "x?",
        r"[\s\S]+",
        "(?s).*",
        "(?i)^.*x?",
        "^a|.*",
        "[^a]|a",
        "()",
    ],
)
def test_a_pattern_that_matches_everything_is_found_out(pattern: str) -> None:
    assert matches_everything(pattern)


@pytest.mark.parametrize(
    "pattern",
    [
        "a",
        "^a.*",
        r"\.pdf$",
        "^$",
        r"\w",
        r"\S",
        "^[^/]*$",
        "^[^ü]*$",
        r"^[^\x{e9}]*$",
        "^[^\U0001f600]*$",
        r"^\P{Greek}*$",
        "^.{3,}$",
        "^.{1,200}$",
        "^[[:ascii:]]*$",
        "^(?:[^t]|t[^m]|tm[^p])*(?:t|tm)?$",
    ],
)
def test_a_real_pattern_is_left_alone(pattern: str) -> None:
    assert not matches_everything(pattern)


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("(?=a)b", "write two rules"),
        ("a(?!b)", "write two rules"),
        ("(?<=a)b", "write two rules"),
        ("(?<!a)b", "write two rules"),
        (r"(a)\1", "back-reference"),
        (r"(?P<n>a)(?P=n)", "back-reference"),
        ("a++", "possessive"),
        ("(?>a)", "(?:...)"),
        ("(a)?(?(1)b|c)", "both alternatives"),
        ("(?x) a", "without blanks"),
        ("(?#why)a", "without the comment"),
        ("(?q)a", "the flags are"),
        (r"a\Z", r"write \z or $"),
        (r"\u00e9", r"\x{e9}"),
        (r"\h", r"[ \t]"),
        (r"\R", r"\r?\n"),
        (r"a\Kb", "leave it out"),
        (r"\y", "without the backslash"),
        ("a{1001}", "at most 1000 times"),
        ("*a", "write something before it"),
        ("[a", "close the class"),
        ("(a", "close the group"),
        ("a)", "open the group"),
        ("[z-a]", "from the lower to the higher"),
        ("a\\", r"write \\ for a backslash"),
        ("\ud800", "not valid Unicode"),
        ("((a{100}){100}){100}", "at most 1000 times"),
        (r"(\p{L}{1000}|\p{N}{1000}){1,1}", "shorter pattern"),
    ],
)
def test_a_pattern_that_cannot_be_used_says_what_to_write(
    pattern: str, words: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(RegexError, match=re.escape(words)):
        compile_regex(pattern)
    assert capfd.readouterr().err == "", "RE2 writes nothing by itself"


# The documentation


def test_the_rules_of_the_documentation_do_what_it_says() -> None:
    page = (Path(__file__).parents[2] / "docs" / "SYNC_RULES.md").read_text(encoding="utf-8")
    first, pages, advanced = (yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL))
    engine = BasicRuleEngine.from_records(first["filtering"]["rules"])
    team = {"team": {"name": "Search"}}
    assert not engine.should_ingest({"path": "drafts/a.md", **team})
    assert not engine.should_ingest({"path": "a.md", "size": 2_000_000, **team})
    assert engine.should_ingest({"path": "a.md", "size": 200, **team})
    assert not engine.should_ingest({"path": "a.md", "size": 200})
    engine = BasicRuleEngine.from_records(pages)
    decided = {name: engine.explain({"name": name}).id for name in ("my-draft.md", "plan.md", "plan.pdf")}
    assert decided == {"my-draft.md": "drafts", "plan.md": "pages", "plan.pdf": "DEFAULT"}
    assert list(advanced["filtering"]["advanced"]) == ["shop"]


async def test_the_rules_of_the_documentation_are_valid() -> None:
    page = (Path(__file__).parents[2] / "docs" / "SYNC_RULES.md").read_text(encoding="utf-8")
    first, pages, _ = (yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL))
    assert await problems(*first["filtering"]["rules"]) == []
    assert await problems(*pages) == []


def test_the_documentation_names_every_default_validator_and_operator() -> None:
    page = (Path(__file__).parents[2] / "docs" / "SYNC_RULES.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `(\w+Validator)` \|", page, re.MULTILINE) == [
        type(validator).__name__ for validator in default_basic_rules_validators()
    ]
    assert all(f"`{rule}`" in page for rule in Rule)
