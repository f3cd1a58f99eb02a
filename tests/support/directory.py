"""The directory source on folders of the tests, and a user whom permissions concern."""

from __future__ import annotations

import concurrent.futures.thread  # noqa: F401 - asyncio loads it late, when the test's user may not read it
import mimetypes
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from connectors.source import (
    DataSourceConfiguration,
)
from connectors.sources.directory import DirectoryDataSource

__all__ = ["documents", "downloads", "items", "paths", "source", "tree", "unprivileged"]


def source(directory: Path | str, **values: Any) -> DirectoryDataSource:
    defaults = DirectoryDataSource.get_default_configuration()
    return DirectoryDataSource(DataSourceConfiguration.merge(defaults, {"directory": str(directory), **values}))


def tree(root: Path, *paths: str) -> None:
    for path in paths:
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"content of {path}")


async def items(it: DirectoryDataSource, **arguments: Any) -> list[Any]:
    return [item async for item in it.get_docs(**arguments)]


async def documents(it: DirectoryDataSource, **arguments: Any) -> dict[str, dict[str, Any]]:
    return {item[0]["path"]: item[0] for item in await items(it, **arguments) if isinstance(item, tuple)}


async def paths(it: DirectoryDataSource, **arguments: Any) -> list[str]:
    return list(await documents(it, **arguments))


async def downloads(it: DirectoryDataSource) -> dict[str, Any]:
    return {item[0]["path"]: item[1] for item in await items(it) if isinstance(item, tuple)}


@pytest.fixture
def unprivileged() -> Iterator[Path]:
    """A folder of a user who is not root, as whom the test runs: root may read everything."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o777)
    mimetypes.init()
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield folder
    finally:
        if root:
            os.seteuid(0)
        for path in folder.rglob("*"):
            if path.is_dir():
                path.chmod(0o700)
        shutil.rmtree(folder)
