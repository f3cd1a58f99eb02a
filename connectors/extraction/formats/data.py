"""Tables and trees written as text: CSV, TSV, JSON and lines of JSON."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from typing import Any, Final

from connectors.extraction.errors import UnreadableFileError
from connectors.extraction.text import TextCollector, TextLimitReachedError

__all__ = ["csv_to_text", "json_to_text"]

_DELIMITERS: Final = ",;\t|"
_SAMPLE: Final = 64 * 1024
_DEEPEST: Final = 500


def csv_to_text(text: str, limit: int) -> str:
    """Returns the cells of a table, one line per row, cells apart by a space and the rest of the quoting gone.

    The delimiter is the one of comma, semicolon, tab and bar that the first lines agree on best.
    """
    # The limit is the whole interpreter's: it is only ever raised, so that nobody else's reading breaks.
    csv.field_size_limit(max(len(text), csv.field_size_limit()))
    out = TextCollector(limit)
    reader = csv.reader(text.replace("\x00", "").splitlines(keepends=True), delimiter=_delimiter(text), strict=False)
    try:
        for row in reader:
            out.add(" ".join(row) + "\n")
    except TextLimitReachedError:
        pass
    return out.text()


def _delimiter(text: str) -> str:
    lines = [line for line in text[:_SAMPLE].splitlines()[:-1] or [text[:_SAMPLE]] if line.strip()][:50]

    def agreement(delimiter: str) -> tuple[int, int]:
        """Returns how many lines have as many delimiters as the first one, and how many that is."""
        counts = [line.count(delimiter) for line in lines]
        if not counts or not counts[0]:
            return 0, 0
        return counts.count(counts[0]), counts[0]

    return max(_DELIMITERS, key=agreement)


class _Pairs(list[tuple[str, Any]]):
    """A JSON object as it is written: in order, with keys that occur twice."""


def json_to_text(text: str, limit: int) -> str:
    """Returns keys and values of a JSON document, or of one document a line, with numbers as they are written.

    What is no JSON (a configuration with comments, a line cut short) is returned as it is.

    Raises:
        UnreadableFileError: it is nested deeper than 500 levels.
    """
    out = TextCollector(limit)
    try:
        for value in _values(text):
            for line in _lines(value):
                out.add(line + "\n")
    except TextLimitReachedError:
        pass
    except RecursionError:
        raise UnreadableFileError("is nested too deeply") from None
    return out.text()


def _values(text: str) -> Iterable[Any]:
    decoder = json.JSONDecoder(object_pairs_hook=_Pairs, parse_int=str, parse_float=str, strict=False)
    try:
        return [decoder.decode(text)]
    except ValueError:
        pass
    return _values_of_lines(decoder, text)


def _values_of_lines(decoder: json.JSONDecoder, text: str) -> Iterator[Any]:
    for line in text.split("\n"):
        try:
            yield decoder.decode(line)
        except ValueError:
            yield line


def _lines(value: Any) -> Iterator[str]:
    """Yields `key: value` for each leaf, `key` alone above what is nested; goes down without recursion."""
    pending: list[Iterator[tuple[str, Any]]] = [iter([("", value)])]
    while pending:
        for key, item in pending[-1]:
            if isinstance(item, list):
                if key:
                    yield key
                pairs = item if isinstance(item, _Pairs) else [("", element) for element in item]
                pending.append(iter(pairs))
                if len(pending) > _DEEPEST:
                    raise UnreadableFileError("is nested too deeply")
                break
            leaf = "" if item is None else str(item).lower() if isinstance(item, bool) else str(item)
            if key or leaf:
                yield f"{key}: {leaf}" if key and leaf else key or leaf
        else:
            pending.pop()
