"""How the page writes what it shows: words, hits, states of connectors and jobs."""

from __future__ import annotations

import html
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.backends.ports import Hit
from connectors.byoc import Connector, Filter, SyncJob
from connectors.logger import register_secrets
from connectors.service.operations import ConnectorView
from connectors.service.web import words
from connectors.service.web.hits import card
from connectors.service.web.present import connector_card, history, job_card, settings

NOW = datetime(2026, 11, 2, 10, 0, tzinfo=UTC)


class TestWords:
    @pytest.mark.parametrize(
        ("seconds", "expected"),
        [
            (0, "now"), (3, "just now"), (-3, "now"), (5, "5 seconds ago"), (61, "1 minute ago"),
            (3 * 3600, "3 hours ago"), (-720, "in 12 minutes"), (2 * 86_400, "2 days ago"), (40 * 86_400, "2026-09-23"),
        ],
    )  # fmt: skip
    def test_ago(self, seconds: float, expected: str) -> None:
        assert words.ago(NOW - timedelta(seconds=seconds), NOW) == expected

    def test_counts(self) -> None:
        assert words.count(1, "document") == "1 document"
        assert words.count(1234, "document") == "1,234 documents"
        assert words.count(2, "entry", "entries") == "2 entries"
        assert words.duration(None) == "—"

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("a \x02b\x03 c", "a <mark>b</mark> c"),
            ("\x02<script>\x03&", "<mark>&lt;script&gt;</mark>&amp;"),
            ("<b>", "&lt;b&gt;"),
            ("\x02unclosed <i>", "unclosed &lt;i&gt;"),
            ("\x03\x02\x03\x03", "<mark></mark>"),
            ("\x02a\x02b\x03\x03", "a<mark>b</mark>"),
            ("bell\x07 \u202eback\ud800", "bell back"),
            ("", ""),
        ],
    )
    def test_marks_are_balanced_and_everything_else_is_text(self, text: str, expected: str) -> None:
        assert str(words.marked(text)) == expected

    @given(st.text(st.sampled_from("ab<>&\"' \x02\x03\x00\u202e"), max_size=40))
    def test_marked_text_is_the_text(self, text: str) -> None:
        written = str(words.marked(text))
        rest = re.sub(r"<mark>([^<>]*)</mark>", r"\1", written)
        assert "<" not in rest
        assert html.unescape(rest) == words.clean(text)

    @pytest.mark.parametrize("address", ["https://example.org/a?b=c#d", "http://localhost:80/ä", "HTTPS://x.y/"])
    def test_addresses_that_are_linked(self, address: str) -> None:
        assert words.web_link(address) == address

    @pytest.mark.parametrize(
        "address",
        [
            "javascript:alert(1)", "JaVaScRiPt:alert(1)", " javascript:alert(1)", "java\nscript:alert(1)",
            "data:text/html,x", "vbscript:x", "file:///etc/passwd", "ftp://example.org", "//example.org/a",
            "/local", "https:", "http://[bad",
            "https://example.org/\u202egpj", "https://x.y/" + "a" * 3000, 7, None, ["https://x.y"],
        ],
    )  # fmt: skip
    def test_addresses_that_are_not(self, address: object) -> None:
        assert words.web_link(address) is None

    def test_segments(self) -> None:
        assert words.segment("a/b c?ü") == "a%2Fb%20c%3F%C3%BC"

    def test_schedules(self) -> None:
        assert words.schedule_in_words("every 15m", "UTC") == "every 15 minutes"
        assert words.schedule_in_words("0 0 2 ? * *", "Europe/Berlin") == "every day at 02:00 (Europe/Berlin)"
        assert "nonsense" in words.schedule_in_words("nonsense", "UTC")

    def test_rules(self) -> None:
        first = {"id": "a", "order": 2, "policy": "include", "field": "size", "rule": "<", "value": "5"}
        second = {"id": "b", "order": 1, "policy": "exclude", "field": "path", "rule": "starts_with", "value": "tmp/"}
        assert words.rules_in_words(Filter.of([first, second])) == [
            "Exclude documents whose path starts with “tmp/”.",
            "Include documents whose size is less than “5”.",
            "Everything else is included.",
        ]
        default = {"id": "DEFAULT", "policy": "exclude", "field": "_", "rule": "regex", "value": ".*"}
        assert words.rules_in_words(Filter.of([default])) == ["Everything else is excluded."]
        assert "policy" in words.rules_in_words(Filter.of([{"id": "x"}]))[0]

    def test_no_rules(self) -> None:
        assert words.rules_in_words(Filter()) == ["Everything is included."]

    def test_advanced_rules(self) -> None:
        assert words.advanced_rules(Filter()) is None
        assert words.advanced_rules(Filter.of(advanced=[{"table": "a"}])) == '[\n  {\n    "table": "a"\n  }\n]'


def hit(source: dict[str, Any], **highlights: str) -> Hit:
    return Hit("the-id", 1.5, source, {name: (text,) for name, text in highlights.items()})


class TestHits:
    def test_whole(self) -> None:
        found = card(
            hit(
                {
                    "title": "Restore drill", "path": "ops/drill.md", "url": "https://x.y/d", "size": 4200,
                    "modified_at": "2026-11-01T10:00:00Z", "body": "whole",
                },
                title="Restore \x02drill\x03",
                path="ops/\x02drill\x03.md\nhttps://x.y/d",
                body="a \x02drill\x03\n  now",
            )
        )  # fmt: skip
        assert str(found.title) == "Restore <mark>drill</mark>"
        assert str(found.place) == "ops/<mark>drill</mark>.md"
        assert str(found.snippet) == "a <mark>drill</mark> now"
        assert (found.link, found.size, found.score) == ("https://x.y/d", "4.2 kB", 1.5)
        assert found.modified == datetime(2026, 11, 1, 10, tzinfo=UTC)

    def test_bare(self) -> None:
        found = card(hit({}))
        assert (str(found.title), found.place, str(found.snippet)) == ("the-id", None, "")
        assert (found.link, found.size, found.modified) == (None, None, None)

    @pytest.mark.parametrize(
        "source",
        [
            {"title": ["list"], "path": 7, "size": "big", "modified_at": "yesterday", "url": {"a": 1}, "body": None},
            {"size": True, "modified_at": True, "_timestamp": 1e300},
            {"size": -1, "_timestamp": float("nan"), "modified_at": "9" * 50},
        ],
    )
    def test_strange_types(self, source: dict[str, Any]) -> None:
        found = card(hit(source))
        assert (str(found.title), found.size, found.modified, found.link) == ("the-id", None, None, None)

    def test_hostile_text(self) -> None:
        script = "<script>alert(1)</script>"
        found = card(hit({"title": script, "path": f"{script}.txt", "body": script, "url": "javascript:alert(1)"}))
        for text in (found.title, found.place, found.snippet):
            assert "<script" not in str(text)
            assert "&lt;script&gt;" in str(text)
        assert found.link is None

    def test_marks_in_a_document_mark_nothing(self) -> None:
        found = card(hit({"title": "a\x02b\x03", "body": "c\x02d\x03"}))
        assert (str(found.title), str(found.snippet)) == ("ab", "cd")

    def test_name_stands_for_a_title_and_is_not_said_twice(self) -> None:
        found = card(hit({"name": "a.txt", "path": "a.txt"}, title="\x02a\x03.txt"))
        assert str(found.title) == "<mark>a</mark>.txt"
        assert found.place is None

    def test_long_texts_are_cut(self) -> None:
        found = card(hit({"title": "x" * 5000, "body": "y " * 5000}))
        assert len(found.title) <= 300
        assert len(found.snippet) <= 300

    def test_other_fields_are_shown_when_the_text_has_none(self) -> None:
        assert str(card(hit({}, note="in a \x02note\x03")).snippet) == "in a <mark>note</mark>"


def job(status: str = "completed", **fields: Any) -> SyncJob:
    return SyncJob.from_record("job-1", {"connector": {"id": "c"}, "status": status, **fields})


def view(running: SyncJob | None = None, last: SyncJob | None = None, dead: int = 0, **fields: Any) -> ConnectorView:
    record = {"managed_by": "config.yml", "status": "connected", "last_synced": NOW.isoformat(), **fields}
    return ConnectorView(
        connector=Connector.from_record("c", record),
        next_syncs={"incremental": NOW + timedelta(hours=2), "full": NOW + timedelta(hours=1)},
        running=running,
        last_job=last,
        documents=3,
        dead_letters=dead,
    )


class TestJobs:
    def test_outcomes_add_up(self) -> None:
        counters = {"read": 10, "indexed": 4, "unchanged": 3, "dead_lettered": 1, "vanished": 5, "bytes": 100}
        shown = job_card(job("in_progress", metadata={"counters": counters}))
        assert [(outcome.name, outcome.documents) for outcome in shown.outcomes] == [
            ("indexed", 4), ("unchanged", 3), ("dead_lettered", 1),
        ]  # fmt: skip
        assert shown.in_flight == 2
        assert sum(outcome.documents for outcome in shown.outcomes) + shown.in_flight == shown.counters.read

    @pytest.mark.parametrize(
        ("status", "fields", "expected"),
        [
            ("pending", {}, ("Queued", "busy")),
            ("in_progress", {}, ("Running", "busy")),
            ("canceling", {}, ("Stopping", "busy")),
            ("canceled", {}, ("Cancelled", "idle")),
            ("error", {}, ("Failed", "bad")),
            ("completed", {}, ("Completed", "ok")),
            ("completed", {"metadata": {"incomplete": ["x"]}}, ("Completed with gaps", "warn")),
            ("completed", {"metadata": {"counters": {"dead_lettered": 1}}}, ("Completed with gaps", "warn")),
            ("suspended", {}, ("Suspended", "warn")),
            ("suspended", {"error": "disk full"}, ("Suspended", "bad")),
            ("a_new_one", {}, ("a_new_one", "idle")),
        ],
    )
    def test_states(self, status: str, fields: dict[str, Any], expected: tuple[str, str]) -> None:
        state = job_card(job(status, **fields)).state
        assert (state.words, state.tone) == expected

    def test_what_can_be_cancelled(self) -> None:
        able = {status for status in ("pending", "in_progress", "suspended") if job_card(job(status)).can_cancel}
        assert able == {"pending", "in_progress", "suspended"}
        assert not any(job_card(job(status)).can_cancel for status in ("canceling", "canceled", "error", "completed"))

    def test_runs_without_news_are_one_row(self) -> None:
        calm = {"unchanged": True}

        def run(number: int, connector: str, metadata: dict[str, Any]) -> SyncJob:
            record = {"connector": {"id": connector}, "status": "completed", "metadata": metadata}
            return SyncJob.from_record(f"job-{number}", record)

        jobs = [
            run(9, "a", calm), run(8, "b", calm), run(7, "a", calm), run(6, "a", calm), run(5, "b", {}),
            run(4, "b", calm), run(3, "a", {}), run(2, "a", calm),
        ]  # fmt: skip
        assert [(row.id, row.repeats) for row in history(jobs)] == [
            ("job-9", 2), ("job-8", 0), ("job-5", 0), ("job-4", 0), ("job-3", 0), ("job-2", 0),
        ]  # fmt: skip

    def test_when_a_suspended_one_is_tried_again(self) -> None:
        metadata = {"resume_at": NOW.timestamp()}
        assert job_card(job("suspended", metadata=metadata)).resume_at == NOW
        assert job_card(job("completed", metadata=metadata)).resume_at is None

    def test_secrets_are_hidden(self) -> None:
        register_secrets(["tr0ub4dor-words"])
        shown = job_card(job("error", error="login with tr0ub4dor-words", metadata={"incomplete": ["tr0ub4dor-words"]}))
        assert shown.error == "login with ***"
        assert shown.incomplete == ["***"]


class TestConnectors:
    @pytest.mark.parametrize(
        ("given", "expected"),
        [
            (view(), ("Up to date", "ok")),
            (view(last_synced=None), ("Never synced yet", "idle")),
            (view(paused=True), ("Paused", "idle")),
            (view(status="error", error="no"), ("Failed", "bad")),
            (view(last=job("error"), last_sync_status="error"), ("Failed", "bad")),
            (view(last=job("canceled")), ("Last sync cancelled", "warn")),
            (view(dead=1), ("Up to date, with gaps", "warn")),
            (view(last=job(metadata={"incomplete": ["x"]})), ("Up to date, with gaps", "warn")),
            (view(last=job("pending")), ("Queued", "busy")),
            (view(last=job("suspended", error="full")), ("Suspended", "bad")),
            (view(running=job("in_progress")), ("Syncing", "busy")),
            (view(running=job("in_progress"), paused=True, status="error"), ("Syncing", "busy")),
            (view(running=job("canceling")), ("Stopping", "busy")),
            (view(managed_by="removed from config.yml"), ("Not in config.yml any more", "idle")),
        ],
    )
    def test_states(self, given: ConnectorView, expected: tuple[str, str]) -> None:
        state = connector_card(given).state
        assert (state.words, state.tone) == expected

    def test_what_can_be_done(self) -> None:
        idle = connector_card(view())
        assert (idle.can_sync, idle.can_sync_changes, idle.cancel) == (True, False, None)
        able = connector_card(view(features={"incremental_sync": {"enabled": True}}))
        assert able.can_sync_changes
        busy = connector_card(view(running=job("in_progress"), features={"incremental_sync": {"enabled": True}}))
        assert (busy.can_sync, busy.can_sync_changes, busy.cancel) == (False, False, "job-1")
        waiting = connector_card(view(last=job("pending")))
        assert (waiting.can_sync, waiting.cancel) == (False, "job-1")
        suspended = connector_card(view(last=job("suspended", job_type="incremental")))
        assert (suspended.can_sync, suspended.waits_as, suspended.cancel) == (False, "incremental", "job-1")
        gone = connector_card(view(managed_by="removed from config.yml"))
        assert not gone.can_sync

    def test_the_next_sync_comes_first(self) -> None:
        assert [kind for kind, _ in connector_card(view()).next_syncs] == ["Full sync", "Incremental sync"]

    def test_progress_is_measured_by_the_run_before(self) -> None:
        before = job("completed", metadata={"counters": {"read": 500}})
        shown = connector_card(view(running=job("in_progress"), last=before)).running
        assert shown is not None
        assert shown.expected == 500
        for other in (job("error", metadata={"counters": {"read": 5}}), job("completed", job_type="incremental"), None):
            shown = connector_card(view(running=job("in_progress"), last=other)).running
            assert shown is not None
            assert shown.expected is None

    def test_an_error_is_told_until_a_sync_runs(self) -> None:
        register_secrets(["s3cret-of-errors"])
        assert connector_card(view(error="bad s3cret-of-errors", status="error")).error == "bad ***"
        assert connector_card(view(running=job("in_progress"), error="bad", status="error")).error is None

    def test_settings(self) -> None:
        register_secrets(["registered-secret"])
        connector = Connector.from_record(
            "c",
            {
                "configuration": {
                    "password": {"label": "Word", "value": "hunter2", "sensitive": True, "order": 2},
                    "api_key": {"label": "Key", "value": "abc", "order": 3},
                    "directory": {"label": "Folder", "value": "/srv", "order": 1},
                    "note": {"label": "Note", "value": "is registered-secret", "order": 4},
                    "empty": {"label": "Empty", "value": None, "order": 5},
                    "port": {"label": "Port", "value": None, "default_value": 27017, "order": 6},
                    "globs": {"label": "Globs", "value": ["*.md", "*.txt"]},
                    "plain": "text",
                }
            },
        )
        assert [(setting.label, setting.value) for setting in settings(connector)] == [
            ("Folder", "/srv"), ("Word", "•••"), ("Key", "•••"), ("Note", "is ***"), ("Port", "27017"),
            ("Globs", "*.md, *.txt"), ("plain", "text"),
        ]  # fmt: skip
