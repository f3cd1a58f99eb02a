"""What to read of which collection: all of it, or what an advanced rule says.

::

    {"find": {"filter": {"state": "open"}, "projection": {"notes": 0}}}
    {"aggregate": {"pipeline": [{"$match": {"state": "open"}}, {"$unset": "notes"}]}}
    [{"collection": "orders", "find": {...}}, {"collection": "customers", "aggregate": {...}}]

Values that JSON lacks are written as extended JSON: `{"$oid": "…"}`, `{"$date": "2026-01-31T00:00:00Z"}`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from bson import json_util

from connectors.errors import ConfigurationError
from connectors.filtering.validation import AdvancedRulesValidator, SyncRuleValidationResult
from connectors.sources.mongodb.values import from_text
from connectors.utils import nearest, quoted

__all__ = ["MongoRulesValidator", "Selection", "problems_of", "selections_of"]

_SHAPE: Final = 'write {"find": {"filter": {…}}} or {"aggregate": {"pipeline": […]}}'
_FIND: Final[Mapping[str, Any]] = {
    "filter": dict,
    "projection": dict,
    "sort": (dict, list),
    "skip": int,
    "limit": int,
    "hint": (str, dict),
    "collation": dict,
}
_AGGREGATE: Final[Mapping[str, Any]] = {
    "pipeline": list,
    "hint": (str, dict),
    "collation": dict,
    "let": dict,
    "allowDiskUse": bool,
}
_KIND_WORDS: Final = {dict: "a mapping", list: "a list", int: "a whole number", str: "text", bool: "true or false"}
#: Stages that write. The rest of a pipeline can only read.
_WRITING: Final = frozenset({"$out", "$merge"})
#: Stages after which each document is still one of the collection's own, and depends on nothing else.
_ONE_BY_ONE: Final = frozenset({"$match", "$project", "$set", "$addFields", "$unset", "$redact"})
#: What makes a result depend on more than the collection: time, chance, code, other collections.
_UNSTEADY: Final = frozenset({
    "$lookup", "$graphLookup", "$unionWith", "$rand", "$sample", "$sampleRate", "$where", "$function", "$accumulator",
    "$$NOW", "$$CLUSTER_TIME", "$currentOp", "$collStats", "$indexStats", "$documents", "$search", "$vectorSearch",
})  # fmt: skip
#: What only works at the very front of a query, or orders it.
_IN_FRONT: Final = frozenset({"$near", "$nearSphere", "$geoNear", "$text"})


@dataclass(frozen=True, slots=True)
class Selection:
    """What to read of one collection.

    Attributes:
        pipeline: stages of an aggregation; None for a find.
        options: what is passed on to the driver as it is.
        window: `sort`, `skip` and `limit` of a find that has a skip or a limit.
        one_by_one: whether each document of the collection gives at most one result, of the same `_id`, that depends
            on this document alone. Such a selection can be resumed and followed.
        steady: whether the result stays the same while the collection does.
    """

    collection: str
    filter: Mapping[str, Any] = field(default_factory=dict)
    projection: Mapping[str, Any] | None = None
    pipeline: Sequence[Mapping[str, Any]] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    window: Mapping[str, Any] | None = None
    one_by_one: bool = True
    steady: bool = True


def selections_of(rules: Any, collections: Sequence[str] | None) -> list[Selection]:
    """Returns what the rules select, in the order of the collections' names.

    Args:
        collections: the configured ones; None for all.

    Raises:
        ConfigurationError: the rules are not valid; validators tell all problems.
    """
    problems = problems_of(rules, collections)
    if problems:
        raise ConfigurationError("advanced rules: " + "; ".join(problems))
    chosen = [_selection(rule, collections) for rule in _listed(rules)]
    return sorted(chosen, key=lambda selection: selection.collection)


class MongoRulesValidator(AdvancedRulesValidator):
    """Looks at shape, names and stages of the advanced rules; asks the server nothing."""

    def __init__(self, collections: Sequence[str] | None) -> None:
        self._collections = collections

    def validate(self, advanced_rules: Any) -> list[SyncRuleValidationResult]:
        """Returns one result for each problem; an empty list when there is none."""
        return [
            SyncRuleValidationResult(
                SyncRuleValidationResult.ADVANCED_RULES, is_valid=False, validation_message=message
            )
            for message in problems_of(advanced_rules, self._collections)
        ]


def problems_of(rules: Any, collections: Sequence[str] | None) -> list[str]:
    """Returns what is wrong with the rules, in words for people."""
    if not isinstance(rules, Mapping | list) or not rules:
        return [f"{quoted(rules)} is no rule: {_SHAPE}"]
    listed = _listed(rules)
    found = [
        text if len(listed) == 1 else f"rule {number}: {text}"
        for number, rule in enumerate(listed, 1)
        for text in _judge(rule, collections)
    ]
    names = [_collection_of(rule, collections) for rule in listed if isinstance(rule, Mapping)]
    found += [
        f"there are several rules for {quoted(name)}: write one, with $or in its filter"
        for name in sorted({name for name in names if isinstance(name, str) and names.count(name) > 1})
    ]
    return found


def _listed(rules: Any) -> list[Any]:
    return list(rules) if isinstance(rules, list) else [rules]


def _judge(rule: Any, collections: Sequence[str] | None) -> Iterator[str]:
    if not isinstance(rule, Mapping):
        yield f"{quoted(rule)} is no rule: {_SHAPE}"
        return
    yield from _unknown(rule, ("collection", "find", "aggregate"), "a rule")
    if ("find" in rule) == ("aggregate" in rule):
        yield f"a rule has either find or aggregate: {_SHAPE}"
        return
    name = _collection_of(rule, collections)
    if not isinstance(name, str) or not name:
        yield 'say which collection is meant: {"collection": "orders", …}'
    elif collections is not None and name not in collections:
        near = nearest(name, collections)
        hint = (
            f"; did you mean {quoted(near)}?" if near else f": add it there, or write one of {', '.join(collections)}"
        )
        yield f"{quoted(name)} is not among the collections of the configuration{hint}"
    try:
        query = from_text(json_util.dumps(rule.get("find", rule.get("aggregate"))))
    except (TypeError, ValueError) as error:
        yield f"a value is no extended JSON: {error}"
        return
    yield from _judge_find(query) if "find" in rule else _judge_aggregate(query)


def _collection_of(rule: Mapping[str, Any], collections: Sequence[str] | None) -> Any:
    return rule.get("collection", collections[0] if collections is not None and len(collections) == 1 else None)


def _unknown(given: Mapping[str, Any], known: Sequence[str], where: str) -> Iterator[str]:
    for key in given:
        if key not in known:
            near = nearest(str(key), known)
            hint = f"; did you mean {quoted(near)}?" if near else f", but {', '.join(known)}"
            yield f"{where} has no {quoted(key)}{hint}"


def _judge_values(query: Any, kinds: Mapping[str, Any], where: str) -> Iterator[str]:
    if not isinstance(query, Mapping):
        yield f"{where} is a mapping: {_SHAPE}"
        return
    yield from _unknown(query, tuple(kinds), where)
    for key, kind in kinds.items():
        if key in query and (not isinstance(query[key], kind) or (kind is int and isinstance(query[key], bool))):
            words = " or ".join(_KIND_WORDS[one] for one in (kind if isinstance(kind, tuple) else (kind,)))
            yield f"{where}: {key} is {words}"


def _judge_find(query: Any) -> Iterator[str]:
    problems = list(_judge_values(query, _FIND, "find"))
    yield from problems
    if problems:
        return
    for key in ("skip", "limit"):
        if query.get(key, 1) < 0:
            yield f"find: {key} is not negative"
    if "_id" in query.get("projection", {}) and query["projection"]["_id"] not in (1, True):
        yield "find: the projection must keep _id, by which a document is known"
    try:
        list(_sort_of(query))
    except (TypeError, ValueError):
        yield 'find: sort is {"field": 1} or [["field", 1], ["other", -1]]'


def _judge_aggregate(query: Any) -> Iterator[str]:
    problems = list(_judge_values(query, _AGGREGATE, "aggregate"))
    yield from problems
    if problems:
        return
    if not query.get("pipeline"):
        yield "aggregate: write the stages in pipeline: [{…}, {…}]"
        return
    for number, stage in enumerate(query["pipeline"], 1):
        if not isinstance(stage, Mapping) or len(stage) != 1 or not next(iter(stage)).startswith("$"):
            yield f'aggregate: stage {number} is a mapping of one operator, such as {{"$match": {{…}}}}'
    yield from (f"aggregate: {stage} would write to the database" for stage in sorted(_WRITING & set(_words(query))))


def _sort_of(query: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    sort = query.get("sort", {})
    for name, direction in sort.items() if isinstance(sort, Mapping) else sort:
        if not isinstance(name, str) or not (direction in (1, -1) or isinstance(direction, Mapping)):
            raise ValueError(name)
        yield name, direction


def _selection(rule: Mapping[str, Any], collections: Sequence[str] | None) -> Selection:
    name = _collection_of(rule, collections)
    query = from_text(json_util.dumps(rule.get("find", rule.get("aggregate"))))
    words = set(_words(query))
    steady = not words & _UNSTEADY
    options = {key: query[key] for key in ("hint", "collation", "let", "allowDiskUse") if key in query}
    # A collation compares ids by its own rules, and `hint` and `let` belong to the query as it was written.
    own = steady and not options and not words & _IN_FRONT
    if "aggregate" in rule:
        pipeline = query["pipeline"]
        own = own and all(map(_is_one_by_one, pipeline))
        return Selection(name, pipeline=pipeline, options=options, one_by_one=own, steady=steady)
    window = None
    if query.get("skip") or query.get("limit"):  # else the order is of no concern to an index
        # Without an order, which documents are within the limit would be left to chance.
        order = [*_sort_of(query), *([] if "_id" in dict(_sort_of(query)) else [("_id", 1)])]
        window = {"sort": order, "skip": query.get("skip", 0), "limit": query.get("limit", 0)}
    return Selection(
        name,
        filter=query.get("filter", {}),
        projection=query.get("projection") or None,
        options=options,
        window=window,
        one_by_one=own and window is None,
        steady=steady,
    )


def _is_one_by_one(stage: Mapping[str, Any]) -> bool:
    name, body = next(iter(stage.items()))
    if name not in _ONE_BY_ONE:
        return False
    if name in {"$match", "$redact"}:
        return True
    keys = [body] if isinstance(body, str) else list(body)
    kept = name == "$project" and isinstance(body, Mapping) and body.get("_id") in (1, True)
    return not any(str(key).partition(".")[0] == "_id" for key in keys if not (kept and key == "_id"))


def _words(value: Any) -> Iterator[str]:
    """Yields the operators and variables in a query: keys with one dollar, texts with two."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            if key.startswith("$"):
                yield key
            yield from _words(item)
    elif isinstance(value, list):
        for item in value:
            yield from _words(item)
    elif isinstance(value, str) and value.startswith("$$"):
        yield value.partition(".")[0]
