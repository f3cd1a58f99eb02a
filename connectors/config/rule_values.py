"""Basic rules of a file as plain data, also while something is wrong with them."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from connectors.config.models import RuleConfig

__all__ = ["plain_rules"]


def plain_rules(raw: Any) -> list[Any]:
    """Returns basic rules as they were read, each typed as far as it can be; what is no list has none."""
    return [_plain_rule(rule) for rule in raw] if isinstance(raw, list) else []


def _plain_rule(rule: Any) -> Any:
    try:
        return RuleConfig.model_validate(rule).model_dump(exclude_none=True)
    except ValidationError:
        if not isinstance(rule, dict):
            return rule
        order = rule.get("order")
        return {**rule, "order": int(order)} if isinstance(order, str) and order.lstrip("+-").isdecimal() else rule
