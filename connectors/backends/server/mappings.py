"""What an index of ours looks like, and the fingerprint of what an index does with a document."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import orjson
from xxhash import xxh3_64_hexdigest

from connectors.backends.ports import IndexSpec
from connectors.backends.server.bulk import STAMP
from connectors.backends.server.languages import ANALYZER, analysis

__all__ = ["GC_DELETES", "STAMP_MAPPING", "fields_of", "fingerprint", "index_body", "nested_pipelines", "template_body"]

#: How long a delete's version is remembered, so that a late write does not bring the document back.
GC_DELETES: Final = "1h"
#: Beyond this, a text can be found by its words but not sorted by or compared as a whole.
_IGNORE_ABOVE: Final = 1024

_KEYWORD: Final = {"type": "keyword"}
#: Only doc values of what is never searched for.
_UNSEARCHED: Final = {"type": "keyword", "index": False}
STAMP_MAPPING: Final[Mapping[str, Any]] = {
    "properties": {"connector": _KEYWORD, "id": _KEYWORD, "hash": _UNSEARCHED, "fingerprint": _UNSEARCHED}
}
_TEXT: Final = {"type": "text", "analyzer": ANALYZER}
_NAME: Final = {**_TEXT, "fields": {"keyword": {"type": "keyword", "ignore_above": _IGNORE_ABOVE}}}

# What the servers make of a field that no mapping names.
_DYNAMIC_OUTCOMES: Final[tuple[Mapping[str, Any], ...]] = (
    {"type": "text", "fields": {"keyword": {"type": "keyword", "ignore_above": 256}}},
    {"type": "long"},
    {"type": "float"},
    {"type": "double"},
    {"type": "boolean"},
)
# Of a pipeline's definition, what says nothing about what it does.
_PIPELINE_NOTES: Final = frozenset({
    "version", "_meta", "description", "created_date", "created_date_millis", "modified_date", "modified_date_millis",
})  # fmt: skip


def index_body(spec: IndexSpec, *, serverless: bool = False) -> dict[str, Any]:
    """Returns settings and mappings of a new index; ConfigurationError for an unknown language."""
    return {
        "settings": {
            "index": {
                **_kept_deletes(serverless=serverless),
                # A date that is none costs this field's search, not the document.
                "mapping": {"ignore_malformed": True},
                "analysis": analysis(spec.language),
            }
        },
        "mappings": {
            "dynamic_templates": [
                {"texts": {"match_mapping_type": "string", "mapping": _NAME}},
                # A field that is 1 in one document and 1.5 in the next is one kind of number from the start.
                {"numbers": {"match_mapping_type": "long", "mapping": {"type": "double"}}},
                {"fractions": {"match_mapping_type": "double", "mapping": {"type": "double"}}},
            ],
            "properties": {
                "_timestamp": {"type": "date"},
                "_attachment": {"type": "binary"},
                "title": _NAME,
                "body": _TEXT,
                **spec.fields,
                STAMP: STAMP_MAPPING,
            },
        },
    }


def template_body(*, serverless: bool = False) -> dict[str, Any]:
    """Returns what is added where an index template of the operator's says the rest."""
    settings = {"index": _kept_deletes(serverless=serverless)}
    return {"settings": settings, "mappings": {"properties": {STAMP: STAMP_MAPPING}}}


def _kept_deletes(*, serverless: bool) -> dict[str, str]:
    """Returns the setting that keeps versions of deletes; a serverless project has it for itself."""
    return {} if serverless else {"gc_deletes": GC_DELETES}


def fields_of(properties: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yields the fields of a mapping with their dotted names, those of objects behind them; sub-fields are within."""
    for name, field in properties.items():
        path = f"{prefix}{name}"
        if "type" in field and field["type"] not in {"object", "nested"}:
            yield path, field
        yield from fields_of(field.get("properties") or {}, f"{path}.")


def fingerprint(mappings: Mapping[str, Any], settings: Mapping[str, Any], pipelines: Mapping[str, Any]) -> str:
    """Returns what changes when the same document would be indexed in another way.

    A field that dynamic mapping added is left out: no document that was there before can have had it. So the
    fingerprint stays as it is while documents bring new fields, and changes when somebody maps one on purpose.

    Args:
        mappings: of the index.
        settings: of the index, the block below `index`.
        pipelines: name → definition of every ingest pipeline that documents pass, and what was asked of it.
    """
    outcomes = [*_DYNAMIC_OUTCOMES, *_templated(mappings.get("dynamic_templates") or ())]
    own = {key: value for key, value in mappings.items() if key not in {"properties", "_meta"}}
    properties = {name: field for name, field in (mappings.get("properties") or {}).items() if name != STAMP}
    parts = [
        own,
        _on_purpose(properties, outcomes, dynamic=_dynamic(mappings, default=True)),
        settings.get("analysis"),
        settings.get("mapping", {}).get("ignore_malformed"),
        {name: _without_notes(definition) for name, definition in pipelines.items()},
    ]
    return xxh3_64_hexdigest(orjson.dumps(parts, option=orjson.OPT_SORT_KEYS))


def _on_purpose(properties: Mapping[str, Any], outcomes: list[Mapping[str, Any]], *, dynamic: bool) -> dict[str, Any]:
    """Returns the fields that dynamic mapping would not have made so."""
    kept: dict[str, Any] = {}
    for name, field in properties.items():
        if "properties" in field:
            below = _on_purpose(field["properties"], outcomes, dynamic=_dynamic(field, default=dynamic))
            settings = {key: value for key, value in field.items() if key != "properties"}
            if below or settings:
                kept[name] = {**settings, "properties": below}
        elif not (dynamic and (field in outcomes or field.get("type") == "date")):
            kept[name] = field
    return kept


def _dynamic(mapping: Mapping[str, Any], *, default: bool) -> bool:
    value = mapping.get("dynamic")
    return default if value is None else str(value).lower() in {"true", "runtime"}


def _templated(templates: Any) -> Iterator[Mapping[str, Any]]:
    for template in templates:
        for rule in template.values():
            if isinstance(mapping := rule.get("mapping"), Mapping):
                yield mapping


def _without_notes(definition: Any) -> Any:
    if not isinstance(definition, Mapping):
        return definition
    return {key: value for key, value in definition.items() if key not in _PIPELINE_NOTES}


def nested_pipelines(definition: Any) -> Iterator[str]:
    """Yields the names of the pipelines that a pipeline hands documents to."""
    if isinstance(definition, Mapping):
        inner = definition.get("pipeline")
        if isinstance(inner, Mapping) and isinstance(inner.get("name"), str) and "{{" not in inner["name"]:
            yield inner["name"]
        for value in definition.values():
            yield from nested_pipelines(value)
    elif isinstance(definition, list):
        for value in definition:
            yield from nested_pipelines(value)
