"""Runs one soak: `python -m tests.soak --minutes 10`. Exit code 1 when index and tables differ at the end."""

from __future__ import annotations

import asyncio
import random
import shutil
import sys
import tempfile
from pathlib import Path

import click

from tests.servers.java import MissingError
from tests.servers.search import ServerError
from tests.soak.run import Soak


@click.command()
@click.option("--minutes", type=float, default=10.0, show_default=True, help="How long daemons are killed.")
@click.option("--seed", type=int, help="Of writer, kills and faults; without it, a new one.")
@click.option("--rows", type=int, default=20_000, show_default=True, help="Rows to begin with.")
@click.option(
    "--folder", type=click.Path(path_type=Path), help="Where logs and journal stay; without it, only if it fails."
)
def main(minutes: float, seed: int | None, rows: int, folder: Path | None) -> None:
    """Kills daemons while a database is being written to, then holds the index against it."""
    seed = random.randrange(10**6) if seed is None else seed
    kept = folder is not None
    folder = folder or Path(tempfile.mkdtemp(prefix="connectors-soak-"))
    folder.mkdir(parents=True, exist_ok=True)
    soak = Soak(folder, seconds=minutes * 60, seed=seed, rows=rows)
    click.echo(f"seed {seed}, {minutes:g} minutes, {rows:,} rows; logs and journal in {folder}")
    try:
        asyncio.run(soak.run())
    except (MissingError, ServerError) as problem:
        raise SystemExit(str(problem)) from None
    width = max(map(len, soak.figures), default=0)
    for name, value in soak.figures.items():
        click.echo(f"  {name:<{width}}  {value}")
    for line in soak.problems:
        click.echo(f"NOT EQUAL: {line}", err=True)
    if soak.problems:
        click.echo(f"seed {seed}; logs and journal stay in {folder}", err=True)
        sys.exit(1)
    if not kept:
        shutil.rmtree(folder)
    click.echo("equal: the index is what the tables are")


if __name__ == "__main__":
    main(prog_name="python -m tests.soak")
