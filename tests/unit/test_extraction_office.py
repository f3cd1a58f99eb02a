"""The text of office files, in the process of the test."""

from __future__ import annotations

import io
import zipfile
from datetime import date, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.extraction.detect import Kind
from connectors.extraction.worker import extract_in_worker, read_file
from tests.support.extraction import LIMIT, refusal, text_of


def saved(document: Any) -> bytes:
    out = io.BytesIO()
    document.save(out)
    return out.getvalue()


def docx() -> bytes:
    from docx import Document

    document = Document()
    document.sections[0].header.paragraphs[0].text = "Company header"
    document.add_heading("Restart", level=1)
    paragraph = document.add_paragraph("One ")
    paragraph.add_run("bo").bold = True
    paragraph.add_run("ld\tword")
    table = document.add_table(rows=2, cols=2)
    for number, cell in enumerate(cell for row in table.rows for cell in row.cells):
        cell.text = f"cell {number}"
    document.add_paragraph("Last & <least>")
    return saved(document)


def rewritten(content: bytes, **changes: bytes) -> bytes:
    """Returns the archive with some members replaced; `document` stands for `word/document.xml`."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            key = name.rpartition("/")[2].partition(".")[0]
            new.writestr(name, changes.get(key, old.read(name)) if name.startswith("word/") else old.read(name))
    return out.getvalue()


def test_docx() -> None:
    assert text_of(docx(), Kind.ZIP) == (
        "Company header\n\nRestart\nOne bold word\ncell 0 cell 1\ncell 2 cell 3\nLast & <least>"
    )


def test_docx_text_in_boxes_controls_and_insertions_is_found_once() -> None:
    w = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
    mc = "http://schemas.openxmlformats.org/markup-compatibility/2006"
    body = (
        "<w:sdt><w:sdtContent><w:p><w:pPr><w:tabs><w:tab/></w:tabs></w:pPr><w:r><w:t>in a control</w:t></w:r></w:p>"
        "</w:sdtContent></w:sdt><w:p><w:ins><w:r><w:t>inserted</w:t></w:r></w:ins><w:del><w:r><w:delText>deleted"
        "</w:delText></w:r></w:del><w:r><w:instrText>PAGE</w:instrText></w:r></w:p><w:p><w:r><mc:AlternateContent>"
        "<mc:Choice><w:p><w:r><w:t>boxed</w:t></w:r></w:p></mc:Choice><mc:Fallback><w:p><w:r><w:t>boxed</w:t></w:r>"
        "</w:p></mc:Fallback></mc:AlternateContent></w:r></w:p>"
    )
    xml = f'<w:document xmlns:w="{w}" xmlns:mc="{mc}"><w:body>{body}</w:body></w:document>'
    text = text_of(rewritten(docx(), document=xml.encode(), header1=b"<x/>"), Kind.ZIP)
    assert text == "in a control\ninserted\nboxed"


def test_pptx_in_the_order_of_the_show_with_notes_and_tables() -> None:
    from pptx import Presentation
    from pptx.util import Inches

    show = Presentation()
    for number in range(3):
        slide = show.slides.add_slide(show.slide_layouts[5])
        slide.shapes.title.text = f"Slide {number}"
    slide = show.slides[0]
    slide.notes_slide.notes_text_frame.text = "Speak slowly"
    table = slide.shapes.add_table(1, 2, Inches(1), Inches(1), Inches(4), Inches(1)).table
    table.cell(0, 0).text, table.cell(0, 1).text = "left", "right"
    order = show.slides._sldIdLst
    order.append(order[0])  # the first slide is shown last
    text = text_of(saved(show), Kind.ZIP)
    assert text.index("Slide 1") < text.index("Slide 2") < text.index("Slide 0") < text.index("Speak slowly")
    assert "left right" in text


def test_xlsx_values_of_all_sheets() -> None:
    from openpyxl import Workbook

    book = Workbook()
    sheet = book.active
    assert sheet is not None
    sheet.title = "Ports"
    sheet.append(["name", "port", "since"])
    sheet.append(["web", 8321, date(2026, 1, 31)])
    sheet.append([None, None, None])
    sheet.append(["at", 1.5, datetime(2026, 1, 31, 12, 30)])  # noqa: DTZ001 - a sheet knows no time zones
    sheet["H900000"] = "far away"
    book.create_sheet("Second")["B2"] = "=1+1"
    assert text_of(saved(book), Kind.ZIP) == (
        "Ports\nname port since\nweb 8321 2026-01-31\nat 1.5 2026-01-31 12:30:00\nfar away\n\nSecond"
    )


def test_a_zip_that_is_no_office_file_has_no_text() -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as opened:
        opened.writestr("readme.txt", "hello")
    assert read_file(out.getvalue(), Kind.ZIP, LIMIT) is None
    assert extract_in_worker(out.getvalue(), Kind.ZIP, LIMIT) is None
    assert read_file(archive("drawing.xml"), Kind.ZIP, LIMIT) is None  # Office's packaging around something else


def archive(*names: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as opened:
        for name in ("[Content_Types].xml", *names):
            opened.writestr(name, "<x/>")
    return out.getvalue()


def test_a_show_without_relations_has_its_slides_by_number() -> None:
    assert text_of(archive("ppt/presentation.xml", "ppt/slides/slide1.xml"), Kind.ZIP) == ""


def test_an_office_file_of_too_many_parts_or_with_encrypted_ones_is_refused() -> None:
    many = archive("word/document.xml", *(f"{number}.txt" for number in range(20_001)))
    assert "more than 20000" in str(extract_in_worker(many, Kind.ZIP, LIMIT))
    content = bytearray(archive("word/document.xml"))
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.rfind(mark) + place] |= 1
    assert "is encrypted" in str(extract_in_worker(bytes(content), Kind.ZIP, LIMIT))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (docx()[:-400], "is broken"),
        (docx()[: len(docx()) // 2], "is broken"),
        (rewritten(docx(), document=b"<not closed"), "is broken"),
        (rewritten(docx(), document=b"<w:p/>"), "is broken"),
        (rewritten(docx(), document=b"<a>" * 100_000), "is broken"),
        (rewritten(docx(), document=b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>'), "document type"),
        (rewritten(docx(), document='<?xml version="1.0"?><!DOCTYPE a><a/>'.encode("utf-16")), "document type"),
        (rewritten(docx(), document=b"<a>" + b" " * 40_000_000 + b"</a>"), "ZIP bomb"),
    ],
)
def test_broken_and_hostile_office_files_are_named(content: bytes, reason: str) -> None:
    assert reason in refusal(content, Kind.ZIP)


def test_a_member_that_lies_about_its_size_is_refused() -> None:
    content = rewritten(docx(), document=b"<a>" + b"<b>x</b>" * 100_000 + b"</a>")
    size = (len(b"<a>") + 8 * 100_000 + len(b"</a>")).to_bytes(4, "little")
    assert refusal(content.replace(size, (1000).to_bytes(4, "little")), Kind.ZIP).startswith("is broken")


def test_an_office_file_with_a_password_is_named() -> None:
    assert refusal(b"", Kind.ENCRYPTED) == "is encrypted: it cannot be read without its password"


@given(st.binary(max_size=300), st.sampled_from(list(Kind)))
def test_random_bytes_never_escape_as_an_exception(content: bytes, kind: Kind) -> None:
    for start in (b"", b"%PDF-1.4\n", b"PK\x03\x04"):
        assert extract_in_worker(start + content, kind, 1000) != ""
