"""Writes the figures of a run into docs/PERFORMANCE.md, between its markers.

Run: `python -m bench.report out.json docs/PERFORMANCE.md`, after `python -m bench --json out.json`.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from bench.figures import shown

__all__ = ["BEGIN", "END", "main", "table"]

BEGIN: Final = "<!-- figures: written by python -m bench.report -->"
END: Final = "<!-- end of the figures -->"


def table(found: Mapping[str, Any]) -> str:
    """Returns the figures as Markdown."""
    machine, scale = found["machine"], "" if found["scale"] == 1 else f", scale {found['scale']}"
    measured = (
        f"{machine['date']}, {machine['cores']} cores of {machine['processor']}, {machine['memory']} GiB, "
        f"{machine['system']}, Python {machine['python']}; load {machine['load']} at the start; "
        f"`python -m bench --json out.json`{scale}."
    )
    lines = [
        measured,
        "",
        "| figure | target | measured | |",
        "|---|---|---|---|",
    ]
    notes: list[str] = []
    for name, bench in found["benches"].items():
        if bench is None:
            lines.append(f"| **{name}** | | it failed | |")
            continue
        lines.append(f"| **{bench['title']}** (`python -m bench {name}`, {bench['seconds']:.0f} s) | | | |")
        lines += [_row(figure) for figure in bench["figures"]]
        notes += [f"- {bench['title'].partition('. ')[0]}: {note}" for note in bench["notes"]]
    return "\n".join([*lines, "", *notes])


def _row(figure: Mapping[str, Any]) -> str:
    target = "" if figure["target"] is None else f"{'≥' if figure['least'] else '≤'} {shown(figure['target'])}"
    verdict = {None: "", True: "met", False: "**missed**"}[figure["met"]]
    return f"| {figure['name']} | {target} | {shown(figure['value'])} {figure['unit']} | {verdict} |"


def main() -> None:
    """Writes them."""
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    found, page = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
    text = page.read_text()
    pattern = re.compile(f"{re.escape(BEGIN)}.*{re.escape(END)}", re.DOTALL)
    if not pattern.search(text):
        raise SystemExit(f"{page} has no place for the figures: write the lines\n{BEGIN}\n{END}")
    page.write_text(pattern.sub(lambda _: f"{BEGIN}\n\n{table(found).rstrip()}\n\n{END}", text))


if __name__ == "__main__":
    main()
