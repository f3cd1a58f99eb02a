"""The command `connectors` itself: its global options, its list of commands, its exit codes.

Nothing heavy is imported before a command runs, so that `connectors --help` answers at once.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NoReturn

import click
from click.shell_completion import shell_complete

from connectors import __version__
from connectors.cli import act, configuration, letters, look, preview, reconciling, run, sources, sync
from connectors.cli.exits import Exit, explain
from connectors.cli.settings import Settings

__all__ = ["cli", "invoke", "main"]

#: Set by the shell's completion script, which `_CONNECTORS_COMPLETE=bash_source connectors` prints.
_COMPLETE: Final = "_CONNECTORS_COMPLETE"
_SECTIONS: Final[Mapping[str, Sequence[click.Command]]] = {
    "Sync": (run.run, sync.sync, reconciling.reconcile, act.cancel, act.pause, act.resume, act.reset, act.purge),
    "Look": (look.status, look.jobs, look.job, letters.dead_letters, look.search),
    "Set up": (sources.check, preview.preview, sources.discover, sources.sources, configuration.config),
}


class _Sections(click.Group):
    """Lists its commands by what they are for."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's own
        width = formatter.width - 6 - max(map(len, self.commands))
        for title, commands in _SECTIONS.items():
            with formatter.section(title):
                rows = [(each.name or "", each.get_short_help_str(width)) for each in commands]
                formatter.write_dl(rows)


@click.group(cls=_Sections, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--config",
    "-c",
    "path",
    type=click.Path(path_type=Path),
    default="config.yml",
    envvar="CONNECTORS_CONFIG",
    show_default=True,
    show_envvar=True,
    help="The configuration file.",
)
@click.option("--verbose", "-v", count=True, help="Tell more on stderr; twice tells everything.")
@click.option("--quiet", "-q", is_flag=True, help="Tell only errors on stderr.")
@click.version_option(__version__, message="connectors %(version)s")
@click.pass_context
def cli(ctx: click.Context, *, path: Path, verbose: int, quiet: bool) -> None:
    """Keeps a search index true to the places where your data lives.

    Exit codes: 0 done, 1 failed, 2 wrong usage, 3 wrong configuration, 4 not found, 5 index unavailable, 70 a fault of
    connectors itself, 130 interrupted.
    """
    if quiet and verbose:
        raise click.UsageError("--quiet and --verbose exclude each other")
    settings: Settings = ctx.obj
    settings.path = path
    settings.verbosity = -1 if quiet else min(verbose, 2)
    settings.set_up_logging()


for _commands in _SECTIONS.values():
    for _command in _commands:
        cli.add_command(_command)


def invoke(args: Sequence[str] | None = None) -> int:
    """Runs one command line and returns its exit code.

    Args:
        args: the words after `connectors`; None takes those of the process.
    """
    if instruction := os.environ.get(_COMPLETE):
        return shell_complete(cli, {}, "connectors", _COMPLETE, instruction)
    settings = Settings()
    try:
        with cli.make_context("connectors", list(sys.argv[1:] if args is None else args), obj=settings) as context:
            result = cli.invoke(context)
        sys.stdout.flush()
    except click.exceptions.Exit as ended:
        return ended.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        print("interrupted", file=sys.stderr)
        return Exit.INTERRUPTED
    except BrokenPipeError:  # `| head` has seen enough
        _discard_stdout()
        return Exit.OK
    except Exception as error:  # noqa: BLE001 - the last resort of the process: told, and turned into the exit code
        return explain(error, verbose=settings.verbose)
    return int(result or Exit.OK)


def main() -> NoReturn:
    """The console script."""
    for stream in (sys.stdout, sys.stderr):
        # A document may hold what the terminal's encoding lacks.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    sys.exit(invoke())


def _discard_stdout() -> None:
    """Sends what is still buffered to nowhere, so that the interpreter does not fail over it at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
