"""Sync rules that somebody edits: the draft of a connector's record, and how it comes into force.

A draft that was edited is validated by the validators of its source, by the daemon or by the next sync, whichever
comes first, and the result is stored beside it. A valid draft becomes active; an invalid one leaves the rules in force
as they are. For a connector of `config.yml` the file is the draft, so that a wrong edit of it does not stop a sync that
ran before, nor let in what the rules kept out.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from connectors.backends.ports import Store
from connectors.backends.records import decode, encode
from connectors.byoc import Connector, Filter
from connectors.errors import ConflictError, InvalidFilteringError, RetryableError
from connectors.filtering.validation import FilteringValidationResult, FilterValidationState
from connectors.logger import mask

__all__ = [
    "HIDDEN",
    "DeclaredRules",
    "change_record",
    "draft_is_in_force",
    "draft_problems",
    "draft_to_settle",
    "is_edited",
    "recorded_filtering",
    "rules_in_force",
    "settle_draft",
]

_logger = logging.getLogger("connectors.rules")

#: Stands in a record where `config.yml` has a secret.
HIDDEN: Final = "***"
_TRIES: Final = 10
_VALID: Final = FilteringValidationResult().to_record()
_EDITED: Final = FilteringValidationResult(FilterValidationState.EDITED).to_record()


@dataclass(frozen=True, slots=True)
class DeclaredRules:
    """The rules of `config.yml`: `rules` with their secrets, `recorded` as the record has them, without."""

    rules: Filter = field(repr=False)
    recorded: Filter


# What a record says


def is_edited(connector: Connector) -> bool:
    """Whether the draft waits to be validated."""
    return connector.draft_validation.get("state") == FilterValidationState.EDITED


def draft_problems(connector: Connector) -> list[str]:
    """Returns what is wrong with a draft that was found invalid, a problem each; an empty list for any other."""
    validation = connector.draft_validation
    if validation.get("state") != FilterValidationState.INVALID:
        return []
    try:
        errors = FilteringValidationResult.from_record(validation).errors
        return [mask(str(error)) for error in errors] or ["its rules are not valid"]
    except (AttributeError, TypeError, ValueError):  # another tool may write anything
        return ["its rules are not valid, and why cannot be read"]


def draft_is_in_force(connector: Connector) -> bool:
    """Whether the active rules say what the draft says."""
    return _same(connector.active_filter, connector.draft_filter)


def draft_to_settle(connector: Connector, declared: DeclaredRules | None) -> Filter | None:
    """Returns the draft that has to be validated, with what secrets there are in it; None when there is none.

    A draft that is in force although it was found invalid, for there were no rules before it, is validated anew.
    """
    waits = is_edited(connector) or (bool(draft_problems(connector)) and draft_is_in_force(connector))
    if not waits:
        return None
    if declared is None:
        return _bare(connector.draft_filter)
    return declared.rules if _same(connector.draft_filter, declared.recorded) else None


def rules_in_force(connector: Connector, declared: DeclaredRules | None) -> Filter:
    """Returns the active rules, with what secrets there are in them.

    Raises InvalidFilteringError where these are older ones of `config.yml` that held a secret, which no record keeps.
    """
    active = _bare(connector.active_filter)
    if declared is None:
        return active
    if _same(active, declared.recorded):
        return declared.rules
    if HIDDEN in encode(active).decode():
        raise InvalidFilteringError(
            f"the sync rules of {connector.id} in config.yml are not valid ({'; '.join(draft_problems(connector))}), "
            "and those before held a secret, which is kept nowhere: mend the rules in config.yml"
        )
    return active


# Writing


def recorded_filtering(rules: Mapping[str, Any], record: Connector | None, *, edited: bool) -> list[dict[str, Any]]:
    """Returns what a record has to say about the rules that `config.yml` declares.

    Args:
        rules: those of the file, as a record holds them.
        record: as it is, None when the file did not own it before; returned as it is when it is in line.
        edited: whether the file is another one than the record was written from.
    """
    unproven = bool(Filter(rules).basic_rules) or Filter(rules).has_advanced_rules()
    draft = {**rules, "validation": _EDITED if unproven else _VALID}
    fresh = [{"domain": "DEFAULT", "active": dict(rules) if unproven else draft, "draft": draft}]
    if record is None or not record.filtering:
        return fresh
    held = record.filtering[0]
    wanted = Filter(rules)
    if not _same(record.draft_filter, wanted):
        keeps = edited and unproven and isinstance(held.get("active"), Mapping)
        return [{**fresh[0], "active": held["active"]}] if keeps else fresh
    unsettled = is_edited(record) or bool(draft_problems(record))
    return record.filtering if unsettled or _same(record.active_filter, wanted) else fresh


async def settle_draft(store: Store, connector: Connector, result: FilteringValidationResult) -> Connector:
    """Stores what the source's validators say of the connector's draft, and makes a valid one active; tells of it once.

    Returns:
        the record as it is then; a draft that was edited meanwhile waits for another look.

    Raises:
        NotFoundError: the record was removed.
        RetryableError: the store failed.
    """
    errors = [{"ids": [*error.ids], "messages": [mask(text) for text in error.messages]} for error in result.errors]
    verdict = {"state": result.state.value, "errors": errors}

    def settled(held: Connector) -> Mapping[str, Any] | None:
        known = held.draft_validation
        if not known or known == verdict or not _same(held.draft_filter, connector.draft_filter):
            return None
        domain, *others = held.filtering
        validated = {**domain["draft"], "validation": verdict}
        active = {"active": validated} if result.is_valid else {}
        return {"filtering": [{**domain, "draft": validated, **active}, *others]}

    held, changed = await change_record(store, connector.id, settled)
    of = {"connector": held.id}
    if changed and not result.is_valid:
        problems = "; ".join(draft_problems(held))
        if draft_is_in_force(held):
            _logger.error("%s: its sync rules are not valid, so it does not sync: %s", held.id, problems, extra=of)
        else:
            _logger.warning(
                "%s: its edited sync rules are not valid, so those before stay in force: %s",
                held.id,
                problems,
                extra=of,
            )
    elif changed and not draft_is_in_force(connector):
        _logger.info("%s: its edited sync rules are valid and in force from now on", held.id, extra=of)
    return held


async def change_record(
    store: Store, connector_id: str, changes: Callable[[Connector], Mapping[str, Any] | None]
) -> tuple[Connector, bool]:
    """Changes a record by compare-and-set, and returns it with whether it was changed.

    Args:
        changes: returns the fields to change for the record as it is; None: none.

    Raises:
        NotFoundError: there is no such record.
        RetryableError: others change it all the time, or the store failed.
    """
    for _ in range(_TRIES):
        held = await store.connector(connector_id)
        wanted = changes(held)
        if wanted is None:
            return held, False
        try:
            return await store.put_connector(held.with_(**wanted)), True
        except ConflictError:
            continue
    raise RetryableError(f'the record of "{connector_id}" is changed by others all the time')


def _bare(rules: Filter) -> Filter:
    """Returns the rules alone, without validations, times and what else stands beside them in a record."""
    return Filter.of(rules.basic_rules, rules.advanced_or_none() or None)


def _same(one: Filter, other: Filter) -> bool:
    return bool(decode(encode(_bare(one))) == decode(encode(_bare(other))))
