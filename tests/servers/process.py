"""A server's process: started, watched and ended through `keeper.py`, which outlives the tests by a moment."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

__all__ = ["Keep", "Kept"]

_KEEPER: Final = Path(__file__).with_name("keeper.py")


@dataclass(frozen=True, slots=True)
class Keep:
    """What the keeper does.

    Attributes:
        folder: where the server runs and all its data is; deleted at the end.
        user: number of the user and group that it runs as; None changes nothing.
        last: a command to run when the server is dead.
    """

    command: Sequence[str]
    folder: str
    log: str
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    user: int | None = None
    last: Sequence[str] = ()


class Kept:
    """One running server. It dies with this process, too."""

    def __init__(self, keep: Keep) -> None:
        self._keep = keep
        self._keeper = subprocess.Popen(
            [sys.executable, "-I", "-S", str(_KEEPER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C in a terminal must not reach the server before the tests are done with it
        )
        stdin, stdout = self._keeper.stdin, self._keeper.stdout
        assert stdin is not None
        assert stdout is not None
        self._stdout = stdout
        stdin.write(json.dumps(asdict(keep)).encode() + b"\n")
        stdin.flush()

    @property
    def ended(self) -> bool:
        """True when the server ended by itself."""
        return self._keeper.poll() is not None or bool(select.select([self._stdout], [], [], 0)[0])

    def processes(self) -> list[int]:
        """Returns the numbers of the server's processes, the first one first."""
        parents = {int(path.parent.name): _parent(path) for path in Path("/proc").glob("[0-9]*/stat")}
        found = [self._keeper.pid]
        for pid in found:
            found += [child for child, parent in parents.items() if parent == pid]
        return found[1:]

    def log(self, lines: int = 25) -> str:
        """Returns the end of what the server printed."""
        log = Path(self._keep.log)
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:]) if log.exists() else ""

    def stop(self) -> None:
        """Kills the server and deletes its data; may be called twice."""
        self._keeper.communicate()


def _parent(stat: Path) -> int:
    """Returns the number of a process's parent; 0 for a process that has ended."""
    try:
        return int(stat.read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0
