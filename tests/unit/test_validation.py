"""The validation framework: results, running validators in order, and what becomes of one that fails."""

from __future__ import annotations

import asyncio
import inspect
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any, Final

import pytest

from connectors.byoc import Filter
from connectors.filtering import validation
from connectors.filtering.validation import (
    AdvancedRulesValidator,
    BasicRulesSetValidator,
    BasicRuleValidator,
    FilteringValidationResult,
    FilteringValidator,
    FilterValidationError,
    FilterValidationState,
    SyncRuleValidationResult,
)
from connectors.source import BaseDataSource, DataSourceConfiguration

RULES: Final = [{"id": "1", "field": "a"}, {"id": "2", "field": "b"}]


def invalid(rule_id: str, message: str) -> SyncRuleValidationResult:
    return SyncRuleValidationResult(rule_id=rule_id, is_valid=False, validation_message=message)


def found(result: FilteringValidationResult) -> list[tuple[tuple[str, ...], str]]:
    return [(tuple(error.ids), "; ".join(error.messages)) for error in result.errors]


class EachRule(BasicRuleValidator):
    def validate(self, rule: Mapping[str, Any]) -> SyncRuleValidationResult:
        return invalid(str(rule.get("id")), f"each {rule['field']}")


class EachRuleLater(BasicRuleValidator):
    async def validate(self, rule: Mapping[str, Any]) -> list[SyncRuleValidationResult]:
        await asyncio.sleep(0)
        return [invalid(rule["id"], "later, first"), invalid(rule["id"], "later, second")]


class Promised(BasicRulesSetValidator):
    """Returns something to await, without being a coroutine."""

    def validate(self, rules: Sequence[Mapping[str, Any]]) -> Awaitable[SyncRuleValidationResult]:
        promise = asyncio.get_running_loop().create_future()
        promise.set_result(invalid("2", "promised"))
        return promise


class OfTheClass(BasicRuleValidator):
    @classmethod
    def validate(cls, rule: Mapping[str, Any]) -> SyncRuleValidationResult:
        return invalid(rule["id"], "of the class")


class WholeSet(BasicRulesSetValidator):
    def validate(self, rules: Sequence[Mapping[str, Any]]) -> list[SyncRuleValidationResult]:
        return [invalid(str(rules[-1]["id"]), f"set of {len(rules)}")]


class Satisfied(BasicRuleValidator):
    def validate(self, rule: Mapping[str, Any]) -> SyncRuleValidationResult:
        return SyncRuleValidationResult.valid_result(rule["id"])


class Advanced(AdvancedRulesValidator):
    def __init__(self, message: str = "advanced") -> None:
        self.message = message

    async def validate(self, advanced_rules: Any) -> SyncRuleValidationResult:
        await asyncio.sleep(0)
        return invalid(SyncRuleValidationResult.ADVANCED_RULES, f"{self.message} {advanced_rules!r}")


class Broken(BasicRuleValidator):
    def validate(self, rule: Mapping[str, Any]) -> SyncRuleValidationResult:
        if rule["id"] == "1":
            raise KeyError("missing")
        return SyncRuleValidationResult.valid_result(rule["id"])


class BrokenSet(BasicRulesSetValidator):
    async def validate(self, rules: Sequence[Mapping[str, Any]]) -> list[SyncRuleValidationResult]:
        raise RuntimeError


class Wordless(AdvancedRulesValidator):
    def validate(self, advanced_rules: Any) -> Any:
        return True


# Results


def test_a_result_is_a_frozen_value() -> None:
    result = SyncRuleValidationResult("1", is_valid=True, validation_message="valid")
    assert result == SyncRuleValidationResult.valid_result("1")
    assert len({result, SyncRuleValidationResult.valid_result("1"), invalid("1", "no")}) == 2
    assert SyncRuleValidationResult.ADVANCED_RULES == "advanced_snippet"
    with pytest.raises(FrozenInstanceError):
        result.is_valid = False  # type: ignore[misc]  # that it fails is the point


@pytest.mark.parametrize(
    ("left", "right", "total"),
    [
        ("valid", "valid", "valid"),
        ("valid", "invalid", "invalid"),
        ("invalid", "edited", "invalid"),
        ("edited", "valid", "edited"),
    ],
)
def test_results_add_up(left: str, right: str, total: str) -> None:
    errors = [FilterValidationError([name], [f"message {name}"]) for name in ("a", "b")]
    first = FilteringValidationResult(FilterValidationState(left), errors[:1])
    second = FilteringValidationResult(FilterValidationState(right), errors[1:])
    assert first + second == FilteringValidationResult(FilterValidationState(total), errors)
    assert (second + first).state == total
    assert first.is_valid is (left == "valid")


def test_a_sum_with_something_else_is_an_error() -> None:
    with pytest.raises(TypeError):
        FilteringValidationResult() + 1  # type: ignore[operator]  # that it fails is the point


def test_a_result_goes_through_its_record() -> None:
    result = FilteringValidationResult(
        FilterValidationState.INVALID, [FilterValidationError(["1", "2"], ["a"]), FilterValidationError([], ["b"])]
    )
    record = result.to_record()
    assert record == {
        "state": "invalid",
        "errors": [{"ids": ["1", "2"], "messages": ["a"]}, {"ids": [], "messages": ["b"]}],
    }
    assert FilteringValidationResult.from_record(record) == result
    assert FilteringValidationResult.from_record({}).state == FilterValidationState.EDITED


def test_a_result_reads_as_one_line_a_problem() -> None:
    errors = [FilterValidationError(["1"], ["a", "b"]), FilterValidationError(["advanced_snippet"], ["c"])]
    result = FilteringValidationResult(FilterValidationState.INVALID, [*errors, FilterValidationError([], ["d"])])
    assert str(result).splitlines() == ["rule 1: a; b", "advanced rules: c", "d"]
    assert str(FilteringValidationResult()) == "valid"


# Running


async def test_all_problems_are_reported_in_list_order() -> None:
    validator = FilteringValidator(
        [EachRuleLater(), EachRule(), Satisfied(), WholeSet(), Promised(), OfTheClass], [Advanced(), Advanced("more")]
    )
    result = await validator.validate(RULES, {"q": 1})
    assert result.state is FilterValidationState.INVALID
    assert found(result) == [
        (("1",), "later, first"),
        (("1",), "later, second"),
        (("2",), "later, first"),
        (("2",), "later, second"),
        (("1",), "each a"),
        (("2",), "each b"),
        (("2",), "set of 2"),
        (("2",), "promised"),
        (("1",), "of the class"),
        (("2",), "of the class"),
        (("advanced_snippet",), "advanced {'q': 1}"),
        (("advanced_snippet",), "more {'q': 1}"),
    ]


async def test_valid_rules_have_no_errors() -> None:
    assert await FilteringValidator([Satisfied()]).validate(RULES) == FilteringValidationResult()
    assert await FilteringValidator().validate([]) == FilteringValidationResult()


@pytest.mark.parametrize("empty", [None, {}, [], ""])
async def test_empty_advanced_rules_are_not_validated(empty: Any) -> None:
    assert (await FilteringValidator([], [Advanced()]).validate([], empty)).is_valid


@pytest.mark.parametrize("advanced", [Advanced(), Advanced, [Advanced], (Advanced(),)])
async def test_one_validator_of_advanced_rules_needs_no_list(advanced: Any) -> None:
    assert len((await FilteringValidator([], advanced).validate([], "x")).errors) == 1


async def test_the_same_problem_is_reported_once() -> None:
    assert len((await FilteringValidator([EachRule(), EachRule()]).validate(RULES)).errors) == 2


async def test_a_rule_without_an_id_is_named_by_its_position() -> None:
    rules = [{"id": "x", "field": "a"}, {"field": "b"}, {"id": "", "field": "c"}]
    result = await FilteringValidator([EachRule(), WholeSet()]).validate(rules)
    assert found(result) == [
        (("x",), "each a"),
        (("#2",), "each b"),
        (("#3",), "each c"),
        (("#3",), "set of 3"),
    ]
    assert "id" not in rules[1], "the caller's records stay as they are"


async def test_what_is_no_rule_is_reported_and_shown_to_no_validator() -> None:
    result = await FilteringValidator([WholeSet()]).validate(["exclude x", RULES[0], None])
    assert [ids for ids, _ in found(result)] == [("#1",), ("#3",), ("1",)]
    assert "'exclude x' is no rule: write a mapping" in found(result)[0][1]
    assert found(result)[2][1] == "set of 1"


# Validators that fail


async def test_a_validator_that_raises_is_reported_by_its_class_and_stops_nothing() -> None:
    result = await FilteringValidator([Broken(), BrokenSet(), EachRule()], [Wordless()]).validate(RULES, "x")
    problems = found(result)
    assert [ids for ids, _ in problems] == [("1",), (), ("1",), ("2",), ("advanced_snippet",)]
    assert "validator Broken failed" in problems[0][1]
    assert "KeyError: 'missing'" in problems[0][1]
    assert problems[1][1].endswith("(RuntimeError)")
    assert "validator Wordless failed" in problems[4][1]
    assert "returned True; return a SyncRuleValidationResult or a list of them" in problems[4][1]


@pytest.mark.parametrize("returned", [None, [None], [invalid("1", "x"), "y"], "text"])
async def test_a_validator_that_returns_something_else_is_reported(returned: Any) -> None:
    class Odd(BasicRulesSetValidator):
        def validate(self, rules: Sequence[Mapping[str, Any]]) -> Any:
            return returned

    result = await FilteringValidator([Odd()]).validate(RULES)
    assert len(result.errors) == 1
    assert "Odd failed" in str(result)


async def test_a_validator_of_no_known_kind_is_reported() -> None:
    result = await FilteringValidator([Advanced, object()]).validate(RULES)
    assert [message.split(" is of no known kind")[0] for _, message in found(result)] == [
        "the validator Advanced",
        "the validator object",
    ]


async def test_a_class_that_cannot_be_built_is_reported() -> None:
    class Demanding(BasicRulesSetValidator):
        def __init__(self, needed: str) -> None:
            self.needed = needed

        def validate(self, rules: Sequence[Mapping[str, Any]]) -> list[SyncRuleValidationResult]:
            return []

    assert "Demanding failed" in str(await FilteringValidator([Demanding]).validate(RULES))


async def test_cancellation_is_no_problem_of_a_rule() -> None:
    class Slow(BasicRulesSetValidator):
        async def validate(self, rules: Sequence[Mapping[str, Any]]) -> list[SyncRuleValidationResult]:
            await asyncio.Event().wait()
            return []

    task = asyncio.create_task(FilteringValidator([Slow()]).validate(RULES))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_the_logger_is_told_how_it_went(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, logger="rules"):
        await FilteringValidator([EachRule()], logger=logging.getLogger("rules")).validate(RULES)
    assert caplog.messages == ["2 basic sync rules validated: 2 problems"]


# The example of the documentation


def documented_classes() -> dict[str, Any]:
    """Runs the code of the page, the source and its validators, and returns its names."""
    page = (Path(__file__).parents[2] / "docs" / "SYNC_RULES.md").read_text(encoding="utf-8")
    names: dict[str, Any] = {name: getattr(validation, name) for name in validation.__all__}
    names["BaseDataSource"] = BaseDataSource
    for code in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(code, names)  # noqa: S102 - the example of our own page
    return names


def awaiting(kind: Any) -> Any:
    """Returns the validator with a `validate` that is a coroutine."""

    class Awaiting(kind):  # type: ignore[misc]  # any class of the page
        async def validate(self, judged: Any) -> Any:
            await asyncio.sleep(0)
            outcome = super().validate(judged)
            return await outcome if inspect.isawaitable(outcome) else outcome

    return Awaiting


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_the_validators_of_the_documentation_work(asynchronous: bool) -> None:
    """One of each kind, by the source that names them; in each kind as a coroutine, too."""
    names = documented_classes()
    if asynchronous:
        names |= {name: awaiting(names[name]) for name in ("KnownField", "AtMostTen", "KnownTable")}

    documented: Any = names["NotesDataSource"]

    class Notes(documented):  # type: ignore[misc]  # the class of the page
        async def ping(self) -> None:
            return

        async def get_docs(self, filtering: Any = None) -> AsyncIterator[Any]:
            yield {"_id": "1"}, None

        async def tables(self) -> list[str]:
            return ["orders"]

    rule = {"policy": "include", "field": "title", "rule": "equals"}
    rules: list[dict[str, Any]] = [{**rule, "id": f"r{n}", "order": n, "value": str(n)} for n in range(11)]
    rules[4]["field"] = "colour"
    source = Notes(DataSourceConfiguration())
    result = await source.validate_filtering(Filter.of(rules, {"orders": "SELECT 1", "customers": "SELECT 2"}))
    assert found(result) == [
        (("r4",), "a note has no such field: write _id, title or text"),
        (("r10",), "ten rules are enough for notes: delete this one"),
        (("advanced_snippet",), "there is no table 'customers': write one of ['orders']"),
    ]
    rules[4]["field"] = "text"
    good = await source.validate_filtering(Filter.of(rules[:10], {"orders": "SELECT 1"}))
    assert good.is_valid
