"""The examples of docs/SCHEDULES.md are true."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from connectors.service.schedule import ScheduleError, parse_schedule

_PAGE = Path(__file__).parents[2] / "docs" / "SCHEDULES.md"


def _rows(columns: int) -> list[list[str]]:
    """Returns the cells of the example rows (they begin with code) in tables of so many columns."""
    lines = [line for line in _PAGE.read_text().splitlines() if line.startswith("| `")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in cells if len(row) == columns]


_TICKS = _rows(4)
_ERRORS = _rows(3)


def test_the_page_has_its_examples() -> None:
    assert len(_TICKS) == 47
    assert len(_ERRORS) == 8
    examples = [line for line in _PAGE.read_text().splitlines() if re.match(r"\| `", line)]
    assert len(examples) == len(_TICKS) + len(_ERRORS)


@pytest.mark.parametrize(("text", "zone", "after", "then"), _TICKS)
def test_ticks(text: str, zone: str, after: str, then: str) -> None:
    schedule = parse_schedule(text.strip("`"), zone)
    moment: datetime | None = datetime.fromisoformat(after).replace(tzinfo=UTC)
    for expected in then.split(", "):
        assert moment is not None
        moment = schedule.next(moment)
        assert moment == (None if expected == "never" else datetime.fromisoformat(expected).replace(tzinfo=UTC))


@pytest.mark.parametrize(("text", "zone", "answer"), _ERRORS)
def test_errors(text: str, zone: str, answer: str) -> None:
    with pytest.raises(ScheduleError) as caught:
        parse_schedule(text.strip("`"), zone)
    assert str(caught.value) == answer
