"""The title that a file itself bears, by format."""

from __future__ import annotations

import io
import time
import zipfile
from typing import Any

import pytest

from connectors.extraction.detect import Kind
from connectors.extraction.formats.markdown import markdown_title
from connectors.extraction.formats.titles import title_of_metadata
from connectors.extraction.text import clean_title
from connectors.extraction.worker import read_file


def title_of(content: bytes | str, kind: Kind) -> str | None:
    extracted = read_file(content.encode() if isinstance(content, str) else content, kind, 10_000)
    assert extracted is not None
    return extracted.title


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("# How to *restart* the `web` [server](x.md) #\n\ntext", "How to restart the web server"),
        ("\n\n<!-- # no -->\n  # Yes\n", "Yes"),
        ("Setext *title*\n===\n", "Setext title"),
        ("---\ntitle: 'From the header'\ntags: [a]\n---\n# Heading\n", "From the header"),
        ("---\r\ntags: [a]\r\n---\r\n# Heading\r\n", "Heading"),
        ("---\ntitle:\n---\n# Heading\n", "Heading"),
        ("[![badge](b.svg)](c)\n\n# After a badge\n", "After a badge"),
        ("## Opens the text\n# Later\n", "Opens the text"),
        ("A paragraph.\n\n## A section\n", None),
        ("A paragraph.\n\n## A section\n\n# The title\n", "The title"),
        ("```sh\n# a comment\n```\n# Title\n", "Title"),
        ("````\n```\n# a comment\n````\n~~~\n# b\n~~~\n# Title\n", "Title"),
        ("```\n# never closed\n", None),
        ("#hashtag\n\n####### seven\n", None),
        ("#\n# \n# Title", "Title"),
        ("title: no header\n", None),
        ("plain\n---\n", None),
        ("word\n" * 5000 + "# Too far down\n", None),
        ("", None),
    ],
)
def test_markdown(text: str, title: str | None) -> None:
    assert title_of(text, Kind.MARKDOWN) == title


@pytest.mark.parametrize("bad", ["#", "# ", "<!--", "```\n", "=\n", "a\n", "---\n", "title:", "---\ntitle:", " " * 9])
def test_markdown_titles_take_no_time(bad: str) -> None:
    text = bad * (1_000_000 // len(bad))
    begun = time.perf_counter()
    markdown_title(text)
    assert time.perf_counter() - begun < 0.5  # some milliseconds where it was measured


@pytest.mark.parametrize(
    ("page", "title"),
    [
        ("<title>\n A  page </title><h1>Heading</h1>", "A page"),
        ("<title>&lt;script&gt;alert(1)&lt;/script&gt;</title>", "<script>alert(1)</script>"),
        ("<title>Document</title><h1>The <em>real</em> one</h1>", "The real one"),
        ("<title></title><p>text", None),
        ("<h1>Only a heading</h1>", "Only a heading"),
        ("<p>text", None),
        ("<svg><title>a drawing</title></svg><p>text", None),
    ],
)
def test_html(page: str, title: str | None) -> None:
    assert title_of(page, Kind.HTML) == title


@pytest.mark.parametrize("kind", [Kind.TEXT, Kind.CSV, Kind.JSON])
def test_formats_that_have_no_titles(kind: Kind) -> None:
    assert title_of("# words", kind) is None


def pdf(title: str | None) -> bytes:
    from pypdf import PdfWriter

    writer = PdfWriter()
    writer.add_blank_page(100, 100)
    if title is not None:
        writer.add_metadata({"/Title": title})
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


@pytest.mark.parametrize(
    ("given", "title"), [("Größe and  sense", "Größe and sense"), ("report.docx", None), ("", None), (None, None)]
)
def test_pdf(given: str | None, title: str | None) -> None:
    assert title_of(pdf(given), Kind.PDF) == title


def test_a_pdf_with_damaged_metadata_keeps_its_text() -> None:
    content = pdf("Title").replace(b"(Title)", b"[1 0 R]")
    assert title_of(content, Kind.PDF) is None


def docx(properties: str | None) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        archive.writestr("word/document.xml", '<w:p xmlns:w="w"><w:t>text</w:t></w:p>')
        if properties is not None:
            archive.writestr("docProps/core.xml", properties)
    return out.getvalue()


@pytest.mark.parametrize(
    ("inside", "title"),
    [
        ("<d:title>Annual report</d:title>", "Annual report"),
        ("<d:title>PowerPoint Presentation</d:title>", None),
        ("<d:title/>", None),
        ("", None),
    ],
)
def test_office(inside: str, title: str | None) -> None:
    core = f'<p xmlns:d="http://purl.org/dc/elements/1.1/">{inside}</p>'
    assert title_of(docx(core), Kind.ZIP) == title


@pytest.mark.parametrize("properties", [None, "<broken"])
def test_office_files_without_sound_properties_keep_their_text(properties: str | None) -> None:
    extracted = read_file(docx(properties), Kind.ZIP, 1000)
    assert extracted == ("text", None)


def saved(document: Any) -> bytes:
    out = io.BytesIO()
    document.core_properties.title = ""
    document.save(out)
    return out.getvalue()


@pytest.mark.parametrize(
    ("paragraphs", "title"),
    [
        ([("Normal", "Cover"), ("Title", "The plan"), ("Heading 1", "First part")], "The plan"),
        ([("Normal", "A word before"), ("Heading 2", "Small"), ("Heading 1", "First\tpart")], "First part"),
        ([("Heading 1", "  "), ("Heading 1", "Not empty")], "Not empty"),
        ([("Normal", "Only text"), ("Heading 2", "Small")], None),
        ([("Normal", "word")] * 100 + [("Title", "Too far down")], None),
    ],
)
def test_a_docx_without_properties_shows_its_title(paragraphs: list[tuple[str, str]], title: str | None) -> None:
    from docx import Document

    document = Document()
    document.styles["Heading 1"].element.set(qualified("styleId"), "berschrift1")  # as a German Word has it
    for style, text in paragraphs:
        document.add_paragraph(text, style)
    assert title_of(saved(document), Kind.ZIP) == title


def qualified(name: str) -> str:
    return f"{{http://schemas.openxmlformats.org/wordprocessingml/2006/main}}{name}"


@pytest.mark.parametrize(("layout", "expected"), [(0, "The plan"), (5, "The plan"), (6, None)])
def test_a_pptx_without_properties_has_the_title_of_its_first_slide(layout: int, expected: str | None) -> None:
    from pptx import Presentation

    show = Presentation()
    for text in ("The\nplan", "Second"):
        slide = show.slides.add_slide(show.slide_layouts[layout])
        if slide.shapes.title is not None:
            slide.shapes.title.text = text
    assert title_of(saved(show), Kind.ZIP) == expected


def test_damaged_styles_cost_the_title_alone() -> None:
    with zipfile.ZipFile(io.BytesIO(docx(None))) as archive:
        text = archive.read("word/document.xml")
    for styles in ("<broken", "<w:styles xmlns:w='w'><w:style><w:name w:val='Title'/></w:style><style/></w:styles>"):
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as archive:
            archive.writestr("[Content_Types].xml", "<Types/>")
            archive.writestr("word/document.xml", text)
            archive.writestr("word/styles.xml", styles)
        assert read_file(out.getvalue(), Kind.ZIP, 1000) == ("text", None)


@pytest.mark.parametrize(
    "title",
    ["Microsoft Word - report.doc", "Microsoft PowerPoint - a", "report_final.DOCX", "Untitled", "\u200b", "---"],
)
def test_what_programs_write_by_themselves_is_no_title(title: str) -> None:
    assert title_of_metadata(title) is None


@pytest.mark.parametrize("title", ["Version 2.0", "Microsoft Word for beginners", "About config.pdf", "1984", "改善"])
def test_what_people_write_is_one(title: str) -> None:
    assert title_of_metadata(title) == title


def test_a_title_is_one_short_line_without_control_characters() -> None:
    assert clean_title("a\n\x1b[31m b\u202f\x00c\ud800") == "a [31m b c"
    assert clean_title("word " * 1_000_000) == ("word " * 60).strip()
