"""Records of the connector protocol: what other tools write is read, and nothing of it is lost."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from connectors.byoc import (
    Connector,
    ConnectorStatus,
    Filter,
    JobStatus,
    JobType,
    SyncJob,
    TriggerMethod,
    format_time,
    parse_time,
    scheduled_field,
)

NOON = datetime(2024, 5, 31, 12, tzinfo=UTC)

FOREIGN_CONNECTOR: dict[str, Any] = {
    "api_key_id": "k-1",
    "api_key_secret_id": None,
    "configuration": {"host": {"label": "Host", "type": "str", "value": "db"}},
    "custom_scheduling": {},
    "description": None,
    "error": None,
    "features": None,
    "filtering": [
        {
            "domain": "DEFAULT",
            "draft": {"rules": [], "advanced_snippet": {"value": {}}},
            "active": {
                "rules": [{"id": "DEFAULT", "policy": "include"}],
                "advanced_snippet": {"created_at": "2024-01-01T00:00:00Z", "value": {"db": {"t": "SELECT 1"}}},
            },
        }
    ],
    "index_name": "search-db",
    "is_native": False,
    "language": "en",
    "last_seen": "2024-05-31T12:00:00.000Z",
    "last_sync_status": "completed",
    "last_synced": "2024-05-31T14:00:00+02:00",
    "name": "The database",
    "pipeline": {"name": "p", "extract_binary_content": True},
    "scheduling": {
        "full": {"enabled": True, "interval": "0 0 0 * * ?"},
        "incremental": {"enabled": False, "interval": "0 0 * * * ?"},
    },
    "service_type": "mysql",
    "status": "connected",
    "sync_now": False,
}


# Filter


@pytest.mark.parametrize(
    ("record", "advanced"),
    [
        ({}, None),
        ({"advanced_snippet": None}, None),
        ({"advanced_snippet": {}}, None),
        ({"advanced_snippet": {"value": None}}, None),
        ({"advanced_snippet": {"value": {}}}, None),
        ({"advanced_snippet": {"value": []}}, None),
        ({"advanced_snippet": {"value": {"a": 1}}}, {"a": 1}),
        ({"advanced_snippet": {"value": [1]}}, [1]),
        ({"rules": None, "advanced_snippet": {"value": "x"}}, "x"),
    ],
)
def test_advanced_rules_are_there_or_not(record: dict[str, Any], advanced: Any) -> None:
    rules = Filter(record)
    assert rules.has_advanced_rules() is (advanced is not None)
    assert rules.get_advanced_rules() == (advanced if advanced is not None else {})
    assert rules.basic_rules == []


def test_a_filter_is_its_record() -> None:
    rules = Filter.of([{"id": "1"}], {"t": "x"})
    assert rules == {"rules": [{"id": "1"}], "advanced_snippet": {"value": {"t": "x"}}}
    assert rules.basic_rules == [{"id": "1"}]
    assert Filter(json.loads(json.dumps(rules))).get_advanced_rules() == {"t": "x"}
    assert not Filter.of().has_advanced_rules()


# Times


@pytest.mark.parametrize(
    "written",
    [
        "2024-05-31T12:00:00Z",
        "2024-05-31T12:00:00.000Z",
        "2024-05-31T14:00:00+02:00",
        "2024-05-31T12:00:00",
        "2024-05-31 12:00:00.000000",
        NOON.timestamp(),
        int(NOON.timestamp()),
        NOON,
        NOON.astimezone(timezone(timedelta(hours=5))),
        NOON.replace(tzinfo=None),
    ],
)
def test_times_are_read_as_utc(written: Any) -> None:
    moment = parse_time(written)
    assert moment == NOON
    assert moment.utcoffset() == timedelta(0)


def test_the_order_of_written_times_is_that_of_the_times() -> None:
    moments = [NOON + timedelta(microseconds=n) for n in (0, 1, 999_999, 1_000_000)]
    written = [format_time(moment.astimezone(timezone(timedelta(hours=-n)))) for n, moment in enumerate(moments)]
    assert written == sorted(written)
    assert [parse_time(text) for text in written] == moments
    assert len({len(text) for text in written}) == 1


# Connector


def test_a_connector_of_another_tool_is_read() -> None:
    connector = Connector.from_record("c-1", FOREIGN_CONNECTOR, version=7)
    assert (connector.id, connector.version) == ("c-1", 7)
    assert connector.last_synced == connector.last_seen == NOON
    assert connector.status == ConnectorStatus.CONNECTED
    assert (connector.interval(JobType.FULL), connector.interval(JobType.INCREMENTAL)) == ("0 0 0 * * ?", None)
    assert connector.interval(JobType.ACCESS_CONTROL) is None
    assert connector.active_filter.get_advanced_rules() == {"db": {"t": "SELECT 1"}}
    assert connector.active_filter.basic_rules == [{"id": "DEFAULT", "policy": "include"}]
    assert connector.features == {}


def test_what_we_do_not_know_of_a_connector_is_written_back_untouched() -> None:
    connector = Connector.from_record("c-1", FOREIGN_CONNECTOR)
    record = connector.with_(status=ConnectorStatus.ERROR, error="no").to_record()
    assert {key: record[key] for key in ("api_key_id", "api_key_secret_id", "sync_now")} == {
        "api_key_id": "k-1",
        "api_key_secret_id": None,
        "sync_now": False,
    }
    assert record["configuration"] == FOREIGN_CONNECTOR["configuration"]
    assert record["filtering"] == FOREIGN_CONNECTOR["filtering"]
    assert (record["status"], record["error"]) == ("error", "no")
    assert {"id", "version", "extra"}.isdisjoint(record)
    assert json.loads(json.dumps(record)) == record, "a record is plain JSON"
    again = Connector.from_record("c-1", record)
    assert again == connector.with_(status="error", error="no")


def test_a_bare_connector_has_defaults() -> None:
    connector = Connector.from_record("c", {"service_type": "mysql", "index_name": "i"})
    assert connector.status == ConnectorStatus.CREATED
    assert connector.active_filter == Filter()
    assert not connector.paused
    assert all(connector.last_scheduled(kind) is None for kind in JobType)
    assert all(connector.interval(kind) is None for kind in JobType)
    assert Connector.from_record("c", {**connector.to_record(), "paused": True}).paused


def test_two_connectors_share_no_defaults() -> None:
    first, second = (Connector.from_record(name, {"service_type": "s", "index_name": "i"}) for name in "ab")
    first.configuration["x"] = 1
    assert second.configuration == {}


@pytest.mark.parametrize("kind", list(JobType))
def test_each_kind_of_sync_has_its_last_tick(kind: JobType) -> None:
    connector = Connector(id="c", service_type="s", index_name="i").with_(**{scheduled_field(kind): NOON})
    assert [other for other in JobType if connector.last_scheduled(other) == NOON] == [kind]
    assert Connector.from_record("c", connector.to_record()).last_scheduled(kind) == NOON


def test_a_connector_that_another_tool_has_only_begun_is_read() -> None:
    connector = Connector.from_record(
        "c-1", {"service_type": None, "index_name": None, "name": None, "status": "created"}
    )
    assert (connector.service_type, connector.index_name, connector.name) == ("", "", "")


# SyncJob


def test_a_job_of_another_tool_is_read_and_written_back() -> None:
    record = {
        "connector": {"id": "c-1", "service_type": "mysql", "index_name": "search-db", "filtering": []},
        "job_type": "full",
        "trigger_method": "on_demand",
        "status": "pending",
        "created_at": "2024-05-31T12:00:00.000Z",
        "started_at": None,
        "indexed_document_count": None,
        "deleted_document_count": 3,
        "note": {"by": "hand"},
    }
    job = SyncJob.from_record("j-1", record, version=2)
    assert (job.connector_id, job.status, job.trigger_method) == ("c-1", JobStatus.PENDING, TriggerMethod.ON_DEMAND)
    assert (job.indexed_document_count, job.deleted_document_count) == (0, 3)
    written = job.to_record()
    assert written["note"] == {"by": "hand"}
    assert written["created_at"] == format_time(NOON)
    assert json.loads(json.dumps(written)) == written
    assert SyncJob.from_record("j-1", written, version=2) == job


def test_a_job_without_a_connector_belongs_to_none() -> None:
    assert SyncJob.from_record("j", {"connector": None}).connector_id == ""


@pytest.mark.parametrize("status", list(JobStatus))
def test_a_job_ends_once(status: JobStatus) -> None:
    job = SyncJob(id="j", connector={}, status=status)
    assert job.ended is (status in {"completed", "error", "canceled"})
    assert SyncJob.from_record("j", job.to_record()).ended is job.ended


def test_the_duration_of_a_job_is_known_as_far_as_it_went() -> None:
    job = SyncJob(id="j", connector={})
    assert job.seconds is None
    started = job.with_(started_at=NOON)
    assert started.seconds is None
    assert started.with_(last_seen=NOON + timedelta(seconds=5)).seconds == 5
    ended = started.with_(last_seen=NOON + timedelta(seconds=5), completed_at=NOON + timedelta(seconds=7))
    assert ended.seconds == 7
    assert started.with_(canceled_at=NOON + timedelta(seconds=6)).seconds == 6
