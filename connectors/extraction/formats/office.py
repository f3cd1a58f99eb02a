"""DOCX, PPTX and XLSX to text and title.

The XML of DOCX and PPTX is read by lxml as a stream: memory stays small, and text is found wherever it stands (content
controls, text boxes, tracked insertions), which an object model of paragraphs and tables does not give. The cells of
XLSX, with their shared strings, dates and numbers, are read by openpyxl.
"""

from __future__ import annotations

import io
import posixpath
import re
import zipfile
from collections.abc import Iterator
from datetime import datetime, time
from itertools import islice
from typing import IO, TYPE_CHECKING, Any, Final

from connectors.extraction.errors import UnreadableFileError
from connectors.extraction.formats.titles import title_of_metadata
from connectors.extraction.text import Extracted, TextCollector, TextLimitReachedError, clean_title

if TYPE_CHECKING:
    from lxml.etree import _Element

__all__ = ["read_office"]

_MAX_MEMBERS: Final = 20_000
_MAX_UNPACKED: Final = 512 * 1024 * 1024
"""Bytes that all XML of one file may have when it is unpacked."""
_MAX_RATIO: Final = 100
"""Times that XML may grow by unpacking; generated sheets of one repeated value reach some sixty."""
_RATIO_COUNTS_FROM: Final = 32 * 1024 * 1024
_PROLOGUE: Final = 4096

_RELATIONS: Final = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}id"
_DOCX_PARTS: Final = re.compile(r"word/(header|document|footnotes|endnotes|comments|footer)\d*\.xml")
_DOCX_ORDER: Final = ("header", "document", "footnotes", "endnotes", "comments", "footer")
_PROPERTIES: Final = "docProps/core.xml"
_STYLES: Final = "word/styles.xml"
_TITLE_WITHIN: Final = 100
"""Paragraphs among which the title of a document is looked for."""
_SLIDE: Final = re.compile(r"ppt/slides/slide(\d+)\.xml")


def read_office(content: bytes, limit: int) -> Extracted | None:
    """Returns text and title of an Office file of 2007 or later, None for a ZIP that is something else.

    Raises:
        UnreadableFileError: it is damaged, encrypted, or unpacks to far more than it should.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = set(archive.namelist())
            if "[Content_Types].xml" not in names:
                return None
            _guard(archive)
            out = TextCollector(limit)
            try:
                if "word/document.xml" in names:
                    _docx(archive, names, out)
                elif "ppt/presentation.xml" in names:
                    _pptx(archive, names, out)
                elif "xl/workbook.xml" in names:
                    _xlsx(content, out)
                else:
                    return None
            except TextLimitReachedError:
                pass
            return Extracted(out.text(), _title(archive, names))
    except (zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, EOFError) as error:
        raise UnreadableFileError(f"is broken: {error}") from None


def _title(archive: zipfile.ZipFile, names: set[str]) -> str | None:
    """Returns the title of the properties, or what the text itself shows as one; what is damaged has none."""
    from lxml.etree import XMLSyntaxError

    try:
        return _title_of_properties(archive, names) or clean_title(_title_shown(archive, names))
    except XMLSyntaxError:
        return None


def _title_of_properties(archive: zipfile.ZipFile, names: set[str]) -> str | None:
    if _PROPERTIES not in names:
        return None
    return title_of_metadata(_parse(archive, _PROPERTIES).findtext("{http://purl.org/dc/elements/1.1/}title"))


def _title_shown(archive: zipfile.ZipFile, names: set[str]) -> str | None:
    """Returns the first paragraph of a document that is styled as one, or the title of the first slide."""
    if "word/document.xml" in names:
        return _styled_paragraph(archive, _title_styles(archive, names))
    if "ppt/presentation.xml" in names and (slides := _slides(archive, names)):
        for shape in _parse(archive, slides[0]).iter("{*}sp"):
            place = shape.find("{*}nvSpPr/{*}nvPr/{*}ph")
            if place is not None and place.get("type") in {"title", "ctrTitle"}:
                return " ".join("".join(_shown_in(paragraph)) for paragraph in shape.iter("{*}p"))
    return None


def _title_styles(archive: zipfile.ZipFile, names: set[str]) -> set[str]:
    """Returns the ids of the styles for titles, which are in the author's language, as their names are not."""
    if _STYLES not in names:
        return set()
    return {
        _attribute(style, "styleId")
        for style in _parse(archive, _STYLES).iter("{*}style")
        if (name := style.find("{*}name")) is not None and _attribute(name, "val").casefold() in {"title", "heading 1"}
    }


def _styled_paragraph(archive: zipfile.ZipFile, styles: set[str]) -> str | None:
    from lxml import etree

    if not styles:
        return None
    with archive.open("word/document.xml") as stream:
        walk = etree.iterparse(stream, tag="{*}p", resolve_entities=False, no_network=True, load_dtd=False)
        for _, paragraph in islice(walk, _TITLE_WITHIN):
            style = paragraph.find("{*}pPr/{*}pStyle")
            is_title = style is not None and _attribute(style, "val") in styles
            if is_title and (text := "".join(_shown_in(paragraph)).strip()):
                return text
            _let_go(paragraph)
    return None


def _shown_in(paragraph: _Element) -> Iterator[str]:
    for element in paragraph.iter("{*}t", "{*}br", "{*}tab"):
        yield element.text or "" if element.tag.endswith("}t") else " "


def _attribute(element: _Element, name: str) -> str:
    """Returns an attribute that is in the namespace of its element."""
    space, bracket, _ = element.tag.rpartition("}")
    return element.get(f"{space}{bracket}{name}") or ""


def _guard(archive: zipfile.ZipFile) -> None:
    """Refuses a bomb by what the directory declares.

    The module reads no more of a member than is declared and checks its sum, so a lie does not help; members that
    overlap are counted each. What is no XML (pictures, films) is never unpacked.
    """
    members = archive.infolist()
    parts = [member for member in members if member.filename.endswith((".xml", ".rels"))]
    unpacked = sum(part.file_size for part in parts)
    packed = sum(part.compress_size for part in parts)
    if len(members) > _MAX_MEMBERS:
        raise UnreadableFileError(f"is refused: it has {len(members)} parts, more than {_MAX_MEMBERS}")
    if unpacked > _MAX_UNPACKED or (unpacked > _RATIO_COUNTS_FROM and unpacked > packed * _MAX_RATIO):
        raise UnreadableFileError(
            f"is refused as a ZIP bomb: {packed} bytes unpack to {unpacked}; open it and save it anew if it is genuine"
        )
    for part in parts:
        if part.flag_bits & 0x1:
            raise UnreadableFileError("is encrypted: it cannot be read without its password")
        with archive.open(part) as stream:
            if b"<!DOCTYPE" in stream.read(_PROLOGUE).replace(b"\x00", b""):  # also in UTF-16
                raise UnreadableFileError("is refused: its XML declares a document type, as entity bombs do")


def _docx(archive: zipfile.ZipFile, names: set[str], out: TextCollector) -> None:
    found = [(match[1], name) for name in names if (match := _DOCX_PARTS.fullmatch(name))]
    said: set[str] = set()  # the same header is often stored once for every section
    for kind, name in sorted(found, key=lambda part: (_DOCX_ORDER.index(part[0]), part[1])):
        if kind in {"header", "footer"}:
            text = "".join(_xml_text(archive, name))
            if text not in said:
                said.add(text)
                out.add(text + "\n")
            continue
        for piece in _xml_text(archive, name):
            out.add(piece)
        out.add("\n")


def _pptx(archive: zipfile.ZipFile, names: set[str], out: TextCollector) -> None:
    for slide in _slides(archive, names):
        parts = [slide, *(target for target in _related(archive, names, slide) if "/notesSlides/" in target)]
        for part in parts:
            for piece in _xml_text(archive, part):
                out.add(piece)
            out.add("\n")


def _slides(archive: zipfile.ZipFile, names: set[str]) -> list[str]:
    """Returns the slides in the order in which they are shown; slides outside the show come last."""
    targets = _related_by_id(archive, names, "ppt/presentation.xml")
    shown = [
        targets[relation]
        for element in _parse(archive, "ppt/presentation.xml").iter("{*}sldId")
        if (relation := element.get(_RELATIONS)) in targets
    ]
    others = sorted((int(match[1]), name) for name in names if (match := _SLIDE.fullmatch(name)))
    return list(dict.fromkeys([*shown, *(name for _, name in others)]))


def _related(archive: zipfile.ZipFile, names: set[str], part: str) -> list[str]:
    return list(_related_by_id(archive, names, part).values())


def _related_by_id(archive: zipfile.ZipFile, names: set[str], part: str) -> dict[str | None, str]:
    """Returns relation id → name of the part that it points to, for the parts that exist."""
    folder, _, base = part.rpartition("/")
    relations = f"{folder}/_rels/{base}.rels"
    if relations not in names:
        return {}
    found: dict[str | None, str] = {}
    for element in _parse(archive, relations).iter("{*}Relationship"):
        target = posixpath.normpath(posixpath.join("/" + folder, element.get("Target") or "")).lstrip("/")
        if element.get("TargetMode") != "External" and target in names:
            found[element.get("Id")] = target
    return found


def _parse(archive: zipfile.ZipFile, name: str) -> _Element:
    from lxml import etree

    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
    return etree.fromstring(archive.read(name), parser)


def _xml_text(archive: zipfile.ZipFile, name: str) -> Iterator[str]:
    """Yields the text of a WordprocessingML or DrawingML part: paragraphs as lines, rows of tables as lines."""
    with archive.open(name) as stream:
        cells = 0
        for event, element in _events(stream):
            tag = element.tag.rpartition("}")[2]
            if event == "start":
                cells += tag == "tc"
                continue
            if tag == "t":
                yield element.text or ""
            elif tag in {"tab", "ptab"}:
                yield " "
            elif tag in {"br", "cr", "tr"}:
                yield "\n"
            elif tag in {"noBreakHyphen", "softHyphen"}:
                yield "-" if tag == "noBreakHyphen" else ""
            elif tag == "p":
                yield " " if cells else "\n"
            elif tag == "tc":
                cells -= 1
                yield " "
            _let_go(element)


def _let_go(element: _Element) -> None:
    """Frees what was read: the element's content and the siblings before it."""
    element.clear()
    parent = element.getparent()
    while parent is not None and element.getprevious() is not None:
        del parent[0]


def _events(stream: IO[bytes]) -> Iterator[tuple[str, Any]]:
    """Yields start and end of each element, without the formatting and without what is drawn for older programs."""
    from lxml import etree

    walk = etree.iterparse(
        stream, events=("start", "end"), resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False
    )
    hidden = 0
    for event, element in walk:
        if not isinstance(element.tag, str):
            continue
        if element.tag.endswith(("}Fallback", "}rPr", "}pPr")):
            hidden += 1 if event == "start" else -1
        elif not hidden:
            yield event, element


def _xlsx(content: bytes, out: TextCollector) -> None:
    """Adds the sheets, each below its name: values as they were last calculated, one line per row."""
    from openpyxl import load_workbook

    workbook = load_workbook(io.BytesIO(content), read_only=True, data_only=True, keep_links=False)
    try:
        for sheet in workbook.worksheets:
            out.add(f"{sheet.title}\n")
            sheet.reset_dimensions()  # what a sheet says of its own size can be a million rows too much
            for row in sheet.iter_rows(values_only=True):
                cells = [_shown(value) for value in row if value is not None]
                if cells:
                    out.add(" ".join(cells) + "\n")
            out.add("\n")
    finally:
        workbook.close()


def _shown(value: object) -> str:
    if isinstance(value, datetime) and value.time() == time():
        return value.date().isoformat()
    return str(value)
