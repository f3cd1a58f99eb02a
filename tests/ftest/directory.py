"""A folder of many small files of several kinds."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.ftest.harness import WORDS, Case, Expected

__all__ = ["DirectoryCase"]

KINDS = ("txt", "md", "html", "csv", "json")


class DirectoryCase(Case):
    """Files in nested folders; one in twenty is a `.log` that the rules drop."""

    service_type = "directory"

    def __init__(self, folder: Path, *, size: int, seed: int) -> None:
        super().__init__(folder, size=size, seed=seed)
        self.root = folder / "files"
        self.random = random.Random(seed)
        self.tokens: dict[str, str] = {}

    def prepare(self) -> None:
        """Writes the files."""
        for number in range(self.size):
            kind = "log" if number % 20 == 0 else KINDS[number % len(KINDS)]
            self._write(f"area-{number % 7}/set-{number % 53:02}/file-{number:06}.{kind}")

    def _write(self, path: str) -> None:
        token = f"token{self.random.randrange(10**12)}"
        words = " ".join(self.random.choices(WORDS, k=40))
        kind = path.rpartition(".")[2]
        match kind:
            case "html":
                text = f"<!doctype html><title>{words[:20]}</title><p>{words} <b>{token}</b></p>"
            case "json":
                text = json.dumps({"words": words, "token": token})
            case "csv":
                text = f"words,token\n{words},{token}\n"
            case "md":
                text = f"# {words[:20]}\n\n{words} *{token}*\n"
            case _:
                text = f"{words} {token}\n"
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        self.tokens[path] = token

    def configuration(self) -> dict[str, Any]:
        """Returns the folder."""
        return {"directory": str(self.root)}

    def expected(self) -> dict[str, Expected]:
        """Walks the folder anew."""
        found = {}
        for file in self.root.rglob("*"):
            if file.is_file():
                path = file.relative_to(self.root).as_posix()
                found[path] = Expected(
                    {"path": path, "name": file.name, "size": file.stat().st_size, "extension": file.suffix[1:]},
                    self.tokens[path],
                )
        return found

    def mutate(self) -> dict[str, int]:
        """Adds, rewrites and deletes some hundred files."""
        paths = sorted(self.tokens)
        chosen = self.random.sample(paths, 300)
        for path in chosen[:200]:
            self._write(path)
        for path in chosen[200:]:
            (self.root / path).unlink()
            del self.tokens[path]
        for number in range(150):
            self._write(f"new/file-{number:04}.{KINDS[number % len(KINDS)]}")
        return {"added": 150, "changed": 200, "deleted": 100}

    def rules(self) -> tuple[list[dict[str, Any]], Sequence[str]]:
        """Drops the logs."""
        rule = {"policy": "exclude", "field": "extension", "rule": "equals", "value": "log"}
        return [rule], [path for path in self.tokens if path.endswith(".log")]
