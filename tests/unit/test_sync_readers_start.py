"""What a reader process imports before it reads: each import is paid once more for each reader of each sync."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = ("aiohttp", "click", "connectors.config", "elasticsearch", "numpy", "pydantic", "uvicorn", "yaml")


@pytest.mark.parametrize("main", ["connectors.cli", "connectors.__main__"])
def test_a_reader_imports_little(main: str) -> None:
    # The start of a process imports the main module, whose name is another there; the rest comes with the reader's job.
    code = (
        f"import json, sys; import {main}, connectors.service.catalog, connectors.sync.reading\n"
        f"print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(ran.stdout) == []
