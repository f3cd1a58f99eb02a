"""Fingerprints, languages, names, search fields, and records that others wrote."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

import pytest

from connectors.backends.ports import IndexSpec
from connectors.backends.query_language import parse_query
from connectors.backends.server import ELASTICSEARCH
from connectors.backends.server.bulk import STAMP
from connectors.backends.server.documents import Document
from connectors.backends.server.indices import Indices
from connectors.backends.server.languages import LANGUAGES, analysis
from connectors.backends.server.mappings import STAMP_MAPPING, fingerprint, index_body, nested_pipelines
from connectors.backends.server.names import path_of, write_alias
from connectors.backends.server.readable import connector_of, job_of
from connectors.backends.server.search import SearchFields, compile_query
from connectors.errors import ConfigurationError
from tests.support.transport import answer, fake_client

TEXT: Final = {"type": "text", "fields": {"keyword": {"type": "keyword", "ignore_above": 256}}}

# Fingerprint


def digest(properties: dict[str, Any], /, *, pipelines: dict[str, Any] | None = None, **mappings: Any) -> str:
    return fingerprint({"properties": properties, **mappings}, {}, pipelines or {})


@pytest.mark.parametrize(
    "added",
    [
        {"new": TEXT},
        {"new": {"type": "long"}},
        {"new": {"type": "date"}},
        {"new": {"properties": {"deep": {"properties": {"er": {"type": "boolean"}}}}}},
        {"_sync": {"properties": {"id": {"type": "keyword"}}}},
    ],
)
def test_what_dynamic_mapping_adds_is_no_change(added: dict[str, Any]) -> None:
    own = {"code": {"type": "keyword"}}
    assert digest({**own, **added}) == digest(own)


@pytest.mark.parametrize(
    "added",
    [
        {"new": {"type": "keyword"}},
        {"new": {"type": "text", "analyzer": "english"}},
        {"new": {"properties": {"deep": {"type": "keyword"}}}},
        {"new": {"type": "nested", "properties": {}}},
    ],
)
def test_what_somebody_maps_is_a_change(added: dict[str, Any]) -> None:
    assert digest(added) != digest({})


def test_fields_of_a_strict_mapping_were_mapped_by_somebody() -> None:
    assert digest({"new": TEXT}, dynamic="false") != digest({}, dynamic="false")


def test_what_a_dynamic_template_makes_is_no_change() -> None:
    templates = [{"all": {"match_mapping_type": "string", "mapping": {"type": "keyword"}}}]
    assert digest({"new": {"type": "keyword"}}, dynamic_templates=templates) == digest({}, dynamic_templates=templates)
    assert digest({}, dynamic_templates=templates) != digest({})


def test_the_notes_of_a_pipeline_do_not_count() -> None:
    one = digest({}, pipelines={"p": {"processors": [1], "version": 1, "description": "a"}})
    assert digest({}, pipelines={"p": {"processors": [1], "version": 2}}) == one
    assert digest({}, pipelines={"p": {"processors": [2], "version": 1}}) != one


def test_pipelines_within_pipelines() -> None:
    definition = {
        "processors": [
            {"pipeline": {"name": "a"}},
            {"foreach": {"processor": {"pipeline": {"name": "b", "if": "x"}}}},
            {"pipeline": {"name": "{{field}}"}},
        ],
        "on_failure": [{"pipeline": {"name": "c"}}],
    }
    assert sorted(nested_pipelines(definition)) == ["a", "b", "c"]


# Languages and names


@pytest.mark.parametrize("language", [None, "", "EN", "en-GB", "pt_BR", *LANGUAGES])
def test_every_language_has_an_analyser(language: str | None) -> None:
    assert analysis(language)["analyzer"]["connectors_text"]["filter"][-1] == "asciifolding"


@pytest.mark.parametrize("language", ["xx", "klingon", "english please"])
def test_an_unknown_language_is_refused(language: str) -> None:
    with pytest.raises(ConfigurationError, match="no language") as caught:
        index_body(IndexSpec("i", language))
    assert caught.value.field == "language"


def test_a_source_names_types_of_fields_but_not_the_stamp() -> None:
    fields = {"host": {"type": "keyword"}, "title": {"type": "keyword"}, STAMP: {"type": "text"}}
    properties = index_body(IndexSpec("i", fields=fields))["mappings"]["properties"]
    assert (properties["host"], properties["title"]) == ({"type": "keyword"}, {"type": "keyword"})
    assert (properties[STAMP], properties["body"]["type"]) == (STAMP_MAPPING, "text")


def test_names_are_escaped_whole() -> None:
    assert path_of("a/b", "_doc", "ä ?#%") == "/a%2Fb/_doc/%C3%A4%20%3F%23%25"
    assert path_of("a.b", "_doc", "..") == "/a.b/_doc/%2E%2E"
    assert path_of("a", "_doc", ".") == "/a/_doc/%2E"


def test_an_alias_can_be_no_index_and_fits() -> None:
    alias = write_alias("ä" * 127, "u" * 22)
    assert alias.endswith("@Connectors-" + "u" * 22)
    assert len(alias.encode()) <= 255
    assert alias != alias.lower()


# Search


def test_fields_are_sorted_by_how_they_are_asked() -> None:
    fields = SearchFields()
    fields.read(
        {
            "title": TEXT,
            "code": {"type": "keyword"},
            "hidden": {"type": "keyword", "index": False},
            "deep": {"properties": {"n": {"type": "long"}, "at": {"type": "date"}, "flag": {"type": "boolean"}}},
            "place": {"type": "geo_point"},
            "_sync": {"properties": {"id": {"type": "keyword"}}},
            "_timestamp": {"type": "date"},
        }
    )
    assert (fields.texts, fields.keywords) == ({"title": "title.keyword"}, ["code"])
    assert (fields.numbers, fields.dates, fields.booleans) == (["deep.n"], ["deep.at"], ["deep.flag"])


@pytest.mark.parametrize("query", ["word", "title:x", "size:1", '"a b"*', "a OR b -c", "at:2026-11"])
def test_without_fields_nothing_is_found_and_nothing_breaks(query: str) -> None:
    assert compile_query(parse_query(query), SearchFields()) is not None


def test_a_pattern_means_its_letters() -> None:
    compiled = compile_query(parse_query('code:"a*b?c\\d"'), SearchFields(keywords=["code"]))
    assert compiled is not None
    assert compiled["bool"]["must"][0]["wildcard"]["code"]["value"] == "*a\\*b\\?c\\\\d*"


@pytest.mark.parametrize(("day", "asked"), [("2026", True), ("2026-11", True), ("2026-11-24", True), ("24.11.", False)])
def test_dates_are_asked_by_year_month_or_day(day: str, asked: bool) -> None:
    compiled = compile_query(parse_query(f"at:{day}"), SearchFields(dates=["at"]))
    assert compiled is not None
    assert ("range" in compiled["bool"]["must"][0]) == asked


# Records of others


def document(**source: Any) -> Document:
    return Document("id", source, 4, 2)


def test_versions_grow_with_sequence_number_and_term() -> None:
    versions = [Document("i", {}, seq_no, term).version for term, seq_no in ((1, 0), (1, 1), (1, 2**40), (2, 0))]
    assert versions == sorted(set(versions))
    assert versions[0] > 0


def test_a_minimal_job_is_read() -> None:
    job = job_of(document(connector={"id": "x"}, status="pending"))
    assert (job.connector_id, job.status, job.job_type, job.created_at) == ("x", "pending", "full", None)


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ("2026-11-24T12:00:00Z", datetime(2026, 11, 24, 12, tzinfo=UTC)),
        ("2026-11-24T12:00:00.123+00:00", datetime(2026, 11, 24, 12, 0, 0, 123000, tzinfo=UTC)),
        (1795521600000, datetime(2026, 11, 24, 12, tzinfo=UTC)),
        (1795521600, datetime(2026, 11, 24, 12, tzinfo=UTC)),
        ("soon", None),
        ([1], None),
        (1e300, None),
    ],
)
def test_times_that_others_write(value: Any, read: datetime | None) -> None:
    connector = connector_of(document(last_seen=value, name="kept"))
    assert (connector.last_seen, connector.name) == (read, "kept")


def test_fields_of_another_form_are_not_read_and_not_lost() -> None:
    connector = connector_of(
        document(configuration=[1], scheduling="x", filtering={}, name=7, service_type="directory", foreign={"a": 1})
    )
    assert (connector.configuration, connector.scheduling, connector.filtering, connector.name) == ({}, {}, [], "")
    assert connector.service_type == "directory"
    assert connector.to_record().items() >= {"configuration": [1], "scheduling": "x", "foreign": {"a": 1}}.items()


# Indices that are none


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ({".ds-logs-1": {"aliases": {}, "data_stream": "logs"}}, "data stream"),
        ({"logs-1": {"aliases": {"logs": {"is_write_index": False}}}}, "logs-1"),
        ({"logs-1": {"aliases": {"logs": {}}}, "logs-2": {"aliases": {"logs": {}}}}, "logs-1, logs-2"),
    ],
)
async def test_what_cannot_be_written_to_is_refused(found: dict[str, Any], words: str) -> None:
    client, transport = fake_client(ELASTICSEARCH, answer(body=found))
    with pytest.raises(ConfigurationError, match=words) as caught:
        await Indices(client).prepare(IndexSpec("logs"))
    assert caught.value.field == "index"
    assert [sent.method for sent in transport.sent] == ["GET"]
