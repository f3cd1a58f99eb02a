"""Runs the functional test of one source, or of all."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path

from tests.ftest.compose import composed
from tests.ftest.harness import Case, Difference, Run
from tests.servers.docker import engine_answers
from tests.servers.flavours import FLAVOURS
from tests.servers.java import MissingError
from tests.servers.search import SearchServer, ServerError, available

#: Name → module:Class; imported on use, since each needs its own driver.
CASES = {
    "directory": "tests.ftest.directory:DirectoryCase",
    "mariadb": "tests.ftest.mysql:MariaDBCase",
    "mongodb": "tests.ftest.mongodb:MongoDBCase",
    "mysql": "tests.ftest.mysql:MySQLCase",
    "postgresql": "tests.ftest.postgresql:PostgreSQLCase",
}
#: The one of ours that has no server of its own.
SERVERLESS = "directory"
EMBEDDED = "embedded"
#: The search server, unless another one is wanted.
USUAL = "es8"
SIZES = {"small": 10_500, "medium": 50_000, "large": 200_000}


def _case(name: str) -> type[Case]:
    """Returns one of ours, or that of another package, which is named as `module:Class`."""
    module, _, attribute = CASES.get(name, name).partition(":")
    found: type[Case] = getattr(import_module(module), attribute)
    return found


def _is_known(name: str) -> bool:
    return name in CASES or ":" in name


def main() -> int:
    """Returns the exit code: 0 when the index was equal to the source at each step."""
    wanted = sys.argv[1] if len(sys.argv) > 1 else ""
    names = sorted(CASES) if wanted == "all" else [wanted]
    size = SIZES.get(os.environ.get("DATA_SIZE", "small"))
    search = os.environ.get("SEARCH") or (EMBEDDED if available(USUAL) else USUAL)
    if size is None or not all(map(_is_known, names)) or search not in {EMBEDDED, *FLAVOURS}:
        print(  # noqa: T201 - a command
            f"NAME is one of {', '.join(sorted(CASES))}, all, or module:Class of your own; DATA_SIZE one of "
            f"{', '.join(SIZES)}; SEARCH one of {EMBEDDED}, {', '.join(FLAVOURS)}"
        )
        return 2
    with ExitStack() as stack:
        try:  # one for all of them, unless they have theirs in containers
            shared = None if search == EMBEDDED or engine_answers() else stack.enter_context(SearchServer(search))
        except MissingError as missing:
            print(f"{search} cannot be had: {missing}\nSEARCH={EMBEDDED} needs none")  # noqa: T201 - a command
            return 1
        results = [_run(name, size, search, shared, must=wanted != "all" or "CI" in os.environ) for name in names]
    print(f"{results.count(True)} passed, {results.count(False)} failed")  # noqa: T201 - a command
    return 1 if False in results else 0


def _run(name: str, size: int, search: str, shared: SearchServer | None, *, must: bool) -> bool | None:
    """Returns whether the test of a source passed; None when its server cannot run here and need not."""
    with ExitStack() as stack:
        try:
            if engine_answers():
                stack.enter_context(composed(name if name in CASES else SERVERLESS, search=search == USUAL))
            server = shared or (None if search == EMBEDDED else stack.enter_context(SearchServer(search)))
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=f"ftest-{name.rpartition(':')[2]}-")))
            asyncio.run(Run(_case(name)(folder, size=size, seed=20_26), folder, server).run())
        except MissingError as missing:
            print(f"{name}: not run: {missing}")  # noqa: T201 - a command
            return False if must else None
        except (Difference, ServerError) as problem:
            print(f"{name}: FAILED: {problem}")  # noqa: T201 - a command
            return False
    return True


if __name__ == "__main__":
    sys.exit(main())
