"""Each format's text, in the process of the test."""

from __future__ import annotations

import io
import re
import time
import zipfile
from datetime import date, datetime
from importlib.util import find_spec
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.extraction.detect import Kind
from connectors.extraction.errors import UnreadableFileError
from connectors.extraction.formats.markdown import markdown_to_text
from connectors.extraction.text import Extracted
from connectors.extraction.worker import extract_in_worker, read_file

LIMIT = 100_000


def text_of(content: bytes | str, kind: Kind, limit: int = LIMIT) -> str:
    extracted = read_file(content.encode() if isinstance(content, str) else content, kind, limit)
    assert extracted is not None
    return extracted.text


def refusal(content: bytes, kind: Kind) -> str:
    outcome = extract_in_worker(content, kind, LIMIT)
    assert isinstance(outcome, str)
    return outcome


# Markdown

NOTE = """---
title: Restart
tags: [ops, night]
---
# How to *restart* the `web` server #

Setext title
============

A **bold** word, an _emphatic_ one, ~~struck~~, `code_with_underscores` and snake_case_name.
See [the *guide*](https://example.org/a_(b) "title") and ![a chart](img/chart.png) or [text][ref].
[![badge](b.svg)](https://ci.example.org) <https://auto.example.org> <b>html</b> &amp; caf&eacute;
<!-- a comment
over two lines --> 1 \\* 2

> quoted
> - nested item

1. first
2. second
- [x] done

| name | port |
|:-----|-----:|
| web  | 8321 |

***

~~~sh
make run  # **not bold**
```
~~~

[ref]: https://example.org/ref
[^1]: A note at the foot.
"""


def test_markdown() -> None:
    text = text_of(NOTE, Kind.MARKDOWN)
    assert text.startswith("title: Restart\ntags: [ops, night]\n\nHow to restart the web server\n")
    for expected in (
        "Setext title\n\nA bold word, an emphatic one, struck, code_with_underscores and snake_case_name.",
        "See the guide and a chart or text.",
        "badge https://auto.example.org html & café",
        "1 * 2",
        "quoted\nnested item",
        "first\nsecond\ndone",
        "name port\n\nweb 8321",
        "make run # **not bold**\n```",
        "A note at the foot.",
    ):
        assert expected in text
    for gone in ("===", "img/", "b.svg", "ci.example", "comment", "***", "~~~", "example.org/ref", "example.org/a_"):
        assert gone not in text


def test_markdown_has_the_words_that_a_full_parser_finds() -> None:
    from markdown_it import MarkdownIt

    note = "# " + NOTE.partition("---\n# ")[2].partition("***")[0] + "[ref]: https://e.org"
    note = re.sub(r"<!--.*?-->|</?b>|- \[x\] done", "", note, flags=re.DOTALL)
    text = ""
    for token in MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(note):
        text += "".join(child.content or " " for child in token.children or [token]) + "\n"
    assert re.findall(r"\w+", text_of(note, Kind.MARKDOWN)) == re.findall(r"\w+", text)


@given(st.text(alphabet="ab `*_~[]()!<>#-|\\&\n:1.", max_size=200))
def test_markdown_never_fails_and_loses_no_word_of_letters(text: str) -> None:
    markdown_to_text(text)
    plain = " ".join(re.findall("[ab]+", text))
    assert re.findall("[ab]+", markdown_to_text(plain)) == plain.split()


@pytest.mark.parametrize(
    "bad",
    [
        "`",
        "[",
        "![",
        "[](",
        "<",
        "<!--",
        "<a ",
        "*",
        "**a",
        "- ",
        " ",
        " #",
        "|",
        "\\",
        "&",
        "```\n",
        "[a]:",
        "[a](b(c",
    ],
)
def test_markdown_takes_time_in_proportion(bad: str) -> None:
    started = time.process_time()
    markdown_to_text(bad * (1_000_000 // len(bad)))
    assert time.process_time() - started < 4


# HTML


def test_html_shows_what_a_reader_sees() -> None:
    page = """<!DOCTYPE html><html><head><title>Fish &amp; chips</title><style>p {color: red}</style>
    <script>var secret = "<p>no</p>";</script></head><body><h1>Menu</h1><p>one <b>bo</b>ld
    word<br>next</p><noscript>no script</noscript><template>no</template><div hidden>hidden</div>
    <table><tr><td>Cod<td>7&nbsp;&euro;<tr><td>Hake<td>8 €</table><!-- remark --><ul><li>a<li>b</ul>
    <pre>x = 1
y = 2</pre><p>unclosed <i>tag"""
    text = text_of(page, Kind.HTML)
    assert text.splitlines()[0] == "Fish & chips"
    for expected in ("Menu\none bold word\nnext\nCod 7 €\nHake 8 €\na\nb\n", "x = 1\ny = 2", "unclosed tag"):
        assert expected in text
    for gone in ("secret", "color", "no", "hidden", "remark", "<"):
        assert gone not in text.replace("unclosed", "")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("<meta charset='koi8-r'><p>Привет".encode("koi8-r"), "Привет"),
        (
            '<META http-equiv="Content-Type" content="text/html; charset=ISO-8859-1">café “x”'.encode("cp1252"),
            "café “x”",
        ),
        ("<?xml version='1.0' encoding='windows-1251'?><html><body>Привет</body></html>".encode("cp1251"), "Привет"),
        ("<p>größer".encode(), "größer"),
        ("<meta charset=utf-16><p>größer".encode(), "größer"),
        ("<meta charset=nonsense><p>größer".encode(), "größer"),
        ("<meta charset=utf-8><p>Der Löwe frißt über Nacht Öl".encode("cp1252"), "Der Löwe frißt über Nacht Öl"),
        ("<p>größer".encode("utf-16"), "größer"),
        (
            b"<?xml version='1.0' encoding='utf-8'?><html xmlns='http://www.w3.org/1999/xhtml'><body>ok</body></html>",
            "ok",
        ),
        (b"<p>a\x00b", "ab"),
        (b"", ""),
        (b"<!-- nothing -->", ""),
        (b"no tags at all", "no tags at all"),
    ],
)
def test_html_encodings_and_odd_pages(content: bytes, expected: str) -> None:
    assert text_of(content, Kind.HTML) == expected


def test_html_nested_too_deeply_is_named() -> None:
    assert text_of("<div>" * 1500 + "deep", Kind.HTML) == "deep"
    with pytest.raises(UnreadableFileError, match="nested too deeply"):
        read_file(b"<div>" * 100_000 + b"deep", Kind.HTML, LIMIT)


@given(st.text(alphabet="<>/ab pdiv=\"'&;!-\n", max_size=200))
def test_html_never_fails(page: str) -> None:
    text_of(page, Kind.HTML)


# CSV and JSON


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("name,town\nAda,London\n", "name town\nAda London"),
        ("name;price\nx;1,5\ny;2,5\n", "name price\nx 1,5\ny 2,5"),
        ("a\tb\nc\td\n", "a b\nc d"),
        ('a,"b, with ""quotes""\nand a line"\nc,d\n', 'a b, with "quotes"\nand a line\nc d'),
        ("one column\nonly\n", "one column\nonly"),
        ('never "closed,\n"really', 'never "closed\nreally'),
        ("a,b\rc,d\r", "a b\nc d"),
        ("x" * 200_000 + ",y", "x" * (LIMIT)),
        ("", ""),
    ],
)
def test_csv(content: str, expected: str) -> None:
    assert text_of(content, Kind.CSV) == expected


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('{"name": "Ada", "born": 1815, "tags": ["a", "b"]}', "name: Ada\nborn: 1815\ntags\na\nb"),
        ('{"price": 1.10, "id": 12345678901234567890123, "ok": true, "none": null}',
         "price: 1.10\nid: 12345678901234567890123\nok: true\nnone"),
        ('{"a": {"b": {"c": "deep"}}}', "a\nb\nc: deep"),
        ('{"k": 1, "k": 2}', "k: 1\nk: 2"),
        ('{"a": 1}\n{"a": 2}\n\nnot json\n', "a: 1\na: 2\nnot json"),
        ('// a comment\n{"a": 1,}', '// a comment\n{"a": 1,}'),
        ('"\\ud800 lone \\u0000 nul"', "lone nul"),
        ("[NaN, 1e999]", "nan\n1e999"),
        ("[]", ""),
    ],
)  # fmt: skip
def test_json(content: str, expected: str) -> None:
    assert text_of(content, Kind.JSON) == expected


@pytest.mark.parametrize("content", ["[" * 100_000, '{"a":' * 100_000, "[" * 600 + "]" * 600])
def test_json_nested_too_deeply_is_named(content: str) -> None:
    with pytest.raises(UnreadableFileError, match="nested too deeply"):
        read_file(content.encode(), Kind.JSON, LIMIT)


# PDF


def pdf(*pages: str, extra: bytes = b"") -> bytes:
    """Returns a PDF with one line of text on each page, written by hand."""
    objects = [b"<< /Type /Catalog /Pages 2 0 R >>", b"", b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"]
    kids = []
    for text in pages:
        stream = f"BT /F1 12 Tf 72 720 Td ({text}) Tj ET".encode()
        objects.append(b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream))
        page = b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents %d 0 R" % len(objects)
        objects.append(page + b" /Resources << /Font << /F1 3 0 R >> >> >>")
        kids.append(b"%d 0 R" % len(objects))
    objects[1] = b"<< /Type /Pages /Kids [%s] /Count %d >>" % (b" ".join(kids), len(kids))
    out = io.BytesIO()
    out.write(b"%PDF-1.4\n" + extra)
    offsets = []
    for number, body in enumerate(objects, 1):
        offsets.append(out.tell())
        out.write(b"%d 0 obj\n%s\nendobj\n" % (number, body))
    start = out.tell()
    out.write(b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1))
    out.write(b"".join(b"%010d 00000 n \n" % offset for offset in offsets))
    out.write(b"trailer << /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF" % (len(objects) + 1, start))
    return out.getvalue()


def test_pdf() -> None:
    assert text_of(pdf("Hello handbook", "Second page"), Kind.PDF) == "Hello handbook\n\nSecond page"
    assert text_of(pdf("x" * 80, "y" * 80), Kind.PDF, limit=50) == "x" * 50


def encrypted_pdf(password: str) -> bytes:
    from pypdf import PdfReader, PdfWriter

    writer = PdfWriter(clone_from=PdfReader(io.BytesIO(pdf("For readers"))))
    writer.encrypt(user_password=password, owner_password="owner", algorithm="RC4-128")
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


def test_pdf_with_a_password() -> None:
    with pytest.raises(UnreadableFileError, match="is encrypted"):
        read_file(encrypted_pdf("secret"), Kind.PDF, LIMIT)
    assert text_of(encrypted_pdf(""), Kind.PDF) == "For readers"  # only changing it needs the password


def test_pdf_that_is_encrypted_with_aes_says_what_is_missing() -> None:
    aes = b"/V 4 /CF << /StdCF << /CFM /AESV2 /Length 16 >> >> /StmF /StdCF /StrF /StdCF"
    content = encrypted_pdf("").replace(b"/V 2", aes).replace(b"/R 3", b"/R 4")
    outcome = extract_in_worker(content, Kind.PDF, LIMIT)
    if find_spec("cryptography") is None:
        assert outcome == "is encrypted in a way that needs the Python package cryptography"
    else:  # with it, the made-up content is no AES
        assert isinstance(outcome, str) or outcome == Extracted("")


def test_pdf_with_one_damaged_page_keeps_the_others() -> None:
    good = pdf("First page", "Second page")
    second = good.rindex(b"<< /Length")
    bad = good[:second] + b"<< /Filter /Nonsense " + good[second + 3 :]
    assert text_of(bad, Kind.PDF) == "First page"
    all_bad = good.replace(b"<< /Length", b"<< /Filter /Nonsense /Length")
    assert refusal(all_bad, Kind.PDF).startswith("is broken")


def test_broken_pdf_is_named() -> None:
    assert refusal(b"%PDF-1.7 and no more", Kind.PDF).startswith("is broken: ")


# Office files


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
