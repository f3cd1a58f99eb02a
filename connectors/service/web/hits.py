"""A search hit as a card: what of the document is shown, with the words that were looked for marked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from markupsafe import Markup

from connectors.backends.ports import Hit
from connectors.byoc import parse_time
from connectors.service.web.words import marked, unmarked, web_link
from connectors.utils import format_size, truncate

__all__ = ["Card", "card"]

_TITLE: Final = ("title", "name")
_PLACE: Final = ("path", "url")
_SIZE: Final = ("size", "file_size")
_MODIFIED: Final = ("modified_at", "modified", "last_modified", "updated_at", "_timestamp")
_LONGEST_LINE: Final = 300
_FRAGMENTS: Final = 3


@dataclass(frozen=True, slots=True)
class Card:
    """What is shown of one hit. Texts are HTML already, with everything of the document escaped.

    Attributes:
        link: address of the document, http or https; None where it has none.
        place: path or address, None where it is no news after the title.
        size: `4.2 kB`, None where the document does not say.
    """

    title: Markup
    link: str | None
    place: Markup | None
    snippet: Markup
    score: float
    size: str | None
    modified: datetime | None


def card(hit: Hit) -> Card:
    """Returns the card of a hit."""
    title = _first_text(hit.source, _TITLE) or hit.id
    place = _first_text(hit.source, _PLACE)
    return Card(
        title=_marked_line(hit, title),
        link=web_link(hit.source.get("url")),
        place=None if place in {"", title} else _marked_line(hit, place),
        snippet=_snippet(hit),
        score=hit.score,
        size=_size(hit.source),
        modified=_modified(hit.source),
    )


def _first_text(source: Mapping[str, Any], names: tuple[str, ...]) -> str:
    texts = (source.get(name) for name in names)
    return next((text for text in texts if isinstance(text, str) and text.strip()), "")


def _marked_line(hit: Hit, text: str) -> Markup:
    """Returns the text with its marks, when a fragment of title or path, or one line of it, is this very text."""
    for name in ("title", "path"):
        for fragment in hit.highlights.get(name, ()):
            for line in (fragment, *fragment.split("\n")):
                if unmarked(line) == text:
                    return marked(truncate(line, 2 * _LONGEST_LINE))
    return marked(truncate(unmarked(text), _LONGEST_LINE))


def _snippet(hit: Hit) -> Markup:
    """Returns the marked fragments of the text, or else its beginning."""
    fragments = list(_fragments(hit))
    if fragments:
        return Markup(" … ").join(marked(" ".join(fragment.split())) for fragment in fragments[:_FRAGMENTS])
    body = _first_text(hit.source, ("body", "description"))
    return marked(truncate(" ".join(unmarked(body[: 2 * _LONGEST_LINE]).split()), _LONGEST_LINE))


def _fragments(hit: Hit) -> Iterator[str]:
    yield from hit.highlights.get("body", ())
    for name, fragments in hit.highlights.items():
        if name not in {"title", "path", "name", "url", "body"}:
            yield from fragments


def _size(source: Mapping[str, Any]) -> str | None:
    for name in _SIZE:
        size = source.get(name)
        if isinstance(size, int | float) and not isinstance(size, bool) and 0 <= size < 2**63:
            return format_size(size)
    return None


def _modified(source: Mapping[str, Any]) -> datetime | None:
    for name in _MODIFIED:
        value = source.get(name)
        if isinstance(value, str | int | float) and not isinstance(value, bool):
            try:
                return parse_time(value)
            except (ValueError, OverflowError, OSError):  # a document may have any text under such a name
                continue
    return None
