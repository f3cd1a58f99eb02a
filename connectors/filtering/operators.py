"""The operators of basic rules, each compiled once into a plain function of a document's value.

A compiled operator takes any value that is not None and returns a bool; it never raises. Text, by far the commonest
case, takes the shortest way.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any, Final, NamedTuple, TypeAlias
from uuid import UUID

from connectors.filtering.coercion import RuleValue, as_instant, as_text, elements, read_instant, read_number
from connectors.filtering.regex import compile_regex

__all__ = ["Rule", "Test", "compile_operator"]

Test: TypeAlias = Callable[[Any], bool]
_Compare: TypeAlias = Callable[[Any, Any], bool]

_ZERO: Final = timedelta(0)
_LISTS: Final = (list, tuple, set, frozenset)


class Rule(StrEnum):
    """The operator of a basic rule, by the word that records carry."""

    EQUALS = "equals"
    CONTAINS = "contains"
    STARTS_WITH = "starts_with"
    ENDS_WITH = "ends_with"
    REGEX = "regex"
    GREATER_THAN = ">"
    LESS_THAN = "<"


class _Tests(NamedTuple):
    """What one operator does to each kind of value."""

    text: Test
    number: Test
    truth: Test
    instant: Test


def compile_operator(rule: Rule, value: str) -> Test:
    """Returns the function that tells whether a document's value satisfies `rule` with `value`.

    Of a list, tuple or set any element decides, of nested ones too. None, objects and values of other types satisfy
    nothing. Raises `RegexError`, a ValueError, for a pattern that cannot be used.
    """
    return _dispatch(_COMPILERS[rule](RuleValue.read(value)))


def _dispatch(tests: _Tests) -> Test:
    on_text, on_number, on_truth, on_instant = tests
    on_readable = _through_text(on_text)

    def on_list(value: Any) -> bool:
        for item in value:
            if item.__class__ is str:
                if on_text(item):
                    return True
            elif isinstance(item, _LISTS):
                if any(map(on_single, elements(item))):
                    return True
            elif on_single(item):
                return True
        return False

    kinds: dict[type, Test] = {
        str: on_text,
        bool: on_truth,  # before int, of which it is a subclass
        int: on_number,
        float: on_number,
        Decimal: on_number,
        date: on_instant,
        bytes: on_readable,
        UUID: on_readable,
    }

    def on_single(value: Any) -> bool:
        return next((test(value) for kind, test in kinds.items() if isinstance(value, kind)), False)

    # The exact types are looked up at once; subclasses and types that satisfy nothing go through the kinds.
    exact: dict[type, Test] = {**kinds, datetime: on_instant, **dict.fromkeys(_LISTS, on_list)}

    def test(value: Any) -> bool:
        if value.__class__ is str:
            return on_text(value)
        known = exact.get(value.__class__)
        if known is not None:
            return known(value)
        return on_list(value) if isinstance(value, _LISTS) else on_single(value)

    return test


def _never(_: Any) -> bool:
    return False


def _through_text(on_text: Test) -> Test:
    """Applies a test of text to the text of any single value."""

    def test(value: Any) -> bool:
        text = as_text(value)
        return text is not None and on_text(text)

    return test


def _text_only(on_text: Test) -> _Tests:
    """An operator that looks at every value as text."""
    through_text = _through_text(on_text)
    return _Tests(on_text, through_text, through_text, through_text)


def _equals(value: RuleValue) -> _Tests:
    text, truth = value.text, value.truth
    return _Tests(
        text=lambda found: found == text,
        number=_number_test(operator.eq, value),
        truth=_never if truth is None else lambda found: found is truth,
        instant=_instant_test(operator.eq, value),
    )


def _contains(value: RuleValue) -> _Tests:
    text = value.text
    return _text_only(lambda found: text in found)


def _starts_with(value: RuleValue) -> _Tests:
    text = value.text
    return _text_only(lambda found: found.startswith(text))


def _ends_with(value: RuleValue) -> _Tests:
    text = value.text
    return _text_only(lambda found: found.endswith(text))


def _regex(value: RuleValue) -> _Tests:
    return _text_only(compile_regex(value.text))


def _greater_than(value: RuleValue) -> _Tests:
    return _ordering(operator.gt, value)


def _less_than(value: RuleValue) -> _Tests:
    return _ordering(operator.lt, value)


def _ordering(compare: _Compare, value: RuleValue) -> _Tests:
    return _Tests(
        text=_text_ordering(compare, value),
        number=_number_test(compare, value),
        truth=_never,
        instant=_instant_test(compare, value),
    )


def _text_ordering(compare: _Compare, value: RuleValue) -> Test:
    """Text is ordered as numbers or instants where both sides read as such, and by code points otherwise."""
    text, number, instant = value.text, value.number, value.instant
    read: Callable[[str], Any] | None = read_number if number is not None else read_instant if instant else None
    if read is None:
        return lambda found: compare(found, text)
    constant = instant if number is None else number

    def test(found: str) -> bool:
        known = read(found)
        return compare(found, text) if known is None else compare(known, constant)

    return test


def _number_test(compare: _Compare, value: RuleValue) -> Test:
    exact = value.number
    if exact is None:
        return _never
    # A float in a document stands for the number that was rounded to it, so the rule's number is rounded alike: 0.1
    # equals 0.1. Whole and decimal numbers are compared exactly.
    rounded = float(exact)

    def test(found: Any) -> bool:
        if isinstance(found, float):
            return compare(found, rounded)
        if isinstance(found, Decimal) and found.is_nan():
            return False  # ordering it would raise
        return compare(found, exact)

    return test


def _instant_test(compare: _Compare, value: RuleValue) -> Test:
    instant = value.instant
    if instant is None:
        return _never

    def test(found: date | datetime) -> bool:
        # By the difference: `==` between zones is false around the end of summer time, whatever the values.
        return compare(as_instant(found) - instant, _ZERO)

    return test


_COMPILERS: Final[Mapping[Rule, Callable[[RuleValue], _Tests]]] = {
    Rule.EQUALS: _equals,
    Rule.CONTAINS: _contains,
    Rule.STARTS_WITH: _starts_with,
    Rule.ENDS_WITH: _ends_with,
    Rule.REGEX: _regex,
    Rule.GREATER_THAN: _greater_than,
    Rule.LESS_THAN: _less_than,
}
