"""Cron expressions as calendars of local wall-clock times, in the two dialects that people write.

A calendar knows nothing of time zones: it takes a naive local time and gives the next one that its fields
allow. What happens when clocks change is decided in one place for both dialects, `connectors.service.schedule`.

*Five fields* (`Vixie`) are read and evaluated by cronsim, which follows Debian's cron. It is asked for naive times
only. Its own treatment of time zones is right for clocks that move by whole hours, but in Australia/Lord_Howe, which
moves by 30 minutes, it misses `0 */6 * * *` at 06:00 on both days of a change. Tests hold us to the right answer.

*Six or seven fields* (`Quartz`) are evaluated here. cronsim takes seconds, `L`, `LW` and `#`, but has no year, no
`15W` or `L-3`, no ranges that wrap, and numbers the days of the week differently; more would be translated than left
to it. The evaluator goes from year to month, to the days of that month, to a time of day; the work for one answer is
bounded by the months that the expression allows until 2099, however rarely it fires.
"""

from __future__ import annotations

import calendar
import re
from bisect import bisect_left
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

from cronsim import CronSim, CronSimError

from connectors.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["Calendar", "Quartz", "ScheduleError", "Vixie", "parse_quartz", "parse_vixie"]

ONE_SECOND = timedelta(seconds=1)
NEVER = "never comes, for no month that it allows has such a day; allow more days or months"
EVERY_DAY = frozenset(range(1, 8))
_SOME_DAY = datetime(2000, 1, 1)  # noqa: DTZ001 - cronsim wants a start to read an expression; wall-clock times are naive


class ScheduleError(ConfigurationError, ValueError):
    """A schedule or time zone that cannot be read; the message names the field and what to write instead.

    It is a `ValueError` too, so that validators of a configuration may raise it.
    """


class Calendar(Protocol):
    """The local times at which something is to run, without a time zone."""

    @property
    def fixed(self) -> bool:
        """Whether the expression names times of day (`0 2 * * *`) rather than intervals (`*/15 * * * *`)."""
        ...

    def next(self, wall: datetime) -> datetime | None:
        """Returns the first naive local time strictly after the naive `wall`; None: there is none."""
        ...

    def daily(self) -> tuple[time, frozenset[int]] | None:
        """Returns the time of day and the ISO days of the week, if that is all that the expression says."""
        ...


@dataclass(frozen=True, slots=True)
class Field:
    """One field of an expression: its range, its names (the first one stands for `low`), and how to write it."""

    name: str
    low: int
    high: int
    hint: str
    names: tuple[str, ...] = ()
    wraps: bool = True

    def error(self, term: str, reason: str) -> ScheduleError:
        return ScheduleError(f'{self.name} "{term}" {reason}; write {self.hint}')

    def number(self, token: str, term: str) -> int:
        """Returns the value of a number or name; raises `ScheduleError` about the `term` that it stands in."""
        if token in self.names:
            return self.names.index(token) + self.low
        if token.isascii() and token.isdecimal():
            if self.low <= int(token) <= self.high:
                return int(token)
            raise self.error(term, "is out of range")
        if token[:3] in self.names:
            raise self.error(term, f'uses a long name (did you mean "{token[:3]}"?)')
        raise self.error(term, "cannot be read")

    def span(self, term: str) -> Sequence[int]:
        """Returns the values of `*`, `5`, `1-5`, and of the same with a step (`0/15`, `*/15`, `10-50/20`), in order."""
        whole = range(self.low, self.high + 1)
        body, slash, step = term.partition("/")
        first, dash, last = body.partition("-")
        values: Sequence[int]
        if body == "*" or (slash and not body):
            values = whole
        elif dash:
            start, stop = self.number(first, term) - self.low, self.number(last, term) - self.low
            if start > stop and not self.wraps:
                raise self.error(term, "runs backwards")
            values = whole[start : stop + 1] if start <= stop else (*whole[start:], *whole[: stop + 1])
        else:
            start = self.number(first, term) - self.low
            values = whole[start:] if slash else whole[start : start + 1]
        if not slash:
            return values
        if not (step.isascii() and step.isdecimal() and 1 <= int(step) <= self.high):
            raise self.error(term, f"has a step that is not a number from 1 to {self.high}")
        return values[:: int(step)]

    def values(self, text: str) -> tuple[int, ...]:
        return tuple(sorted({value for term in text.split(",") for value in self.span(term)}))


_BAD_NTH = "has something else than 1 to 5 after the #"
_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_DAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
_SECOND = Field("second", 0, 59, "0 to 59, such as 0, 0,30 or 0/10")
_MINUTE = Field("minute", 0, 59, "0 to 59, such as 30, 0,30 or */15")
_HOUR = Field("hour", 0, 23, "0 to 23, such as 8, 9-17 or */6")
_MONTH = Field("month", 1, 12, "1 to 12 or JAN to DEC, such as *, 3 or APR-SEP", _MONTHS)
_YEAR = Field("year", 1970, 2099, "1970 to 2099, such as 2030, 2030-2035 or *", wraps=False)
_EVERY_YEAR = _YEAR.values("*")
_VIXIE_FIELDS = (
    _MINUTE,
    _HOUR,
    Field("day of month", 1, 31, "1 to 31, L (the last day), LW (the last weekday) or *"),
    _MONTH,
    Field(
        "day of week",
        0,
        7,
        "0 to 7 (0 and 7 are Sunday) or SUN to SAT, such as MON-FRI, 5L (last Friday), MON#1 (first Monday) or *",
        _DAYS,
    ),
)
_QUARTZ_DAY = Field("day of month", 1, 31, "1 to 31, L (the last day), L-3, LW (the last weekday), 15W, * or ?")
_QUARTZ_WEEKDAY = Field(
    "day of week",
    1,
    7,
    "1 to 7 (1 is Sunday) or SUN to SAT, such as MON-FRI, 6L (last Friday), 6#3 (third Friday), * or ?",
    _DAYS,
)


def _is_fixed(minute: str, hour: str) -> bool:
    return not set("*/") & set(minute + hour)


# --- five fields -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Vixie:
    """A five-field expression in capitals; build it with `parse_vixie`."""

    expression: str

    @property
    def fixed(self) -> bool:
        minute, hour, *_ = self.expression.split()
        return _is_fixed(minute, hour)

    def next(self, wall: datetime) -> datetime | None:
        """Returns the first naive time after `wall`; None: there is none within fifty years."""
        return next(CronSim(self.expression, wall), None)

    def daily(self) -> tuple[time, frozenset[int]] | None:
        minute, hour, *date_fields, weekday = self.expression.split()
        if not (minute.isdecimal() and hour.isdecimal() and date_fields == ["*", "*"]) or set("L#") & set(weekday):
            return None
        # cronsim keeps pairs for `L` and `#` only, and these were just excluded; it keeps Sunday as 0, 7 or both.
        numbers = (int(str(day)) for day in CronSim(self.expression, _SOME_DAY).weekdays)
        return time(int(hour), int(minute)), frozenset(day or 7 for day in numbers)


def parse_vixie(text: str) -> Vixie:
    """Reads minute, hour, day of month, month and day of week; `text` must have five fields.

    Raises:
        ScheduleError: names the field and the term that is at fault.
    """
    expression = text.upper()
    try:
        CronSim(expression, _SOME_DAY)
    except CronSimError:
        raise _explain_vixie(expression) from None
    parts = zip(_VIXIE_FIELDS, expression.split(), strict=True)
    return Vixie(
        " ".join(",".join(_without_idle_step(field, term) for term in part.split(",")) for field, part in parts)
    )


def _without_idle_step(field: Field, term: str) -> str:
    """Turns `4-4/2`, which cronsim takes for `4/2` (from 4 to the end), into the `4` that it means."""
    found = re.fullmatch(r"(\w+)-(\w+)/\d+", term)
    return found[1] if found and field.number(found[1], term) == field.number(found[2], term) else term


def _explain_vixie(expression: str) -> ScheduleError:
    """Returns the error for an expression that cronsim refuses; cronsim names the field, we the term and the cure."""
    for position, (field, part) in enumerate(zip(_VIXIE_FIELDS, expression.split(), strict=True)):
        for term in part.split(","):
            alone = ["*"] * 5
            alone[position] = term
            try:
                CronSim(" ".join(alone), _SOME_DAY)
            except CronSimError:
                return _explain_term(field, term)
    return ScheduleError(NEVER)


def _explain_term(field: Field, term: str) -> ScheduleError:
    if set("?W") & set(term) and not set(term) - set("?WL0123456789"):
        return field.error(term, "is Quartz, which has six or seven fields and starts with seconds")
    body, slash, _ = term.partition("/")
    try:
        for token in re.findall(r"\w+", body.removesuffix("L").partition("#")[0]):
            field.number(token, term)
    except ScheduleError as error:
        return error
    if "#" in body:
        return field.error(term, _BAD_NTH)
    if not slash and re.fullmatch(r"\w+-\w+", body):
        return field.error(term, "runs backwards (two ranges with a comma between do it)")
    return field.error(term, "cannot be read")


# --- six or seven fields ---------------------------------------------------------------------------------------------


class DayTerm(NamedTuple):
    """One item of a day field; `number` is a day, an offset from the month's end, or an ISO day of the week."""

    kind: Literal["day", "from_end", "near", "near_from_end", "weekday", "last_weekday", "nth_weekday"]
    number: int
    nth: int = 0

    def days(self, first_weekday: int, length: int) -> Sequence[int]:
        """Returns the days of a month of `length` days whose first has the ISO weekday `first_weekday`."""
        these = range(1 + (self.number - first_weekday) % 7, length + 1, 7)  # for an ISO day of the week
        match self.kind:
            case "day":
                return (self.number,)
            case "from_end":
                return (length - self.number,)
            case "near":
                return (_nearest_weekday(self.number, first_weekday, length),)
            case "near_from_end":
                return (_nearest_weekday(length - self.number, first_weekday, length),)
            case "weekday":
                return these
            case "last_weekday":
                return these[-1:]
            case "nth_weekday":
                return these[self.nth - 1 : self.nth]


def _nearest_weekday(day: int, first_weekday: int, length: int) -> int:
    """Returns the day from Monday to Friday that is nearest to `day` in the same month; 0 if the month lacks `day`."""
    if not 1 <= day <= length:
        return 0
    match (first_weekday + day - 2) % 7 + 1:
        case 6:
            return day - 1 if day > 1 else day + 2
        case 7:
            return day + 1 if day < length else day - 2
        case _:
            return day


@dataclass(frozen=True, slots=True)
class Quartz:
    """A six- or seven-field expression; build it with `parse_quartz`. Numbers are sorted, `days` is never empty."""

    seconds: tuple[int, ...]
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: tuple[DayTerm, ...]
    months: tuple[int, ...]
    years: tuple[int, ...]
    fixed: bool

    def next(self, wall: datetime) -> datetime | None:
        """Returns the first naive time after `wall`; None: there is none until the end of 2099."""
        earliest = wall.replace(microsecond=0, fold=0) + ONE_SECOND
        for day in self._dates(earliest.date()):
            moment = self._time(earliest.time() if day == earliest.date() else time.min)
            if moment is not None:
                return datetime.combine(day, moment)
        return None

    def daily(self) -> tuple[time, frozenset[int]] | None:
        once_a_day = len(self.hours) == len(self.minutes) == len(self.seconds) == 1
        if not once_a_day or len(self.months) < 12 or self.years != _EVERY_YEAR:
            return None
        moment = time(self.hours[0], self.minutes[0], self.seconds[0])
        numbers = frozenset(term.number for term in self.days)
        kinds = {term.kind for term in self.days}
        if kinds == {"weekday"}:
            return moment, numbers
        return (moment, EVERY_DAY) if kinds == {"day"} and len(numbers) == 31 else None

    def _dates(self, start: date) -> Iterator[date]:
        for year in self.years[bisect_left(self.years, start.year) :]:
            for month in self.months:
                if (year, month) < (start.year, start.month):
                    continue
                for day in self._days(year, month):
                    found = date(year, month, day)
                    if found >= start:
                        yield found

    def _days(self, year: int, month: int) -> list[int]:
        weekday, length = calendar.monthrange(year, month)
        found = {day for term in self.days for day in term.days(weekday + 1, length)}
        return sorted(day for day in found if 1 <= day <= length)

    def _time(self, earliest: time) -> time | None:
        hour, minute, second = earliest.hour, earliest.minute, earliest.second
        found = (
            time(h, m, s)
            for h in self.hours
            if h >= hour
            for m in self.minutes
            if (h, m) >= (hour, minute)
            for s in self.seconds
            if (h, m, s) >= (hour, minute, second)
        )
        return next(found, None)


def parse_quartz(text: str) -> Quartz:
    """Reads second, minute, hour, day of month, month, day of week and perhaps year; `text` must have 6 or 7 fields.

    Raises:
        ScheduleError: names the field and the term that is at fault.
    """
    second, minute, hour, day, month, weekday, *year = text.upper().split()
    if day == weekday == "?":
        raise ScheduleError('day of month and day of week are both "?"; put "*" in one of them for every day')
    if day not in {"*", "?"} and weekday not in {"*", "?"}:
        raise ScheduleError(
            f'day of month "{day}" and day of week "{weekday}" restrict each other, which Quartz does not know; '
            'put "?" in one of them'
        )
    by_weekday = day == "?" or (day == "*" and weekday not in {"*", "?"})
    terms = map(_weekday_terms, weekday.split(",")) if by_weekday else map(_day_terms, day.split(","))
    return Quartz(
        seconds=_SECOND.values(second),
        minutes=_MINUTE.values(minute),
        hours=_HOUR.values(hour),
        days=tuple(dict.fromkeys(term for some in terms for term in some)),
        months=_MONTH.values(month),
        years=_YEAR.values(year[0] if year else "*"),
        fixed=_is_fixed(minute, hour),
    )


def _day_terms(term: str) -> list[DayTerm]:
    if found := re.fullmatch(r"L(?:-(\d+))?(W?)", term, re.ASCII):
        offset = int(found[1] or 0)
        if offset > 30:
            raise _QUARTZ_DAY.error(term, "goes back by more than 30 days")
        return [DayTerm("near_from_end" if found[2] else "from_end", offset)]
    if term.endswith("W"):
        return [DayTerm("near", _QUARTZ_DAY.number(term[:-1], term))]
    return [DayTerm("day", day) for day in _QUARTZ_DAY.span(term)]


def _weekday_terms(term: str) -> list[DayTerm]:
    if term == "L":  # Quartz: the last day of the week, which is Saturday
        return [DayTerm("weekday", 6)]
    name, hash_sign, nth = term.partition("#")
    if hash_sign:
        if nth not in {"1", "2", "3", "4", "5"}:
            raise _QUARTZ_WEEKDAY.error(term, _BAD_NTH)
        return [DayTerm("nth_weekday", _iso(_QUARTZ_WEEKDAY.number(name, term)), int(nth))]
    if term.endswith("L"):
        return [DayTerm("last_weekday", _iso(_QUARTZ_WEEKDAY.number(term[:-1], term)))]
    return [DayTerm("weekday", _iso(day)) for day in _QUARTZ_WEEKDAY.span(term)]


def _iso(quartz: int) -> int:
    """Turns 1 = Sunday … 7 = Saturday into ISO's 1 = Monday … 7 = Sunday."""
    return quartz - 1 or 7
