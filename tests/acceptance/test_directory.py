"""The directory source keeps the contract."""

from __future__ import annotations

import os
import shutil
import tempfile
from itertools import count
from pathlib import Path
from typing import Any, ClassVar, Self

import pytest

from connectors.sources.directory import DirectoryDataSource
from connectors.sources.directory import source as source_module
from connectors.sources.directory import split as split_module
from connectors.testing.acceptance import SourceAcceptance

LONG_AGO = 1_700_000_000_000_000_000


class Files:
    """A folder of files in two levels. It is outside the test's own, which only its owner may enter."""

    def __init__(self, _: Path) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.folder.chmod(0o777)
        self.numbers = count(1)
        for number in range(1, 8):
            self.write(f"{number}.txt")
            self.write(f"deeper/{number % 3}/{number}.md")
        (self.folder / "empty.txt").touch()

    def __enter__(self) -> Self:
        self.is_root = os.geteuid() == 0
        return self

    def __exit__(self, *_: object) -> None:
        if self.is_root:
            os.seteuid(0)
        shutil.rmtree(self.folder)

    def write(self, path: str) -> str:
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"edition {next(self.numbers)} of {path}", "utf-8")
        os.utime(file, ns=(LONG_AGO, LONG_AGO))
        return path

    def add(self) -> str:
        return self.write(f"deeper/new/{next(self.numbers)}.txt")

    def change(self) -> str:
        return self.write("deeper/1/4.md")

    def delete(self) -> str:
        (self.folder / "3.txt").unlink()
        return "3.txt"

    def spoil(self) -> str:
        """A file that may not be read, by another user than root, who may read everything."""
        (self.folder / "5.txt").chmod(0)
        if self.is_root:
            os.seteuid(65534)
        return "5.txt"


class TestDirectory(SourceAcceptance):
    source_class = DirectoryDataSource
    data = Files
    exempt: ClassVar = {
        "test_a_cut_connection_is_told": "a folder has no connections",
        "test_what_cannot_be_read_stays_in_the_index": "whoever may not read the file may not use the sync's folder",
    }
    wrong_configuration = ({"directory": "missing"}, {"directory": __file__}, {"include": ["[z-a]"]})
    good_advanced_rules = ([{"pattern": "deeper/**"}], [{"pattern": "*.txt"}, {"pattern": "/deeper/1/"}])
    bad_advanced_rules = ({"pattern": "*.txt"}, [{"patern": "*.txt"}], [{"pattern": "[z-a]"}], ["*.txt"])

    def configuration(self, data: Files) -> dict[str, Any]:
        return {"directory": str(data.folder), "exclude": ["*.bak"]}

    @pytest.fixture(autouse=True)
    def _small_batches(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A checkpoint after every four files, and parts of about three."""
        monkeypatch.setattr(source_module, "_BATCH", 4)
        monkeypatch.setattr(split_module, "_PARTS", 5)
        monkeypatch.setattr(split_module, "_ENTRIES", 12)
