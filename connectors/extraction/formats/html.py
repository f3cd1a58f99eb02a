"""HTML to its visible text and its title."""

from __future__ import annotations

import codecs
import re
from typing import TYPE_CHECKING, Final

from connectors.extraction.errors import UnreadableFileError
from connectors.extraction.formats.titles import title_of_metadata
from connectors.extraction.text import (
    Extracted,
    TextCollector,
    TextLimitReachedError,
    clean_title,
    decode,
    unicode_encoding,
)

if TYPE_CHECKING:
    from lxml.etree import _Element

__all__ = ["read_html"]

_INVISIBLE: Final = frozenset({
    "script", "style", "template", "noscript", "head", "svg", "math", "iframe", "object", "canvas", "audio", "video",
    "datalist",
})  # fmt: skip
_INLINE: Final = frozenset({
    "a", "abbr", "acronym", "b", "bdi", "bdo", "big", "cite", "code", "data", "del", "dfn", "em", "font", "i", "img",
    "ins", "kbd", "label", "mark", "meter", "output", "picture", "progress", "q", "rp", "rt", "ruby", "s", "samp",
    "small", "span", "strike", "strong", "sub", "sup", "time", "tt", "u", "var", "wbr",
})  # fmt: skip
_CELLS: Final = frozenset({"td", "th", "option", "button", "input"})

_DECLARED = re.compile(rb"""<meta[^<>]{0,500}?charset\s{0,9}=\s{0,9}["']?([A-Za-z0-9_:.-]{1,40})""", re.IGNORECASE)
_XML_DECLARED = re.compile(rb"""^<\?xml[^<>?]{0,100}?encoding\s{0,9}=\s{0,9}["']([A-Za-z0-9_:.-]{1,40})""")
_DECLARED_WITHIN = 4096

# The web reads these labels as the Windows code page that contains them.
_WEB_LABELS: Final = {
    "iso8859-1": "cp1252",
    "ascii": "cp1252",
    "iso8859-9": "cp1254",
    "gb2312": "gb18030",
    "gbk": "gb18030",
}


def read_html(content: bytes, limit: int) -> Extracted:
    """Returns title and visible text of a page, one line per block; broken HTML is read as a browser would.

    The title stands at the beginning of the text, too. In its absence, the first heading of level one is the title.

    Args:
        content: the file, in the encoding that its byte-order mark or its `meta` names, else in the likeliest one.
        limit: characters after which it stops.

    Raises:
        UnreadableFileError: elements are nested thousands deep.
    """
    from lxml import etree

    characters = _decode(content).replace("\x00", "")
    # "huge" allows 2,048 levels instead of 256; what a worker may use is limited from outside.
    parser = etree.HTMLParser(encoding="utf-8", remove_comments=True, remove_pis=True, huge_tree=True)
    root = etree.fromstring(characters.encode("utf-8", "replace"), parser)
    if any(problem.type_name == "ERR_RESOURCE_LIMIT" for problem in parser.error_log):
        raise UnreadableFileError("is nested too deeply")  # the parser stops there and keeps quiet
    if root is None:  # nothing but white space or comments
        return Extracted("")
    out = TextCollector(limit)
    title = _text_within(root.find(".//head/title"))
    try:
        if title:
            out.add(f"{title}\n\n")
        _visible_text(root, out)
    except TextLimitReachedError:
        pass
    return Extracted(out.text(), title_of_metadata(title) or clean_title(_text_within(root.find(".//h1"))))


def _text_within(element: _Element | None) -> str:
    return "" if element is None else "".join(str(piece) for piece in element.itertext())


def _visible_text(root: _Element, out: TextCollector) -> None:
    """Walks the tree without recursion, for pages can be nested as deeply as somebody likes."""
    from lxml.etree import iterwalk

    line_is_empty = True

    def add(text: str | None, *, as_written: bool = False) -> None:
        nonlocal line_is_empty
        if text and not (line_is_empty and text.isspace()):
            # Line ends of the source are mere white space, except where the page says otherwise.
            out.add(text if as_written else text.replace("\n", " "))
            line_is_empty = False

    def separate(tag: object) -> None:
        nonlocal line_is_empty
        if tag in _CELLS:
            add(" ")
        elif tag not in _INLINE and not line_is_empty:
            out.add("\n")
            line_is_empty = True

    walk = iterwalk(root, events=("start", "end"))
    for event, element in walk:
        if event == "start":
            if element.tag in _INVISIBLE or element.get("hidden") is not None:
                walk.skip_subtree()
                continue
            separate(element.tag)
            add(element.text, as_written=element.tag in {"pre", "textarea"})
        else:
            separate(element.tag)
            if element is not root:
                add(element.tail)


def _decode(content: bytes) -> str:
    """Returns the page's characters, by the mark, then by the declaration, then by `decode`."""
    if unicode_encoding(content) is None:
        head = content[:_DECLARED_WITHIN]
        declared = _XML_DECLARED.search(head) or _DECLARED.search(head)
        if declared:
            try:
                label = codecs.lookup(declared[1].decode("ascii")).name
                # A page that was decoded to read its declaration cannot be in UTF-16, whatever it says.
                encoding = "utf-8" if label.startswith(("utf-16", "utf-32")) else _WEB_LABELS.get(label, label)
                if encoding != "utf-8":  # UTF-8 that is not is mended by `decode`
                    return content.decode(encoding, errors="replace")
            except LookupError:
                pass
    return decode(content)
