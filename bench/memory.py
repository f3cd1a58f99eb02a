"""d. Memory: the most that the process of a sync ever held (VmHWM), each sync in a process of its own.

"first" writes every document, "second" finds all of them unchanged. To Elasticsearch means to a server that keeps
nothing, with the real client; embedded is the embedded index, full text included.
"""

from __future__ import annotations

from bench.figures import Bench, run_once, working_folder, write_config
from bench.null_server import serving

__all__ = ["measure"]

_SMALL, _LARGE = 100_000, 2_000_000
_MOST, _GROWTH = 150.0, 20.0


def measure(scale: float) -> Bench:
    """Measures; at scale 1 with 100,000 and two million documents."""
    bench = Bench("d. Memory")
    with working_folder() as folder:
        nothing = run_once(write_config(folder, []))["peak"]
    bench.add("the daemon without a connector", nothing, "MiB")
    with serving() as url:
        for name, blocks in [("Elasticsearch", {"elasticsearch": {"url": url}}), ("embedded", {})]:
            small = _peaks(int(_SMALL * scale), blocks)
            large = _peaks(int(_LARGE * scale), blocks)
            for what, one, other in zip(("first", "second"), small, large, strict=True):
                bench.add(f"{name}, {what} sync, {int(_SMALL * scale):,} documents", one, "MiB")
                bench.add(f"{name}, {what} sync, {int(_LARGE * scale):,} documents", other, "MiB", target=_MOST)
                bench.add(f"{name}, {what} sync, growth", other - one, "MiB", target=_GROWTH)
    return bench


def _peaks(number: int, blocks: dict[str, dict[str, str]]) -> list[float]:
    """Returns the memory of the first and of the second sync."""
    with working_folder() as folder:
        connector = {"id": "bench", "service_type": "generated", "index": "bench"}
        config = write_config(folder, [{**connector, "configuration": {"documents": number}}], **blocks)
        peaks = []
        for outcome in ("indexed", "unchanged"):
            said = run_once(config, null=bool(blocks))
            assert said["counters"][outcome] == number, said
            peaks.append(said["peak"])
    return peaks
