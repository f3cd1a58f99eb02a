"""Search servers for developers: `python -m tests.servers start es8`."""

from __future__ import annotations

import signal
import sys
import time

import click

from tests.servers.fetch import software
from tests.servers.flavours import FLAVOURS
from tests.servers.java import MissingError
from tests.servers.search import SearchServer, ServerError, available

_FLAVOUR = click.Choice(list(FLAVOURS))


@click.group()
def main() -> None:
    """Fetches and starts the search servers that the tests run against (docs/TESTING.md)."""


@main.command()
@click.argument("flavour", type=_FLAVOUR)
@click.option("--port", type=int, default=0, help="Where to listen; a free port unless given.")
@click.option("--password", help="Turn security on, with this password for the user elastic or admin.")
def start(flavour: str, port: int, password: str | None) -> None:
    """Start a server, print its address, and keep it until Ctrl-C. Its data go with it."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    began = time.monotonic()
    with SearchServer(flavour, password=password, port=port) as server:
        click.echo(server.url)
        click.echo(f"{server.flavour.title}, ready in {time.monotonic() - began:.1f} s. Ctrl-C ends it.", err=True)
        try:
            signal.pause()
        except KeyboardInterrupt:
            click.echo("", err=True)


@main.command()
@click.argument("flavours", type=_FLAVOUR, nargs=-1)
def fetch(flavours: tuple[str, ...]) -> None:
    """Fetch the software of these servers (all that can run here, unless named) into the cache."""
    for name in flavours or [name for name in FLAVOURS if available(name) is None]:
        began = time.monotonic()
        click.echo(f"{FLAVOURS[name].title}: {software(FLAVOURS[name])} ({time.monotonic() - began:.1f} s)")


@main.command()
def check() -> None:
    """Say which servers can run here, and why others cannot."""
    for name, flavour in FLAVOURS.items():
        click.echo(f"{name}  {flavour.title}: {available(name) or 'can run here'}")


if __name__ == "__main__":
    try:
        main(prog_name="python -m tests.servers")
    except (MissingError, ServerError) as problem:
        raise SystemExit(str(problem)) from None
