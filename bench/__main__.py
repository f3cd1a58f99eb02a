"""`python -m bench`: measures the figures of docs/PERFORMANCE.md, one benchmark after another, each in its own process.

`python -m bench cost memory` runs some; `--json FILE` keeps the figures, for `python -m bench.report`; `--scale 0.1`
is for a quick look. What only a part costs is printed by `python -m bench pipeline`, `rules`, `wire`, `partitions`,
`mysql_drivers` and `postgresql_drivers`, which have options of their own: `python -m bench.wire --help`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from bench.figures import FOLDER, environment

#: In the order of the table.
BENCHES: Final = ("cost", "server_bound", "unchanged", "memory", "sources", "latency", "start", "many", "cores")
#: Measurements of a part, which print what they find.
PARTS: Final = ("pipeline", "rules", "wire", "partitions", "mysql_drivers", "postgresql_drivers")


def main() -> int:
    """Returns 1 when a benchmark failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHES)}; all, unless named")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the figures are kept")
    parser.add_argument("--scale", type=float, default=1.0, help="of the numbers of documents")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    unknown = [name for name in options.names if name not in BENCHES + PARTS]
    if unknown:
        parser.error(f"there is no benchmark {', '.join(unknown)}; there are {', '.join(BENCHES + PARTS)}")
    if options.here:
        (name,) = options.names
        found = import_module(f"bench.{name}").measure(options.scale).to_dict()
        options.json.write_text(json.dumps(found))
        return 0
    kept: dict[str, Any] = {"machine": machine(), "scale": options.scale, "benches": {}}
    failed = 0
    for name in options.names or BENCHES:
        print(f"\n== {name}", file=sys.stderr, flush=True)
        if name in PARTS:
            command = [sys.executable, "-m", f"bench.{name}"]
            failed += subprocess.run(command, cwd=FOLDER, env=environment(), check=False).returncode != 0
            continue
        found = apart(name, options.scale)
        failed += found is None
        kept["benches"][name] = found
    if options.json:
        options.json.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n")
    return 1 if failed else 0


def apart(name: str, scale: float) -> dict[str, Any] | None:
    """Runs one benchmark in a process of its own; returns what it found, None when it failed."""
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "found.json"
        command = [sys.executable, "-m", "bench", name, "--here", "--scale", str(scale), "--json", str(path)]
        if subprocess.run(command, cwd=FOLDER, env=environment(), check=False).returncode:
            return None
        found: dict[str, Any] = json.loads(path.read_text())
    return found | {"seconds": round(time.perf_counter() - began, 1)}


def machine() -> dict[str, Any]:
    """Says where and when it was measured."""
    processor = next(
        (
            text.partition(":")[2].strip()
            for text in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in text
        ),
        platform.machine(),
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "processor": processor,
        "cores": os.cpu_count(),
        "memory": round(memory),
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 2),
    }


if __name__ == "__main__":
    sys.exit(main())
