"""Schedules on the days on which clocks change, in zones that do it in different ways."""

from __future__ import annotations

from connectors.service.schedule import parse_schedule
from tests.support.schedules import at, ticks


def test_berlin_fixed_time_in_the_gap_runs_once_at_its_end() -> None:
    expected = ["2026-03-29 03:00+02:00", "2026-03-30 02:00+02:00"]
    for text in ("0,15,30,45 2 * * *", "0 0-59 2 * * ?", "0-59 0 2 ? * *"):
        assert ticks(parse_schedule(text, "Europe/Berlin"), "2026-03-29 00:00", 2) == expected


def test_berlin_gap_and_the_time_at_its_end_are_one_run() -> None:
    schedule = parse_schedule("30 2,3 * * *", "Europe/Berlin")
    assert ticks(schedule, "2026-03-29 00:00", 2) == ["2026-03-29 03:00+02:00", "2026-03-29 03:30+02:00"]
    schedule = parse_schedule("0 2,3 * * *", "Europe/Berlin")
    assert ticks(schedule, "2026-03-29 00:00", 2) == ["2026-03-29 03:00+02:00", "2026-03-30 02:00+02:00"]


def test_berlin_repeated_fixed_time_runs_the_first_time_only() -> None:
    schedule = parse_schedule("0 45 2 * * ?", "Europe/Berlin")
    expected = ["2026-10-25 02:45+02:00", "2026-10-26 02:45+01:00"]
    assert ticks(schedule, "2026-10-25 00:00", 2) == expected
    # Asked during the second pass, before 02:45 has come again: it has already run.
    assert ticks(schedule, "2026-10-25 01:15", 1) == expected[1:]
    assert ticks(parse_schedule("45 2 * * *", "Europe/Berlin"), "2026-10-25 01:15", 1) == expected[1:]


def test_berlin_intervals_follow_real_time() -> None:
    for text in ("*/30 * * * *", "0 0/30 * * * ?"):
        schedule = parse_schedule(text, "Europe/Berlin")
        assert ticks(schedule, "2026-03-29 00:30", 2) == ["2026-03-29 03:00+02:00", "2026-03-29 03:30+02:00"]
        assert ticks(schedule, "2026-10-25 00:00", 4) == [
            "2026-10-25 02:30+02:00",
            "2026-10-25 02:00+01:00",
            "2026-10-25 02:30+01:00",
            "2026-10-25 03:00+01:00",
        ]


def test_an_interval_whose_only_times_are_skipped_ends() -> None:
    # The second Sunday of March, 02:00 to 03:00, does not exist in New York since 2007.
    schedule = parse_schedule("*/30 2 * 3 SUN#2", "America/New_York")
    assert schedule.next(at("2006-01-01")) == at("2006-03-12 07:00")
    assert schedule.next(at("2026-01-01")) is None
    assert parse_schedule("0 */30 2 ? 3 SUN#2", "America/New_York").next(at("2026-01-01")) is None


def test_new_york() -> None:
    assert ticks(parse_schedule("30 2 * * *", "America/New_York"), "2026-03-08 05:00", 2) == [
        "2026-03-08 03:00-04:00",
        "2026-03-09 02:30-04:00",
    ]
    assert ticks(parse_schedule("30 1 * * *", "America/New_York"), "2026-11-01 00:00", 2) == [
        "2026-11-01 01:30-04:00",
        "2026-11-02 01:30-05:00",
    ]
    assert ticks(parse_schedule("hourly", "America/New_York"), "2026-11-01 04:30", 3) == [
        "2026-11-01 01:00-04:00",
        "2026-11-01 01:00-05:00",
        "2026-11-01 02:00-05:00",
    ]


def test_lord_howe_moves_by_thirty_minutes() -> None:
    zone = "Australia/Lord_Howe"
    assert ticks(parse_schedule("15 2 * * *", zone), "2026-10-03 12:00", 2) == [
        "2026-10-04 02:30+11:00",
        "2026-10-05 02:15+11:00",
    ]
    assert ticks(parse_schedule("0,30,45 1,2 * * *", zone), "2026-04-04 13:00", 6) == [
        "2026-04-05 01:00+11:00",
        "2026-04-05 01:30+11:00",
        "2026-04-05 01:45+11:00",
        "2026-04-05 02:00+10:30",
        "2026-04-05 02:30+10:30",
        "2026-04-05 02:45+10:30",
    ]
    assert ticks(parse_schedule("*/15 1 * * *", zone), "2026-04-04 14:20", 5) == [
        "2026-04-05 01:30+11:00",
        "2026-04-05 01:45+11:00",
        "2026-04-05 01:30+10:30",
        "2026-04-05 01:45+10:30",
        "2026-04-06 01:00+10:30",
    ]
    # cronsim's own zone arithmetic misses 06:00 on these two days.
    assert ticks(parse_schedule("0 */6 * * *", zone), "2026-10-03 14:00", 2)[0] == "2026-10-04 06:00+11:00"
    assert ticks(parse_schedule("0 */6 * * *", zone), "2026-04-04 14:00", 2)[0] == "2026-04-05 06:00+10:30"


def test_kathmandu_and_a_day_that_does_not_exist() -> None:
    assert ticks(parse_schedule("0 0 * * *", "Asia/Kathmandu"), "2026-03-01", 1) == ["2026-03-02 00:00+05:45"]
    # Samoa went from 29 to 31 December 2011: the sync of the 30th runs as the 31st begins, with that day's own.
    assert ticks(parse_schedule("0 12 * * *", "Pacific/Apia"), "2011-12-29 23:00", 2) == [
        "2011-12-31 00:00+14:00",
        "2011-12-31 12:00+14:00",
    ]
    assert ticks(parse_schedule("0 */12 * * *", "Pacific/Apia"), "2011-12-29 23:00", 2) == [
        "2011-12-31 00:00+14:00",
        "2011-12-31 12:00+14:00",
    ]
