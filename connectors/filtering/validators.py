"""The validators of basic rules that every source has, unless it says otherwise.

Each of them reports one kind of mistake, and leaves a rule alone that another one has to report, so that one mistake
gives one message.
"""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from connectors.filtering.basic_rule import (
    DEFAULT_RULE_ID,
    Rule,
    is_default,
    read_order,
    read_policy,
    read_rule,
    read_value,
)
from connectors.filtering.fields import compile_lookup
from connectors.filtering.regex import RegexError, compile_regex, matches_everything
from connectors.filtering.validation import BasicRulesSetValidator, BasicRuleValidator, SyncRuleValidationResult

__all__ = [
    "ContradictionValidator",
    "DuplicateValidator",
    "MatchAllValidator",
    "OrderValidator",
    "RegexValidator",
    "SchemaValidator",
    "default_basic_rules_validators",
]

_KEYS: Final = ("id", "policy", "field", "rule", "value", "order")
_INSTEAD_OF_MATCH_ALL: Final = (
    f"to decide about all documents that no other rule matches, set the policy of the rule {DEFAULT_RULE_ID}"
)


def default_basic_rules_validators() -> list[BasicRuleValidator | BasicRulesSetValidator]:
    """Returns the default validators in the order in which they run; a source may add to the list."""
    return [
        SchemaValidator(),
        RegexValidator(),
        MatchAllValidator(),
        DuplicateValidator(),
        ContradictionValidator(),
        OrderValidator(),
    ]


class SchemaValidator(BasicRuleValidator):
    """A rule has all of its keys, known words for policy and operator, and a value of one text, number or date.

    The default rule needs only `id` and `policy`. Keys that are not known do no harm, as other tools add their own.
    """

    def validate(self, rule: Mapping[str, Any]) -> list[SyncRuleValidationResult]:
        """Returns a result for each key that is wrong."""
        required = ("id", "policy") if is_default(rule) else _KEYS
        return [_invalid(rule, text) for key in required if (text := self._problem(rule, key))]

    @staticmethod
    def _problem(rule: Mapping[str, Any], key: str) -> str | None:
        if key not in rule:
            strange = [str(other) for other in rule if other not in _KEYS]
            near = difflib.get_close_matches(key, strange, n=1)
            if near:
                return f"`{key}` is missing, but there is `{near[0]}`: rename it to `{key}`"
        try:
            _READERS[key](rule.get(key))
        except ValueError as error:
            return str(error)
        return None


class RegexValidator(BasicRuleValidator):
    """The pattern of a `regex` rule is one that RE2 can match in linear time."""

    def validate(self, rule: Mapping[str, Any]) -> list[SyncRuleValidationResult]:
        """Returns a result for a pattern that cannot be used."""
        known = _condition(rule)
        if known is None or known[1] is not Rule.REGEX:
            return []
        try:
            compile_regex(known[2])
        except RegexError as error:
            return [_invalid(rule, str(error))]
        return []


class MatchAllValidator(BasicRuleValidator):
    """A rule does not match every value, as the pattern `.*` does, for then the rules behind it would do nothing."""

    def validate(self, rule: Mapping[str, Any]) -> list[SyncRuleValidationResult]:
        """Returns a result for a rule that matches everything, or that can match nothing for want of a value."""
        known = _condition(rule)
        if known is None:
            return []
        _, operator, value = known
        if operator is Rule.REGEX:
            try:
                if matches_everything(value):
                    text = f"the regular expression {value!r} matches every text: write what the text must look like; "
                    return [_invalid(rule, text + _INSTEAD_OF_MATCH_ALL)]
            except RegexError:
                return []  # the RegexValidator reports it
        elif operator in {Rule.GREATER_THAN, Rule.LESS_THAN} and not value.strip():
            return [_invalid(rule, f"`{operator}` has an empty value: write the number, date or text to compare with")]
        elif operator is not Rule.EQUALS and not value:
            text = f"`{operator}` with an empty value matches every text: write the text to look for; "
            return [_invalid(rule, text + _INSTEAD_OF_MATCH_ALL)]
        return []


class DuplicateValidator(BasicRulesSetValidator):
    """No rule says the same as one before it, and no two rules have the same id."""

    def validate(self, rules: Sequence[Mapping[str, Any]]) -> list[SyncRuleValidationResult]:
        """Returns a result for each later one of two."""
        found = []
        for first, second in _repeated(rules, _key_of_id):
            text = f'the id "{first.get("id")}" is used twice: give each rule an id of its own'
            found.append(_invalid(second, text))
        for first, second in _repeated(sorted(rules, key=_order_or_zero), _said):
            found.append(_invalid(second, f'says the same as rule "{first.get("id")}": delete one of the two'))
        return found


class ContradictionValidator(BasicRulesSetValidator):
    """No two rules with the same condition have different policies: the second of them would never decide."""

    def validate(self, rules: Sequence[Mapping[str, Any]]) -> list[SyncRuleValidationResult]:
        """Returns a result for the rule that would never decide."""
        found = []
        for first, second in _repeated(sorted(rules, key=_order_or_zero), _condition):
            said = _said(first)
            if said is not None and said != _said(second):
                text = (
                    f'never decides, for rule "{first.get("id")}" has the same condition, comes first and '
                    f"says {said[0]}: delete one of the two, or change the condition of one"
                )
                found.append(_invalid(second, text))
        return found


class OrderValidator(BasicRulesSetValidator):
    """Each rule has a place of its own, and the default rule the last one."""

    def validate(self, rules: Sequence[Mapping[str, Any]]) -> list[SyncRuleValidationResult]:
        """Returns a result for each rule whose order is taken, and for a default rule that would come before others."""
        ordinary = [rule for rule in rules if not is_default(rule) and _order(rule) is not None]
        highest = max((_order_or_zero(rule) for rule in ordinary), default=0)
        found = []
        for first, second in _repeated(ordinary, _order):
            text = (
                f'has the same order {_order(first)} as rule "{first.get("id")}", so that it is not clear which '
                f"of them decides: give each rule an order of its own, such as {highest + 1} to come last"
            )
            found.append(_invalid(second, text))
        for rule in rules:
            if is_default(rule) and ordinary and (order := _order(rule)) is not None and order <= highest:
                text = (
                    f"the default rule decides last, but its order {order} is not above that of every other rule: "
                    f"give it the order {highest + 1}, or none"
                )
                found.append(_invalid(rule, text))
        return found


def _invalid(rule: Mapping[str, Any], message: str) -> SyncRuleValidationResult:
    return SyncRuleValidationResult(str(rule.get("id")), is_valid=False, validation_message=message)


def _read_id(value: object) -> str:
    if value is None or value == "" or not isinstance(value, str | int):
        raise ValueError("`id` is missing: give the rule an id, so that it can be named")
    return str(value)


def _read_field(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("`field` is missing: name the field of the document to look at")
    compile_lookup(value)
    return value


_READERS: Final[Mapping[str, Callable[[object], object]]] = {
    "id": _read_id,
    "policy": read_policy,
    "field": _read_field,
    "rule": read_rule,
    "value": read_value,
    "order": read_order,
}


def _condition(rule: Mapping[str, Any]) -> tuple[str, Rule, str] | None:
    """Returns field, operator and value of a rule; None for the default rule, and where the schema is not kept."""
    if is_default(rule):
        return None
    try:
        return _read_field(rule.get("field")), read_rule(rule.get("rule")), read_value(rule.get("value"))
    except ValueError:
        return None


def _said(rule: Mapping[str, Any]) -> tuple[str, tuple[str, Rule, str]] | None:
    """Returns policy and condition; None where the schema is not kept."""
    condition = _condition(rule)
    try:
        return condition and (read_policy(rule.get("policy")), condition)
    except ValueError:
        return None


def _order(rule: Mapping[str, Any]) -> int | None:
    try:
        return read_order(rule.get("order"))
    except ValueError:
        return None


def _order_or_zero(rule: Mapping[str, Any]) -> int:
    return _order(rule) or 0


def _key_of_id(rule: Mapping[str, Any]) -> str | None:
    if is_default(rule):
        return DEFAULT_RULE_ID
    try:
        return _read_id(rule.get("id"))
    except ValueError:
        return None


def _repeated(
    rules: Sequence[Mapping[str, Any]], key: Callable[[Mapping[str, Any]], Any]
) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Yields (first, later) for each rule whose key, unless it is None, another rule has before it."""
    groups: dict[Any, list[Mapping[str, Any]]] = defaultdict(list)
    for rule in rules:
        known = key(rule)
        if known is not None:
            groups[known].append(rule)
    for first, *later in groups.values():
        for rule in later:
            yield first, rule
