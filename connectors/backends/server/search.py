"""Search for people: the query's tree as a query of the server, over the fields that the index's mapping names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from secrets import token_hex
from typing import Any, Final, NamedTuple

from connectors.backends.ports import Hit, SearchPage
from connectors.backends.query_language import Query, Term, parse_query
from connectors.backends.server.bulk import EMPTY_ID, STAMP
from connectors.backends.server.client import Client
from connectors.backends.server.mappings import fields_of
from connectors.backends.server.names import path_of
from connectors.errors import RetryableError

__all__ = ["BODY_EXCERPT", "MAX_TOTAL", "SearchFields", "compile_query", "search_index"]

#: Hits are counted up to here, and can be had up to here.
MAX_TOTAL: Final = 10_000
#: Characters of a hit's `body`.
BODY_EXCERPT: Final = 300

_TEXT_TYPES: Final = frozenset({"text", "match_only_text", "search_as_you_type"})
_KEYWORD_TYPES: Final = frozenset({"keyword", "wildcard", "constant_keyword"})
_NUMBER_TYPES: Final = frozenset({
    "byte", "short", "integer", "long", "unsigned_long", "half_float", "float", "double", "scaled_float",
})  # fmt: skip
#: Names of the search box, and the fields behind them.
_NAMED: Final = {"title": ("title", "name"), "path": ("path", "name", "url"), "body": ("body",)}
_BOOSTS: Final = {"title": 4.0, "name": 2.0, "path": 2.0}
_HIGHLIGHTED: Final = ("title", "name", "path", "body")
_NUMBER: Final = re.compile(r"[+-]?\d{1,30}(?:\.\d{1,30})?", re.ASCII)
_WILD, _ESCAPED = re.compile(r"([*?\\])"), r"\\\1"
_DAY: Final = re.compile(r"\d{4}(?:-\d\d(?:-\d\d)?)?", re.ASCII)
_CONTROLS: Final = str.maketrans("", "", "\0\x02\x03")
#: Characters of a text that are looked through for what to mark: a hit must not cost more than its search.
_MARKED: Final = 500_000
#: Fields that one query looks into: each costs on each word, and servers refuse thousands.
_MOST_FIELDS: Final = 250

_Clause = dict[str, Any]


@dataclass(slots=True)
class SearchFields:
    """The fields of one index by how they are asked; names that begin with an underscore belong to the framework."""

    texts: dict[str, str | None] = field(default_factory=dict)  # → its sub-field that keeps the text whole
    keywords: list[str] = field(default_factory=list)
    numbers: list[str] = field(default_factory=list)
    booleans: list[str] = field(default_factory=list)
    dates: list[str] = field(default_factory=list)

    seen: set[str] = field(default_factory=set)

    def read(self, properties: Mapping[str, Any]) -> None:
        """Adds the fields of a mapping; of those with the same name the first counts."""
        shown = {name: mapped for name, mapped in properties.items() if not name.startswith("_")}
        for name, mapped in fields_of(shown):
            kind = mapped["type"]
            if mapped.get("index") is False or name in self.seen:
                continue
            self.seen.add(name)
            if kind in _TEXT_TYPES:
                whole = (sub for sub, below in (mapped.get("fields") or {}).items() if below["type"] in _KEYWORD_TYPES)
                sub = next(whole, None)
                self.texts[name] = None if sub is None else f"{name}.{sub}"
            elif kind in _KEYWORD_TYPES:
                self.keywords.append(name)
            elif kind in _NUMBER_TYPES:
                self.numbers.append(name)
            elif kind == "boolean":
                self.booleans.append(name)
            elif kind in {"date", "date_nanos"}:
                self.dates.append(name)


async def search_index(client: Client, index: str, text: str, limit: int, offset: int) -> SearchPage | None:
    """Returns one page of hits, best first; None without such an index."""
    response = await client.request("GET", f"{path_of(index)}/_mapping")
    if response.status == 404:
        return None
    if not response.ok:
        raise client.refused(response, f"the mapping of {index}")
    fields = SearchFields()
    for entry in response.json().values():
        fields.read(entry["mappings"].get("properties") or {})
    query = compile_query(parse_query(_valid(text)), fields)
    if query is None:
        return SearchPage(0, ())
    marks = _Marks(f"<{token_hex(8)}>", f"</{token_hex(8)}>")
    start = min(max(offset, 0), MAX_TOTAL)
    size = min(max(limit, 0), MAX_TOTAL - start)
    body = {
        "query": query,
        "from": start if size else 0,  # the server takes no page that begins at its very end
        "size": size,
        "track_total_hits": MAX_TOTAL,
        # Equals are in a fixed order, so that pages neither repeat nor miss a hit.
        "sort": [{"_score": "desc"}, {f"{STAMP}.id": {"order": "asc", "unmapped_type": "keyword"}}],
        "track_scores": True,
        "_source": {"excludes": [STAMP, "_attachment"]},
        "highlight": {**_highlight(fields, marks), client.product.highlight_limit: _MARKED},
    }
    response = await client.request("POST", f"{path_of(index)}/_search", body=body)
    if response.status == 404:
        return None
    if not response.ok:
        raise client.refused(response, f"a search in {index}")
    answer = response.json()
    if answer["timed_out"]:
        raise RetryableError(f"the search in {index} took too long")
    hits = answer["hits"]
    return SearchPage(min(int(hits["total"]["value"]), MAX_TOTAL), [_hit(hit, marks) for hit in hits["hits"]])


class _Marks(NamedTuple):
    """What the server puts around marked words.

    It trims control characters off the ends of a text, so ours are put in afterwards. Another one for each search,
    so that no document can forge a mark.
    """

    before: str
    after: str

    def translate(self, text: str) -> str:
        return text.translate(_CONTROLS).replace(self.before, "\x02").replace(self.after, "\x03")


def _highlight(fields: SearchFields, marks: _Marks) -> dict[str, Any]:
    whole = {"number_of_fragments": 0}
    return {
        "pre_tags": [marks.before],
        "post_tags": [marks.after],
        "require_field_match": False,
        "fields": {
            name: {"fragment_size": 200, "number_of_fragments": 1} if name == "body" else whole
            for name in _HIGHLIGHTED
            if name in fields.texts
        },
    }


def _hit(hit: Mapping[str, Any], marks: _Marks) -> Hit:
    source = dict(hit["_source"])
    if isinstance(source.get("body"), str):
        source["body"] = source["body"][:BODY_EXCERPT]
    id_ = hit["_id"]
    found = (hit.get("highlight") or {}).items()
    marked = {name: tuple(map(marks.translate, fragments)) for name, fragments in found}
    return Hit("" if id_ == EMPTY_ID else id_, float(hit["_score"] or 0.0), source, marked)


def compile_query(query: Query, fields: SearchFields) -> _Clause | None:
    """Returns the query in the server's language; None for one that finds nothing."""
    if not query.groups:
        return None
    compiled: dict[str, Any] = {"must": [_any(_term(term, fields) for term in group) for group in query.groups]}
    if query.without:
        compiled["must_not"] = [_term(term, fields) for term in query.without]
    return {"bool": compiled}


def _any(clauses: Iterable[_Clause]) -> _Clause:
    found = list(clauses)
    return found[0] if len(found) == 1 else {"bool": {"should": found, "minimum_should_match": 1}}


def _term(term: Term, fields: SearchFields) -> _Clause:
    if term.field is None:
        return _anywhere(term, fields)
    if term.field in _NAMED and (texts := [name for name in _NAMED[term.field] if name in fields.texts]):
        return _words(term, texts)
    return _in_field(term, term.field, fields)


def _anywhere(term: Term, fields: SearchFields) -> _Clause:
    clauses = [_words(term, list(fields.texts)[:_MOST_FIELDS])] if fields.texts else []
    if _NUMBER.fullmatch(term.text) and not term.prefix:
        clauses += [_number(name, term.text) for name in fields.numbers[:_MOST_FIELDS]]
    clauses += [_whole(name, term) for name in fields.keywords[:_MOST_FIELDS]]
    return _any(clauses) if clauses else {"match_none": {}}


def _words(term: Term, names: list[str]) -> _Clause:
    """Asks for the words in a row, in one of these text fields; a name's words count more than a text's."""
    return {
        "multi_match": {
            "query": term.text,
            "type": "phrase_prefix" if term.prefix else "phrase",
            "fields": [f"{name}^{_BOOSTS[name]}" if name in _BOOSTS else name for name in names],
            "lenient": True,
        }
    }


def _whole(name: str, term: Term) -> _Clause:
    """Asks a field that keeps texts whole: the same text, or one that begins so."""
    kind = "prefix" if term.prefix else "term"
    return {kind: {name: {"value": term.text, "case_insensitive": True}}}


def _in_field(term: Term, wanted: str, fields: SearchFields) -> _Clause:
    """Asks one field, or all that lie below it: a text contains the value, anything else is equal to it."""

    def meant(names: Iterable[str]) -> list[str]:
        return [name for name in names if name == wanted or name.startswith(f"{wanted}.")][:_MOST_FIELDS]

    clauses: list[_Clause] = []
    for name in meant(fields.texts):
        clauses += _contains(term, name, fields.texts[name])
    pattern = _pattern(term.text)
    clauses += [{"wildcard": {name: {"value": pattern, "case_insensitive": True}}} for name in meant(fields.keywords)]
    if _NUMBER.fullmatch(term.text):
        clauses += [_number(name, term.text) for name in meant(fields.numbers)]
    if term.text.lower() in {"true", "false"}:
        clauses += [{"term": {name: {"value": term.text.lower()}}} for name in meant(fields.booleans)]
    if _DAY.fullmatch(term.text):
        clauses += [
            {"range": {name: {"gte": term.text, "lte": term.text, "format": "strict_date_optional_time"}}}
            for name in meant(fields.dates)
        ]
    return _any(clauses) if clauses else {"match_none": {}}


def _contains(term: Term, name: str, whole: str | None) -> list[_Clause]:
    """Asks whether a text contains the value, letter by letter; by words where it is too long to be kept whole."""
    words = _words(term, [name])
    if whole is None:
        return [words]
    too_long = {"bool": {"must": [words], "filter": [{"term": {"_ignored": whole}}]}}
    return [{"wildcard": {whole: {"value": _pattern(term.text), "case_insensitive": True}}}, too_long]


def _pattern(text: str) -> str:
    return f"*{_WILD.sub(_ESCAPED, text)}*"


def _number(name: str, text: str) -> _Clause:
    # A range, for a term that does not fit (1.5 in a whole number) is an error and an empty range is none.
    return {"range": {name: {"gte": text, "lte": text}}}


def _valid(text: str) -> str:
    """Returns the text without lone surrogates, which are no UTF-8."""
    return text.encode("utf-8", "replace").decode()
