"""Marks in hits: what FTS5 would mark, in time that grows with the text."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.backends.embedded.marking import Marker
from connectors.backends.query_language import Term


def line(text: str, *terms: Term) -> str | None:
    marked = Marker(terms).line("title", text)
    return marked and marked.replace("\x02", "[").replace("\x03", "]")


def passage(text: str, *words: str) -> str | None:
    marked = Marker(map(Term, words)).passage("body", text)
    return marked and marked.replace("\x02", "[").replace("\x03", "]")


@pytest.mark.parametrize(
    ("text", "term", "expected"),
    [
        ("A Needle, a needle_x, needles", Term("needle"), "A [Needle], a [needle]_x, needles"),
        ("needles in Needlework", Term("needle", prefix=True), "[needles] in [Needlework]"),
        ("a dead-letter: dead letters", Term("dead letter"), "a [dead-letter]: dead letters"),
        ("a dead-letter: dead letters", Term("dead let", prefix=True), "a [dead-letter]: [dead letters]"),
        ("CAFÉ cafe\u0301 cafe Kraków", Term("café"), "[CAFÉ] [cafe\u0301] [cafe] Kraków"),
        ("Größe Grosse", Term("GRÖSSE"), "Größe [Grosse]"),
        ("Łukasz Lukasz", Term("lukasz"), "Łukasz [Lukasz]"),
        ("İstanbul", Term("istanbul"), "[İstanbul]"),
        ("改善 한국", Term("한국"), "改善 [한국]"),
        ("a.b a+b", Term("a.b"), "[a.b] [a+b]"),
        ("title", Term("title", field="body"), None),
        ("title", Term("title", field="title"), "[title]"),
        ("nothing here", Term("needle"), None),
        ("", Term("needle"), None),
        ("text", Term("()"), None),
    ],
)
def test_what_is_marked(text: str, term: Term, expected: str | None) -> None:
    assert line(text, term) == expected


WORDS = st.sampled_from(["a", "ab", "abc", "b", "é", "E", "x_y", "a-b", "ß", "Å", "1", "a1", "日本", "\U0001f600"])


@given(st.lists(WORDS, max_size=12), st.lists(WORDS, min_size=1, max_size=3), st.booleans(), st.booleans())
def test_a_single_term_is_marked_as_fts5_marks_it(text: list[str], term: list[str], prefix: bool, marks: bool) -> None:
    content, wanted = " ".join(text), " ".join(term)
    if marks:
        content = content.replace("é", "e\u0301")
    with closing(sqlite3.connect(":memory:")) as database:
        database.execute("CREATE VIRTUAL TABLE t USING fts5(x, tokenize = 'unicode61 remove_diacritics 2')")
        database.execute("INSERT INTO t VALUES (?)", (content,))
        match = f'"{wanted}"{" *" if prefix else ""}'
        rows = database.execute("SELECT highlight(t, 0, '[', ']') FROM t WHERE t MATCH ?", (match,)).fetchall()
    # FTS5 marks what overlaps in one piece; whether there is something to mark has to be the same.
    assert (line(content, Term(wanted, prefix=prefix)) is not None) == bool(rows)


def test_a_short_text_is_its_own_passage() -> None:
    assert passage("one needle here", "needle") == "one [needle] here"


def test_the_passage_with_the_most_terms_is_shown() -> None:
    text = (
        "dead end. "
        + "filler words " * 100
        + "A sentence. Here a dead letter lies. "
        + "filler words " * 100
        + "letter"
    )
    shown = passage(text, "dead", "letter")
    assert shown is not None
    assert shown.startswith("…Here a [dead] [letter] lies. filler")
    assert shown.endswith(("filler…", "words…"))
    assert len(shown) < 300


@pytest.mark.parametrize("before", [0, 1, 5000, 6500, 6553, 6554, 20_000])
def test_a_match_is_found_wherever_it_stands(before: int) -> None:
    shown = passage("word " * before + "two needles " + "word " * 3000, "two needles")
    assert shown is not None
    assert "[two needles]" in shown


def test_a_part_of_a_word_at_the_end_of_a_piece_is_no_match() -> None:
    for before in range(32_758, 32_769):
        assert passage("x" * (before - 1) + " needles " + "y" * 500, "needle") is None
        assert passage("x" * (before - 1) + " aneedle " + "y" * 500, "needle") is None
        assert passage("x" * (before - 1) + " needle " + "y" * 500, "needle") is not None


def test_text_without_spaces_is_cut_anywhere() -> None:
    shown = passage("改" * 1000 + " 善 " + "改" * 1000, "善")
    assert shown is not None
    assert "[善]" in shown
    assert 200 < len(shown) < 300


def test_a_phrase_that_is_longer_than_a_passage_is_shown_whole() -> None:
    phrase = "long " * 100
    assert passage("x " * 500 + phrase + "y " * 500, phrase) == f"…[{phrase.strip()}]…"


@pytest.mark.parametrize("text", ["ab " * 333_000, "é " * 500_000, "ab\n" * 333_000, "a" * 1_000_000])
def test_a_text_of_nothing_but_matches_takes_no_time(text: str) -> None:
    marker = Marker([*(Term("a" * length, prefix=True) for length in range(1, 32)), Term("é"), Term("ab")])
    begun = time.perf_counter()
    marker.passage("body", text)
    marker.line("title", text)
    assert time.perf_counter() - begun < 15  # two seconds where it was measured; FTS5 took minutes
