"""`make bench`: runs the benchmarks one after another; `make bench ARGS=pipeline` runs one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent


def main() -> int:
    """Returns the first exit code that is not 0."""
    there = sorted(path.stem for path in FOLDER.glob("*.py") if not path.stem.startswith("_"))
    wanted = sys.argv[1:] or there
    unknown = [name for name in wanted if name not in there]
    if unknown:
        print(f"There is no benchmark {', '.join(unknown)}; there are {', '.join(there)}.")
        return 2
    for name in wanted:
        print(f"\n== {name}", flush=True)
        code = subprocess.run([sys.executable, "-m", f"bench.{name}"], cwd=FOLDER.parent, check=False).returncode
        if code:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
