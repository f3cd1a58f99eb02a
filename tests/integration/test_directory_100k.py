"""A hundred thousand files: in order, each once, in flat memory."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from connectors.source import Checkpoint, DataSourceConfiguration
from connectors.sources.directory import DirectoryDataSource

FOLDERS, FILES = 100, 1000
MEMORY_FILE_SYSTEM = "/dev/shm"  # noqa: S108 - where there is one, making the files takes a second instead of a minute


@pytest.fixture
def many_files() -> Iterator[Path]:
    root = Path(tempfile.mkdtemp(dir=MEMORY_FILE_SYSTEM if os.access(MEMORY_FILE_SYSTEM, os.W_OK) else None))
    try:
        for folder in range(FOLDERS):
            (root / f"{folder:02}").mkdir()
            descriptor = os.open(root / f"{folder:02}", os.O_RDONLY)
            for file in range(FILES):
                os.close(os.open(f"{file:03}.txt", os.O_CREAT | os.O_WRONLY, 0o600, dir_fd=descriptor))
            os.close(descriptor)
        yield root
    finally:
        shutil.rmtree(root)


@pytest.mark.timeout(180)
async def test_a_hundred_thousand_files_in_flat_memory(many_files: Path) -> None:
    defaults = DirectoryDataSource.get_default_configuration()
    source = DirectoryDataSource(DataSourceConfiguration.merge(defaults, {"directory": str(many_files)}))
    process = psutil.Process()
    before = process.memory_info().rss
    count, previous, checkpoints, peak = 0, "", 0, 0
    async for item in source.get_docs():
        if isinstance(item, tuple):
            assert item[0]["path"] > previous
            previous = item[0]["path"]
            count += 1
        else:
            assert isinstance(item, Checkpoint)
            assert item.state == {"after": previous}
            checkpoints += 1
            peak = max(peak, process.memory_info().rss)
    assert count == FOLDERS * FILES
    assert checkpoints >= count // 500
    assert peak - before < 20 * 2**20
