"""Documents of the index that the sync rules drop, by rule: what a change of the rules would delete.

Asked only when the rules changed since the last completed sync, and by a preview; otherwise no dropped document costs
more than the rules themselves.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from connectors.filtering.basic_rule import BasicRule, BasicRuleEngine
from connectors.source import Document
from connectors.sync.encode import id_digest
from connectors.sync.ledger import Ledger

__all__ = ["DroppedDocuments"]

_PAGE: Final = 256


class DroppedDocuments:
    """Marks what the ledger knows and a rule dropped; one byte for each document of the ledger, two from 255 rules on.

    Args:
        engine: the rules in use.
        ledger: filled, and not replaced while this is in use.
    """

    def __init__(self, engine: BasicRuleEngine, ledger: Ledger) -> None:
        self._engine = engine
        self._ledger = ledger
        self._rules: tuple[BasicRule, ...] = (*engine.rules, engine.default)
        self._number = {id(rule): number for number, rule in enumerate(self._rules, start=1)}
        #: For each document of the ledger the number of the rule that dropped it, 0 for none.
        self._dropped_by = np.zeros(len(ledger), dtype=np.min_scalar_type(len(self._rules)))
        self._digests: list[bytes] = []
        self._by: list[int] = []

    def add(self, document_id: str, document: Document, rule: BasicRule | None = None) -> None:
        """Takes a document that the rules have just dropped; `rule` where it is known which one did."""
        self._digests.append(id_digest(document_id))
        self._by.append(self._number[id(rule or self._engine.explain(document))])
        if len(self._digests) >= _PAGE:
            self._look_up()

    def _look_up(self) -> None:
        position, found = self._ledger.locate(b"".join(self._digests))
        self._dropped_by[position[found]] = np.array(self._by, dtype=self._dropped_by.dtype)[found]
        self._digests.clear()
        self._by.clear()

    def by_rule(self) -> list[tuple[BasicRule, int]]:
        """Returns how many documents that the job has not seen otherwise each rule dropped, without those of none."""
        if self._digests:
            self._look_up()
        unseen = self._dropped_by[~self._ledger.seen]
        numbers = np.bincount(unseen, minlength=len(self._rules) + 1).tolist()
        return [(rule, number) for rule, number in zip(self._rules, numbers[1:], strict=True) if number]
