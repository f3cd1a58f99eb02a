"""The configuration fields that all relational sources have."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from connectors.errors import ConfigurationError

__all__ = ["common_fields", "parse_id_columns", "tls_fields"]

_POSITIVE: Final = [{"type": "greater_than", "constraint": 0}]
_NOT_NEGATIVE: Final = [{"type": "greater_than", "constraint": -1}]
_ID_COLUMNS: Final = re.compile(r"\s*([^(),]+?)\s*\(([^()]*)\)\s*(?:,|$)")


def tls_fields() -> dict[str, Any]:
    """Returns the declarations of the fields about TLS, which stand among those of the connection."""
    only_tls = [{"field": "ssl_enabled", "value": True}]
    optional: dict[str, Any] = {"type": "str", "value": "", "required": False, "depends_on": only_tls}
    return {
        "ssl_enabled": {"label": "TLS", "type": "bool", "value": False},
        "ssl_ca": {
            "label": "Certificates of authorities", **optional,
            "tooltip": "A PEM file, for a server whose certificate the system does not know.",
        },
        "ssl_verify": {
            "label": "Check the server's certificate", "type": "bool", "value": True, "depends_on": only_tls,
            "tooltip": "Without this check anybody can pretend to be the server.",
        },
        "ssl_certificate": {"label": "Client certificate", **optional, "tooltip": "A PEM file."},
        "ssl_key": {
            "label": "Key of the client certificate", **optional, "tooltip": "A PEM file that nobody else may read.",
        },
    }  # fmt: skip


def common_fields(order: int) -> dict[str, Any]:
    """Returns the declarations of the shared fields; `order` is the place of the first one."""
    fields: dict[str, dict[str, Any]] = {
        "tables": _field(
            "Tables", "list", ["*"], "Names or patterns: orders, shop.*, *. Views are read when they are named."
        ),
        "exclude_tables": _field("Tables to leave out", "list", [], "Names or patterns, as in tables."),
        "id_columns": _field(
            "Columns that identify a row", "list", [],
            "For tables and views without a primary or unique key: events(source, number)",
        ),
        "updated_column": _field(
            "Columns that grow", "list", [],
            "For incremental syncs: the column that grows with each change, such as updated_at. Of several names, "
            "the first that a table has is used.",
        ),
        "lookback": _field(
            "Look back", "int", 300,
            "Seconds. An incremental sync reads this much again, for transactions that were committed late.",
            _NOT_NEGATIVE,
        ),
        "lookback_count": _field(
            "Look back, for numbers", "int", 10_000,
            "The same for a column of numbers: how far below the largest known one to read again.", _NOT_NEGATIVE,
        ),
        "batch_size": _field("Rows to fetch at a time", "int", 1_000, "Fewer are fetched of wide rows.", _POSITIVE),
        "query_timeout": _field(
            "Patience with a query", "int", 300, "Seconds without a single row, then the sync is suspended.", _POSITIVE
        ),
        "rows_per_second": _field("Rows per second", "int", 0, "An upper limit; 0 for none.", _NOT_NEGATIVE),
        "pool_size": _field("Connections at most", "int", 2, "Per connector.", _POSITIVE),
        "connection_lifetime": _field(
            "Lifetime of a connection", "int", 1_800, "Seconds, after which it is replaced between two reads.",
            _POSITIVE,
        ),
    }  # fmt: skip
    for place, declaration in enumerate(fields.values(), order):
        declaration["order"] = place
    return fields


def _field(
    label: str, kind: str, default: Any, tooltip: str, validations: list[dict[str, Any]] | None = None
) -> dict[str, Any]:
    return {
        "label": label,
        "type": kind,
        "value": None,
        "default_value": default,
        "required": False,
        "tooltip": tooltip,
        "validations": validations or [],
    }


def parse_id_columns(items: Iterable[Any]) -> Mapping[str, tuple[str, ...]]:
    """Reads `events(source, number)`: table, with or without its space → columns.

    Raises ConfigurationError for anything else.
    """
    text = ",".join(map(str, items))  # what was one text came apart at the commas
    found: dict[str, tuple[str, ...]] = {}
    position = 0
    while text[position:].strip():
        match = _ID_COLUMNS.match(text, position)
        columns = tuple(part.strip() for part in match[2].split(",")) if match else ()
        if match is None or not all(columns):
            raise ConfigurationError(
                f'id_columns: "{text[position:].strip()[:60]}" is not a table with its columns: write it like '
                "events(source, number)",
                field="id_columns",
            )
        found[match[1]] = columns
        position = match.end()
    return found
