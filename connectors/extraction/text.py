"""Bytes to characters, and characters to text that is fit to be indexed. Standard library only, save for one guess."""

from __future__ import annotations

import codecs
import re
from typing import Final, NamedTuple

__all__ = [
    "Extracted", "TextCollector", "TextLimitReachedError", "clean", "clean_title", "decode", "looks_binary",
    "unicode_encoding", "with_line_feeds",
]  # fmt: skip

_HEAD = 8192
"""How many bytes the tests for binary content and for UTF-16 look at."""

_GUESS = 64 * 1024
"""How many bytes, about, the guess of a legacy encoding looks at."""

_LEGACY = (
    "cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257", "iso8859_2", "iso8859_5",
    "iso8859_15", "koi8_r", "cp866", "cp932", "euc_jp", "gb18030", "big5", "cp949",
)  # fmt: skip

_HIGH = re.compile(rb"[\x80-\xff]")
_END = re.compile(rb"[\x00-\x2f]")
_BEFORE = 40
_PASSAGE = 500

# UTF-32 before UTF-16: the little-endian mark of the one begins with that of the other.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)

_ORDINARY = bytes(sorted({*range(0x20, 0x7F), *range(0x80, 0x100), *b"\a\b\t\n\v\f\r\x1b"}))
"""Bytes that text may contain in any encoding; the escape and the back space occur in logs and manual pages."""

# What no reader sees and no index wants: control characters (line ends and tabs are treated apart), lone
# surrogates, which cannot be encoded, the byte-order mark, zero-width spaces, soft hyphens, non-characters.
_UNWANTED = re.compile("[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\xad\u200b\ud800-\udfff\ufeff\ufffe\uffff]")
_BLANK_LINES = re.compile(r"\n{3,}")


_TITLE_CHARS: Final = 300
"""Characters that are kept of a title."""


class Extracted(NamedTuple):
    """What was taken out of a file.

    Attributes:
        text: everything that a reader sees.
        title: the one that the file itself bears, in one line; None where it bears none.
    """

    text: str
    title: str | None = None


class TextLimitReachedError(Exception):
    """The collector has as much text as may be kept: the parser can stop."""


class TextCollector:
    """Takes pieces of text up to a number of characters, so that a huge file is not parsed to its end in vain.

    Args:
        limit: number of characters after which `add` raises.
    """

    __slots__ = ("_length", "_limit", "_parts")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._length = 0
        self._parts: list[str] = []

    def add(self, text: str) -> None:
        """Appends `text` as it is.

        Raises:
            TextLimitReachedError: enough was collected; what was added stays.
        """
        self._parts.append(text)
        self._length += len(text)
        if self._length > self._limit:
            raise TextLimitReachedError

    def text(self) -> str:
        """Returns what was collected."""
        return "".join(self._parts)


def clean(text: str, limit: int) -> str:
    """Returns `text` without unwanted characters and needless white space, of at most `limit` characters.

    Every run of white space inside a line becomes one space, every run of empty lines one empty line. The
    result always encodes to UTF-8. Takes time in proportion to the length.
    """
    unix = with_line_feeds(text)
    if unix.replace("\n", "").isprintable():  # so nothing is unwanted, and all white space is spaces and line feeds
        lines = unix.split("\n")
        lines = [" ".join(line.split()) for line in lines] if "  " in unix else [line.strip() for line in lines]
    else:
        lines = [" ".join(line.split()) for line in _UNWANTED.sub("", text).splitlines()]
    text = "\n".join(lines)
    if "\n\n\n" in text:
        text = _BLANK_LINES.sub("\n\n", text)
    return text.strip("\n")[:limit].rstrip()


def with_line_feeds(text: str) -> str:
    """Returns `text` with a line feed in place of each pair of carriage return and line feed."""
    return text.replace("\r\n", "\n") if "\r" in text else text  # looking for one character costs next to nothing


def clean_title(title: str | None) -> str | None:
    """Returns a title in one clean line of at most 300 characters; None where that has no letter and no digit."""
    if not title:
        return None
    line = " ".join(clean(title[: 8 * _TITLE_CHARS], 8 * _TITLE_CHARS).split())[:_TITLE_CHARS].rstrip()
    return line if any(map(str.isalnum, line)) else None


def unicode_encoding(content: bytes) -> str | None:
    """Returns the encoding that a byte-order mark or a pattern of NULs gives away, else None.

    Ordinary text in UTF-16 or UTF-32 without a mark has NULs at fixed places of each unit only.
    """
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            return encoding
    head = content[: _HEAD & ~3]
    if len(content) % 2 or len(head) < 4 or 0 not in head:
        return None
    nulls = [head[place::4].count(0) / len(head[place::4]) for place in range(4)]
    for encoding, empty in (("utf-32-le", (2, 3)), ("utf-32-be", (0, 1))):
        if len(content) % 4 == 0 and all(nulls[place] > 0.95 for place in empty):
            return encoding
    for encoding, empty, full in (("utf-16-le", (1, 3), (0, 2)), ("utf-16-be", (0, 2), (1, 3))):
        if all(nulls[place] > 0.4 for place in empty) and all(nulls[place] < 0.02 for place in full):
            return encoding
    return None


def looks_binary(content: bytes) -> bool:
    """Tells whether the first bytes are something else than text in any encoding that we read."""
    if unicode_encoding(content) is not None:
        return False
    head = content[:_HEAD]
    strange = head.translate(None, _ORDINARY)
    return 0 in strange or len(strange) * 50 > len(head)


def decode(content: bytes) -> str:
    """Returns `content` as characters; never fails.

    A byte-order mark is believed, then UTF-16 and UTF-32 are recognised by their NULs, then UTF-8 is tried
    (few broken sequences among many good ones are replaced), then charset-normalizer guesses, and what it
    cannot tell is read as Windows-1252.
    """
    encoding = unicode_encoding(content)
    if encoding is not None:
        return content.decode(encoding, errors="replace")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        pass
    lenient = content.decode("utf-8", errors="replace")
    broken = lenient.count("\ufffd")
    multibyte = len(content) - len(content.translate(None, bytes(range(0xC2, 0xF5))))
    if broken * 10 <= multibyte:
        return lenient
    return content.decode(_guess(content), errors="replace")


def _guess(content: bytes) -> str:
    """Returns the likeliest legacy encoding of `content`.

    Short texts fit several encodings equally well; Windows-1252, by far the commonest, is then preferred.
    """
    from charset_normalizer import from_bytes

    matches = list(from_bytes(_telling_part(content), cp_isolation=list(_LEGACY)))
    if not matches:
        return "cp1252"
    best = matches[0]
    for match in matches:
        as_good = match.chaos <= best.chaos + 0.01 and match.coherence >= best.coherence - 0.01
        if as_good and "cp1252" in match.could_be_from_charset:
            return "cp1252"
    return best.encoding


def _telling_part(content: bytes) -> bytes:
    """Returns the passages that are not ASCII: the rest tells nothing and would only dilute the guess."""
    passages: list[bytes] = []
    place = length = 0
    while length < _GUESS and (high := _HIGH.search(content, place)):
        start = max(place, high.start() - _BEFORE, content.rfind(b"\n", place, high.start()) + 1)
        # Behind a byte that is never the second half of a character.
        end = _END.search(content, high.start() + _PASSAGE)
        place = min(end.end() if end else len(content), high.start() + _GUESS)
        passages.append(content[start:place])
        length += place - start
    return b"\n".join(passages)
