"""Validation of sync rules: what a validator is, and running all of them over a set of rules.

A source that wants more than the default validators of basic rules adds its own, and one with advanced rules has a
validator for these::

    class KnownTable(AdvancedRulesValidator):
        def __init__(self, source):
            self.source = source

        async def validate(self, advanced_rules):
            tables = await self.source.tables()
            return [
                SyncRuleValidationResult(
                    rule_id=SyncRuleValidationResult.ADVANCED_RULES,
                    is_valid=False,
                    validation_message=f"there is no table {name!r}: write one of {tables}",
                )
                for name in advanced_rules
                if name not in tables
            ]

`validate` may be a plain method or a coroutine, of an instance or of the class, and returns one result or a list of
them; an empty list says that all is well. Only a coroutine may do I/O. Rules are plain data here, not records of the
connector protocol.
"""

from __future__ import annotations

import inspect
import logging
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar, TypeAlias

__all__ = [
    "AdvancedRulesValidator",
    "BasicRuleValidator",
    "BasicRulesSetValidator",
    "FilterValidationError",
    "FilterValidationState",
    "FilteringValidationResult",
    "FilteringValidator",
    "Outcome",
    "SyncRuleValidationResult",
    "rejected",
]


@dataclass(frozen=True, slots=True)
class SyncRuleValidationResult:
    """What one validator says about one rule.

    Attributes:
        rule_id: the rule's `id`, or `ADVANCED_RULES` for the advanced rules as a whole.
        is_valid: whether the rule may be used.
        validation_message: for an invalid rule, what is wrong and what to write instead.
    """

    ADVANCED_RULES: ClassVar[str] = "advanced_snippet"

    rule_id: str
    is_valid: bool
    validation_message: str

    @classmethod
    def valid_result(cls, rule_id: str) -> SyncRuleValidationResult:
        """Returns the result that all is well with the rule."""
        return cls(rule_id=rule_id, is_valid=True, validation_message="valid")


Outcome: TypeAlias = SyncRuleValidationResult | Sequence[SyncRuleValidationResult]


class BasicRuleValidator(ABC):
    """Looks at each basic rule by itself."""

    @abstractmethod
    def validate(self, rule: Mapping[str, Any]) -> Outcome | Awaitable[Outcome]:
        """Judges one rule record, which is a mapping; nothing else about it is certain."""


class BasicRulesSetValidator(ABC):
    """Looks at all basic rules together."""

    @abstractmethod
    def validate(self, rules: Sequence[Mapping[str, Any]]) -> Outcome | Awaitable[Outcome]:
        """Judges all rule records, which are mappings; nothing else about them is certain."""


class AdvancedRulesValidator(ABC):
    """Looks at the advanced rules of a source."""

    @abstractmethod
    def validate(self, advanced_rules: Any) -> Outcome | Awaitable[Outcome]:
        """Judges the advanced rules, which are anything that JSON can hold, but not empty."""


class FilterValidationState(StrEnum):
    """State of a set of rules; `edited` ones were not validated since they changed."""

    VALID = "valid"
    INVALID = "invalid"
    EDITED = "edited"


@dataclass(frozen=True, slots=True)
class FilterValidationError:
    """One problem: `messages` about the rules named by `ids`. Given as any sequences of text, kept as tuples."""

    ids: Sequence[str] = ()
    messages: Sequence[str] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "ids", tuple(self.ids))
        object.__setattr__(self, "messages", tuple(self.messages))

    def __str__(self) -> str:
        where = ", ".join(
            "advanced rules" if rule_id == SyncRuleValidationResult.ADVANCED_RULES else f"rule {rule_id}"
            for rule_id in self.ids
        )
        what = "; ".join(self.messages)
        return f"{where}: {what}" if where else what


@dataclass(frozen=True, slots=True)
class FilteringValidationResult:
    """The state of a set of rules and all problems; two of them are added to one with `+`."""

    state: FilterValidationState = FilterValidationState.VALID
    errors: Sequence[FilterValidationError] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "errors", tuple(self.errors))

    @property
    def is_valid(self) -> bool:
        """Whether the rules may be used."""
        return self.state is FilterValidationState.VALID

    def __add__(self, other: FilteringValidationResult) -> FilteringValidationResult:
        """Returns the problems of both; invalid outweighs edited, which outweighs valid."""
        if not isinstance(other, FilteringValidationResult):
            return NotImplemented
        states = {self.state, other.state}
        ranking = (FilterValidationState.INVALID, FilterValidationState.EDITED, FilterValidationState.VALID)
        state = next(state for state in ranking if state in states)
        return FilteringValidationResult(state, (*self.errors, *other.errors))

    def __str__(self) -> str:
        """One problem a line, or the state where there is none."""
        return "\n".join(map(str, self.errors)) or self.state.value

    def to_record(self) -> dict[str, Any]:
        """Returns the shape in which the connector protocol stores a validation."""
        errors = [{"ids": list(error.ids), "messages": list(error.messages)} for error in self.errors]
        return {"state": self.state.value, "errors": errors}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> FilteringValidationResult:
        """Reads what `to_record` wrote. Raises ValueError for a state that is not known."""
        errors = [
            FilterValidationError(item.get("ids") or (), item.get("messages") or ())
            for item in record.get("errors") or ()
        ]
        return cls(FilterValidationState(record.get("state") or FilterValidationState.EDITED), errors)


def rejected(rule_id: str, message: str) -> FilteringValidationResult:
    """Returns the result that says one thing against one rule, to be added to another one."""
    return FilteringValidationResult(FilterValidationState.INVALID, [FilterValidationError([rule_id], [message])])


class FilteringValidator:
    """Runs validators over sync rules and reports all problems at once.

    Args:
        basic_rules_validators: `BasicRuleValidator` and `BasicRulesSetValidator`, instances or classes, in the order
            in which they run.
        advanced_rules_validators: instances or classes that have `validate`, one or several.
        logger: told at debug level how many rules were validated.
    """

    def __init__(
        self,
        basic_rules_validators: Iterable[Any] = (),
        advanced_rules_validators: Any = (),
        logger: logging.Logger | logging.LoggerAdapter[Any] | None = None,
    ) -> None:
        self._basic = list(basic_rules_validators)
        several = isinstance(advanced_rules_validators, Iterable)
        self._advanced = list(advanced_rules_validators) if several else [advanced_rules_validators]
        self._logger = logger or logging.getLogger("connectors.filtering")

    async def validate(self, basic_rules: Iterable[Any], advanced: Any | None = None) -> FilteringValidationResult:
        """Validates rule records and, unless they are empty, the advanced rules of a source.

        A rule without an id is named by its position, as `#3`. A validator that raises, or returns something else than
        results, is reported as a problem of the rules that it was to judge.
        """
        listed = list(basic_rules)
        report = _Report()
        rules = [(_name(rule, position), rule) for position, rule in enumerate(listed, 1) if _is_rule(rule)]
        for position, rule in enumerate(listed, 1):
            if not _is_rule(rule):
                report.add(f"#{position}", f"{rule!r} is no rule: write a mapping with policy, field, rule and value")
        for validator in self._basic:
            await self._run_basic(validator, rules, report)
        if advanced:
            for validator in self._advanced:
                await _run(validator, advanced, SyncRuleValidationResult.ADVANCED_RULES, report)
        result = report.result()
        self._logger.debug("%d basic sync rules validated: %d problems", len(listed), len(result.errors))
        return result

    @staticmethod
    async def _run_basic(validator: Any, rules: list[tuple[str, Mapping[str, Any]]], report: _Report) -> None:
        if _is_kind(validator, BasicRuleValidator):
            for name, rule in rules:
                await _run(validator, rule, name, report)
        elif _is_kind(validator, BasicRulesSetValidator):
            # Here a rule without an id gets its position for one, so that the validator can name it.
            await _run(validator, [{**rule, "id": name} for name, rule in rules], None, report)
        else:
            report.add(
                None,
                f"the validator {_class_name(validator)} is of no known kind: "
                "let it extend BasicRuleValidator or BasicRulesSetValidator",
            )


class _Report:
    """Collects problems, each of them once, in the order in which they are found."""

    def __init__(self) -> None:
        self._found: dict[tuple[str | None, str], None] = {}

    def add(self, rule_id: str | None, message: str) -> None:
        self._found[rule_id, message] = None

    def result(self) -> FilteringValidationResult:
        errors = [
            FilterValidationError(() if rule_id is None else (rule_id,), (message,)) for rule_id, message in self._found
        ]
        state = FilterValidationState.INVALID if errors else FilterValidationState.VALID
        return FilteringValidationResult(state, errors)


async def _run(validator: Any, judged: Any, name: str | None, report: _Report) -> None:
    """Runs one validator. `name` is that of the one rule that it judges, None when it judges all of them."""
    try:
        for result in await _results(validator, judged):
            if not result.is_valid:
                # A rule without an id has none that a validator could report.
                rule_id = name if name is not None and name.startswith("#") else result.rule_id
                report.add(rule_id, result.validation_message)
    except Exception as error:  # noqa: BLE001 - a source's validator may raise anything; it becomes a reported problem
        detail = f"{type(error).__name__}: {error}".rstrip(": ")
        report.add(name, f"the validator {_class_name(validator)} failed, so nothing is known of this ({detail})")


async def _results(validator: Any, judged: Any) -> Sequence[SyncRuleValidationResult]:
    instance = validator() if isinstance(validator, type) else validator
    validate: Callable[[Any], Any] = instance.validate
    outcome = validate(judged)
    if inspect.isawaitable(outcome):
        outcome = await outcome
    results = [outcome] if isinstance(outcome, SyncRuleValidationResult) else outcome
    if not isinstance(results, list | tuple) or not all(isinstance(item, SyncRuleValidationResult) for item in results):
        raise TypeError(f"it returned {outcome!r}; return a SyncRuleValidationResult or a list of them")
    return results


def _is_kind(validator: Any, kind: type) -> bool:
    return issubclass(validator, kind) if isinstance(validator, type) else isinstance(validator, kind)


def _is_rule(rule: Any) -> bool:
    return isinstance(rule, Mapping)


def _name(rule: Mapping[str, Any], position: int) -> str:
    rule_id = rule.get("id")
    return f"#{position}" if rule_id in (None, "") else str(rule_id)


def _class_name(validator: Any) -> str:
    return validator.__name__ if isinstance(validator, type) else type(validator).__name__
