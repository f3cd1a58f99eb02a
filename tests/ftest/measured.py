"""Runs a command and writes into a file how much memory its largest process had: `measured.py FILE COMMAND…`.

Linux counts for a new process what the one had that started it. That is why the tests, which may be large, do not
start the command themselves: this program is smaller than whatever it starts.
"""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path


def main() -> int:
    """Returns the command's exit code; the file gets the number in KiB."""
    file, *command = sys.argv[1:]
    code = subprocess.call(command)
    Path(file).write_text(str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss), "utf-8")
    return code


if __name__ == "__main__":
    sys.exit(main())
