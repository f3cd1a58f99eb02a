"""Bytes to characters, and what kind of file it is."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.extraction.detect import Kind, detect
from connectors.extraction.text import TextCollector, TextLimitReachedError, clean, decode, looks_binary

GERMAN = "Der Löwe frißt über Nacht Öl. Das Café hat größere Fenster als früher."
RUSSIAN = "Привет, как дела? Сегодня хорошая погода и мы идём гулять."
JAPANESE = "これは日本語のテキストです。今日はいい天気ですね。散歩に行きましょう。"
CHINESE = "今天天气很好。我们去公园散步吧。这是一个测试文件。"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("text", [GERMAN, RUSSIAN, JAPANESE, "plain"])
def test_unicode_with_and_without_mark(text: str, encoding: str) -> None:
    assert clean(decode(text.encode(encoding)), 1000) == text
    assert detect(text.encode(encoding), "a.txt") is Kind.TEXT


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_wide_encodings_without_mark_are_known_by_their_nulls(encoding: str) -> None:
    assert decode(GERMAN.encode(encoding)) == GERMAN
    assert not looks_binary(GERMAN.encode(encoding))


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (GERMAN, "cp1252"),
        ("Café", "cp1252"),
        ("L'été à la plage, où l'on a mangé des crêpes, c'était très agréable.", "latin-1"),
        ("“Quotes” \u2013 and a dash, price €5", "cp1252"),
        ("Zażółć gęślą jaźń. Wszyscy ludzie rodzą się wolni i równi.", "cp1250"),
        (RUSSIAN, "cp1251"),
        (RUSSIAN, "koi8-r"),
        ("Καλημέρα κόσμε, τι κάνεις; σήμερα είναι πολύ καλός καιρός.", "iso-8859-7"),
        (JAPANESE, "shift_jis"),
        (JAPANESE, "euc-jp"),
        (CHINESE, "gb18030"),
        ("안녕하세요. 오늘은 날씨가 매우 좋습니다. 산책하러 갑시다.", "euc-kr"),
    ],
)
def test_legacy_encodings_are_guessed(text: str, encoding: str) -> None:
    assert decode(text.encode(encoding)) == text


def test_a_guess_is_made_where_the_text_stops_being_ascii() -> None:
    assert decode(b"word " * 40_000 + RUSSIAN.encode("cp1251")).endswith(RUSSIAN)


def test_utf_8_with_a_broken_end_stays_utf_8() -> None:
    torn = (RUSSIAN + "я").encode()[:-1]
    assert decode(torn) == RUSSIAN + "\ufffd"


@given(st.binary(max_size=400))
def test_decoding_and_cleaning_never_fail_and_always_encode(content: bytes) -> None:
    text = clean(decode(content), 300)
    assert len(text) <= 300
    text.encode()
    assert "\0" not in text
    detect(content, "x")


@given(st.text(alphabet=st.characters(codec=None), max_size=300))
def test_cleaning_is_idempotent_and_keeps_words(text: str) -> None:
    once = clean(text, 10_000)
    assert clean(once, 10_000) == once
    once.encode()


@given(st.lists(st.from_regex(r"\w{1,8}", fullmatch=True), max_size=30), st.data())
def test_cleaning_keeps_every_word(words: list[str], data: st.DataObject) -> None:
    gaps = st.sampled_from([" ", "\n", "\r\n", " \t ", "\n\n\n\n", "\u00a0", "\u3000"])
    text = "".join(word + data.draw(gaps) for word in words)
    assert clean(text, 10_000).split() == words


def test_white_space_is_reduced() -> None:
    assert clean("\ufeff a\t b\u00a0\u2003c \r\n\r\n\n \n d\x0ce\x00f\ud800 \u00adg\u200b", 100) == "a b c\n\nd\nef g"


def test_text_is_cut_at_the_limit() -> None:
    assert clean("abc def ghi", 8) == "abc def"


def test_a_collector_stops_when_it_has_enough() -> None:
    out = TextCollector(5)
    out.add("abc")
    with pytest.raises(TextLimitReachedError):
        out.add("defg")
    assert out.text() == "abcdefg"


def test_cleaning_takes_time_in_proportion() -> None:
    for bad in (" ", "\n", "\n ", "\t\n", "\x00", "\ud800", "a "):
        started = time.process_time()
        clean(bad * 1_000_000, 1_000_000)
        assert time.process_time() - started < 3, repr(bad)


@pytest.mark.parametrize(
    ("content", "name", "mime_type", "kind"),
    [
        (b"%PDF-1.7\n", "report.txt", None, Kind.PDF),
        (b"\n%PDF-1.4", "no suffix", None, Kind.PDF),
        (b"junk\x00 before %PDF-1.4", "a.pdf", None, Kind.PDF),
        (b"A file begins with %PDF-1.4, says the manual.", "notes.txt", None, Kind.TEXT),
        (b"PK\x03\x04....", "a.docx", None, Kind.ZIP),
        (b"# Title", "a.md", None, Kind.MARKDOWN),
        (b"# Title", "A.MARKDOWN", None, Kind.MARKDOWN),
        (b"# Title", "a", "text/markdown; charset=utf-8", Kind.MARKDOWN),
        (b"  <!DOCTYPE HTML><p>", "a.txt", None, Kind.HTML),
        (b"<p>fragment", "a.htm", None, Kind.HTML),
        (b"a,b", "a.csv", None, Kind.CSV),
        (b"{}", "a", "application/json", Kind.JSON),
        (b"{}", "a.txt", "application/json", Kind.JSON),
        (b"{}", "a.txt", None, Kind.TEXT),
        (b"x = 1", "a.py", "image/png", Kind.TEXT),
        (b"\x1b[31mred\x1b[0m\n", "run.log", None, Kind.TEXT),
        (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", "a.png", None, None),
        (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", "a.txt", "text/plain", None),
        (b"\x7fELF\x02\x01\x01\x00", "program", None, None),
        (b"{\\rtf1 hello}", "a.rtf", None, None),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\x00" * 600, "old.doc", None, None),
        (
            b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\x00" * 600 + "EncryptedPackage".encode("utf-16-le"),
            "a.docx",
            None,
            Kind.ENCRYPTED,
        ),
        (bytes(range(256)) * 4, "a.bin", None, None),
        (b"", "a.md", None, Kind.MARKDOWN),
    ],
)
def test_kind_by_content_then_name_then_mime_type(
    content: bytes, name: str, mime_type: str | None, kind: Kind | None
) -> None:
    assert detect(content, name, mime_type) is kind
