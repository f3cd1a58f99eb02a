"""Basic rules as people write them in a file, where ids and orders may be left out; where in it a problem stands."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from connectors.filtering.validation import FilteringValidationResult, SyncRuleValidationResult

__all__ = ["Place", "numbered", "problems_by_place"]

#: Keys and positions below `filtering`.
Place = tuple[str | int, ...]

_NAMED_KEY: Final = re.compile(r"`(\w+)`")


def numbered(rules: Iterable[Any]) -> list[Any]:
    """Returns the rules as records, each with an id and an order: those that are left out come from its place."""
    found: list[Any] = []
    last = 0
    for position, rule in enumerate(rules, start=1):
        if not isinstance(rule, Mapping):
            found.append(rule)
            continue
        given = {key: value for key, value in rule.items() if value is not None}
        record = {**given, "id": given.get("id") or f"rule-{position}", "order": given.get("order", last + 1)}
        last = record["order"] if isinstance(record["order"], int) else last + 1
        found.append(record)
    return found


def problems_by_place(rules: Sequence[Any], result: FilteringValidationResult) -> list[tuple[Place, str]]:
    """Returns where in the file each problem stands, and what it is.

    Args:
        rules: as `numbered` returned them.
        result: what validators say of them.
    """
    positions: dict[str, int] = {}
    for position, rule in enumerate(rules):
        positions[f"#{position + 1}"] = position
        if isinstance(rule, Mapping):
            positions[str(rule["id"])] = position
    return [
        (_place(positions, rule_id, message), _worded(rule_id, message))
        for error in result.errors
        for message in error.messages
        for rule_id in error.ids or (None,)
    ]


def _place(positions: Mapping[str, int], rule_id: str | None, message: str) -> Place:
    if rule_id == SyncRuleValidationResult.ADVANCED_RULES:
        return ("advanced",)
    if rule_id is None or rule_id not in positions:
        return ("rules",)
    named = _NAMED_KEY.match(message)
    place: Place = ("rules", positions[rule_id])
    return (*place, named[1]) if named else place


def _worded(rule_id: str | None, message: str) -> str:
    return message if rule_id in {None, SyncRuleValidationResult.ADVANCED_RULES} else f"rule {rule_id}: {message}"
