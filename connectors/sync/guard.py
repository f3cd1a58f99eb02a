"""The deletion guard: no more is deleted than the operator allows."""

from __future__ import annotations

from connectors.errors import DeletionGuardError
from connectors.sync.context import SyncContext
from connectors.sync.ledger import Ledger

__all__ = ["guard_deletion"]


def guard_deletion(context: SyncContext, ledger: Ledger, *, read: int, kept: int) -> None:
    """Raises DeletionGuardError when deleting what vanished would be more than is allowed, and names causes.

    Args:
        read: documents that the source listed.
        kept: those of them that passed the rules.
    """
    held, vanished = len(ledger), ledger.vanished_count
    allowed = int(context.job.metadata.get("allow_deletes") or 0)
    empty = not kept and not ledger.seen_count
    limited = held >= context.config.min_documents_for_ratio and vanished > context.max_delete_ratio * held
    if not vanished or vanished <= allowed or not (empty or limited):
        return
    causes = []
    if empty:
        causes.append("the sync rules keep no document" if read else "the source listed no document")
    before = context.state.data.get("configuration")
    if before not in (None, context.configuration_fingerprint):
        causes.append("the configuration or the sync rules changed since the last completed sync")
    because = f" ({'; '.join(causes)})" if causes else ""
    raise DeletionGuardError(
        f"this sync would delete {vanished} of the {held} documents that {context.connector.id} has in "
        f"{context.index.name}{because}; max_delete_ratio is {context.max_delete_ratio:g}. Nothing was deleted. "
        f"If that is right, run: connectors sync {context.connector.id} --allow-deletes {vanished}",
        vanished=vanished,
    )
