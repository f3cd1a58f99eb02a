"""The example handbook: every document can be read, is up to date, and is true where that can be checked."""

from __future__ import annotations

import asyncio
import csv
import importlib
import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from types import ModuleType

import pytest

from connectors.app import open_application, read_config
from connectors.byoc import JobStatus
from connectors.cli.entry import cli
from connectors.cli.exits import Exit
from connectors.extraction import Extracted, TextExtractor
from connectors.extraction.detect import detect
from connectors.service.metrics import Metrics
from connectors.sync.counters import Counters

ROOT = Path(__file__).parents[2]
HANDBOOK = ROOT / "examples/handbook"
PATHS = sorted(path for path in HANDBOOK.rglob("*") if path.is_file())
KINDS = {".md", ".txt", ".html", ".csv", ".json", ".pdf", ".docx", ".xlsx", ".pptx"}


def _name(path: Path) -> str:
    return path.relative_to(HANDBOOK).as_posix()


async def _extract(contents: Mapping[str, bytes]) -> dict[str, Extracted | None]:
    """Returns text and title of each file, taken out as a sync does it."""
    extractor = TextExtractor(workers=2, timeout=30, memory=2**30, max_text_chars=1_000_000)
    await extractor.start()
    try:
        return {name: await extractor.extract(content, name=name) for name, content in contents.items()}
    finally:
        await extractor.close()


@pytest.fixture(scope="module")
def extracted() -> dict[str, Extracted]:
    """Path → text and title of all documents."""
    found = asyncio.run(_extract({_name(path): path.read_bytes() for path in PATHS}))
    return {name: document or Extracted("") for name, document in found.items()}


@pytest.fixture(scope="module")
def texts(extracted: dict[str, Extracted]) -> dict[str, str]:
    """Path → text of all documents."""
    return {name: document.text for name, document in extracted.items()}


@pytest.fixture
def build(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script that makes the binary documents."""
    monkeypatch.syspath_prepend(ROOT)
    return importlib.import_module("examples.handbook_tools.build")


# The documents as such


def test_some_forty_documents_of_all_kinds() -> None:
    kinds = Counter(path.suffix for path in PATHS)
    assert 36 <= len(PATHS) <= 48
    assert set(kinds) == KINDS
    assert kinds.most_common(1)[0][0] == ".md"
    assert len({path.parent for path in PATHS}) >= 6
    assert all(detect(path.read_bytes(), path.name) is not None for path in PATHS)


def test_every_document_of_a_kind_that_has_titles_has_its_own(extracted: dict[str, Extracted]) -> None:
    untitled = {name for name, document in extracted.items() if document.title is None}
    assert {Path(name).suffix for name in untitled} == {".csv", ".json", ".txt"}
    titles = [document.title for document in extracted.values() if document.title]
    assert len(set(titles)) == len(titles)


def test_every_document_has_text_and_is_short(texts: dict[str, str]) -> None:
    words = {name: len(text.split()) for name, text in texts.items()}
    assert min(words.values()) >= 80, words
    long = {name: number for name, number in words.items() if number > 350}
    assert set(long) <= {"reference/glossary.json", "start/onboarding.pptx"}, long
    assert max(words.values()) <= 500, long


def test_accents_are_there_to_be_folded(texts: dict[str, str]) -> None:
    together = "\n".join(texts.values())
    for word in ("Zürich", "café", "Kraków", "Søren", "Łukasz"):
        assert word in together


async def test_the_binary_documents_are_up_to_date(build: ModuleType) -> None:
    made = await _extract({name: make() for name, make in build.DOCUMENTS.items()})
    kept = await _extract({name: (HANDBOOK / name).read_bytes() for name in build.DOCUMENTS})
    assert kept == made, "run: python -m examples.handbook_tools.build"
    assert {Path(name).suffix for name in made} == {".pdf", ".docx", ".xlsx", ".pptx"}


def test_the_binary_documents_can_be_made_anew_byte_by_byte(build: ModuleType, tmp_path: Path) -> None:
    build.build(tmp_path)
    for name, make in build.DOCUMENTS.items():
        assert (tmp_path / name).read_bytes() == make(), name


# What they say


def test_commands_in_documents_that_are_no_markdown_exist(texts: dict[str, str]) -> None:
    """In Markdown a command is marked as code, and looked at with that of the other pages."""
    groups = {"config": {"validate", "schema", "show"}}
    for name, text in texts.items():
        if name.endswith(".md"):
            continue
        for command, argument in re.findall(r"\bconnectors ([a-z][a-z-]*)(?: ([a-z]+))?", text):
            assert command in cli.commands, f"{name}: connectors {command}"
            assert argument in groups.get(command, {argument}), f"{name}: connectors {command} {argument}"


def test_exit_codes_are_complete() -> None:
    with (HANDBOOK / "reference/exit-codes.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {int(row["code"]): row["name"].replace(" ", "_").upper() for row in rows} == {
        code.value: code.name for code in Exit
    }


def test_job_statuses_are_complete() -> None:
    page = (HANDBOOK / "reference/job-statuses.html").read_text("utf-8")
    assert set(re.findall(r'<dt id="(\w+)">', page)) == {status.value for status in JobStatus}


def test_counters_are_complete() -> None:
    page = (HANDBOOK / "reference/counters.md").read_text("utf-8")
    assert re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE) == [field.name for field in fields(Counters)]


def test_metrics_exist(texts: dict[str, str]) -> None:
    metrics = Metrics()
    metrics.documents("c", "indexed")
    metrics.bytes_written("c", 1)
    metrics.job_finished("c", "full", JobStatus.COMPLETED, 1.0)
    metrics.sync_started("c")
    metrics.queue("c", 1)
    metrics.dead_letters("c", 1)
    exposed = set(re.findall(r"^(\w+)", metrics.render()[0].decode(), re.MULTILINE))
    families = {re.sub(r"_(bucket|count|sum)$", "", name) for name in exposed}
    mentioned = {word for text in texts.values() for word in re.findall(r"\b(?:connectors|process)_[a-z_]+", text)}
    assert mentioned <= exposed | families
    ours = {name for name in families if name.startswith("connectors_") and not name.endswith("_created")}
    assert ours <= mentioned, "reference/metrics.csv lists them all"


def test_the_glossary_refers_to_its_own_words() -> None:
    terms = json.loads((HANDBOOK / "reference/glossary.json").read_text("utf-8"))["terms"]
    words = {term["word"] for term in terms}
    assert len(words) == len(terms)
    assert {word for term in terms for word in term.get("see", [])} <= words


# Synced by the product itself


async def test_a_sync_indexes_all_of_it(tmp_path: Path) -> None:
    config = tmp_path / "config.yml"
    config.write_text(
        f"web.enabled: false\nservice.data_dir: {tmp_path / 'data'}\nconnectors:\n"
        f"  - {{id: handbook, service_type: directory, index: handbook, configuration: {{directory: {HANDBOOK}}}}}\n",
        "utf-8",
    )
    async with open_application(read_config(config)) as application:
        job = (await application.daemon.run_once(asyncio.Event()))[0]
        search = application.app.operations.search
        hits = {
            words: {hit.id for hit in (await search("handbook", words, limit=50)).hits}
            for words in ("zurich", "cafe", '"stayed locked"', "extension:pdf purge", "folder:security cookie")
        }
    counters = job.metadata["counters"]
    assert job.status == JobStatus.COMPLETED, job.error
    assert (counters["read"], counters["indexed"], counters["dead_lettered"]) == (len(PATHS), len(PATHS), 0)
    assert {"team/on-call-rota.csv", "operate/moving-house.md"} <= hits["zurich"]
    assert "start/first-day.md" in hits["cafe"]
    assert hits['"stayed locked"'] >= {"incidents/database-locked.md"}
    assert hits["extension:pdf purge"] == {"reference/quick-reference.pdf"}
    assert "security/page-token.md" in hits["folder:security cookie"]
