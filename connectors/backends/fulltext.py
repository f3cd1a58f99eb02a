"""Which text of a document is searched, as four columns: title, path, body and everything else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

__all__ = ["MAX_OTHER", "TEXT_VERSION", "TextColumns", "text_columns"]

#: Grows with each change of `text_columns` that makes the text in an index stale.
TEXT_VERSION: Final = 1
#: Characters of the column `other`; what is beyond them can only be found by `field:value`.
MAX_OTHER: Final = 100_000

_TITLE: Final = ("title", "name")
_PATH: Final = ("path", "name", "url")
_MARKS: Final = str.maketrans("", "", "\0\x02\x03")


class TextColumns(NamedTuple):
    """The searched text of one document, without the characters that mark words in a hit."""

    title: str
    path: str
    body: str
    other: str


def text_columns(document: Mapping[str, Any]) -> TextColumns:
    """Splits a document into its columns.

    `title` is the document's title, or its name where it has none; `path` its path, name and URL; `body` its text;
    `other` has all other strings and numbers, at any depth. Keys that begin with an underscore belong to the framework
    and ISO times are no words: both stay out, so that a new time stamp alone does not change the text.
    """
    title = next((document[key] for key in _TITLE if document.get(key)), "")
    path = [document[key] for key in _PATH if document.get(key)]
    body = document.get("body", "")
    rest = [value for key, value in document.items() if key not in _OWN and not key.startswith("_")]
    return TextColumns(_text(title), _text(path), _text(body), _text(rest)[:MAX_OTHER])


_OWN: Final = frozenset({*_TITLE, *_PATH, "body"})


def _text(value: Any) -> str:
    """Returns the strings and numbers in a value, one a line."""
    if type(value) is str:
        text = value
    else:
        leaves: list[str] = []
        _collect(value, leaves)
        text = "\n".join(leaves)
    # A document must not be able to forge the marks of a hit; a NUL would end the text for SQLite's tokenizer.
    if "\x02" in text or "\x03" in text or "\0" in text:
        return text.translate(_MARKS)
    return text


def _collect(value: Any, leaves: list[str]) -> None:
    if isinstance(value, str):
        if not _is_time(value):
            leaves.append(value)
    elif isinstance(value, bool) or value is None:
        return
    elif isinstance(value, int | float):
        leaves.append(str(value))
    elif isinstance(value, Mapping):
        for key, item in value.items():
            if not key.startswith("_"):
                _collect(item, leaves)
    else:
        for item in value:
            _collect(item, leaves)


def _is_time(text: str) -> bool:
    return 19 <= len(text) <= 35 and text[10] in "T " and text[4] == text[7] == "-" and text[:4].isdigit()
