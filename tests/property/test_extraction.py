"""The quick ways of the text extraction give what the plain ones would."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from hypothesis import example, given
from hypothesis import strategies as st

from connectors.extraction.detect import Kind, detect
from connectors.extraction.formats.markdown import markdown_to_text
from connectors.extraction.text import clean

UNWANTED = re.compile("[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\xad\u200b\ud800-\udfff\ufeff\ufffe\uffff]")

#: What changes something somewhere, and words.
PIECES = st.sampled_from([
    *"ab  \n\n\n\r\t#*+-_~`[]()!<>|=09.\\&é\u0661\u00a0\u2028\x0b\x85\x1c\u200b\ufeff\ud800", "\r\n", "\r\r\n", " \n",
    "\n ", "word", "1. ", "# ", "> ", "---", "~~", "**", "[a]: b", "[a](b)", "&amp;", "<!--", "-->",
])  # fmt: skip
TEXTS = st.lists(PIECES, max_size=40).map("".join)


@given(TEXTS | st.text(max_size=100), st.sampled_from([3, 10, 10_000]))
@example("a\r\n\r\n\r\nb", 10)
@example(" a  b \n c", 10)
def test_text_is_cleaned_as_it_would_be_line_by_line(text: str, limit: int) -> None:
    lines = [" ".join(line.split()) for line in UNWANTED.sub("", text).splitlines()]
    expected = re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip("\n")[:limit].rstrip()
    assert clean(text, limit) == expected


ONLY_MARKS = re.compile(r"^[-:|=*_+ \t>]{3,}$", re.MULTILINE)
REFERENCE = re.compile(r"^ {0,3}\[(?!\^)[^\[\]\n]{1,200}\]:[ \t].*$", re.MULTILINE)
LINE_START = re.compile(
    r"^[ \t]*(?:>[ \t]*)*(?:\#{1,6}[ \t]+|[-*+][ \t]+(?:\[[ xX]\][ \t]+)?|\d{1,9}[.)][ \t]+)?", re.MULTILINE
)


@given(
    st.lists(st.sampled_from([*"ab  \n\n#*+->|=x[]:09.)\u0661", "\n", "\n- ", "\n[a]: b", "[x] ", "\n---"])).map(
        "".join
    )
)
@example("\n\n- [x] done\n1) one\n>> # b\n[a]: b\n===\n#no")
def test_marks_of_lines_go_as_expressions_for_the_whole_text_take_them(text: str) -> None:
    expected = LINE_START.sub("", REFERENCE.sub("", ONLY_MARKS.sub("", text)))
    expected = re.sub(r"(?<![ \t])[ \t]+#+[ \t]*$", "", expected, flags=re.MULTILINE)
    expected = re.sub(r"^[ \t]*\|.*$", lambda row: row[0].replace("|", " "), expected, flags=re.MULTILINE)
    plain = "*" not in expected and "](" not in expected and "][" not in expected
    if plain:  # else there are marks within lines, which other tests are about
        assert markdown_to_text(text) == expected


@given(st.text(alphabet="ab./MDmd ", max_size=12).filter(lambda name: not name.endswith(("/", "/."))))
def test_a_suffix_is_what_pathlib_says(name: str) -> None:
    is_markdown = PurePosixPath(name).suffix.lower() == ".md"
    assert detect(b"text", name) is (Kind.MARKDOWN if is_markdown else Kind.TEXT)
