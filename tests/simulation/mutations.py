"""Defects that are planted into the real code, one at a time, to see that the simulation notices each of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, cast
from unittest.mock import patch

from connectors.backends.ports import Destination, Lease, WriteResult
from connectors.errors import RetryableError
from connectors.logger import Masker
from connectors.service.lease import LeaseKeeper
from connectors.sync import engine
from connectors.sync.counters import Counters
from connectors.sync.deadletters import DeadLetters
from connectors.sync.engine import Sync
from connectors.sync.ledger import Ledger
from connectors.sync.limits import FlightLimit
from connectors.sync.pipeline import Pipeline
from connectors.sync.progress import Checkpointed, Progress
from connectors.sync.writer import BulkWriter, _Batch
from connectors.testing.memory import MemoryStore
from tests.simulation.process_mutations import PROCESS_MUTATIONS

__all__ = ["MUTATIONS", "first_caught", "mutated"]

Patch = tuple[Any, str, Any]

_advance = Progress.advance
_commit = Sync._commit
_open = Ledger.open
_merge = Ledger.merge
_healed = DeadLetters.healed
_init_pipeline = Pipeline.__init__
_init_writer = BulkWriter.__init__
_read = Pipeline.read
_skip = Pipeline._skip
_write = Pipeline._write
_open_seen = Sync._open_seen
_take = MemoryStore._take


async def _nothing(*_: Any, **__: Any) -> None:
    """Takes the place of a step that is left out."""


def _advance_at_once(self: Progress) -> Checkpointed | None:
    for segment in list(self._segments)[:-1]:
        self._pending -= segment.pending
        segment.pending = 0
    return _advance(self)


async def _commit_cursor_first(self: Sync, pipeline: Pipeline) -> None:
    if not self._full and pipeline.last_checkpoint is not None:
        cursor = {"sync_cursor": pipeline.last_checkpoint.state}
        await self._patiently(
            lambda: self._context.store.commit(self._lease, job_id=self._context.job.id, connector=cursor), "storing"
        )
    await _commit(self, pipeline)


async def _no_drain(self: Sync, pipeline: Pipeline, writer: BulkWriter, *, stopping: bool = False) -> bool:
    writer.flush()
    return True


def _all_is_done(self: BulkWriter, batch: _Batch, result: WriteResult) -> tuple[_Batch, str]:
    self._acknowledge(batch)
    return _Batch(), ""


class _Trusting:
    """Takes a request that failed for one that was done."""

    def __init__(self, destination: Any) -> None:
        self._destination = destination

    async def write(self, *given: Any) -> WriteResult:
        try:
            result: WriteResult = await self._destination.write(*given)
        except RetryableError:
            return WriteResult()
        return result


def _trusting_writer(self: BulkWriter, destination: Any, *given: Any, **more: Any) -> None:
    _init_writer(self, cast("Destination", _Trusting(destination)), *given, **more)


def _claim_in_any_case(self: MemoryStore, connector_id: str, *given: Any) -> Any:
    state = self._state(connector_id)
    self._states[connector_id] = replace(state, worker=None)
    return _take(self, connector_id, *given)


def _claim_in_the_same_epoch(self: MemoryStore, connector_id: str, *given: Any) -> Any:
    lease = _take(self, connector_id, *given)
    if lease is None or lease.epoch == 1:
        return lease
    self._states[connector_id] = replace(self._state(connector_id), epoch=lease.epoch - 1)
    return replace(lease, epoch=lease.epoch - 1)


def _believed_lease(self: LeaseKeeper) -> Lease:
    return self._lease


def _versions_without_epoch(self: Pipeline, *given: Any, **more: Any) -> None:
    _init_pipeline(self, *given, **{**more, "first_version": 1 << 40})


def _late_version(self: Pipeline, operation: Any, outcome: str, segment: Any) -> None:
    self._version += 1
    _write(self, operation._replace(version=self._version), outcome, segment)


async def _read_without_errors(self: Pipeline, stream: Any) -> None:
    try:
        await _read(self, stream)
    except Exception:  # noqa: BLE001 - the defect: an error passes for the end
        return


async def _skip_lightly(self: Pipeline, item: Any) -> None:
    await _skip(self, item)
    self.incomplete.clear()


def _delete_without_seen_log(self: Sync, saved: Any) -> None:
    _open_seen(self, saved)
    self._can_delete = True


def _believed_ledger(self: Ledger, header: Any) -> bool:
    return any(_open(self, replace(header, epoch=epoch)) for epoch in range(header.epoch, -1, -1))


def _merge_for_good(self: Ledger, log: Any, header: Any) -> int:
    self.recheck_at = None
    return _merge(self, log, header)


def _heal_any(self: DeadLetters, document_id: str, version: int | None = None) -> None:
    _healed(self, document_id)


#: Name → where the defect is planted.
MUTATIONS: dict[str, Patch] = {
    "checkpoint before acknowledgement": (Progress, "advance", _advance_at_once),
    "cursor before acknowledgement": (Sync, "_commit", _commit_cursor_first),
    "deletion before acknowledgement": (Sync, "_drain", _no_drain),
    "failed item taken for done": (BulkWriter, "_settle", _all_is_done),
    "cut answer taken for good": (BulkWriter, "__init__", _trusting_writer),
    "double claim": (MemoryStore, "_take", _claim_in_any_case),
    "epoch not raised": (MemoryStore, "_take", _claim_in_the_same_epoch),
    "versions without epoch": (Pipeline, "__init__", _versions_without_epoch),
    "version taken when a download ends": (Pipeline, "_write", _late_version),
    "lease not checked when sending": (LeaseKeeper, "lease", _believed_lease),
    "guard ignored": (engine, "guard_deletion", lambda *_, **__: None),
    "error taken for the end": (Pipeline, "read", _read_without_errors),
    "incomplete enumeration deletes": (Pipeline, "_skip", _skip_lightly),
    "seen set lost over a resume": (Ledger, "mark_seen", lambda *_: None),
    "seen log lost and yet deleted": (Sync, "_open_seen", _delete_without_seen_log),
    "counters lost over a resume": (Counters, "from_dict", lambda _: Counters()),
    "dead letter not stored": (DeadLetters, "flush", _nothing),
    "letter of a newer version withdrawn": (DeadLetters, "healed", _heal_any),
    "ledger trusted after a kill": (Ledger, "open", _believed_ledger),
    "late writes not looked for": (Ledger, "merge", _merge_for_good),
    "limit of requests ignored": (FlightLimit, "_fits", lambda *_: True),
    "secrets not masked": (Masker, "mask", lambda _, text: text),
    **PROCESS_MUTATIONS,
}


@contextmanager
def mutated(name: str) -> Iterator[None]:
    """Within the block the code has this defect."""
    with patch.object(*MUTATIONS[name]):
        yield


def first_caught(name: str, seeds: range, simulate: Callable[[int], Any]) -> int | None:
    """Returns the first seed that breaks a promise while the code has this defect, None when none does."""
    with mutated(name):
        return next((seed for seed in seeds if simulate(seed).violation is not None), None)
