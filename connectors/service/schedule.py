"""When a connector is to be synced: schedules in plain words, cron and Quartz, with a time zone.

`parse_schedule` reads the text, `Schedule.next` gives the ticks, `due` decides whether a sync is to start now. The
dialects are described for people in `docs/SCHEDULES.md`, whose examples are tests. Everything here is a plain function
of its arguments; no clock is read.

Cron's fields mean the clock on the wall, so something must be said about the days on which it is changed:

- An expression that names times of day is *fixed*. It runs when the local clock first reaches its time or jumps over
  it: a time that is skipped in spring runs at the end of the gap, one that comes twice in autumn runs the first time.
- An expression with `*` or `/` in its minute or hour is an interval, and follows real time: it runs at each instant
  whose local time matches, so at no skipped time, and at a repeated one twice.

That is Debian cron's rule. Intervals in plain words (`every 15m`) do not look at the clock on the wall at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo, available_timezones

from connectors.service.cron import EVERY_DAY, NEVER, ONE_SECOND, Calendar, ScheduleError, parse_quartz, parse_vixie
from connectors.service.plain_words import is_words, parse_words
from connectors.utils import escape_controls, nearest, truncate

__all__ = ["Schedule", "ScheduleError", "due", "parse_schedule"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# The horizon of a search that meets nothing but skipped local times: the calendar repeats after 28 years.
_HORIZON = timedelta(days=28 * 366)
# A recorded run that lies further ahead than this was recorded by a clock that was wrong, not by one a little fast.
_CLOCK_SKEW = timedelta(hours=1)
_LONGEST_TEXT = 500


@dataclass(frozen=True, slots=True)
class Schedule:
    """A schedule in its time zone; build it with `parse_schedule`. Equal and hashable by what it says."""

    text: str
    zone: ZoneInfo
    rule: timedelta | Calendar
    """The period of an interval, or the calendar of a cron expression."""

    def __str__(self) -> str:
        return self.text

    def next(self, after: datetime) -> datetime | None:
        """Returns the first tick strictly after an instant.

        Args:
            after: an aware time.

        Returns:
            An aware time in UTC, in whole seconds; None: never again (the years of a Quartz expression are past).

        Raises:
            ValueError: `after` has no time zone.
        """
        if after.tzinfo is None:
            raise ValueError(f"{after.isoformat()} has no time zone; give an aware datetime")
        after = after.astimezone(UTC).replace(microsecond=0)
        if isinstance(self.rule, timedelta):
            return _EPOCH + ((after - _EPOCH) // self.rule + 1) * self.rule
        find = _next_fixed if self.rule.fixed else _next_elapsed
        return find(self.rule, self.zone, after)

    def describe(self) -> str:
        """Returns words for people: `every day at 02:00 (Europe/Berlin)`; the text itself where words would be long."""
        if isinstance(self.rule, timedelta):
            return _describe_period(self.rule)
        daily = self.rule.daily()
        if daily is None:
            return f"{self.text} ({self.zone.key})"
        moment, weekdays = daily
        clock = moment.isoformat("seconds" if moment.second else "minutes")
        return f"{_describe_days(weekdays)} at {clock} ({self.zone.key})"


def parse_schedule(text: str, timezone: str = "UTC") -> Schedule:
    """Reads a schedule.

    Args:
        text: plain words (`every 15m`, `weekdays at 18:00`), five-field cron or `@daily`, or Quartz with six or seven
            fields. The number of fields tells cron from Quartz.
        timezone: IANA name, such as `Europe/Berlin`.

    Raises:
        ScheduleError: one of them cannot be read, or no date will ever match; the message says what to write instead.
    """
    zone = _load_zone(timezone)
    text = " ".join(text.split())
    try:
        schedule = Schedule(text, zone, _parse_rule(text))
    except ScheduleError as error:
        raise ScheduleError(escape_controls(f'schedule "{truncate(text, 80)}": {error}')) from None
    if schedule.next(_EPOCH) is None:
        raise ScheduleError(f'schedule "{text}": {NEVER}')
    return schedule


def due(schedule: Schedule, *, last_scheduled: datetime | None, now: datetime) -> datetime | None:
    """Decides whether a sync is to start now, and for which tick.

    Args:
        schedule: when to sync.
        last_scheduled: the tick that the last scheduled sync was started for (what this function returned then);
            None: it was never synced.
        now: the present time, aware.

    Returns:
        None: not yet. Otherwise the time to record as `last_scheduled`: the latest tick up to now, which covers every
        missed one before it. A connector that was never synced is due at once, whatever its schedule; so is one whose
        last run was recorded more than an hour ahead of now: a clock was wrong, and waiting might take years.
    """
    if last_scheduled is None or last_scheduled - now > _CLOCK_SKEW:
        return now
    tick = _first_after(schedule, last_scheduled)
    if tick is None or tick > now:
        return None
    # The latest tick by bisection, so that a year of missed seconds costs no more than a missed day. No tick lies after
    # `high` and up to now; ticks are whole seconds, so less than one second apart means that none lies between.
    low, high = tick, now
    while high - low >= ONE_SECOND:
        middle = low + (high - low) / 2
        tick = schedule.next(middle)
        if tick is None or tick > now:
            high = middle
        else:
            low = tick
    return low


@lru_cache(maxsize=4096)
def _first_after(schedule: Schedule, after: datetime) -> datetime | None:
    """`Schedule.next`, remembered: between two runs, every look at a schedule asks the same."""
    return schedule.next(after)


def _load_zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (LookupError, ValueError, OSError):  # OSError: the name is a folder of the zone data, such as Europe
        pass
    near = None
    # None for "GMT+2", since Etc/GMT+2 lies two hours to the west, nor for abbreviations, which mean several zones.
    if not name.isupper() and not any(char.isdigit() for char in name):
        known = sorted(available_timezones())
        cities = {zone.rpartition("/")[2].lower(): zone for zone in known}
        near = cities.get(name.rpartition("/")[2].lower()) or nearest(name, known)
    hint = f'did you mean "{near}"?' if near else "write an IANA name such as Europe/Berlin, or UTC"
    raise ScheduleError(f'time zone "{escape_controls(truncate(name, 80))}" is not known; {hint}')


def _parse_rule(text: str) -> timedelta | Calendar:
    if len(text) > _LONGEST_TEXT:
        raise ScheduleError(f"is longer than {_LONGEST_TEXT} characters")
    if is_words(text):
        words = parse_words(text)
        return words if isinstance(words, timedelta) else parse_vixie(words)
    match len(text.split()):
        case 5:
            return parse_vixie(text)
        case 6 | 7:
            return parse_quartz(text)
        case 1 if text[0].isdecimal():
            example = text if text[-1].isalpha() else f"{text}m"
            raise ScheduleError(f'has no "every"; write for example "every {example}"')
        case fields:
            raise ScheduleError(
                f"has {fields} fields; write five for cron (minute, hour, day of month, month, day of week), "
                "six or seven for Quartz (second first, perhaps a year last), or plain words such as every 15m"
            )


# --- local time ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _ClockChange:
    """The instant at which the offset of a zone changes, with the naive local times around it."""

    skips: bool
    """Whether local times are skipped; otherwise they come twice."""
    instant: datetime
    start: datetime
    """The first local time that is skipped or comes twice."""
    end: datetime
    """The first local time after those."""


def _change_at(zone: tzinfo, wall: datetime) -> _ClockChange | None:
    """Returns the clock change that skips or repeats the naive local time `wall`; None: it comes once."""
    before, after = (wall - _instant(zone, wall, fold=fold).replace(tzinfo=None) for fold in (0, 1))
    if before == after:
        return None
    # Offsets by fold are those before and after the change (PEP 495), which lies between the two readings of `wall`.
    low, high = (wall - max(before, after)).replace(tzinfo=UTC), (wall - min(before, after)).replace(tzinfo=UTC)
    while high - low > ONE_SECOND:
        middle = low + (high - low) // ONE_SECOND // 2 * ONE_SECOND
        if middle.astimezone(zone).utcoffset() == after:
            high = middle
        else:
            low = middle
    old, new = (high.replace(tzinfo=None) + offset for offset in (before, after))
    return _ClockChange(after > before, high, min(old, new), max(old, new))


def _instant(zone: tzinfo, wall: datetime, *, fold: int = 0) -> datetime:
    return wall.replace(tzinfo=zone, fold=fold).astimezone(UTC)


def _local(zone: tzinfo, instant: datetime) -> tuple[datetime, int]:
    """Returns the naive local time, and 1 if it has been there before."""
    wall = instant.astimezone(zone)
    return wall.replace(tzinfo=None, fold=0), wall.fold


def _next_fixed(calendar: Calendar, zone: tzinfo, after: datetime) -> datetime | None:
    """Returns when the local clock first reaches, or jumps over, a time of the calendar."""
    wall, fold = _local(zone, after)
    if fold and (change := _change_at(zone, wall)):
        wall = change.end - ONE_SECOND  # all of these were reached the first time
    found = calendar.next(wall)
    if found is None:
        return None
    change = _change_at(zone, found)
    return change.instant if change and change.skips else _instant(zone, found)


def _next_elapsed(calendar: Calendar, zone: tzinfo, after: datetime) -> datetime | None:
    """Returns the first instant after `after` whose local time is in the calendar."""
    wall, fold = _local(zone, after)
    found = calendar.next(wall)
    change = _change_at(zone, wall)
    if change and not fold and (found is None or found >= change.end):
        # Nothing more before the clock is set back: go on with the times that come for the second time.
        found = calendar.next(change.start - ONE_SECOND)
    while found is not None and found - wall < _HORIZON:
        change = _change_at(zone, found)
        if change is None or not change.skips:
            instant = _instant(zone, found)
            return instant if instant > after else _instant(zone, found, fold=1)
        found = calendar.next(change.end - ONE_SECOND)
    return None


# --- words for people ------------------------------------------------------------------------------------------------

_DAY_NAMES = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_UNITS = {unit: timedelta(**{f"{unit}s": 1}) for unit in ("day", "hour", "minute", "second")}


def _describe_days(weekdays: frozenset[int]) -> str:
    if weekdays == EVERY_DAY:
        return "every day"
    if weekdays == frozenset(range(1, 6)):
        return "Monday to Friday"
    *names, last = (_DAY_NAMES[day - 1] for day in sorted(weekdays))
    return f"every {', '.join(names)} and {last}" if names else f"every {last}"


def _describe_period(period: timedelta) -> str:
    unit, size = next((unit, size) for unit, size in _UNITS.items() if not period % size)
    count = period // size
    words = f"every {unit}" if count == 1 else f"every {count} {unit}s"
    return f"{words} at 00:00 (UTC)" if unit == "day" else words
