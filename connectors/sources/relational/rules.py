"""Advanced rules of the relational sources: queries, in two forms.

::

    {"shop": {"orders": "SELECT * FROM orders WHERE paid"}}

    [{"tables": ["orders", "customers"], "query": "SELECT …", "id_columns": ["order_id"]}]

The first names database (or schema) and table, and takes the table's own key. The second may join; without `id_columns`
the keys of all its tables are the document's key.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from connectors.errors import ConfigurationError, InvalidFilteringError
from connectors.filtering.validation import AdvancedRulesValidator, SyncRuleValidationResult
from connectors.sources.relational.model import TableName
from connectors.utils import nearest, truncate

__all__ = ["QueryRule", "QueryRulesValidator", "RulesOnServerValidator", "ServerJudge", "parse_rules", "query_problem"]

_SHAPE: Final = (
    'write {"database": {"table": "SELECT …"}} or [{"tables": ["table"], "query": "SELECT …", "id_columns": ["id"]}]'
)
_KEYS: Final = ("tables", "query", "id_columns")
_LITERALS: Final = (
    r'"(?:[^"]|"")*"',
    r"`(?:[^`]|``)*`",
    r"\$(\w*)\$.*?\$\1\$",
    r"--[^\n]*",
    r"/\*(?!!).*?\*/",
)
_STANDARD: Final = re.compile("|".join((r"'(?:[^']|'')*'", *_LITERALS)), re.DOTALL)
_WITH_BACKSLASHES: Final = re.compile("|".join((r"'(?:[^'\\]|\\.|'')*'", *_LITERALS)), re.DOTALL)
_REFUSED: Final = (
    (re.compile(r"/\*!"), "it has a comment that the server would run: write its content into the query itself"),
    (re.compile(r";"), "it is more than one statement: write one rule for each"),
    (re.compile(r"\binto\s+(?:outfile|dumpfile|@)", re.IGNORECASE), "it writes its result elsewhere: remove INTO"),
    (
        re.compile(r"\bfor\s+(?:no\s+key\s+)?update\b|\bfor\s+(?:key\s+)?share\b|\block\s+in\s+share\b", re.IGNORECASE),
        "it locks rows: remove FOR UPDATE, FOR SHARE or LOCK IN SHARE MODE",
    ),
)
_READS: Final = re.compile(r"[\s(]*(?:select|with)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class QueryRule:
    """One query whose rows become documents.

    Attributes:
        number: its place among the rules, counted from 1.
        id_columns: columns of the result; empty for the keys of the tables.
    """

    number: int
    tables: tuple[TableName, ...]
    query: str
    id_columns: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """How messages name it."""
        return f"rule {self.number} ({', '.join(map(str, self.tables))})"


def query_problem(query: str, *, backslash_escapes: bool) -> str | None:
    """Says why a query is not fit to be a rule, as far as its text tells; None when it is."""
    literals = _WITH_BACKSLASHES if backslash_escapes else _STANDARD
    bare = literals.sub(" ", query).strip().removesuffix(";")
    if not _READS.match(bare):
        return "it does not begin with SELECT or WITH: only queries that read are run"
    return next((why for pattern, why in _REFUSED if pattern.search(bare)), None)


def parse_rules(advanced: Any, spaces: Sequence[str], *, backslash_escapes: bool) -> list[QueryRule]:
    """Reads the rules of both forms.

    Args:
        spaces: the configured databases or schemas; where there is one only, tables need not name it.

    Raises:
        InvalidFilteringError: the message lists every problem.
    """
    rules, problems = _parse(advanced, spaces, backslash_escapes)
    if problems:
        raise InvalidFilteringError("; ".join(problems))
    return rules


def _parse(advanced: Any, spaces: Sequence[str], backslash_escapes: bool) -> tuple[list[QueryRule], list[str]]:
    if isinstance(advanced, Mapping) and advanced:
        found = _by_table(advanced)
    elif isinstance(advanced, list | tuple) and advanced:
        found = [_item(item, spaces) for item in advanced]
    else:
        return [], [f"these are no queries: {_SHAPE}"]
    rules: list[QueryRule] = []
    problems: list[str] = []
    for number, item in enumerate(found, 1):
        if isinstance(item, str):
            problems.append(f"rule {number}: {item}")
            continue
        tables, query, id_columns = item
        if problem := query_problem(query, backslash_escapes=backslash_escapes):
            problems.append(
                f'rule {number}: the query "{truncate(" ".join(query.split()), 60)}" cannot be run: {problem}'
            )
            continue
        rules.append(QueryRule(number, tables, query.strip().rstrip("; \n"), id_columns))
    return rules, problems


_Found = tuple[tuple[TableName, ...], str, tuple[str, ...]]


def _by_table(advanced: Mapping[Any, Any]) -> list[_Found | str]:
    found: list[_Found | str] = []
    for space, tables in advanced.items():
        if not isinstance(tables, Mapping) or not tables:
            found.append(f'"{space}" has no tables: {_SHAPE}')
            continue
        for table, query in tables.items():
            if not isinstance(query, str):
                found.append(f'what stands at "{space}.{table}" is no query: {_SHAPE}')
                continue
            found.append(((TableName(str(space), str(table)),), query, ()))
    return found


def _item(item: Any, spaces: Sequence[str]) -> _Found | str:
    if not isinstance(item, Mapping):
        return f"{truncate(repr(item), 60)} is no rule: {_SHAPE}"
    for key in item:
        if key not in _KEYS:
            near = nearest(str(key), _KEYS)
            return f'there is no "{key}" in a rule' + (f'; did you mean "{near}"?' if near else f": {_SHAPE}")
    names, query, columns = item.get("tables"), item.get("query"), item.get("id_columns") or []
    if not _texts(names) or not names:
        return '"tables" must list the tables that the query reads, as in ["orders"]'
    if not isinstance(query, str) or not query.strip():
        return '"query" must be a SELECT, as text'
    if not _texts(columns):
        return '"id_columns" must list columns of the result, as in ["id"]'
    tables = []
    for name in names:
        space, dot, rest = name.partition(".")
        if dot and (space in spaces or len(spaces) != 1):
            tables.append(TableName(space, rest))
        elif len(spaces) == 1:
            tables.append(TableName(spaces[0], name))
        else:
            return f'"{name}": write which one of {", ".join(spaces)} it is in, as in "{spaces[0]}.{name}"'
    return tuple(tables), query, tuple(columns)


def _texts(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(item, str) and item.strip() for item in value)


class QueryRulesValidator(AdvancedRulesValidator):
    """Judges the form of the rules and the text of the queries, without the server."""

    def __init__(self, spaces: Sequence[str], *, backslash_escapes: bool) -> None:
        self._spaces = spaces
        self._backslash_escapes = backslash_escapes

    def validate(self, advanced_rules: Any) -> list[SyncRuleValidationResult]:
        """Returns one result for each problem."""
        return [_problem(text) for text in _parse(advanced_rules, self._spaces, self._backslash_escapes)[1]]


class ServerJudge(Protocol):
    """What judges parsed rules by asking the server."""

    async def judge_rules(self, advanced_rules: Any) -> list[str]:
        """Returns the problems: unknown tables, tables without a key, queries that the server does not take."""


class RulesOnServerValidator(AdvancedRulesValidator):
    """Has the server judge rules whose form is right."""

    def __init__(self, judge: ServerJudge) -> None:
        self._judge = judge

    async def validate(self, advanced_rules: Any) -> list[SyncRuleValidationResult]:
        """Returns one result for each problem; none for rules that `QueryRulesValidator` refuses."""
        try:
            return [_problem(text) for text in await self._judge.judge_rules(advanced_rules)]
        except InvalidFilteringError:
            return []
        except ConfigurationError as error:  # the server cannot be asked, for a reason that people can mend
            return [_problem(f"the rules could not be tried on the server: {error}")]


def _problem(message: str) -> SyncRuleValidationResult:
    return SyncRuleValidationResult(SyncRuleValidationResult.ADVANCED_RULES, is_valid=False, validation_message=message)
