"""What the daemon's own disk says is told as such, and what a source says of its files is not taken for it."""

from __future__ import annotations

import errno
import re
from pathlib import Path

import pytest

from connectors.service.services import disk_error
from tests.support.service import Service, connector, play


def test_a_folder_of_ledgers_that_cannot_be_used_is_told_with_what_to_do(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(service: Service) -> None:
        folder = service.services("one").folder("a")
        folder.parent.mkdir(parents=True)
        folder.write_text("in its place")
        job = await service.sync("a")
        assert job.status == "error"
        assert re.match(rf"{folder}\S* cannot be used: (File exists|Not a directory)\. Make room", str(job.error))
        folder.unlink()
        assert (await service.sync("a")).status == "completed"

    play(scenario, tmp_path, connector("a"))
    assert not [record for record in caplog.records if record.exc_info]


def test_only_what_our_own_disk_says_is_ours(tmp_path: Path) -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    assert str(disk_error(full, tmp_path)).startswith(f"{tmp_path} cannot be used: No space left on device")
    of_the_source = PermissionError(errno.EACCES, "Permission denied", "/srv/papers/a.txt")
    assert disk_error(of_the_source, tmp_path) is None
