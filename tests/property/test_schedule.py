"""`Schedule.next` against slow references that step through time and look at each moment's fields.

The references share nothing with the code: expressions are drawn together with the meaning of each field, as a set or
predicate, and the clock on the wall is read by stepping through UTC.
"""

from __future__ import annotations

import calendar
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import partial
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim, CronSimError
from hypothesis import Phase, given, reject, settings
from hypothesis import strategies as st

from connectors.service.cron import Vixie
from connectors.service.schedule import Schedule, ScheduleError, due, parse_schedule
from connectors.utils import escape_controls

SECOND, MINUTE, DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(days=1)
PHASES = set(Phase) - {Phase.explain}  # explaining traces every line, which is slow in these loops
NAMES = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"]
ZONES = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",  # moves by 30 minutes
    "Asia/Kathmandu",  # +05:45
    "America/Santiago",  # skips and repeats midnight
    "Africa/Casablanca",  # goes back for Ramadan
]
# Instants of clock changes of each kind in these zones, a leap day and a new year.
CHANGES = [
    "2026-03-29T01:00Z", "2026-10-25T01:00Z", "2026-03-08T07:00Z", "2026-11-01T06:00Z", "2026-10-03T15:30Z",
    "2026-04-04T15:00Z", "2026-09-06T04:00Z", "2026-04-05T03:00Z", "2026-02-15T02:00Z", "2026-03-22T02:00Z",
    "2028-02-28T12:00Z", "2027-12-31T12:00Z",
]  # fmt: skip


@dataclass
class Part:
    """A drawn field: its text and the values that it means."""

    text: str
    values: set[int]


@dataclass
class Days:
    """A drawn pair of day fields and the days that they mean."""

    of_month: str
    of_week: str
    match: Callable[[date], bool]


def parts(low: int, high: int, *, wraps: bool) -> st.SearchStrategy[Part]:
    def ranged(pair: tuple[int, int, int]) -> Part:
        first, last, step = pair
        if first > last and not wraps:
            first, last = last, first
        value, found, count = first, set(), 0
        while True:  # walk round the dial
            if count % step == 0:
                found.add(value)
            if value == last:
                break
            value, count = low if value == high else value + 1, count + 1
        return Part(f"{first}-{last}" + (f"/{step}" if step > 1 else ""), found)

    number = st.integers(low, high)
    step = st.integers(1, high)
    one = number.map(lambda value: Part(str(value), {value}))
    every = st.just(Part("*", set(range(low, high + 1))))
    stepped = step.map(lambda n: Part(f"*/{n}", {v for v in range(low, high + 1) if (v - low) % n == 0}))
    opened = st.tuples(number, step).map(
        lambda pair: Part(f"{pair[0]}/{pair[1]}", {v for v in range(pair[0], high + 1) if (v - pair[0]) % pair[1] == 0})
    )
    single = st.one_of(one, st.tuples(number, number, st.integers(1, 5)).map(ranged), opened)
    listed = st.lists(single, min_size=1, max_size=3).map(
        lambda some: Part(",".join(part.text for part in some), {value for part in some for value in part.values})
    )
    return st.one_of(every, stepped, one, listed)


def listed(low: int, high: int) -> st.SearchStrategy[Part]:
    numbers = st.sets(st.integers(low, high), min_size=1, max_size=4)
    return numbers.map(lambda some: Part(",".join(map(str, some)), some))


def last_day(day: date) -> int:
    return calendar.monthrange(day.year, day.month)[1]


def near(day: date, target: int) -> bool:
    """Whether `day` is the weekday of its month that is nearest to the `target`, the earlier one of two."""
    if not 1 <= target <= last_day(day):
        return False
    weekdays = [d for d in range(1, last_day(day) + 1) if day.replace(day=d).weekday() < 5]
    return day.day == min(weekdays, key=lambda d: (abs(d - target), d))


def quartz_weekday(day: date) -> int:
    return day.isoweekday() % 7 + 1


@st.composite
def quartz_days(draw: st.DrawFn) -> Days:
    kind = draw(st.sampled_from(["every", "days", "L", "L-n", "LW", "nW", "weekdays", "nL", "n#k"]))
    n = draw(st.integers(1, 7))
    any_day = draw(st.sampled_from(["*", "?"]))
    match kind:
        case "every":
            return Days(*draw(st.sampled_from([("*", "?"), ("?", "*"), ("*", "*")])), lambda _: True)
        case "days":
            part = draw(parts(1, 31, wraps=True))
            return Days(part.text, any_day if part.text != "*" else "?", lambda day: day.day in part.values)
        case "L":
            return Days("L", any_day, lambda day: day.day == last_day(day))
        case "L-n":
            back = draw(st.integers(0, 30))
            return Days(f"L-{back}", any_day, lambda day: day.day == last_day(day) - back)
        case "LW":
            return Days("LW", any_day, lambda day: near(day, last_day(day)))
        case "nW":
            target = draw(st.integers(1, 31))
            return Days(f"{target}W", any_day, lambda day: near(day, target))
        case "weekdays":
            part = draw(parts(1, 7, wraps=True))
            return Days("?", part.text, lambda day: quartz_weekday(day) in part.values)
        case "nL":
            name = draw(st.sampled_from([str(n), NAMES[n - 1]]))
            return Days(any_day, f"{name}L", lambda day: quartz_weekday(day) == n and day.day > last_day(day) - 7)
        case _:
            nth = draw(st.integers(1, 5))
            return Days(any_day, f"{n}#{nth}", lambda day: quartz_weekday(day) == n and (day.day + 6) // 7 == nth)


@st.composite
def vixie_days(draw: st.DrawFn) -> Days:
    of_month, of_week = draw(parts(1, 31, wraps=False)), draw(parts(0, 7, wraps=False))
    weekdays = {value % 7 for value in of_week.values}
    both = of_month.text.startswith("*") or of_week.text.startswith("*")

    def match(day: date) -> bool:
        tests = (day.day in of_month.values, day.isoweekday() % 7 in weekdays)
        return all(tests) if both else any(tests)

    return Days(of_month.text, of_week.text, match)


@dataclass
class Expression:
    text: str
    fixed: bool
    match: Callable[[datetime], bool]


@st.composite
def expressions(draw: st.DrawFn, *, quartz: bool, only_fixed: bool = False) -> Expression:
    second = draw(parts(0, 59, wraps=True)) if quartz else Part("0", {0})
    clock = listed if only_fixed else partial(parts, wraps=quartz)
    minute, hour = draw(clock(0, 59)), draw(clock(0, 23))
    month = draw(st.one_of(st.just(Part("*", set(range(1, 13)))), parts(1, 12, wraps=quartz)))
    days = draw(quartz_days() if quartz else vixie_days())
    year = draw(st.sampled_from([None, "*", "2026-2028"])) if quartz else None

    def match(wall: datetime) -> bool:
        return (
            wall.minute in minute.values
            and wall.hour in hour.values
            and wall.second in second.values
            and wall.month in month.values
            and (year != "2026-2028" or 2026 <= wall.year <= 2028)
            and days.match(wall.date())
        )

    fields = [minute.text, hour.text, days.of_month, month.text, days.of_week]
    text = " ".join([second.text, *fields, *([year] if year else [])] if quartz else fields)
    return Expression(text, not any(mark in minute.text + hour.text for mark in "*/"), match)


def reference(
    expression: Expression, zone: ZoneInfo, start: datetime, stop: datetime, step: timedelta
) -> list[datetime]:
    """Returns the ticks in (start, stop] by looking at each moment, from before any clock change near `start` on."""
    found = []
    moment = start - timedelta(hours=3)
    reached = moment.astimezone(zone).replace(tzinfo=None)
    while moment < stop:
        moment += step
        wall = moment.astimezone(zone).replace(tzinfo=None)
        if not expression.fixed:
            hit = expression.match(wall)
        else:  # the wall times that the clock reaches or jumps over for the first time
            hit = False
            while reached < wall:
                reached += step
                hit = expression.match(reached) or hit
        if hit and moment > start:
            found.append(moment)
    return found


def ticks(schedule: Schedule, start: datetime, stop: datetime) -> list[datetime]:
    found: list[datetime] = []
    moment = schedule.next(start)
    while moment is not None and moment <= stop:
        assert moment > (found[-1] if found else start)
        found.append(moment)
        moment = schedule.next(moment)
    return found


def parsed(expression: Expression, zone: str) -> Schedule:
    """Parses it; what matches on no date is of no use to a comparison."""
    try:
        return parse_schedule(expression.text, zone)
    except ScheduleError as error:
        assert "never comes" in str(error)  # noqa: PT017 - any other refusal is a fault
        reject()


MOMENTS = st.integers(
    int(datetime(1975, 1, 1, tzinfo=UTC).timestamp()), int(datetime(2090, 1, 1, tzinfo=UTC).timestamp())
).map(lambda seconds: datetime.fromtimestamp(seconds, UTC))
starts = st.builds(
    lambda change, minutes: change + minutes * MINUTE,
    st.sampled_from(CHANGES).map(datetime.fromisoformat),
    st.integers(-36 * 60, 6 * 60),
)


@settings(max_examples=120, phases=PHASES)
@given(expressions(quartz=False), st.sampled_from(ZONES), starts)
def test_five_fields_agree_with_stepping_by_minutes(expression: Expression, zone: str, start: datetime) -> None:
    schedule, stop = parsed(expression, zone), start + 2 * DAY
    assert ticks(schedule, start, stop) == reference(expression, schedule.zone, start, stop, MINUTE)


@settings(max_examples=60, phases=PHASES)
@given(
    expressions(quartz=True),
    st.sampled_from(ZONES),
    st.sampled_from(CHANGES).map(datetime.fromisoformat),
    st.integers(-3600 * 3, 3600),
)
def test_quartz_agrees_with_stepping_by_seconds(
    expression: Expression, zone: str, change: datetime, offset: int
) -> None:
    schedule = parsed(expression, zone)
    start = change + offset * SECOND
    stop = start + timedelta(hours=3)
    found = reference(expression, schedule.zone, start, stop, SECOND)
    assert ticks(schedule, start, stop) == found


@settings(max_examples=150, phases=PHASES)
@given(quartz_days(), parts(1, 12, wraps=True), st.dates(date(1975, 1, 1), date(2090, 1, 1)))
def test_quartz_days_agree_with_stepping_by_days(days: Days, month: Part, start: date) -> None:
    text = f"0 0 12 {days.of_month} {month.text} {days.of_week}"
    schedule = parsed(Expression(text, fixed=True, match=lambda _: True), "UTC")
    first = datetime(start.year, start.month, start.day, tzinfo=UTC)
    every = (first + timedelta(days=n, hours=12) for n in range(800))
    expected = [noon for noon in every if noon.month in month.values and days.match(noon.date())]
    assert ticks(schedule, first, first + 800 * DAY) == expected


@settings(max_examples=150, phases=PHASES)
@given(expressions(quartz=False, only_fixed=True), st.sampled_from(["Europe/Berlin", "America/New_York"]), starts)
def test_fixed_times_are_those_of_debian_cron(expression: Expression, zone: str, start: datetime) -> None:
    """Where clocks move by an hour at night, cronsim's own zone arithmetic is Debian's; ours is the same."""
    schedule = parsed(expression, zone)
    assert isinstance(schedule.rule, Vixie)
    theirs = CronSim(schedule.rule.expression, start.astimezone(schedule.zone))
    found = (moment.astimezone(UTC) for moment in theirs)
    assert schedule.next(start) == next((moment for moment in found if moment > start), None)


@settings(max_examples=150, phases=PHASES)
@given(
    st.sampled_from([f"every {n}" for n in ("1s", "7s", "15m", "90m", "1d", "366d")]),
    MOMENTS,
)
def test_intervals(text: str, after: datetime) -> None:
    schedule = parse_schedule(text)
    tick = schedule.next(after)
    assert tick is not None
    assert isinstance(schedule.rule, timedelta)
    assert after < tick <= after + schedule.rule
    assert tick.timestamp() % schedule.rule.total_seconds() == 0


@settings(max_examples=100, phases=PHASES)
@given(
    st.one_of(
        expressions(quartz=True), expressions(quartz=False), st.just(Expression("every 7m", fixed=True, match=bool))
    ),
    st.sampled_from(ZONES),
    starts,
    st.integers(0, 2 * 86400),
)
def test_due_covers_every_missed_tick_once(expression: Expression, zone: str, last: datetime, seconds: int) -> None:
    schedule, now = parsed(expression, zone), last + seconds * SECOND
    tick = due(schedule, last_scheduled=last, now=now)
    following = schedule.next(last)
    assert (tick is not None) == (following is not None and following <= now)
    if tick is not None:
        assert last < tick <= now
        later = schedule.next(tick)
        assert later is None or later > now
        assert schedule.next(tick - SECOND) == tick
        assert due(schedule, last_scheduled=tick, now=now) is None


def _calls(function: Callable[[], object]) -> int:
    """Returns how many Python functions were called, which is the same on every machine."""
    count = 0

    def profile(_frame: object, event: str, _argument: object) -> None:
        nonlocal count
        count += event == "call"

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        function()
    finally:
        sys.setprofile(before)
    return count


_BOUND = 6_000


@settings(max_examples=200, phases=PHASES)
@given(
    st.one_of(expressions(quartz=True), expressions(quartz=False)),
    st.sampled_from(ZONES),
    MOMENTS,
)
def test_no_expression_searches_long(expression: Expression, zone: str, after: datetime) -> None:
    schedule = parsed(expression, zone)
    assert _calls(lambda: schedule.next(after)) < _BOUND


RARE = ["59 59 23 31 12 ? 2099", "0 0 0 29 2 ?", "59 59 23 ? 2 1#5", "0 0 * 2 MON#5", "0 0 29 2 *", "59 23 31 12 *"]
SKIPPED = ["*/30 2 * 3 SUN#2", "0 */30 2 ? 3 SUN#2", "0-59 0-59 2 ? * *"]  # in New York, in Berlin


@pytest.mark.parametrize("text", RARE + SKIPPED)
@pytest.mark.parametrize("after", ["1970-01-01", "2000-03-01", "2026-10-25T00:59:59", "2026-10-25T01:10"])
@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/New_York"])
def test_rare_expressions_do_not_search_long(text: str, after: str, zone: str) -> None:
    schedule = parse_schedule(text, zone)
    assert _calls(lambda: schedule.next(datetime.fromisoformat(after).replace(tzinfo=UTC))) < _BOUND


def test_an_impossible_date_is_found_impossible_soon() -> None:
    def parse() -> None:
        with pytest.raises(ScheduleError, match="never comes"):
            parse_schedule("0 0 0 31 2 ?")

    assert _calls(parse) < _BOUND


@settings(max_examples=300, phases=PHASES)
@given(st.one_of(st.text(max_size=40), st.from_regex(r"[0-9*?/,#LW -]{1,30}", fullmatch=True)), st.text(max_size=20))
def test_any_text_is_a_schedule_or_an_error(text: str, zone: str) -> None:
    for name in ("UTC", zone):
        try:
            schedule = parse_schedule(text, name)
        except ScheduleError as error:
            assert escape_controls(str(error)) == str(error)  # noqa: PT017 - either outcome is fine
        else:
            assert schedule.describe()


@settings(max_examples=150, phases=PHASES)
@given(st.from_regex(r"([0-9]{1,2}|[*]|[A-Z]{3}|L|LW)([-/,#][0-9A-Z]{1,3}){0,2}", fullmatch=True), st.integers(0, 4))
def test_five_fields_are_refused_where_cronsim_refuses_and_the_field_is_named(term: str, position: int) -> None:
    fields = ["0", "0", "*", "*", "*"]
    fields[position] = term
    text = " ".join(fields)
    if text[0].isalpha():
        return
    try:
        CronSim(text, datetime(2026, 1, 1))  # noqa: DTZ001 - cronsim is asked for naive times
    except CronSimError:
        with pytest.raises(ScheduleError, match=["minute", "hour", "day of month", "month", "day of week"][position]):
            parse_schedule(text)
