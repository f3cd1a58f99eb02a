"""How the page writes numbers, times, schedules, rules, and text that comes from documents."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote, urlsplit

import orjson
from markupsafe import Markup, escape

from connectors.byoc import Filter
from connectors.errors import InvalidFilteringError
from connectors.filtering.basic_rule import BasicRule, Rule, parse
from connectors.logger import mask
from connectors.service.schedule import ScheduleError, parse_schedule
from connectors.utils import format_duration

__all__ = [
    "advanced_rules",
    "ago",
    "clean",
    "count",
    "duration",
    "marked",
    "number",
    "rules_in_words",
    "schedule_in_words",
    "segment",
    "stamp",
    "unmarked",
    "web_link",
]

_MARKED: Final = re.compile("\x02([^\x02\x03]*)\x03")
# Controls, except the line break and the tab, the marks that reorder text, and halves of surrogate pairs.
_CONTROLS: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)
_LONGEST_LINK: Final = 2000
_DAY: Final = 86_400
_UNITS: Final = ((_DAY, "day"), (3600, "hour"), (60, "minute"), (1, "second"))
_COMPARISONS: Final = {
    Rule.EQUALS: "is",
    Rule.CONTAINS: "contains",
    Rule.STARTS_WITH: "starts with",
    Rule.ENDS_WITH: "ends with",
    Rule.REGEX: "matches",
    Rule.GREATER_THAN: "is more than",
    Rule.LESS_THAN: "is less than",
}

# Numbers and times


def number(value: float) -> str:
    """Returns `1,234`."""
    return f"{value:,}"


def count(value: int, singular: str, plural: str | None = None) -> str:
    """Returns `1 document`, `1,234 documents`."""
    return f"{value:,} {singular if value == 1 else plural or f'{singular}s'}"


def duration(seconds: float | None) -> str:
    """Returns `12.3s`; a dash for what is not known."""
    return "—" if seconds is None else format_duration(seconds)


def stamp(moment: datetime) -> str:
    """Returns `2026-11-02 10:00:00 UTC`."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def ago(moment: datetime, now: datetime) -> str:
    """Returns how long ago a moment was, or how far ahead it lies; the date when that is more than a month."""
    seconds = (now - moment).total_seconds()
    distance = abs(seconds)
    if distance < 5:
        return "just now" if seconds > 0 else "now"
    if distance > 31 * _DAY:
        return f"{moment.astimezone(UTC):%Y-%m-%d}"
    size, unit = next((size, unit) for size, unit in _UNITS if distance >= size)
    words = count(int(distance // size), unit)
    return f"{words} ago" if seconds > 0 else f"in {words}"


# Text that comes from documents


def clean(text: object) -> str:
    """Returns text without the characters that are invisible or reorder their neighbours."""
    return _CONTROLS.sub("", str(text))


def marked(text: str) -> Markup:
    """Returns a fragment of a hit as HTML: everything escaped, and the words between the marks in `<mark>`."""
    pieces: list[str] = []
    end = 0
    for found in _MARKED.finditer(text):
        pieces += [escape(clean(text[end : found.start()])), Markup("<mark>{}</mark>").format(clean(found[1]))]
        end = found.end()
    pieces.append(escape(clean(text[end:])))
    return Markup("").join(pieces)


def unmarked(text: str) -> str:
    """Returns a fragment of a hit without its marks."""
    return text.replace("\x02", "").replace("\x03", "")


def web_link(value: object) -> str | None:
    """Returns an address that may be linked, an http or https one; None for anything else."""
    if not isinstance(value, str) or len(value) > _LONGEST_LINK or clean(value) != value:
        return None
    try:
        parts = urlsplit(value)
    except ValueError:
        return None
    return value if parts.scheme in {"http", "https"} and parts.netloc else None


def segment(text: str) -> str:
    """Returns a name as one segment of a path."""
    return quote(text, safe="", errors="replace")


# Schedules and rules


def schedule_in_words(interval: str, timezone: str) -> str:
    """Returns when a schedule runs, and for one that another tool wrote and we cannot read, why."""
    try:
        return parse_schedule(interval, timezone).describe()
    except ScheduleError as error:
        return mask(str(error))


def rules_in_words(filtering: Filter) -> list[str]:
    """Returns the basic rules in the order in which they decide, each as a sentence; the default rule comes last."""
    strange = [rule for rule in filtering.basic_rules if not isinstance(rule, Mapping)]
    if strange:  # another tool may write anything
        return [mask(f"{rule!r} is no rule.") for rule in strange]
    try:
        rules = parse(filtering.basic_rules)
    except InvalidFilteringError as error:
        return [mask(str(error))]
    sentences = [mask(_sentence(rule)) for rule in rules]
    if not any(rule.is_default for rule in rules):
        sentences.append("Everything else is included." if rules else "Everything is included.")
    return sentences


def _sentence(rule: BasicRule) -> str:
    if rule.is_default:
        return f"Everything else is {rule.policy}d."
    return f"{rule.policy.value.capitalize()} documents whose {rule.field} {_COMPARISONS[rule.rule]} “{rule.value}”."


def advanced_rules(filtering: Filter) -> str | None:
    """Returns the advanced rules as indented JSON, None where there are none."""
    if not filtering.has_advanced_rules():
        return None
    rules: Mapping[str, Any] | Any = filtering.get_advanced_rules()
    return mask(orjson.dumps(rules, default=str, option=orjson.OPT_INDENT_2).decode())
