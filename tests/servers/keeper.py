"""Keeps one server, and ends it with whoever asked for it, however that one dies.

Runs as a process of its own between the tests and the server. Its standard input is a pipe whose other end only the
tests hold: when that closes, by `stop()`, a crash or `kill -9`, the server's whole process group is killed, a last
command is run (a container has to be removed by its engine) and the folder with the data is deleted. The first line
of the input says what to do, as JSON: see `process.py`. The exit code of a server that ends by itself is printed.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Final

#: Of prctl(2).
_SET_CHILD_SUBREAPER: Final = 36


def main() -> None:
    """Starts the server and returns when it was ended."""
    keep = json.loads(sys.stdin.buffer.readline())
    ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # what the server's own launcher leaves is ours to await
    identity = {} if keep["user"] is None else {"user": keep["user"], "group": keep["user"], "extra_groups": []}
    with Path(keep["log"]).open("ab") as log:
        server = subprocess.Popen(
            keep["command"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=keep["folder"],
            env=keep["environment"],
            start_new_session=True,
            **identity,
        )
    reporter = Thread(target=_report, args=(server.pid,))
    reporter.start()
    try:
        sys.stdin.buffer.read()
    finally:
        os.killpg(server.pid, signal.SIGKILL)  # it was not waited for yet, so the number is still its own
        reporter.join()
        with suppress(ChildProcessError):  # until none is left
            while True:
                os.waitpid(-1, 0)
        if keep["last"]:
            subprocess.run(keep["last"], stdin=subprocess.DEVNULL, capture_output=True, check=False)
        shutil.rmtree(keep["folder"], ignore_errors=True)  # the last act: nobody is left to tell


def _report(pid: int) -> None:
    ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    with suppress(BrokenPipeError):  # the tests are gone, which is why the server ended
        print(ended.si_status if ended else "?", flush=True)  # noqa: T201 - the answer that the tests look for


if __name__ == "__main__":
    main()
