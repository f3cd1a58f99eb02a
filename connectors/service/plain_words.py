"""Schedules in plain words: `every 15m`, `daily`, `weekdays at 18:00`, `every monday and thursday at 6:30`.

A number makes an interval (`every 15m`), counted in UTC from 1970 so that a restart does not shift it and several
workers agree. Words of the calendar (`hourly`, `every day at 02:00`) become five-field cron in the schedule's zone.
"""

from __future__ import annotations

import re
from datetime import timedelta

from connectors.service.cron import ScheduleError
from connectors.utils import nearest, parse_duration

__all__ = ["is_words", "parse_words"]

_EXAMPLES = "every 15m, hourly, every day at 02:00, weekdays at 18:00 or every monday at 6:30"
_MACROS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
# What comes more often than daily takes no time of day.
_OFTEN = {"every minute": "* * * * *", "every hour": "0 * * * *", "hourly": "0 * * * *"}
# Day of month, month and day of week; weeks begin on Sunday, as in cron's @weekly.
_CALENDAR = {
    "every day": "* * *",
    "daily": "* * *",
    "every week": "* * 0",
    "weekly": "* * 0",
    "every month": "1 * *",
    "monthly": "1 * *",
    "every year": "1 1 *",
    "yearly": "1 1 *",
    "every weekday": "* * 1-5",
    "weekdays": "* * 1-5",
    "every weekend": "* * 0,6",
    "weekends": "* * 0,6",
}
_DAYS = ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")
_DAY_NUMBERS = {form: str(number) for number, day in enumerate(_DAYS) for form in (day, f"{day}s", day[:3])}
_LONG_UNITS = re.compile(r"(?<=[\d\s])(?:(s)ec(?:ond)?s?|(m)in(?:ute)?s?|(h)(?:ou)?rs?|(d)ays?)\b")
_LONGEST = timedelta(days=366)


def is_words(text: str) -> bool:
    """Whether a schedule is in plain words or a macro: cron's and Quartz's first field never begins with a letter."""
    return text[:1].isalpha() or text.startswith("@")


def parse_words(text: str) -> timedelta | str:
    """Reads a schedule in plain words.

    Returns:
        The period of an interval, or a five-field cron expression.

    Raises:
        ScheduleError: the words are not understood; the message says what to write instead.
    """
    text = text.lower()
    if text.startswith("@"):
        return _lookup(text, _MACROS)
    if found := re.fullmatch(r"every (\d.*)", text):
        return _period(found[1])
    if text == "every second":
        return timedelta(seconds=1)
    subject, at, clock = text.partition(" at ")
    if subject in _OFTEN:
        if at:
            raise ScheduleError(f'"{subject}" takes no time of day; leave out "at {clock}"')
        return _OFTEN[subject]
    minute, hour = _time_of_day(clock) if at else (0, 0)
    weekdays = _weekdays(subject)
    return f"{minute} {hour} " + (f"* * {weekdays}" if weekdays else _lookup(subject, _CALENDAR))


def _lookup(words: str, known: dict[str, str]) -> str:
    if words in known:
        return known[words]
    first, _, rest = words.partition(" ")
    if rest[:1].isdecimal() and nearest(first, ["every"]):
        raise ScheduleError(f'"{words}" is not understood; did you mean "every {rest}"?')
    near = nearest(words, [*known, *(_OFTEN if known is _CALENDAR else ()), *(f"every {day}" for day in _DAYS)])
    hint = f'did you mean "{near}"?' if near else f"write for example {_EXAMPLES}"
    raise ScheduleError(f'"{words}" is not understood; {hint}')


def _period(words: str) -> timedelta:
    """Reads `15m`, `1h 30m`, `15 minutes`."""
    if " at " in f" {words} ":
        raise ScheduleError('an interval takes no time of day; "every day at 02:00" does')
    short = _LONG_UNITS.sub(lambda unit: next(filter(None, unit.groups())), words)
    if not any(char.isalpha() for char in short):
        raise ScheduleError(f'"{words}" has no unit; write for example "every {words}m" for minutes')
    try:
        period = timedelta(seconds=parse_duration(short))
    except ValueError:
        raise ScheduleError(f'"{words}" is not an interval; write a number and a unit (s, m, h or d)') from None
    if period.microseconds or not timedelta(seconds=1) <= period <= _LONGEST:
        raise ScheduleError(f'"{words}" is not a number of whole seconds from 1s to {_LONGEST.days}d')
    return period


def _time_of_day(clock: str) -> tuple[int, int]:
    """Returns minute and hour."""
    found = re.fullmatch(r"(\d{1,2}):(\d\d)", clock, re.ASCII)
    if found and int(found[1]) < 24 and int(found[2]) < 60:
        return int(found[2]), int(found[1])
    raise ScheduleError(f'"{clock}" is not a time of day; write one from 00:00 to 23:59, such as 02:00')


def _weekdays(subject: str) -> str:
    """Turns `every monday, thursday and friday` or `mondays` into cron's numbers; empty where it is something else."""
    names = re.split(r",? and |, ?", subject.removeprefix("every "))
    return ",".join(_DAY_NUMBERS[name] for name in names) if _DAY_NUMBERS.keys() >= set(names) else ""
