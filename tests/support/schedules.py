"""Ticks of a schedule, as a test writes them down."""

from __future__ import annotations

from datetime import UTC, datetime

from connectors.service.schedule import Schedule

__all__ = ["at", "ticks"]


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def ticks(schedule: Schedule, after: str, count: int) -> list[str]:
    """Returns ticks in local time with their offset."""
    moment, found = at(after), []
    for _ in range(count):
        tick = schedule.next(moment)
        assert tick is not None
        assert tick.tzinfo is UTC
        assert tick > moment
        moment = tick
        found.append(tick.astimezone(schedule.zone).isoformat(" ", "minutes"))
    return found
