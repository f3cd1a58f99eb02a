"""The deletion guard: no more is deleted than the operator allows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from connectors.errors import DeletionGuardError
from connectors.filtering.basic_rule import BasicRule
from connectors.sync.context import SyncContext
from connectors.sync.dropped import DroppedDocuments
from connectors.sync.ledger import Ledger

__all__ = ["Limits", "guard_deletion", "in_words"]

_MOST_RULES: Final = 5


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a full sync deletes without a word of the operator.

    Attributes:
        ratio: part of the documents that the index holds of the connector.
        minimum: number of these documents from which on the ratio counts.
    """

    ratio: float
    minimum: int

    def stop(self, *, held: int, vanished: int, empty: bool) -> bool:
        """Whether deleting `vanished` of `held` documents is too much; `empty`: nothing else would be left."""
        return vanished > 0 and (empty or (held >= self.minimum and vanished > self.ratio * held))


def guard_deletion(
    context: SyncContext, ledger: Ledger, *, read: int, kept: int, dropped: DroppedDocuments | None
) -> None:
    """Raises DeletionGuardError when deleting what vanished would be more than is allowed, and names causes.

    Args:
        read: documents that the source listed.
        kept: those of them that passed the rules.
        dropped: where the rules changed, what of the index they drop.
    """
    held, vanished = len(ledger), ledger.vanished_count
    allowed = int(context.job.metadata.get("allow_deletes") or 0)
    empty = not kept and not ledger.seen_count
    limits = Limits(context.max_delete_ratio, context.config.min_documents_for_ratio)
    if vanished <= allowed or not limits.stop(held=held, vanished=vanished, empty=empty):
        return
    causes = []
    if empty:
        causes.append("the sync rules keep no document" if read else "the source listed no document")
    causes += _changes(context, vanished, dropped.by_rule() if dropped is not None else [])
    because = f" ({'; '.join(causes)})" if causes else ""
    raise DeletionGuardError(
        f"this sync would delete {vanished} of the {held} documents that {context.connector.id} has in "
        f"{context.index.name}{because}; max_delete_ratio is {context.max_delete_ratio:g}. Nothing was deleted. "
        f"If that is right, run: connectors sync {context.connector.id} --allow-deletes {vanished}",
        vanished=vanished,
    )


def _changes(context: SyncContext, vanished: int, dropped: Sequence[tuple[BasicRule, int]]) -> list[str]:
    """Returns what changed since the last completed sync, and what comes of it."""
    found = []
    by_rules = sum(number for _, number in dropped)
    if by_rules:
        # What a run before this one dropped, of a job that goes on, was not noted.
        begun = context.state.data.get("progress") or {}
        some = "at least " if begun.get("job") == context.job.id else ""
        found.append(f"{some}{by_rules} of them because the sync rules changed: {in_words(dropped)}")
        if vanished > by_rules:
            found.append(f"{vanished - by_rules} of them are not listed by the source")
    elif context.changed("basic_rules"):
        found.append("the sync rules changed since the last completed sync")
    if context.changed("advanced_rules"):
        found.append("the advanced sync rules changed since the last completed sync")
    if context.changed("settings"):
        found.append("the configuration changed since the last completed sync")
    return found


def in_words(dropped: Sequence[tuple[BasicRule, int]]) -> str:
    """Returns what each rule drops, those that drop most first."""
    ranked = sorted(dropped, key=lambda item: -item[1])
    words = [
        f"{'the default rule' if rule.is_default else f'rule {rule.id}'} drops {number}"
        for rule, number in ranked[:_MOST_RULES]
    ]
    rest = sum(number for _, number in ranked[_MOST_RULES:])
    return ", ".join([*words, f"{len(ranked) - _MOST_RULES} more drop {rest}"] if rest else words)
