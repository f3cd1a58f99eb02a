"""Incremental syncs by a column that grows: where they start, and what they read again.

The position of a table is the largest value that stood in the column before the first read. A row that was written with
a smaller value may be committed later, so the next sync starts below the position, by the lookback.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

from connectors.sources.relational.model import Column, Table
from connectors.sources.relational.values import decode_values, encode_values

__all__ = ["Growth"]


@dataclass(frozen=True, slots=True)
class Growth:
    """How tables grow.

    Attributes:
        columns: names; the first that a table has, with values that can grow, is the one.
        lookback: seconds, for times.
        count: the same for numbers.
    """

    columns: Sequence[str]
    lookback: float
    count: int

    def column(self, table: Table) -> Column | None:
        """Returns the table's growing column, None when it has none."""
        found = (table.column(name) for name in self.columns)
        return next((column for column in found if column is not None and column.growth is not None), None)

    @staticmethod
    def entry(column: Column, newest: Any) -> list[Any]:
        """Returns the position of one table, as JSON; `newest` is None where there are no rows."""
        return [column.name, *encode_values([newest])]

    def start(self, table: Table, position: Mapping[str, Any]) -> Any:
        """Returns the value from which on to read; None to read everything.

        That is so for a table that is not in the position (it is new), was empty then, or grows by another column now.
        """
        column = self.column(table)
        entry = position.get(str(table.name))
        if column is None or entry is None or entry[0] != column.name:
            return None
        (value,) = decode_values(entry[1:])
        try:
            return self._less(value)
        except OverflowError:  # before the first day of the calendar
            return None

    def _less(self, value: Any) -> Any:
        if isinstance(value, datetime):
            return value - timedelta(seconds=self.lookback)
        if isinstance(value, date):
            return value - timedelta(days=math.ceil(self.lookback / 86_400))
        if isinstance(value, int | float | Decimal) and not isinstance(value, bool):
            return value - self.count
        return None
