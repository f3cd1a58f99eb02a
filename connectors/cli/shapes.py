"""The JSON shapes that commands print. They are documented in `docs/COMMANDS.md` and change by addition only."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from connectors.byoc import SyncJob, format_time
from connectors.logger import mask

if TYPE_CHECKING:
    from connectors.backends.ports import DeadLetter, SearchPage
    from connectors.service.operations import ConnectorView
    from connectors.sync.compare import Comparison
    from connectors.sync.preview import Preview, Verdict

__all__ = [
    "comparison_shape",
    "dead_letter_shape",
    "job_shape",
    "preview_shape",
    "search_shape",
    "time_shape",
    "view_shape",
]


def time_shape(moment: datetime | None) -> str | None:
    """A time: ISO 8601 in UTC, or null."""
    return format_time(moment) if moment else None


def job_shape(job: SyncJob) -> dict[str, Any]:
    """A sync job. `counters` holds documents by outcome; `read` is the sum of all but `vanished` and `bytes`."""
    return {
        "id": job.id,
        "connector": job.connector_id,
        "index": job.connector.get("index_name"),
        "type": str(job.job_type),
        "trigger": str(job.trigger_method),
        "status": str(job.status),
        "error": mask(job.error) if job.error else None,
        "stalled": mask(job.stalled) if job.stalled else None,
        "created_at": time_shape(job.created_at),
        "started_at": time_shape(job.started_at),
        "ended_at": time_shape(job.completed_at or job.canceled_at),
        "seconds": job.seconds,
        "worker": job.worker_hostname,
        "unchanged_source": bool(job.metadata.get("unchanged")),
        "counters": job.counters,
        "incomplete": [mask(reason) for reason in job.incomplete],
        "documents": job.total_document_count,
    }


def view_shape(view: ConnectorView) -> dict[str, Any]:
    """A connector as people look at it; its settings are left out, since they may tell secrets."""
    connector = view.connector
    return {
        "id": connector.id,
        "name": connector.name,
        "service_type": connector.service_type,
        "index": connector.index_name,
        "status": str(connector.status),
        "error": mask(connector.error) if connector.error else None,
        "paused": connector.paused,
        "removed_from_config": view.orphaned,
        "documents": view.documents,
        "dead_letters": view.dead_letters,
        "last_synced": time_shape(connector.last_synced),
        "next_syncs": {kind: time_shape(moment) for kind, moment in view.next_syncs.items()},
        "running_job": job_shape(view.running) if view.running else None,
        "last_job": job_shape(view.last_job) if view.last_job else None,
    }


def search_shape(index: str, query: str, page: SearchPage, milliseconds: float) -> dict[str, Any]:
    """Ranked hits, best first. In `highlights` the marked words stand between U+0002 and U+0003."""
    hits = [
        {
            "id": hit.id,
            "score": round(hit.score, 4),
            "source": dict(hit.source),
            "highlights": {name: list(fragments) for name, fragments in hit.highlights.items()},
        }
        for hit in page.hits
    ]
    return {"index": index, "query": query, "total": page.total, "milliseconds": round(milliseconds, 1), "hits": hits}


def dead_letter_shape(letter: DeadLetter) -> dict[str, Any]:
    """A document that could not be indexed, without its content."""
    return {
        "id": letter.id,
        "connector": letter.connector_id,
        "operation": letter.operation,
        "reason": mask(letter.reason),
        "job": letter.job_id,
        "created_at": time_shape(letter.created_at),
        "bytes": letter.size,
        "replayable": letter.replayable,
    }


def comparison_shape(connector: str, index: str, found: Comparison, *, deep: bool) -> dict[str, Any]:
    """What `reconcile` found; all differences are counted, the first ones listed."""
    from connectors.sync.compare import KINDS

    return {
        "connector": connector,
        "index": index,
        "deep": deep,
        "equal": found.equal,
        "read": found.counters.read,
        "filtered": found.counters.filtered,
        "counts": {kind: found.counts[kind] for kind in KINDS},
        "differences": [
            {"kind": each.kind, "id": each.id, "detail": each.detail or None} for each in found.differences
        ],
        "stale": found.stale,
        "unverified": found.unverified,
        "incomplete": [mask(reason) for reason in found.incomplete],
    }


def preview_shape(connector: str, index: str, origin: str, preview: Preview) -> dict[str, Any]:
    """A preview of sync rules; `impact` is null where nothing was counted."""
    impact = preview.impact
    return {
        "connector": connector,
        "rules": origin,
        "read": preview.read,
        "kept": preview.kept,
        "dropped": preview.dropped,
        "unreadable": preview.unreadable,
        "documents": [_verdict_shape(verdict) for verdict in preview.verdicts],
        "by_rule": [
            {
                "id": each.rule.id,
                "order": None if each.rule.is_default else each.rule.order,
                "words": mask(each.rule.words),
                "documents": each.documents,
                "deletes": each.deletes,
            }
            for each in preview.by_rule
        ],
        "incomplete": [mask(reason) for reason in preview.incomplete],
        "impact": impact
        and {
            "index": index,
            "held": impact.held,
            "added": impact.added,
            "deleted": impact.deleted,
            "deleted_by_rules": impact.dropped,
            "deleted_unlisted": impact.unlisted,
            "stopped_by_guard": impact.stopped,
        },
    }


def _verdict_shape(verdict: Verdict) -> dict[str, Any]:
    rule = verdict.rule
    return {
        "id": verdict.id,
        "kept": verdict.kept,
        "reason": mask(verdict.reason),
        "rule": None if rule is None or rule.is_default else {**rule.to_record(), "value": mask(rule.value)},
        "decided_by": rule and rule.id,
        "value": None if verdict.value is None else mask(verdict.value),
    }
