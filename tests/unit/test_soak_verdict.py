"""What ends a soak badly is noticed."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from connectors.byoc import SyncJob
from tests.soak.verdict import differences, problems_of_jobs

MOMENT = datetime(2026, 1, 2, tzinfo=UTC)
ROWS = {f"t/{number}": {"id": number, "updated": MOMENT} for number in range(3)}
HELD = {key: {**row, "updated": MOMENT.isoformat()} for key, row in ROWS.items()}


def test_an_index_that_is_what_the_tables_are() -> None:
    assert differences(ROWS, HELD) == []


@pytest.mark.parametrize(
    ("held", "said"),
    [
        ({"t/0": HELD["t/0"], "t/1": HELD["t/1"]}, "1 documents are missing, such as t/2"),
        ({**HELD, "t/9": HELD["t/0"]}, "1 documents are not in the table, such as t/9"),
        ({**HELD, "t/1": {**HELD["t/1"], "id": 7}}, "1 documents are stale, such as t/1"),
        ({**HELD, "t/1": {**HELD["t/1"], "more": 7}}, "1 documents are stale, such as t/1"),
    ],
)
def test_a_difference_is_told(held: dict[str, Any], said: str) -> None:
    assert differences(ROWS, held)[0] == said


def test_what_only_a_full_sync_deletes_may_be_there_before_it() -> None:
    assert differences(ROWS, {**HELD, "t/9": HELD["t/0"]}, extra=True) == []
    assert differences(ROWS, {"t/9": HELD["t/0"]}, extra=True) != []


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"status": "in_progress"}, "is still in_progress"),
        ({"status": "suspended"}, "is still suspended"),
        ({"metadata": {"counters": {"read": 5, "indexed": 4}}}, "do not add up"),
        ({"metadata": {"counters": {"read": 5, "indexed": 4, "dead_lettered": 1}}}, "has 1 dead letters"),
        ({"status": "error", "error": "out of paper"}, "1 jobs ended in error: c, full: out of paper"),
    ],
)
def test_a_job_that_broke_a_promise_is_told(fields: dict[str, Any], said: str) -> None:
    job = SyncJob(**{"id": "1", "connector": {"id": "c"}, "status": "completed", **fields})
    (problem,) = problems_of_jobs([job])
    assert said in problem


def test_jobs_that_kept_them_are_not() -> None:
    metadata = {"counters": {"read": 5, "indexed": 4, "filtered": 1, "vanished": 3}}
    assert problems_of_jobs([SyncJob(id="1", status="completed", metadata=metadata)]) == []
