"""Measures the basic rules: nanoseconds per rule and document.

Run: `python bench/rules.py`. For each operator an engine of eight rules, none of which matches, so that all eight are
tried on every document; the figure is the median of seven rounds, divided by eight.
"""

from __future__ import annotations

import statistics
import time
from datetime import UTC, datetime
from typing import Any

from connectors.filtering.basic_rule import BasicRule, BasicRuleEngine, Policy, Rule

RULES = 8
ROUNDS = 7
DOCUMENTS: list[dict[str, Any]] = [
    {
        "_id": str(number),
        "path": f"handbook/operations/restart-after-a-crash-{number}.md",
        "size": 1_000 + number,
        "size_text": str(1_000 + number),
        "active": True,
        "modified": datetime(2024, 5, 1 + number % 28, tzinfo=UTC),
        "modified_text": f"2024-05-{1 + number % 28:02}T08:30:00+00:00",
        "author": {"name": f"Ann {number}"},
        "tags": [f"tag-{number}", "operations", "handbook", "restart"],
    }
    for number in range(1_000)
]
CASES: list[tuple[str, str, Rule, str]] = [
    ("field missing", "nowhere", Rule.EQUALS, "x"),
    ("equals, text", "path", Rule.EQUALS, "handbook/readme.md"),
    ("contains, text", "path", Rule.CONTAINS, "backup"),
    ("starts_with, text", "path", Rule.STARTS_WITH, "drafts/"),
    ("ends_with, text", "path", Rule.ENDS_WITH, ".pdf"),
    ("regex, suffix", "path", Rule.REGEX, r"\.(pdf|docx)$"),
    ("regex, prefix and suffix", "path", Rule.REGEX, r"^handbook/.*\.pdf$"),
    ("regex, hostile to backtracking", "path", Rule.REGEX, "(a+)+$"),
    ("equals, number", "size", Rule.EQUALS, "5"),
    (">, number", "size", Rule.GREATER_THAN, "1000000"),
    ("<, date", "modified", Rule.LESS_THAN, "2020-01-01"),
    (">, number in text", "size_text", Rule.GREATER_THAN, "1000000"),
    ("<, date in text", "modified_text", Rule.LESS_THAN, "2020-01-01"),
    ("contains, number as text", "size", Rule.CONTAINS, "x"),
    ("equals, truth", "active", Rule.EQUALS, "false"),
    ("equals, nested field", "author.name", Rule.EQUALS, "Bob"),
    ("equals, list of four", "tags", Rule.EQUALS, "backup"),
]


def nanoseconds(field: str, rule: Rule, value: str) -> float:
    """Returns the time of one rule on one document."""
    engine = BasicRuleEngine(BasicRule(str(i), i, Policy.EXCLUDE, field, rule, value) for i in range(RULES))
    should_ingest = engine.should_ingest
    rounds = []
    for _ in range(ROUNDS):
        start = time.perf_counter_ns()
        for document in DOCUMENTS:
            should_ingest(document)
        rounds.append(time.perf_counter_ns() - start)
    assert all(map(should_ingest, DOCUMENTS)), "a rule matched, so that not all rules were tried"
    return statistics.median(rounds) / len(DOCUMENTS) / RULES


def main() -> None:
    """Prints one line for each case."""
    for name, field, rule, value in CASES:
        print(f"{name:32} {nanoseconds(field, rule, value):7.0f} ns")


if __name__ == "__main__":
    main()
