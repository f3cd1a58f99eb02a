"""`TextExtractor`: what it does itself, what it sends to a worker, and what its errors say."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import AsyncIterator

import pytest

from connectors.errors import SkippableError
from connectors.extraction import Extracted, ExtractionError, TextExtractor
from connectors.extraction.detect import Kind
from connectors.extraction.extractor import _HERE
from connectors.extraction.pool import WorkerPool


def extractor(**changes: float) -> TextExtractor:
    values = {"workers": 1, "timeout": 30.0, "memory": 2**30, "max_text_chars": 1000, **changes}
    return TextExtractor(
        workers=int(values["workers"]),
        timeout=values["timeout"],
        memory=int(values["memory"]),
        max_text_chars=int(values["max_text_chars"]),
    )


@pytest.fixture
async def started() -> AsyncIterator[TextExtractor]:
    it = extractor()
    await it.start()
    yield it
    await it.close()


@pytest.mark.parametrize("changes", [{"workers": 0}, {"timeout": 0}, {"memory": 0}, {"max_text_chars": -1}])
def test_arguments_must_be_positive(changes: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must all be positive"):
        extractor(**changes)


@pytest.mark.parametrize(
    ("content", "name", "expected"),
    [
        (b"", "empty.txt", Extracted("")),
        ("größer  than\n\n\n\nlife".encode(), "a.txt", Extracted("größer than\n\nlife")),
        (b"# A *title*\n", "a.md", Extracted("A title", "A title")),
        (b"x" * 5000, "long.log", Extracted("x" * 1000)),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "a.png", None),
        (b"{\\rtf1 hello}", "a.rtf", None),
    ],
)
async def test_small_plain_files_and_pictures_need_no_process(
    monkeypatch: pytest.MonkeyPatch, content: bytes, name: str, expected: Extracted | None
) -> None:
    async def refuse(*_: object) -> None:
        pytest.fail("a process was asked for")

    monkeypatch.setattr(WorkerPool, "run", refuse)
    it = extractor()
    await it.start()
    assert await it.extract(content, name=name) == expected
    await it.close()


@pytest.mark.parametrize(
    ("unit", "name"), [("The fox\tjumps.\n\n", "a.txt"), ("\n", "a.txt"), ("[a](b) *c* `d`\n", "a.md"), ("\\", "a.md")]
)
async def test_the_loop_is_never_held_for_long_by_what_is_done_on_it(unit: str, name: str) -> None:
    it = extractor(max_text_chars=10**6)
    limit = _HERE[Kind.TEXT if name == "a.txt" else Kind.MARKDOWN]
    content = (unit * limit)[:limit].encode()
    best = 1.0
    for _ in range(5):
        begun = time.perf_counter()
        await it.extract(content, name=name)
        best = min(best, time.perf_counter() - begun)
    assert best < 0.05  # five milliseconds where it was measured; ten times that is too much anywhere


async def test_everything_else_is_done_by_a_worker(started: TextExtractor) -> None:
    assert await started.extract(b"<p>visible<script>no", name="a.html") == Extracted("visible")
    assert await started.extract("größer".encode("cp1252"), name="a.txt") == Extracted("größer")
    assert await started.extract(b"a,b\n", name="x", mime_type="text/csv") == Extracted("a b")
    assert await started.extract(b"word " * 100_000, name="a.txt") == Extracted(("word " * 200).strip())
    note = ("# " + "word " * 20_000).encode()
    expected = Extracted(("word " * 200).strip(), ("word " * 60).strip())
    assert await started.extract(note, name="a.md") == expected


async def test_errors_name_the_file_and_the_reason(started: TextExtractor) -> None:
    with pytest.raises(ExtractionError) as broken:
        await started.extract(b"%PDF-1.7", name="handbook/x.pdf")
    assert str(broken.value).startswith("handbook/x.pdf: the PDF is broken: ")
    assert isinstance(broken.value, SkippableError)
    with pytest.raises(ExtractionError, match=r"^a\.json: the JSON is nested too deeply$"):
        await started.extract(b"[" * 100_000, name="a.json")
    ole = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + "EncryptedPackage".encode("utf-16-le")
    with pytest.raises(ExtractionError, match=r"^a\.xlsx: the Office file is encrypted"):
        await started.extract(ole, name="a.xlsx")


async def test_it_is_used_between_start_and_close() -> None:
    it = extractor()
    with pytest.raises(RuntimeError, match=r"before start"):
        await it.extract(b"<p>", name="a.html")
    await it.start()
    await it.close()
    await it.close()


def test_the_fingerprint_follows_libraries_and_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    before = extractor().fingerprint()
    assert before == extractor(workers=2, timeout=1).fingerprint()
    assert before != extractor(max_text_chars=999).fingerprint()
    assert "pypdf=" in before
    monkeypatch.setattr("importlib.metadata.version", lambda _: "99")
    assert extractor().fingerprint() != before


def test_a_worker_imports_no_more_than_it_needs() -> None:
    script = "import sys, connectors.extraction.worker; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    heavy = {"numpy", "starlette", "pydantic", "yaml", "lxml", "pypdf", "openpyxl", "charset_normalizer", "sqlite3"}
    assert heavy.isdisjoint(done.stdout.split())
