"""Watches a simulated world and holds it to the promises, at each write and each commit, not only at the end.

Nothing of the framework's own bookkeeping is believed: what was read is known from the source, what landed from the
server, who may send from the leases that were granted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from connectors.backends.ports import DeadLetter, IndexHandle, Lease, Operation, WriteResult
from connectors.byoc import SyncJob
from connectors.sync.counters import OUTCOMES
from tests.simulation.runs import Item, Run
from tests.simulation.splits import SplitRun, StoredSplit, split_in

__all__ = ["SECRET", "Watch"]

SECRET = "hunter2-sesame"
_EPOCH_SHIFT = 40

_LEGAL = {
    None: {"pending"},
    "pending": {"pending", "in_progress", "canceled", "error"},
    "in_progress": {"in_progress", "completed", "error", "suspended", "canceling", "canceled"},
    "suspended": {"in_progress", "canceled", "error", "suspended"},
    # Suspended for a moment, by a worker that does not know of the wish yet; then it must not go on.
    "canceling": {"canceling", "canceled", "completed", "error", "suspended"},
}


@dataclass(slots=True)
class _Index:
    """What landed in one index: by id the highest `rev` ever, and the `rev` that is there now; and which documents
    landed when their sender no longer had the connector, so that its successor may not know of them."""

    landed: dict[str, int] = field(default_factory=dict)
    there: dict[str, int] = field(default_factory=dict)
    owners: dict[str, str] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)
    late: set[str] = field(default_factory=set)


class Watch:
    """Sees everything, and tells `fail` what breaks a promise."""

    def __init__(self, fail: Callable[[str], None], *, ratio: float, least: int) -> None:
        self._fail = fail
        self._ratio = ratio
        self._least = least
        self.runs: list[Run] = []
        self.latest: dict[tuple[str, str], Run] = {}
        self.splits: list[StoredSplit] = []
        self.prepared: dict[tuple[str, str], str] = {}
        self.working: dict[tuple[str, str], SyncJob] = {}
        self.indices: dict[str, _Index] = {}
        self.removing: dict[tuple[str, int], int] = {}
        self.letters: dict[tuple[str, str], DeadLetter] = {}
        self.epochs: dict[str, int] = {}
        self.holders: dict[str, tuple[str, float]] = {}
        self.statuses: dict[str, str] = {}
        self.wished: set[str] = set()
        self.seen: Counter[str] = Counter()

    def index(self, uuid: str) -> _Index:
        """Returns what is known of an index."""
        return self.indices.setdefault(uuid, _Index())

    # The source

    def begin(self, process: str, connector: str, *, full: bool, rules: Sequence[Any], state: Any) -> Run:
        """A source begins to list, perhaps behind a checkpoint."""
        uuid = self.prepared.get((process, connector), "")
        run = Run(len(self.runs), connector, process, full, rules, uuid)
        if full and state is not None:
            run.parent = self.runs[state["run"]], state["at"]
            run.base = state["count"]
        return self._begun(run)

    def begin_split(self, process: str, connector: str, *, rules: Sequence[Any], checkpoint: Any) -> None:
        """A sync by several readers begins, or goes on behind its checkpoint."""
        found = split_in(checkpoint) or {}
        split, of = found["cursor"]["split"], found["number"]
        stored, uuid = self.splits[split], self.prepared.get((process, connector), "")
        parts = {part: run for part, run in stored.finished.items() if str(part) not in found["open"]}
        run = SplitRun(
            len(self.runs), connector, process, True, rules, uuid, split=split, of=of, parts=parts, before=stored.again
        )
        self._begun(run)

    def begin_part(self, whole: SplitRun, part: int, state: Any) -> Run:
        """A reader begins to list a part."""
        run = whole.begin(len(self.runs), part, state, self.runs)
        self.runs.append(run)
        return run

    def _begun(self, run: Run) -> Run:
        process, connector = run.process, run.connector
        index = self.index(run.uuid)
        run.held = sum(owner == connector and id_ not in index.late for id_, owner in index.owners.items())
        job = self.working.get((process, connector))
        run.allowed = int(job.metadata.get("allow_deletes") or 0) if job is not None else 0
        self.runs.append(run)
        self.latest[process, connector] = run
        return run

    # The destination

    def sends(self, process: str, handle: IndexHandle, operations: Sequence[Operation], *, resumed: bool) -> None:
        """A request leaves a process. `resumed`: it stood still a moment ago, and could not know what happened."""
        connector = handle.connector_id
        epoch = operations[0].version >> _EPOCH_SHIFT
        if not resumed and epoch != self.epochs.get(connector):
            self._fail(f"{process} sends for {connector} in epoch {epoch}, and it is {self.epochs.get(connector)}")
        run = self.latest.get((process, connector))
        if run is None:
            self._fail(f"{process} sends for {connector}, and never read it")
            return
        gone = [operation for operation in operations if operation.body is None]
        if gone and run.full:
            self._vanish(run, [operation.id for operation in gone])
        elif gone:
            self._delete(run, gone)

    def _delete(self, run: Run, gone: list[Operation]) -> None:
        wanted = {item.id: item.rev for item in run.items if item.wanted == "gone"}
        for operation in gone:
            if operation.id in wanted:
                self.removing[operation.id, operation.version] = wanted[operation.id]
            else:
                self._fail(f"{operation.id} is deleted by an incremental sync that did not say so")

    def _vanish(self, run: Run, gone: list[str]) -> None:
        if not run.is_complete:
            self._fail(f"{gone} vanished, and run {run.number} is not at its end")
        if any(part.blind is not None and part.blind <= number for part, number in run.chain()):
            self._fail(f"{gone} vanished, and run {run.number} could not read everything")
        for row_id in gone:
            if row_id in run.met():
                self._fail(f"{row_id} is deleted as vanished, and run {run.number} listed it")
        self.verify(run, len(run.items), "a deletion", letters=False)
        run.deleted.update(gone)
        number = len(run.deleted)
        limited = run.held >= self._least and number > self._ratio * run.held
        if number > run.allowed and (limited or not run.met()):
            self._fail(f"{number} of {run.held} documents are deleted, {run.allowed} allowed, {len(run.met())} listed")
        self.seen["vanished"] += 1

    def lands(self, handle: IndexHandle, operations: Sequence[Operation], result: WriteResult) -> None:
        """A batch, or a part of it, was applied."""
        index = self.index(handle.uuid)
        for position, operation in enumerate(operations):
            if position in result.failures:
                self.seen["superseded"] += 1
                continue
            row_id = operation.id
            if operation.version < index.versions.get(row_id, 0):
                self._fail(f"{row_id}: version {operation.version} landed over {index.versions[row_id]}")
            index.versions[row_id] = operation.version
            late = operation.version >> _EPOCH_SHIFT < self.epochs.get(handle.connector_id, 0)
            if not late:
                index.late.discard(row_id)
            elif row_id not in index.there:
                index.late.add(row_id)
            if operation.body is None:
                removed = self.removing.get((row_id, operation.version), 0)
                index.landed[row_id] = max(removed, index.landed.get(row_id, 0))
                index.there.pop(row_id, None)
                index.owners.pop(row_id, None)
                continue
            rev = orjson.loads(operation.body).get("rev", 0)
            if rev < index.landed.get(row_id, 0) and rev:
                self._fail(f"{row_id}: rev {rev} landed over {index.landed[row_id]}")
            index.landed[row_id] = max(rev, index.landed.get(row_id, 0))
            index.there[row_id] = rev
            index.owners[row_id] = handle.connector_id

    def counts(self, handle: IndexHandle) -> None:
        """A process asks what the index holds of a connector, and knows of everything from then on."""
        index = self.index(handle.uuid)
        index.late = {row_id for row_id in index.late if index.owners.get(row_id) != handle.connector_id}

    def purged(self, connector: str) -> None:
        """All documents of a connector were deleted by the operator."""
        for index in self.indices.values():
            for row_id in [row_id for row_id, owner in index.owners.items() if owner == connector]:
                del index.there[row_id], index.owners[row_id]

    # The store

    def granted(self, lease: Lease, now: float) -> None:
        """A lease was given to a worker, whose clock says `now`."""
        before = self.epochs.get(lease.connector_id, 0)
        holder, expires_at = self.holders.get(lease.connector_id, ("", 0.0))
        if lease.epoch <= before:
            self._fail(f"{lease.worker} claims {lease.connector_id} with epoch {lease.epoch}; it was {before}")
        if holder not in {"", lease.worker} and expires_at > now:
            self._fail(f"{lease.worker} claims {lease.connector_id}, which {holder} holds")
        self.epochs[lease.connector_id] = max(before, lease.epoch)
        self.holders[lease.connector_id] = lease.worker, lease.expires_at

    def renewed(self, lease: Lease) -> None:
        """A lease was made longer."""
        self.holders[lease.connector_id] = lease.worker, lease.expires_at

    def released(self, lease: Lease) -> None:
        """A lease was given back, if it was the holder's."""
        if self.epochs.get(lease.connector_id) == lease.epoch:
            self.holders.pop(lease.connector_id, None)

    def status(self, job_id: str, status: str) -> None:
        """A job was given a status."""
        before = self.statuses.get(job_id)
        if status not in _LEGAL.get(before, {before}):
            self._fail(f"job {job_id} goes from {before} to {status}")
        if status == "canceling":
            self.wished.add(job_id)
        elif status == "in_progress" and job_id in self.wished:
            self._fail(f"job {job_id} goes on, and somebody wished to cancel it")
        self.statuses[job_id] = status
        self.seen[status] += before != status

    def committed(
        self,
        process: str,
        lease: Lease,
        job: Mapping[str, Any] | None,
        connector: Mapping[str, Any] | None,
        state: Mapping[str, Any] | None,
    ) -> None:
        """Progress, a cursor or an end was stored."""
        if lease.epoch != self.epochs.get(lease.connector_id):
            self._fail(f"{process} commits for {lease.connector_id} in epoch {lease.epoch}, which is over")
        progress = (state or {}).get("progress")
        if progress:
            self._progress(self.latest[process, lease.connector_id], progress)
        cursor = (connector or {}).get("sync_cursor")
        if cursor:
            self._cursor(process, lease, cursor)
        if job and job.get("status") == "completed" and "unchanged" not in job.get("metadata", {}):
            self._completed(process, lease, job["metadata"]["counters"])

    def _cursor(self, process: str, lease: Lease, cursor: Mapping[str, Any]) -> None:
        if "split" in cursor:
            run = self.latest[process, lease.connector_id]
            if not isinstance(run, SplitRun) or run.split != cursor["split"] or not run.is_complete:
                self._fail(f"the cursor {cursor} is stored, and run {run.number} is not at the end of that split")
            self.verify(run, 0, "a cursor")
        else:
            self.verify(self.runs[cursor["run"]], cursor["at"], "a cursor")
        self.seen["cursor"] += 1

    def _progress(self, run: Run, progress: Mapping[str, Any]) -> None:
        state, counters = progress["checkpoint"], progress["counters"]
        again = 0
        if (found := split_in(state)) is None:
            self.verify(self.runs[state["run"]], state["at"], "a checkpoint")
            count = state["count"]
        else:
            assert isinstance(run, SplitRun)
            again, count = run.before + run.again, self._split_progress(run, found)
            self.splits[run.split].again = counters["read"] - count
            self.seen["checkpoint of parts"] += 1
        settled = sum(counters[name] for name in OUTCOMES)
        if counters["read"] != settled or not 0 <= counters["read"] - count <= again:
            self._fail(f"a checkpoint behind {count} items is stored with {counters}; {again} may be counted twice")
        self.seen["checkpoint"] += 1

    def _split_progress(self, run: SplitRun, found: Mapping[str, Any]) -> int:
        """Verifies a checkpoint of all parts; returns the items that it covers."""
        count, stored = 0, self.splits[run.split]
        for part in range(run.of):
            reached = found["reached"].get(str(part))
            if str(part) not in found["open"]:
                ended = run.parts.get(part)
                if ended is None or not ended.ended:
                    self._fail(f"part {part} counts as read to its end, and is not")
                    continue
                stored.finished[part] = ended
                self.verify(ended, len(ended.items), "the end of a part")
                count += ended.count
            elif reached is not None:
                self.verify(self.runs[reached["run"]], reached["at"], "the checkpoint of a part")
                count += reached["count"]
        return count

    def _completed(self, process: str, lease: Lease, counters: Mapping[str, int]) -> None:
        run = self.latest[process, lease.connector_id]
        if not run.is_complete:
            self._fail(f"a job is completed, and run {run.number} is not at its end")
        self.verify(run, len(run.items), "an end")
        settled = sum(counters[name] for name in OUTCOMES)
        again = run.before + run.again if isinstance(run, SplitRun) else 0
        # Of a vanished document whose deletion failed, the outcome is counted like that of one that was read.
        if counters["read"] != settled or not 0 <= counters["read"] - run.count <= len(run.deleted) + again:
            self._fail(f"a job that read {run.count} items is completed with {counters}; {again} may be counted twice")

    def kept_letters(self, letters: Iterable[DeadLetter]) -> None:
        """Dead letters were stored."""
        for letter in letters:
            self.letters[letter.connector_id, letter.id] = letter
            if SECRET in letter.reason:
                self._fail(f"the dead letter of {letter.id} holds a secret")

    def removed_letters(self, connector: str, ids: Sequence[str] | None) -> None:
        """Dead letters were taken back."""
        for key in [key for key in self.letters if key[0] == connector and (ids is None or key[1] in ids)]:
            del self.letters[key]

    # What was read is where it belongs

    def verify(self, run: Run, number: int, what: str, *, letters: bool = True) -> None:
        """Sees that the first items of a run, and of those before it, are acknowledged, wherever they were read.

        Args:
            letters: whether dead letters have to be stored by now.
        """
        if isinstance(run, SplitRun):
            for part in run.parts.values():
                self.verify(part, len(part.items), what, letters=letters)
        if run.parent is not None:
            self.verify(run.parent[0], run.parent[1], what, letters=letters)
        index = self.index(run.uuid)
        last = {item.id: item for item in run.items[:number]}  # of what is listed twice the last one counts
        for item in run.items[run.verified : number]:
            spared = last[item.id] is not item or (item.doubtful and not letters)
            if not spared and not self._settled(index, run.connector, item):
                self._fail(f"{what} is ahead of {item}, of run {run.number}")
        if letters:
            run.verified = max(run.verified, number)

    def _settled(self, index: _Index, connector: str, item: Item) -> bool:
        if item.wanted in {"any", "out"} or (connector, item.id) in self.letters:
            return True
        if item.wanted == "there":
            return index.landed.get(item.id, 0) >= item.rev
        return item.id not in index.there or index.there[item.id] > item.rev or not index.there[item.id]
