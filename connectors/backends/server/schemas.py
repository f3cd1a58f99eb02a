"""What the indices of records look like where we create them ourselves: only what is searched for is mapped."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

__all__ = ["CONNECTORS", "JOBS", "STATE", "records_body"]

_KEYWORD: Final = {"type": "keyword"}
_DATE: Final = {"type": "date"}
_INTEGER: Final = {"type": "long"}
_KEPT: Final = {"type": "object", "enabled": False}


def records_body(properties: Mapping[str, Any], *, serverless: bool = False) -> dict[str, Any]:
    """Returns settings and mappings of an index whose documents have these fields, among others."""
    spread = {} if serverless else {"number_of_shards": 1, "auto_expand_replicas": "0-1"}
    return {
        "settings": {"index": {"hidden": True, **spread}},
        "mappings": {"dynamic": False, "properties": properties},
    }


CONNECTORS: Final[Mapping[str, Any]] = {
    "name": _KEYWORD,
    "service_type": _KEYWORD,
    "index_name": _KEYWORD,
    "status": _KEYWORD,
    "language": _KEYWORD,
    "is_native": {"type": "boolean"},
    "last_seen": _DATE,
    "last_synced": _DATE,
    "last_sync_status": _KEYWORD,
    "configuration": _KEPT,
    "sync_cursor": _KEPT,
}
JOBS: Final[Mapping[str, Any]] = (
    {
        "connector": {
            "properties": {
                "id": _KEYWORD, "index_name": _KEYWORD, "service_type": _KEYWORD, "language": _KEYWORD,
                "configuration": _KEPT,
            }
        },
        "status": _KEYWORD,
        "job_type": _KEYWORD,
        "trigger_method": _KEYWORD,
        "worker_hostname": _KEYWORD,
        "created_at": _DATE,
        "started_at": _DATE,
        "completed_at": _DATE,
        "canceled_at": _DATE,
        "cancelation_requested_at": _DATE,
        "last_seen": _DATE,
        "indexed_document_count": _INTEGER,
        "indexed_document_volume": _INTEGER,
        "deleted_document_count": _INTEGER,
        "total_document_count": _INTEGER,
        "metadata": _KEPT,
    }
)  # fmt: skip
#: What the connector protocol does not know. `kind` says what a document is: connector, pending or letter.
STATE: Final[Mapping[str, Any]] = {
    "kind": _KEYWORD,
    "connector_id": _KEYWORD,
    "letter_id": _KEYWORD,
    "job_id": _KEYWORD,
    "data": _KEPT,
    "body": {"type": "binary"},
}
