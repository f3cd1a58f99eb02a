"""Markdown to text and title.

A full parser costs ten to twenty times what everything else costs for a small note (measured with markdown-it: 0.3 ms
for 290 characters, 0.6 ms for 870). For searching, the tree is not needed: it is enough to take away the marks and the
addresses. Every expression here takes time in proportion to the text: none can meet the same character twice in two
ways, and none looks past the next occurrence of its own first character. What needs a certain character is left out
where a text has none, for that is known a hundred times faster.
"""

from __future__ import annotations

import html
import re

from connectors.extraction.text import Extracted, with_line_feeds

__all__ = ["markdown_title", "markdown_to_text", "read_markdown"]

_TITLE_WITHIN = 8192
"""Characters at the beginning among which the title is looked for."""
_FRONT_TITLE = re.compile(r"^title[ \t]{0,9}:[ \t]{0,9}(\S.{0,400})$", re.MULTILINE)
_ATX = re.compile(r" {0,3}(#{1,6})[ \t]+[^\s#]")
_SETEXT = re.compile(r" {0,3}=+[ \t]*")

_FENCE = re.compile(r"^[ >\t]{0,20}(`{3,}|~{3,})[^\n]*$", re.MULTILINE)
_CODE = re.compile(r"`([^`\n]{1,1000})`")

_ONLY_MARKS = re.compile(r"[-:|=*_+ \t>]{3,}")  # rules, underlines of headings, lines of tables
_REFERENCE = re.compile(r"^ {0,3}\[(?!\^)[^\[\]\n]{1,200}\]:[ \t].*$", re.MULTILINE)
_LINE_START = re.compile(r"[ \t]*(?:>[ \t]*)*(?:\#{1,6}[ \t]+|[-*+][ \t]+(?:\[[ xX]\][ \t]+)?|\d{1,9}[.)][ \t]+)?")
_CLOSING_HASHES = re.compile(r"(?<![ \t])[ \t]+#+[ \t]*$", re.MULTILINE)
_TABLE_ROW = re.compile(r"^[ \t]*\|.*$", re.MULTILINE)
_TARGET = r"\([^()\n]{0,1000}(?:\([^()\n]{0,200}\)[^()\n]{0,500})?\)"
_IMAGE = re.compile(r"!\[([^\[\]\n]{0,500})\]" + _TARGET)
_LINK = re.compile(r"\[([^\[\]]{0,500})\](?:" + _TARGET + r"|\[[^\[\]\n]{0,200}\])")
_AUTOLINK = re.compile(r"<([A-Za-z][A-Za-z0-9+.-]{1,20}:[^<>\s]{1,2000}|[^<>@\s]{1,100}@[^<>@\s]{1,200})>")
_TAG = re.compile(r"</?[A-Za-z][^<>]{0,1000}>")
_EMPHASIS = re.compile(
    r"(?<![\w\\*_~])(?:\*{1,3}|_{1,3}|~~)(?=[^\s*_~])|(?<=[^\s\\*_~])(?:\*{1,3}|_{1,3}|~~)(?![\w*_~])"
)
_ESCAPE = re.compile(r"\\([!-/:-@\[-`{-~])")


def markdown_to_text(text: str) -> str:
    """Returns the words of a Markdown text: no marks, no addresses of links and images, code as it is written."""
    text = _without_comments(_without_front_matter_fences(with_line_feeds(text)))
    if "`" not in text and "~" not in text:
        return _prose(text)
    parts: list[str] = []
    place, opening = 0, ""
    for fence in _FENCE.finditer(text):
        mark = fence[1]
        if opening and not (mark[0] == opening[0] and len(mark) >= len(opening)):
            continue  # a line of code that only looks like a fence
        part = text[place : fence.start()]
        parts.append(part if opening else _prose(part))
        place, opening = fence.end(), "" if opening else mark
    rest = text[place:]
    parts.append(rest if opening else _prose(rest))
    return "".join(parts)


def read_markdown(text: str) -> Extracted:
    """Returns what `markdown_to_text` and `markdown_title` do."""
    return Extracted(markdown_to_text(text), markdown_title(text))


def markdown_title(text: str) -> str | None:
    """Returns the `title` of the YAML header, or the first heading of level one, or a heading that the text opens with.

    None when there is none among the first 8,192 characters.
    """
    text = with_line_feeds(text[:_TITLE_WITHIN])
    header, text = _front_matter(text)
    given = _FRONT_TITLE.search(header)
    if given:
        return given[1].strip().strip("\"'")
    opening, before = "", ""
    for line in _without_comments(text).split("\n"):
        fence = _FENCE.match(line)
        if fence and (not opening or (fence[1][0] == opening[0] and len(fence[1]) >= len(opening))):
            opening, before = "" if opening else fence[1], line
        elif not opening and line.strip():
            heading = _ATX.match(line)
            if heading and (len(heading[1]) == 1 or not before):
                return _prose(line).strip()
            if before and _SETEXT.fullmatch(line):
                return _prose(before).strip()
            before = line
    return None


def _prose(text: str) -> str:
    """Strips what is outside fenced code."""
    if "[" in text and "]:" in text:
        text = _REFERENCE.sub("", text)
    # Line by line, since most begin with a letter: an expression for the whole text would try each of its characters.
    text = "\n".join([line if not line or line[0].isalpha() else _line(line) for line in text.split("\n")])
    if "#" in text:
        text = _CLOSING_HASHES.sub("", text)
    if "|" in text:
        text = _TABLE_ROW.sub(lambda row: row[0].replace("|", " "), text)
    if "[" in text and ("](" in text or "][" in text):
        text = _LINK.sub(r"\1", _IMAGE.sub(r"\1", text))
    if "`" not in text:
        return _inline(text)
    pieces = _CODE.split(text)  # every second piece is what stands between two back ticks
    pieces[::2] = [_inline(piece) for piece in pieces[::2]]
    return "".join(pieces)


def _line(line: str) -> str:
    """Strips the marks that a line begins with, or consists of."""
    return "" if _ONLY_MARKS.fullmatch(line) else _LINE_START.sub("", line, count=1)


def _inline(text: str) -> str:
    """Strips what is outside code spans."""
    if "<" in text:
        text = _TAG.sub(" ", _AUTOLINK.sub(r"\1", text))
    if "*" in text or "_" in text or "~" in text:
        text = _EMPHASIS.sub("", text)
    if "\\" in text:
        text = _ESCAPE.sub(r"\1", text)
    return html.unescape(text) if "&" in text else text


def _without_front_matter_fences(text: str) -> str:
    """Keeps the lines of a YAML header, for they hold titles and key words, and drops the two lines around them."""
    header, rest = _front_matter(text)
    return f"{header}\n{rest}" if header else rest


def _front_matter(text: str) -> tuple[str, str]:
    """Returns the lines of a YAML header, and what comes after it."""
    if text.startswith("---\n"):
        end = text.find("\n---\n", 3)
        if end >= 0:
            return text[4 : end + 1], text[end + 5 :]
    return "", text


def _without_comments(text: str) -> str:
    """Drops `<!-- … -->`. By hand, since a lazy expression would look for the end anew at every unclosed start."""
    if "<" not in text:
        return text
    kept: list[str] = []
    place = 0
    while (start := text.find("<!--", place)) >= 0 and (end := text.find("-->", start + 4)) >= 0:
        kept.append(text[place:start])
        place = end + 3
    kept.append(text[place:])
    return "".join(kept)
