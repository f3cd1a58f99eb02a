"""The query language of the search box, read into a tree that each backend translates for itself.

======================  ==============================================================
``annual report``       both words, anywhere in the document
``"annual report"``     the words next to each other
``annu*``               words that begin so; also the last word of a phrase
``title:report``        in that field only; ``author.name:kim`` reaches into objects
``-draft``              not with that word, phrase or field value
``invoice OR receipt``  either of the neighbours; binds more closely than a space
======================  ==============================================================

Every text is a query: what makes no sense as an operator is read as words, and what holds no letter or digit is left
out. A query that asks for nothing in particular (empty, or only ``-words``) finds nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, TypeVar

__all__ = ["MAX_QUERY_LENGTH", "MAX_TERMS", "Query", "Term", "parse_query"]

T = TypeVar("T")

#: Characters of a query that are read; the rest is ignored.
MAX_QUERY_LENGTH: Final = 1000
#: Terms of a query that are read; the rest is ignored. It bounds what one request can cost.
MAX_TERMS: Final = 32

_TERM: Final = re.compile(
    r"""
    (?P<minus>-(?=\S))?
    (?:(?P<field>[^\W\d][\w-]*(?:\.[\w-]+)*):(?=[^\s/\\]))?  # `http://x` and `C:\x` are words, not fields
    (?: "(?P<phrase>[^"]*)(?:"(?P<star>\*)?)?
      | (?P<word>[^\s"]+) )
    """,
    re.VERBOSE,
)
_QUOTES: Final = str.maketrans({"“": '"', "”": '"', "„": '"', "\0": " "})


@dataclass(frozen=True, slots=True)
class Term:
    """One thing to look for: `text` (a word or several in a row), in one `field` or anywhere (None)."""

    text: str
    field: str | None = None
    prefix: bool = False


@dataclass(frozen=True, slots=True)
class Query:
    """What a document has to match: one term of each group, and no term of `without`."""

    groups: tuple[tuple[Term, ...], ...] = ()
    without: tuple[Term, ...] = ()


def parse_query(text: str) -> Query:
    """Reads a query; never raises."""
    groups: list[list[Term]] = []
    without: list[Term] = []
    joined = False  # whether OR stands between the last term and the next one
    count = 0
    for found in _TERM.finditer(text[:MAX_QUERY_LENGTH].translate(_QUOTES)):
        word = found["word"]
        if word in {"OR", "AND"} and not found["minus"] and not found["field"]:
            joined = word == "OR" and bool(groups)
            continue
        term = _term(found)
        if term is None:
            continue
        if found["minus"]:
            count += _add(term, without)
        elif joined:
            count += _add(term, groups[-1])
        else:
            count += _add([term], groups)
        joined = False
        if count == MAX_TERMS:
            break
    return Query(tuple(map(tuple, groups)), tuple(without))


def _add(item: T, items: list[T]) -> bool:
    """Appends what is not there yet, and returns whether it was not; saying a thing twice changes nothing."""
    new = item not in items
    if new:
        items.append(item)
    return new


def _term(found: re.Match[str]) -> Term | None:
    """Returns the term of one match of `_TERM`, None when there is no letter or digit in it."""
    word = found["word"]
    value = found["phrase"] if word is None else word.rstrip("*")
    if not any(map(str.isalnum, value)):
        return None
    prefix = bool(found["star"]) if word is None else word.endswith("*")
    return Term(value, found["field"], prefix)
