"""Whether a soak ended well: the index against the tables, the records against the promises."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import orjson

from connectors.backends.ports import DIGEST_SIZE, IndexHandle
from connectors.backends.server import ServerBackend
from connectors.byoc import SyncJob
from connectors.sync.counters import Counters

__all__ = ["differences", "documents_of", "problems_of_jobs", "problems_of_records"]

_SHOWN: Final = 10


async def documents_of(backend: ServerBackend, index: str, connector: str) -> dict[str, dict[str, Any]]:
    """Returns `_id` → document of all that the index holds of the connector."""
    info = await backend.destination.info(index)
    if info is None:
        return {}
    handle = IndexHandle(index, info.uuid, connector, "")
    found: dict[str, dict[str, Any]] = {}
    async for page in backend.destination.stamps(handle):
        digests = [page.digests[at : at + DIGEST_SIZE] for at in range(0, len(page.digests), DIGEST_SIZE)]
        for at in range(0, len(digests), 1000):
            ids = [
                document_id for _, document_id in await backend.destination.find_ids(handle, digests[at : at + 1000])
            ]
            held = await backend.destination.fetch(index, ids)
            found |= {document_id: orjson.loads(body) for document_id, body in held.items()}
    assert len(found) == await backend.destination.count(index), f"{index} holds documents without a stamp"
    return found


def differences(rows: Mapping[str, Any], held: Mapping[str, Any], *, extra: bool = False) -> list[str]:
    """Returns what is not equal, some of it in full.

    Args:
        extra: the index may hold more than the table, since no full sync came after the deletes.
    """
    lines = []
    missing, unwanted = sorted(rows.keys() - held.keys()), sorted(held.keys() - rows.keys())
    stale = sorted(key for key in rows.keys() & held.keys() if rows[key] != _comparable(held[key]))
    for what, keys in (("missing", missing), ("not in the table", [] if extra else unwanted), ("stale", stale)):
        if keys:
            lines.append(f"{len(keys)} documents are {what}, such as {', '.join(keys[:_SHOWN])}")
    lines += [f"  {key}\n    table {rows[key]}\n    index {held[key]}" for key in stale[:3]]
    return lines


def _comparable(document: Mapping[str, Any]) -> dict[str, Any]:
    return {**document, "updated": datetime.fromisoformat(document["updated"])}


def problems_of_jobs(jobs: Sequence[SyncJob]) -> list[str]:
    """Returns what is wrong with the records of jobs, after all have ended."""
    problems = []
    for job in jobs:
        counters = Counters.from_dict(job.metadata.get("counters"))
        if not job.ended:
            problems.append(f"the {job.job_type} job {job.id} of {job.connector_id} is still {job.status}")
        elif not counters.balanced:
            problems.append(f"the counters of the {job.status} job {job.id} do not add up: {counters}")
        if counters.dead_lettered:
            problems.append(f"the job {job.id} of {job.connector_id} has {counters.dead_lettered} dead letters")
    errors = Counter(f"{job.connector_id}, {job.job_type}: {job.error}" for job in jobs if job.status == "error")
    problems += [f"{number} jobs ended in error: {text}" for text, number in errors.items()]
    return problems


async def problems_of_records(backend: ServerBackend, connectors: Sequence[str]) -> list[str]:
    """Returns what was left behind: leases, dead letters."""
    problems = []
    for name in connectors:
        state = await backend.store.state(name)
        if state.worker is not None:
            problems.append(f"{state.worker} still holds the lease of {name}")
        if letters := await backend.store.count_dead_letters(name):
            problems.append(f"{name} has {letters} dead letters")
    return problems
