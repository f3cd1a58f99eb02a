"""Basic sync rules: which documents enter the index.

Rules are tried in their order, and the first that matches decides. A rule never matches a document that lacks its
field, or has null there. When no rule matches, the default rule decides: it includes, unless the rules hold a rule
with the id `DEFAULT` that excludes.

::

    engine = BasicRuleEngine.from_records(
        [
            {"id": "1", "order": 1, "policy": "exclude", "field": "path", "rule": "starts_with", "value": "drafts/"},
            {"id": "2", "order": 2, "policy": "exclude", "field": "size", "rule": ">", "value": "1000000"},
        ]
    )
    engine.should_ingest({"_id": "7", "path": "drafts/plan.md", "size": 120})  # False, by rule 1

`docs/SYNC_RULES.md` says how values of different types are compared.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from enum import StrEnum
from typing import Any, Final, TypeAlias, TypeVar

from connectors.errors import InvalidFilteringError
from connectors.filtering.coercion import as_text
from connectors.filtering.fields import compile_lookup
from connectors.filtering.operators import Rule, compile_operator

__all__ = [
    "DEFAULT_RULE",
    "DEFAULT_RULE_ID",
    "BasicRule",
    "BasicRuleEngine",
    "Policy",
    "Rule",
    "is_default",
    "parse",
    "read_order",
    "read_policy",
    "read_rule",
    "read_value",
]

DEFAULT_RULE_ID: Final = "DEFAULT"


class Policy(StrEnum):
    """What a rule does to the documents that it matches."""

    INCLUDE = "include"
    EXCLUDE = "exclude"


@dataclass(frozen=True, slots=True)
class BasicRule:
    """One basic rule. `value` is text; how it is compared is decided by the type of the document's value."""

    id: str
    order: int
    policy: Policy
    field: str
    rule: Rule
    value: str

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> BasicRule:
        """Reads a record with `id`, `policy`, `field`, `rule`, `value` and `order`; other keys are ignored.

        Of the default rule only `id` and `policy` are read. Raises InvalidFilteringError for the first thing that is
        wrong; the validators list everything.
        """
        rule_id = str(record.get("id"))
        try:
            policy = read_policy(record.get("policy"))
            if is_default(record):
                return cls(DEFAULT_RULE_ID, 0, policy, "_", Rule.REGEX, ".*")
            field = record.get("field")
            if not isinstance(field, str) or not field:
                raise ValueError("`field` is missing: name the field of the document to look at")  # noqa: TRY301 - one handler names the rule for all of them
            return cls(
                id=rule_id,
                order=read_order(record.get("order")),
                policy=policy,
                field=field,
                rule=read_rule(record.get("rule")),
                value=read_value(record.get("value")),
            )
        except ValueError as error:
            raise InvalidFilteringError(f'sync rule "{rule_id}": {error}') from None

    def to_record(self) -> dict[str, Any]:
        """Returns the record that `from_record` reads."""
        return {
            "id": self.id,
            "policy": self.policy.value,
            "field": self.field,
            "rule": self.rule.value,
            "value": self.value,
            "order": self.order,
        }

    @property
    def is_default(self) -> bool:
        """Whether this rule decides about the documents that no other rule matches."""
        return self.id == DEFAULT_RULE_ID

    @property
    def is_include(self) -> bool:
        """Whether matching documents enter the index."""
        return self.policy is Policy.INCLUDE

    def compiled(self) -> Callable[[Mapping[str, Any]], bool]:
        """Returns a plain function that tells whether the rule matches a document.

        Raises InvalidFilteringError for a regular expression that cannot be used, or a field nested too deep.
        """
        try:
            lookup, test = compile_lookup(self.field), compile_operator(self.rule, self.value)
        except ValueError as error:
            raise InvalidFilteringError(f'sync rule "{self.id}": {error}') from None

        def matches(document: Mapping[str, Any]) -> bool:
            value = lookup(document)
            return value is not None and test(value)

        return matches

    @property
    def words(self) -> str:
        """What the rule says, without its name."""
        if self.is_default:
            return f"{self.policy} everything else"
        return f"{self.policy} {self.field} {self.rule} {self.value!r}"

    def __str__(self) -> str:
        return f"{self.words} ({'default rule' if self.is_default else f'rule {self.id}'})"


DEFAULT_RULE: Final = BasicRule(DEFAULT_RULE_ID, 0, Policy.INCLUDE, "_", Rule.REGEX, ".*")


def parse(rules: Iterable[Mapping[str, Any]]) -> list[BasicRule]:
    """Returns the rules in the order in which they decide; a default rule is kept and comes last, whatever its order.

    Raises InvalidFilteringError for a record that is no rule.
    """
    return sorted(map(BasicRule.from_record, rules), key=lambda rule: (rule.is_default, rule.order))


class BasicRuleEngine:
    """Rules compiled for use on many documents.

    Args:
        rules: in any order; the order number decides. A rule with the id `DEFAULT` comes last.

    Attributes:
        rules: the rules in the order in which they decide, without the default rule.
        default: the rule for what no other rule matches.
        is_trivial: True when every document is ingested, so that nobody needs to ask.

    Raises InvalidFilteringError where a rule cannot be compiled.
    """

    __slots__ = ("_compiled", "_ingest_by_default", "default", "is_trivial", "rules")

    def __init__(self, rules: Iterable[BasicRule] = ()) -> None:
        ordered = sorted(rules, key=lambda rule: rule.order)
        self.default: BasicRule = next((rule for rule in ordered if rule.is_default), DEFAULT_RULE)
        self.rules: tuple[BasicRule, ...] = tuple(rule for rule in ordered if not rule.is_default)
        self.is_trivial: bool = all(rule.is_include for rule in (*self.rules, self.default))
        self._compiled = tuple((rule.compiled(), rule.is_include) for rule in self.rules)
        self._ingest_by_default = self.default.is_include

    @classmethod
    def from_records(cls, rules: Iterable[Mapping[str, Any]]) -> BasicRuleEngine:
        """Builds the engine from rule records. Raises InvalidFilteringError."""
        return cls(parse(rules))

    def should_ingest(self, document: Mapping[str, Any]) -> bool:
        """Whether the document enters the index. Never raises on any value."""
        for matches, ingest in self._compiled:
            if matches(document):
                return ingest
        return self._ingest_by_default

    def explain(self, document: Mapping[str, Any]) -> BasicRule:
        """Returns the rule that decides about the document."""
        for rule, (matches, _) in zip(self.rules, self._compiled, strict=True):
            if matches(document):
                return rule
        return self.default


def is_default(record: Mapping[str, Any]) -> bool:
    """Whether a record is that of the default rule."""
    return str(record.get("id")).upper() == DEFAULT_RULE_ID


# Reading of single values. Each raises ValueError that says what to write; the validators use them as well.

_POLICY_SYNONYMS: Final = {
    "allow": Policy.INCLUDE,
    "keep": Policy.INCLUDE,
    "accept": Policy.INCLUDE,
    "deny": Policy.EXCLUDE,
    "drop": Policy.EXCLUDE,
    "ignore": Policy.EXCLUDE,
    "skip": Policy.EXCLUDE,
}
_RULE_SYNONYMS: Final = {
    "=": Rule.EQUALS,
    "==": Rule.EQUALS,
    "is": Rule.EQUALS,
    "eq": Rule.EQUALS,
    "in": Rule.CONTAINS,
    "like": Rule.CONTAINS,
    "includes": Rule.CONTAINS,
    "begins_with": Rule.STARTS_WITH,
    "prefix": Rule.STARTS_WITH,
    "finishes_with": Rule.ENDS_WITH,
    "suffix": Rule.ENDS_WITH,
    "match": Rule.REGEX,
    "matches": Rule.REGEX,
    "regexp": Rule.REGEX,
    "gt": Rule.GREATER_THAN,
    ">=": Rule.GREATER_THAN,
    "greater_than": Rule.GREATER_THAN,
    "after": Rule.GREATER_THAN,
    "lt": Rule.LESS_THAN,
    "<=": Rule.LESS_THAN,
    "less_than": Rule.LESS_THAN,
    "before": Rule.LESS_THAN,
}
_Word = TypeVar("_Word", bound=StrEnum)


def read_policy(value: object) -> Policy:
    """Reads the word for a policy, in any case. Raises ValueError."""
    return _read_word("policy", value, list(Policy), _POLICY_SYNONYMS)


def read_rule(value: object) -> Rule:
    """Reads the word for an operator, in any case. Raises ValueError."""
    return _read_word("rule", value, list(Rule), _RULE_SYNONYMS)


def _read_word(key: str, value: object, words: Sequence[_Word], synonyms: Mapping[str, _Word]) -> _Word:
    word = value.strip().lower() if isinstance(value, str) else None
    for known in words:
        if word == known:
            return known
    choice = ", ".join(words)
    if value is None:
        raise ValueError(f"`{key}` is missing: write one of {choice}")
    plain = str(word).replace(" ", "_").replace("-", "_")
    near = difflib.get_close_matches(plain, words, n=1)
    if plain in synonyms or near:
        hint = f"did you mean {synonyms.get(plain) or near[0]}? The choice is {choice}"
    else:
        hint = f"write one of {choice}"
    raise ValueError(f"`{key}` is {value!r}, which is not known: {hint}")


_Plain: TypeAlias = str | bool | int | float | Decimal | date


def read_value(value: object) -> str:
    """Reads a rule's value: text, or what YAML makes of an unquoted number, date or truth word. Raises ValueError."""
    if value is None:
        raise ValueError('`value` is missing: write what to compare with ("" compares with the empty text)')
    text = as_text(value) if isinstance(value, _Plain) else None
    if text is None:
        kind = type(value).__name__
        raise ValueError(f"`value` is of type {kind}: write one text, number or date, and one rule for each of several")
    return text


def read_order(value: object) -> int:
    """Reads a rule's place in the sequence. Raises ValueError."""
    if value is None:
        raise ValueError("`order` is missing: write a whole number; the rule with the lowest one is tried first")
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"`order` is {value!r}: write a whole number, without quotes")
    return value
