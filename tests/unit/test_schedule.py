"""Schedules: dialects, time zones, what is due, and errors that say what to write."""

from __future__ import annotations

import pickle
import subprocess
import sys
from datetime import datetime, timedelta, timezone

import pytest

from connectors.service.schedule import Schedule, due, parse_schedule
from tests.support.schedules import at, ticks

# --- the value -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["every 15m", "0 2 * * *", "0 0 2 ? * MON-FRI"])
def test_a_schedule_is_a_value(text: str) -> None:
    one, two = parse_schedule(text, "Europe/Berlin"), parse_schedule(f"  {text}\t", "Europe/Berlin")
    assert one == two
    assert hash(one) == hash(two)
    assert str(two) == text
    assert one != parse_schedule(text, "Europe/Rome")
    assert pickle.loads(pickle.dumps(one)) == one  # noqa: S301 - our own bytes
    with pytest.raises(AttributeError):
        one.text = "daily"  # type: ignore[misc]  # frozen, which is what is tested


def test_case_and_spaces_do_not_count() -> None:
    now = at("2026-03-01")
    assert parse_schedule("Every  MONDAY at 06:30").next(now) == parse_schedule("30 6 * * mon").next(now)
    assert parse_schedule("0 0 2 ? jan mon-fri").next(now) == at("2027-01-01 02:00")


def test_next_wants_an_aware_time_and_takes_any_zone() -> None:
    schedule = parse_schedule("daily")
    with pytest.raises(ValueError, match="no time zone"):
        schedule.next(datetime(2026, 3, 1))  # noqa: DTZ001 - the fault that is tested
    assert schedule.next(datetime(2026, 3, 1, 1, tzinfo=timezone(timedelta(hours=2)))) == at("2026-03-01")


@pytest.mark.parametrize("text", ["every 1m", "* * * * *", "0 * * * * ?", "0 1 * * *"])
def test_strictly_after_to_the_microsecond(text: str) -> None:
    schedule = parse_schedule(text)
    tick = schedule.next(at("2026-03-01 00:59:59.999999"))
    assert tick == at("2026-03-01 01:00")
    assert schedule.next(at("2026-03-01 01:00")) != tick
    assert schedule.next(at("2026-03-01 01:00:00.000001")) != tick


def test_a_past_year_never_comes_again() -> None:
    schedule = parse_schedule("0 0 2 ? * * 2020")
    assert schedule.next(at("2020-12-31")) == at("2020-12-31 02:00")
    assert schedule.next(at("2020-12-31 02:00")) is None
    assert due(schedule, last_scheduled=at("2020-12-31 02:00"), now=at("2026-01-01")) is None


def test_intervals_are_the_same_for_every_worker() -> None:
    schedule = parse_schedule("every 7m", "Europe/Berlin")
    found = {schedule.next(at("2026-03-01 10:00") + timedelta(seconds=seconds)) for seconds in range(0, 420, 13)}
    assert len(found) == 2
    assert all(tick is not None and tick.timestamp() % 420 == 0 for tick in found)


# --- calendars -------------------------------------------------------------------------------------------------------


def test_leap_days_month_ends_and_year_ends() -> None:
    assert ticks(parse_schedule("0 0 0 29 2 ?"), "2095-01-01", 1) == ["2096-02-29 00:00+00:00"]  # 2100 has none
    assert parse_schedule("0 0 0 29 2 ?").next(at("2096-03-01")) is None
    assert ticks(parse_schedule("0 0 29 2 *"), "2096-03-01", 1) == ["2104-02-29 00:00+00:00"]
    assert ticks(parse_schedule("0 0 0 L 2 ?"), "2027-01-01", 2) == ["2027-02-28 00:00+00:00", "2028-02-29 00:00+00:00"]
    assert ticks(parse_schedule("0 0 0 31 * ?"), "2026-03-31", 2) == [
        "2026-05-31 00:00+00:00",
        "2026-07-31 00:00+00:00",
    ]
    assert ticks(parse_schedule("59 59 23 31 12 ?"), "2026-12-31 23:59:58", 1) == ["2026-12-31 23:59+00:00"]
    assert ticks(parse_schedule("0 0 0 * * ?"), "2026-12-31 00:00", 2) == [
        "2027-01-01 00:00+00:00",
        "2027-01-02 00:00+00:00",
    ]
    assert ticks(parse_schedule("0 0 * 2 MON#5"), "2026-01-01", 1) == ["2044-02-29 00:00+00:00"]


def test_a_range_of_one_with_a_step_is_that_one() -> None:
    """cronsim reads `4-4/2` as `4/2`."""
    for text in ("0 0 1 4-4/2 *", "0 0 1 APR-4/2 *", "0 0 0 1 4-4/2 ?"):
        assert ticks(parse_schedule(text), "2026-04-01", 1) == ["2027-04-01 00:00+00:00"]


@pytest.mark.parametrize(
    ("day", "expected"),
    [
        ("1W", "2026-08-03"),  # the 1st is a Saturday, and July is another month
        ("2W", "2026-08-03"),
        ("15W", "2026-08-14"),
        ("16W", "2026-08-17"),
        ("30W", "2026-08-31"),
        ("31W", "2026-08-31"),
        ("LW", "2026-08-31"),
        ("L-1W", "2026-08-31"),  # the 30th is a Sunday
        ("L-2W", "2026-08-28"),
        ("L-30", "2026-08-01"),
    ],
)
def test_days_near_a_weekend(day: str, expected: str) -> None:
    assert parse_schedule(f"0 0 0 {day} 8 ? 2026").next(at("2026-01-01")) == at(expected)


def test_a_weekday_at_the_end_does_not_leave_the_month() -> None:
    schedule = parse_schedule("0 0 0 31W 5 ? 2026")  # a Sunday
    assert ticks(schedule, "2026-01-01", 1) == ["2026-05-29 00:00+00:00"]


def test_months_without_the_day_are_left_out() -> None:
    assert ticks(parse_schedule("0 0 0 31W * ?"), "2026-04-01", 1) == ["2026-05-29 00:00+00:00"]
    assert ticks(parse_schedule("0 0 0 L-30 * ?"), "2026-04-01", 1) == ["2026-05-01 00:00+00:00"]
    assert ticks(parse_schedule("0 0 0 ? * 1#5"), "2026-06-01", 1) == ["2026-08-30 00:00+00:00"]


def test_quartz_counts_days_from_sunday_and_cron_does_not() -> None:
    names = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"]
    start = at("2026-03-01")
    for number, name in enumerate(names):
        quartz, cron = parse_schedule(f"0 0 5 ? * {number + 1}"), parse_schedule(f"0 5 * * {number}")
        named = parse_schedule(f"0 0 5 ? * {name}")
        assert quartz.next(start) == cron.next(start) == named.next(start) == start + timedelta(days=number, hours=5)
    assert parse_schedule("0 0 5 ? * L").next(start) == parse_schedule("0 0 5 ? * SAT").next(start)
    assert parse_schedule("0 5 * * 7").next(start) == parse_schedule("0 5 * * 0").next(start)


def test_quartz_lists_mix_all_kinds() -> None:
    days = [tick[8:10] for tick in ticks(parse_schedule("0 0 0 1,15W,20-22,L-1,L * ?"), "2026-08-01", 6)]
    assert days == ["14", "20", "21", "22", "30", "31"]
    days = [tick[8:10] for tick in ticks(parse_schedule("0 0 0 ? * MON#1,FRIL,WED"), "2026-08-01", 6)]
    assert days == ["03", "05", "12", "19", "26", "28"]


def test_both_day_fields_free_means_every_day() -> None:
    for text in ("0 0 2 * * *", "0 0 2 * * ?", "0 0 2 ? * *", "0 0 2 */1 * ?"):
        assert ticks(parse_schedule(text), "2026-03-01 02:00", 2) == [
            "2026-03-02 02:00+00:00",
            "2026-03-03 02:00+00:00",
        ]
    assert ticks(parse_schedule("0 0 2 * * MON"), "2026-03-01", 1) == ["2026-03-02 02:00+00:00"]
    assert ticks(parse_schedule("0 0 2 10 * *"), "2026-03-01", 1) == ["2026-03-10 02:00+00:00"]


# --- what is due -----------------------------------------------------------------------------------------------------


def test_never_synced_is_due_at_once() -> None:
    now = at("2026-03-01 10:07:03.5")
    for text in ("every 15m", "yearly", "0 0 2 ? * * 2020"):
        assert due(parse_schedule(text), last_scheduled=None, now=now) == now


def test_due_from_the_tick_on() -> None:
    schedule, last = parse_schedule("every 15m"), at("2026-03-01 10:00")
    assert due(schedule, last_scheduled=last, now=at("2026-03-01 10:14:59.999999")) is None
    assert due(schedule, last_scheduled=last, now=at("2026-03-01 10:15")) == at("2026-03-01 10:15")
    assert due(schedule, last_scheduled=last, now=at("2026-03-01 10:15:00.2")) == at("2026-03-01 10:15")
    assert due(schedule, last_scheduled=at("2026-03-01 10:15"), now=at("2026-03-01 10:15:00.2")) is None


@pytest.mark.parametrize("text", ["every 15m", "*/15 * * * *", "0 0/15 * * * ?"])
def test_missed_runs_coalesce_into_the_latest(text: str) -> None:
    now = at("2026-03-04 10:44:59")
    tick = due(parse_schedule(text), last_scheduled=at("2026-03-01 10:07"), now=now)
    assert tick == at("2026-03-04 10:30")
    assert due(parse_schedule(text), last_scheduled=tick, now=now) is None


def test_ten_missed_years_of_seconds_cost_no_more_than_some_steps() -> None:
    schedule, asked = parse_schedule("0-59 0-59 2 * * ?"), []

    class Counting(Schedule):
        __slots__ = ()

        def next(self, after: datetime) -> datetime | None:
            asked.append(after)
            return super().next(after)

    counting = Counting(schedule.text, schedule.zone, schedule.rule)
    tick = due(counting, last_scheduled=at("2016-01-01 02:00"), now=at("2026-03-01 10:07"))
    assert tick == at("2026-03-01 02:59:59")
    assert len(asked) <= 40


def test_a_last_run_in_the_future_was_recorded_by_a_wrong_clock() -> None:
    schedule, now = parse_schedule("every 15m"), at("2026-03-01 10:07")
    assert due(schedule, last_scheduled=at("2031-01-01"), now=now) == now
    assert due(schedule, last_scheduled=at("2026-03-01 10:15"), now=now) is None  # another worker's clock is fast


# --- for people ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("every 15m", "every 15 minutes"),
        ("every 1m", "every minute"),
        ("every 90s", "every 90 seconds"),
        ("every second", "every second"),
        ("every 36h", "every 36 hours"),
        ("every 1d", "every day at 00:00 (UTC)"),
        ("every 14 days", "every 14 days at 00:00 (UTC)"),
        ("0 2 * * *", "every day at 02:00 (Europe/Berlin)"),
        ("0 0 2 ? * *", "every day at 02:00 (Europe/Berlin)"),
        ("30 0 2 * * ?", "every day at 02:00:30 (Europe/Berlin)"),
        ("0 0 2 ? * MON-FRI", "Monday to Friday at 02:00 (Europe/Berlin)"),
        ("weekdays at 18:00", "Monday to Friday at 18:00 (Europe/Berlin)"),
        ("weekly", "every Sunday at 00:00 (Europe/Berlin)"),
        ("0 0 * * 5-7", "every Friday, Saturday and Sunday at 00:00 (Europe/Berlin)"),
        ("0 0 * * 0-6", "every day at 00:00 (Europe/Berlin)"),
        ("mondays, wed, and fridays", "every Monday, Wednesday and Friday at 00:00 (Europe/Berlin)"),
        ("weekends at 7:05", "every Saturday and Sunday at 07:05 (Europe/Berlin)"),
        ("*/15 * * * *", "*/15 * * * * (Europe/Berlin)"),
        ("0 2 1 * *", "0 2 1 * * (Europe/Berlin)"),
        ("0 2 * * 5L", "0 2 * * 5L (Europe/Berlin)"),
        ("0 0 2 ? * 6#3", "0 0 2 ? * 6#3 (Europe/Berlin)"),
        ("0 0 2 L * ?", "0 0 2 L * ? (Europe/Berlin)"),
        ("0 0 2 ? 1 *", "0 0 2 ? 1 * (Europe/Berlin)"),
        ("0 0 2 ? * * 2030", "0 0 2 ? * * 2030 (Europe/Berlin)"),
        ("0 0 2,3 ? * *", "0 0 2,3 ? * * (Europe/Berlin)"),
    ],
)
def test_describe(text: str, words: str) -> None:
    assert parse_schedule(text, "Europe/Berlin").describe() == words


def test_importing_is_light() -> None:
    """`config validate` imports this module; neither a network nor a validation library comes with it."""
    code = "import sys, connectors.service.schedule; print(*{name.partition('.')[0] for name in sys.modules})"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"asyncio", "pydantic", "numpy", "prometheus_client", "ssl", "starlette"} & set(answer.stdout.split())
