"""Marks what was searched for in a hit's title and path, and finds the passage of its text that shows it best.

FTS5 has functions for both, which take time in proportion to the square of the number of matches: a word that stands
20,000 times in one log file cost two seconds, ten such words minutes. Here, a text is read once, a piece at a time.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, deque
from collections.abc import Iterable
from typing import Final, NamedTuple

from connectors.backends.query_language import Term

__all__ = ["END", "START", "Marker"]

#: Around each match; no text that is fit to be read holds them.
START: Final = "\x02"
END: Final = "\x03"

#: Characters of a passage, about.
_PASSAGE: Final = 220
#: Characters that are looked at in one go, so that the interpreter is given to others in between.
_PIECE: Final = 32_768
#: Characters of a title or path in which matches are marked.
_LINE: Final = 4096
#: Characters within which a passage's ends are moved to the next word.
_NEAR: Final = 40

_COMBINING: Final = "[\u0300-\u036f]*"
_ANY_COMBINING: Final = re.compile("[\u0300-\u036f]")
_WORD: Final = re.compile(r"[^\W_]+")
_SENTENCE: Final = re.compile(r"[.!?]\s+|\n\s*")


class _Match(NamedTuple):
    start: int
    end: int
    term: int


class _Passage(NamedTuple):
    """A passage by its first and last match; the more of the terms, the better."""

    terms: int
    first: int
    last: int
    matches: list[_Match]


class _Folding(dict[int, str]):
    """Maps a character to its lower case without accents, one for one, as the index does with its words."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        parts = unicodedata.normalize("NFD", character)
        folded = (parts[0] if all(map(unicodedata.combining, parts[1:])) else character).lower()
        self[code] = folded = folded if len(folded) == 1 else character
        return folded


_FOLDING: Final = _Folding()


def _fold(text: str) -> str:
    return text.lower() if text.isascii() else text.translate(_FOLDING)


class Marker:
    """Marks one query's terms in texts.

    Args:
        terms: those that the full text answers.
    """

    def __init__(self, terms: Iterable[Term]) -> None:
        self._terms = list(dict.fromkeys(terms))
        self._patterns: dict[tuple[str, bool], re.Pattern[str] | None] = {}

    def line(self, column: str, text: str) -> str | None:
        """Returns the whole text with the matches near its beginning marked; None when there is none."""
        matches = self._find(column, text[:_LINE])
        return _marked(text, matches, 0, len(text)) if matches else None

    def passage(self, column: str, text: str) -> str | None:
        """Returns the passage with the most of the terms, the first of the equal ones; None without a match."""
        wanted = sum(term.field in {None, column} for term in self._terms)
        best: tuple[int, int, int, list[_Match]] | None = None
        for offset in range(0, max(len(text), 1), _PIECE - _PASSAGE):
            found = _densest(self._find_in_piece(column, text, offset))
            if found is not None and (best is None or found.terms > best[0]):
                matches = [_Match(match.start + offset, match.end + offset, match.term) for match in found.matches]
                best = found.terms, offset + found.first, offset + found.last, matches
                if found.terms == wanted:
                    break
        if best is None:
            return None
        _, first, last, matches = best
        start, end = _bounds(text, first, last)
        return ("…" if start else "") + _marked(text, matches, start, end) + ("…" if end < len(text) else "")

    def _find_in_piece(self, column: str, text: str, offset: int) -> list[_Match]:
        """Returns the matches in one piece, less those at a cut, where a part of a word looks like a whole one."""
        piece = text[offset : offset + _PIECE]
        last = len(piece) if offset + _PIECE >= len(text) else len(piece) - 1
        return [match for match in self._find(column, piece) if match.end <= last and (match.start or not offset)]

    def _find(self, column: str, text: str) -> list[_Match]:
        pattern = self._pattern(column, with_marks=not text.isascii() and _ANY_COMBINING.search(text) is not None)
        if pattern is None:
            return []
        found = pattern.finditer(_fold(text))
        return [_Match(match.start(), match.end(), match.lastindex or 0) for match in found]

    def _pattern(self, column: str, *, with_marks: bool) -> re.Pattern[str] | None:
        key = column, with_marks
        if key not in self._patterns:
            ways = [_way(term, with_marks=with_marks) for term in self._terms if term.field in {None, column}]
            ways = sorted(filter(None, ways), key=len, reverse=True)  # a phrase before its first word
            self._patterns[key] = re.compile(rf"(?<![^\W_])(?:{'|'.join(ways)})") if ways else None
        return self._patterns[key]


def _way(term: Term, *, with_marks: bool) -> str:
    """Returns the regular expression of one term, as a group; it ends where a word of a folded text does."""
    words = _WORD.findall(_fold(unicodedata.normalize("NFC", term.text)))
    if not words:
        return ""
    after = _COMBINING if with_marks else ""
    phrase = r"[\W_]+".join("".join(re.escape(letter) + after for letter in word) for word in words)
    end = rf"(?:[^\W_]{after})*" if term.prefix else r"(?![^\W_])"
    return f"({phrase}{end})"


def _densest(matches: list[_Match]) -> _Passage | None:
    """Returns the stretch of a passage's length that has the most different terms."""
    best: _Passage | None = None
    window: deque[_Match] = deque()
    count: Counter[int] = Counter()
    for match in matches:
        window.append(match)
        count[match.term] += 1
        while window[0] is not match and match.end - window[0].start > _PASSAGE:
            left = window.popleft().term
            count[left] -= 1
            if not count[left]:
                del count[left]
        if best is None or len(count) > best.terms:
            best = _Passage(len(count), window[0].start, match.end, [])
    return best and best._replace(matches=[match for match in matches if abs(match.start - best.first) <= 2 * _PASSAGE])


def _bounds(text: str, first: int, last: int) -> tuple[int, int]:
    """Returns where a passage begins and ends: at a sentence or a word, if there is one near."""
    lead = max(0, _PASSAGE - (last - first)) // 3
    end = min(len(text), max(last, first - lead + _PASSAGE))
    start = max(0, min(first - lead, end - _PASSAGE))
    if start:
        sentences = [found.end() for found in _SENTENCE.finditer(text, start, first)]
        space = text.find(" ", start, min(first, start + _NEAR))
        start = sentences[0] if sentences else space + 1 if space >= 0 else start
    if end < len(text):
        space = text.rfind(" ", max(last, end - _NEAR), end)
        end = space if space >= 0 else end
    return start, end


def _marked(text: str, matches: Iterable[_Match], start: int, end: int) -> str:
    parts: list[str] = []
    place = start
    for match in matches:
        if match.start >= place and match.end <= end:
            parts += (text[place : match.start], START, text[match.start : match.end], END)
            place = match.end
    parts.append(text[place:end])
    return "".join(parts)
