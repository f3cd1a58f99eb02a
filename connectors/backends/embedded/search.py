"""Search for people: the query's tree as SQL, ranked by BM25; runs in a database thread."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import orjson

from connectors.backends.embedded.connection import Database, with_rows
from connectors.backends.embedded.marking import Marker
from connectors.backends.embedded.schema import on_index
from connectors.backends.ports import Hit, SearchPage
from connectors.backends.query_language import Query, Term, parse_query
from connectors.errors import NotFoundError

__all__ = ["BODY_EXCERPT", "MAX_TOTAL", "search_index"]

#: Hits are counted up to here; a larger total is given as this.
MAX_TOTAL: Final = 10_000
#: Characters of a hit's `body`.
BODY_EXCERPT: Final = 300

_MAX_LIMIT: Final = 2**62  # SQLite takes no larger number
_PART: Final = 500  # hits of one statement
_TEXT_FIELDS: Final = frozenset({"title", "path", "body"})

# All places in the document at the field or below it: text contains the value, anything else is equal to it.
# Before that, the value has to stand somewhere in the JSON, which is quicker to see.
_FIELD: Final = """CAST(documents.body AS TEXT) LIKE ? ESCAPE '\\' AND EXISTS (
    SELECT 1 FROM json_tree(CAST(documents.body AS TEXT), ?) AS leaf
    WHERE CASE leaf.type WHEN 'text' THEN leaf.atom LIKE ? ESCAPE '\\'
        WHEN 'integer' THEN CAST(leaf.atom AS TEXT) = ? WHEN 'real' THEN CAST(leaf.atom AS TEXT) = ?
        ELSE leaf.type = ? END
)"""
# SQLite's own JSON takes the text out of a large document without holding the interpreter lock.
_BODY: Final = """CASE WHEN length(documents.body) <= 4096 THEN documents.body ELSE json_replace(
    CAST(documents.body AS TEXT), '$.body', substr(json_extract(CAST(documents.body AS TEXT), '$.body'), 1, 400)
) END"""
_PLAIN: Final = "SELECT pk, id, @body FROM documents WHERE pk IN (@rows)".replace("@body", _BODY)
_MARKED: Final = """
SELECT documents.pk, documents.id, @body, @text.title, @text.path, @text.body
FROM documents JOIN @text ON @text.rowid = documents.pk WHERE documents.pk IN (@rows)
""".replace("@body", _BODY)
_COUNT: Final = "SELECT count(*) FROM (SELECT 1 @rows LIMIT ?)"
# The key decides among equals, so that pages neither repeat nor miss a hit.
_RANKED: Final = "SELECT @text.rowid, rank @rows ORDER BY rank, @text.rowid LIMIT ? OFFSET ?"
_UNRANKED: Final = "SELECT documents.pk, 0.0 @rows ORDER BY documents.pk LIMIT ? OFFSET ?"


class _Plan(NamedTuple):
    """What a query asks of SQL.

    Attributes:
        rows: the FROM and WHERE clauses; documents are joined to the full text only when a condition needs them.
        parameters: of these.
        match: what the full text is asked for, which also ranks; None when nothing is.
        marked: the terms to mark in what it finds.
    """

    rows: str
    parameters: list[Any]
    match: str | None
    marked: tuple[Term, ...] = ()


def search_index(database: Database, index: str, text: str, limit: int, offset: int) -> SearchPage:
    """Returns one page of hits, best first; raises NotFoundError without such an index."""
    with database.reading():
        row = database.execute("SELECT pk FROM indices WHERE name = ?", (index,)).fetchone()
        if row is None:
            raise NotFoundError(f'There is no index "{index}"; the page lists those that there are')
        plan = _compile(parse_query(text), row[0])
        if plan is None:
            return SearchPage(0, ())
        total = database.execute(_COUNT.replace("@rows", plan.rows), (*plan.parameters, MAX_TOTAL)).fetchone()[0]
        ranking = on_index(_RANKED, row[0]) if plan.match else _UNRANKED
        best = database.execute(
            ranking.replace("@rows", plan.rows),
            (*plan.parameters, min(max(limit, 0), _MAX_LIMIT), min(max(offset, 0), _MAX_LIMIT)),
        ).fetchall()
        found = _read(database, row[0], [pk for pk, _ in best], Marker(plan.marked) if plan.match else None)
    return SearchPage(total, [Hit(found[pk][0], -rank, *found[pk][1:]) for pk, rank in best])


def _read(
    database: Database, index_pk: int, pks: list[int], marker: Marker | None
) -> dict[int, tuple[str, dict[str, Any], dict[str, tuple[str, ...]]]]:
    """Returns key → id, source and highlights of the hits on a page. One row at a time, for texts can be large."""
    found: dict[int, tuple[str, dict[str, Any], dict[str, tuple[str, ...]]]] = {}
    for start in range(0, len(pks), _PART):
        part = pks[start : start + _PART]
        statement = with_rows(on_index(_MARKED if marker else _PLAIN, index_pk), len(part))
        for pk, id_, body, *texts in database.execute(statement, part):
            found[pk] = id_, _source(body), _highlights(marker, *texts) if marker else {}
    return found


def _source(body: bytes | str) -> dict[str, Any]:
    source: dict[str, Any] = orjson.loads(body)
    if isinstance(source.get("body"), str):
        source["body"] = source["body"][:BODY_EXCERPT]
    return source


def _highlights(marker: Marker, title: str, path: str, body: str) -> dict[str, tuple[str, ...]]:
    marked = {
        "title": marker.line("title", title), "path": marker.line("path", path), "body": marker.passage("body", body)
    }  # fmt: skip
    return {name: (text,) for name, text in marked.items() if text is not None}


def _compile(query: Query, index_pk: int) -> _Plan | None:
    """Returns what to ask of SQL; None for a query that finds nothing."""
    if not query.groups:
        return None
    required = [_match_group(group) for group in query.groups if all(map(_is_text, group))]
    conditions: list[str] = []
    parameters: list[Any] = []
    match: str | None = None
    if required:
        match = " AND ".join(required)
        if forbidden := tuple(filter(_is_text, query.without)):
            match += f" NOT {_match_group(forbidden)}"
        conditions.append(on_index("@text MATCH ?", index_pk))
        parameters.append(match)
    fields = [group for group in query.groups if not all(map(_is_text, group))]
    conditions += [_condition(group, index_pk, parameters) for group in fields]
    excluded = [term for term in query.without if not required or not _is_text(term)]
    conditions += [f"NOT {_condition((term,), index_pk, parameters)}" for term in excluded]
    where = f"WHERE {' AND '.join(conditions)}"
    if match is None:
        return _Plan(f"FROM documents {where} AND documents.index_pk = {index_pk}", parameters, None)
    joined = " CROSS JOIN documents ON documents.pk = @text.rowid" if len(conditions) > 1 else ""
    marked = tuple(term for group in query.groups for term in group if _is_text(term))
    return _Plan(on_index(f"FROM @text{joined} {where}", index_pk), parameters, match, marked)


def _is_text(term: Term) -> bool:
    """Whether the full text answers the term; other fields are looked up in the document."""
    return term.field is None or term.field in _TEXT_FIELDS


def _match_group(group: tuple[Term, ...]) -> str:
    return "(" + " OR ".join(map(_match, group)) + ")"


def _match(term: Term) -> str:
    """Returns the term in FTS5's language; the text is quoted, so that nothing in it is an operator."""
    column = f"{term.field} : " if term.field else ""
    quoted = _valid(term.text).replace('"', '""')
    return f'{column}"{quoted}"{" *" if term.prefix else ""}'


def _condition(group: tuple[Term, ...], index_pk: int, parameters: list[Any]) -> str:
    """Returns the condition that one of the terms is met, and appends its parameters."""
    alternatives: list[str] = []
    for term in group:
        if _is_text(term):
            alternatives.append(on_index("documents.pk IN (SELECT rowid FROM @text WHERE @text MATCH ?)", index_pk))
            parameters.append(_match(term))
            continue
        value = _valid(term.text)
        contained = value.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        path = "$" + "".join(f'."{key}"' for key in _valid(term.field or "").split("."))
        escaped = orjson.dumps(value).decode() != f'"{value}"'  # is written in another way in JSON
        alternatives.append(_FIELD)
        parameters += ["%" if escaped else f"%{contained}%", path, f"%{contained}%", value, value, value.lower()]
    return f"({' OR '.join(alternatives)})"


def _valid(text: str) -> str:
    """Returns the text without lone surrogates, which SQLite does not take."""
    return text.encode("utf-8", "replace").decode()
