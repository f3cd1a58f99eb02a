"""The figures of a run are written into the docs, and nothing else there is touched."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from bench import report
from bench.figures import Bench, shown

PAGE = f"# Performance\n\nBefore.\n\n{report.BEGIN}\nold\n{report.END}\n\nBehind.\n"


def written(folder: Path, page: str) -> str:
    bench = Bench("a. Cost")
    bench.add("CPU", 7.5, "µs/document", target=10)
    bench.add("rate", 120_000, "documents/s", target=200_000, least=True)
    bench.add("requests", 0, "requests", target=0)
    bench.note("rounds: 1, 2")
    machine = {
        "date": "2026-01-02", "processor": "P", "cores": 2, "memory": 8, "system": "Linux", "python": "3.11", "load": 0,
    }  # fmt: skip
    found = {"machine": machine, "scale": 1.0, "benches": {"cost": bench.to_dict() | {"seconds": 3.0}, "many": None}}
    (folder / "out.json").write_text(json.dumps(found))
    (folder / "page.md").write_text(page)
    report.main()
    return (folder / "page.md").read_text()


@pytest.fixture(autouse=True)
def _arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["report", str(tmp_path / "out.json"), str(tmp_path / "page.md")])


def test_the_figures_stand_between_the_markers(tmp_path: Path) -> None:
    page = written(tmp_path, PAGE)
    assert page.startswith(f"# Performance\n\nBefore.\n\n{report.BEGIN}\n\n2026-01-02, 2 cores of P, 8 GiB")
    assert page.endswith(f"{report.END}\n\nBehind.\n")
    assert "old" not in page
    assert "| CPU | ≤ 10.0 | 7.50 µs/document | met |" in page
    assert "| rate | ≥ 200,000 | 120,000 documents/s | **missed** |" in page
    assert "| requests | ≤ 0 | 0 requests | met |" in page
    assert "| **many** | | it failed | |" in page
    assert "- a: rounds: 1, 2" in page
    assert written(tmp_path, page) == page


def test_a_page_without_a_place_for_them_is_left_alone(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="no place for the figures"):
        written(tmp_path, "# Performance\n")
    assert (tmp_path / "page.md").read_text() == "# Performance\n"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.0123, "0.0123"), (0.95, "0.950"), (9.99, "9.99"), (99.5, "99.5"), (1234.5, "1,234")],
)
def test_numbers_have_three_digits_that_say_something(value: float, text: str) -> None:
    assert shown(value) == text
