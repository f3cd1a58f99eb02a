"""Each format's text, in the process of the test."""

from __future__ import annotations

import io
import re
import time
from importlib.util import find_spec

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.extraction.detect import Kind
from connectors.extraction.errors import UnreadableFileError
from connectors.extraction.formats.markdown import markdown_to_text
from connectors.extraction.text import Extracted
from connectors.extraction.worker import extract_in_worker, read_file
from tests.support.extraction import LIMIT, refusal, text_of

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
