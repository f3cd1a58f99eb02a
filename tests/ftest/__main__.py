"""Runs the functional test of one source, or of all."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from importlib import import_module
from pathlib import Path

from tests.ftest.harness import Case, Difference, Run

#: Service type → module:Class; imported on use, since each needs its own driver.
CASES = {
    "directory": "tests.ftest.directory:DirectoryCase",
    "mongodb": "tests.ftest.mongodb:MongoDBCase",
    "mysql": "tests.ftest.mysql:MySQLCase",
    "postgresql": "tests.ftest.postgresql:PostgreSQLCase",
}
SIZES = {"small": 10_500, "medium": 50_000, "large": 200_000}


def _case(name: str) -> type[Case]:
    module, _, attribute = CASES[name].partition(":")
    found: type[Case] = getattr(import_module(module), attribute)
    return found


def main() -> int:
    """Returns the exit code: 0 when the index was equal to the source at each step."""
    wanted = sys.argv[1] if len(sys.argv) > 1 else ""
    names = sorted(CASES) if wanted == "all" else [wanted]
    size = SIZES.get(os.environ.get("DATA_SIZE", "small"))
    if size is None or not set(names) <= CASES.keys():
        print(f"NAME is one of {', '.join(sorted(CASES))} or all; DATA_SIZE one of {', '.join(SIZES)}")  # noqa: T201 - a command
        return 2
    passed = failed = 0
    for name in names:
        case = _case(name)
        if (reason := case.obstacle()) is not None:
            print(f"{name}: not run: {reason}")  # noqa: T201 - a command
            failed += wanted != "all" or "CI" in os.environ
            continue
        with tempfile.TemporaryDirectory(prefix=f"ftest-{name}-") as folder:
            try:
                asyncio.run(Run(case(Path(folder), size=size, seed=20_26), Path(folder)).run())
                passed += 1
            except Difference as difference:
                print(f"{name}: FAILED: {difference}")  # noqa: T201 - a command
                failed += 1
    print(f"{passed} passed, {failed} failed")  # noqa: T201 - a command
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
