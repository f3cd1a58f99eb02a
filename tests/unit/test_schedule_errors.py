"""Schedules and time zones that are refused, and what is said about them."""

from __future__ import annotations

import pytest

from connectors.errors import ConfigurationError
from connectors.service.schedule import ScheduleError, parse_schedule


def error_of(text: str, zone: str = "UTC") -> str:
    with pytest.raises(ScheduleError) as caught:
        parse_schedule(text, zone)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "has 0 fields"),
        ("* * * *", "has 4 fields; write five for cron"),
        ("* * * * * * * *", "has 8 fields"),
        ("15", 'write for example "every 15m"'),
        ("2h", 'write for example "every 2h"'),
        ("*", "has 1 fields"),
        ("every 15", '"15" has no unit; write for example "every 15m"'),
        ("every 90.0", '"90.0" has no unit'),
        ("every 0m", "not a number of whole seconds from 1s to 366d"),
        ("every 1.5s", "not a number of whole seconds"),
        ("every 400d", "from 1s to 366d"),
        ("every 5 lightyears", "write a number and a unit (s, m, h or d)"),
        ("every 99999999999999999999d", "is not an interval"),
        ("every 2 days at 02:00", '"every day at 02:00" does'),
        ("evry 15m", 'did you mean "every 15m"?'),
        ("dayly", 'did you mean "daily"?'),
        ("every mnday", 'did you mean "every monday"?'),
        ("every tuesday or so", 'did you mean "every tuesday"?'),
        ("@dayly", 'did you mean "@daily"?'),
        ("@reboot", "write for example every 15m"),
        ("hourly at 0:30", 'leave out "at 0:30"'),
        ("daily at 24:00", "write one from 00:00 to 23:59"),
        ("daily at 2pm", "write one from 00:00 to 23:59"),
        ("60 2 * * *", 'minute "60" is out of range; write 0 to 59'),
        ("0 2 0 * *", 'day of month "0" is out of range; write 1 to 31'),
        ("0 2 * 13 *", 'month "13" is out of range; write 1 to 12'),
        ("0 2 * * 8", 'day of week "8" is out of range; write 0 to 7'),
        ("0 2 * * MONDAY", 'day of week "MONDAY" uses a long name (did you mean "MON"?)'),
        ("0 2 * JANUARY-MAR *", 'did you mean "JAN"?'),
        ("0 2 * * FRI-MON", "runs backwards (two ranges with a comma between do it)"),
        ("0 2 * * MON#6", "has something else than 1 to 5 after the #"),
        ("0 2 ? * *", 'day of month "?" is Quartz, which has six or seven fields'),
        ("0 2 15W * *", 'day of month "15W" is Quartz'),
        ("0 2,,3 * * *", 'hour "" cannot be read'),
        ("0 x * * *", 'hour "X" cannot be read'),
        ("*/0 * * * *", 'minute "*/0" cannot be read'),
        ("0 0 30 2 *", "never comes"),
        ("60 0 0 * * ?", 'second "60" is out of range; write 0 to 59'),
        ("0 0 2 ? * 0", 'day of week "0" is out of range; write 1 to 7 (1 is Sunday)'),
        ("0 0 2 ? * 6#0", "has something else than 1 to 5 after the #"),
        ("0 0 2 ? * XL", 'day of week "XL" cannot be read'),
        ("0 0/60 2 ? * *", 'minute "0/60" has a step that is not a number from 1 to 59'),
        ("0 0/ 2 ? * *", "has a step that is not a number"),
        ("0 ? 2 ? * *", 'minute "?" cannot be read'),
        ("0 0 2 1,? * *", 'day of month "?" cannot be read'),
        ("0 0 2 L-31 * ?", "goes back by more than 30 days"),
        ("0 0 2 32W * ?", 'day of month "32W" is out of range'),
        ("0 0 2 ? * ?", 'put "*" in one of them'),
        ("0 0 2 1 * MON", 'put "?" in one of them'),
        ("0 0 2 ? * * 1969", 'year "1969" is out of range; write 1970 to 2099'),
        ("0 0 2 ? * * 2030-2020", 'year "2030-2020" runs backwards'),
        ("0 0 0 31 2 ?", "never comes"),
        ("0 0 0 29 2 ? 2026", "never comes"),
        ("٣ ٣ * * *", "cannot be read"),
        ("1" * 600, "is longer than 500 characters"),
        ("9" * 450 + " * * * *", "is out of range"),
    ],
)
def test_errors_say_what_to_write(text: str, says: str) -> None:
    message = error_of(text)
    assert says in message
    assert message.startswith('schedule "')
    assert issubclass(ScheduleError, ConfigurationError)


def test_errors_give_a_terminal_no_orders() -> None:
    assert "\x1b" not in error_of("every day\x1b[31m")
    assert "\x00" not in error_of("daily", "Europe/\x00")


@pytest.mark.parametrize(
    ("zone", "hint"),
    [
        ("Berlin", 'did you mean "Europe/Berlin"?'),
        ("Europe/Berln", 'did you mean "Europe/Berlin"?'),
        ("america/new york", 'did you mean "America/New_York"?'),
        ("Lord_Howe", 'did you mean "Australia/Lord_Howe"?'),
        ("utc", 'did you mean "UTC"?'),
        ("GMT+2", "write an IANA name"),
        ("CEST", "write an IANA name"),
        ("Europe", "did you mean"),  # a folder of the zone data
        ("", "write an IANA name"),
        ("../../etc/passwd", "write an IANA name"),
        ("x" * 5000, "write an IANA name"),
    ],
)
def test_unknown_time_zones(zone: str, hint: str) -> None:
    message = error_of("daily", zone)
    assert message.startswith('time zone "')
    assert hint in message
    assert len(message) < 200
