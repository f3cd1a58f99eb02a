"""What `connectors check` tries, one thing after another."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from connectors.byoc import CONTENT_JOB_TYPES, Connector
from connectors.cli.exits import Exit
from connectors.cli.subjects import open_source, subjects
from connectors.cli.words import how_many
from connectors.errors import ConfigurationError, ConnectorsError, RetryableError, describe
from connectors.logger import mask
from connectors.utils import format_duration

if TYPE_CHECKING:
    from connectors.app import App
    from connectors.cli.settings import Settings
    from connectors.config import Problem
    from connectors.service.subjects import Subject
    from connectors.source import BaseDataSource

__all__ = ["Check", "check_config"]

#: Seconds that one source may take to answer.
_PATIENCE: Final = 30.0


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was tried: what it is about, whether it is fine, and what was found or what to do."""

    subject: str
    good: bool
    message: str


def check_config(settings: Settings) -> tuple[list[Check], Exit]:
    """Tries everything, and returns what was found with the exit code."""
    from connectors.config import ConfigError

    try:
        config = settings.load()
    except ConfigError as error:
        problems = _all_problems(settings) or error.problems
        return [Check("configuration", False, mask(str(problem))) for problem in problems], Exit.CONFIGURATION
    first = Check(str(settings.path), True, f"valid, {how_many(len(config.connectors), 'connector')}")
    try:
        rest = settings.run(_check_all)
    except (ConfigurationError, RetryableError) as error:  # the index itself cannot be opened
        rest = [Check("index", False, mask(describe(error)))]
    checks = [first, *rest]
    return checks, Exit.OK if all(each.good for each in checks) else Exit.FAILED


def _all_problems(settings: Settings) -> list[Problem]:
    """Returns what is wrong with a file that cannot be used, its sync rules included."""
    from connectors.config import ConfigError

    try:
        settings.load(with_rules=True)
    except ConfigError as error:
        return error.problems
    return []  # mended this very moment


async def _check_all(app: App) -> list[Check]:
    words = how_many(len(await app.destination.indices()), "index", "indices")
    index = Check("index", True, f"{app.config.index_place}: {words}")
    return [index, *[await _check_connector(app, found) for found in await subjects(app)]]


async def _check_connector(app: App, found: Subject) -> Check:
    connector = found.connector
    try:
        async with asyncio.timeout(_PATIENCE):
            return Check(connector.id, True, await _try(app, found))
    except TimeoutError:
        return Check(
            connector.id, False, f"the source did not answer within {format_duration(_PATIENCE)}; is its address right?"
        )
    except ConnectorsError as error:
        return Check(connector.id, False, mask(describe(error)))
    except Exception as error:  # noqa: BLE001 - whatever a source raises is what was to be found out
        return Check(connector.id, False, f"the source failed: {mask(describe(error))}")


async def _try(app: App, found: Subject) -> str:
    """Returns what is fine about a connector; raises what is not."""
    connector = found.connector
    async with open_source(app, found) as source:
        await source.validate_config()
        await source.ping()
        verdict = await source.validate_filtering(found.rules)
        if not verdict.is_valid:
            raise ConfigurationError(f"its sync rules are not valid: {'; '.join(map(str, verdict.errors))}")
        await _check_draft(source, connector)
    await app.destination.info(connector.index_name, connector.pipeline)
    number = len(found.rules.basic_rules)
    with_rules = f", {how_many(number, 'sync rule')} valid" if number else ""
    return f"{connector.service_type} can be read{with_rules}; {_schedules(connector)}; index {connector.index_name}"


async def _check_draft(source: BaseDataSource, connector: Connector) -> None:
    """Raises ConfigurationError for rules that another tool edited, and that do not come into force as they are."""
    from connectors.service.drafts import draft_problems, is_edited

    problems = draft_problems(connector)
    if is_edited(connector):
        verdict = await source.validate_filtering(connector.draft_filter)
        problems = [str(error) for error in verdict.errors]
    if problems:
        raise ConfigurationError(
            f"its edited sync rules are not valid, so those before stay in force: {'; '.join(problems)}"
        )


def _schedules(connector: Connector) -> str:
    from connectors.service.schedule import parse_schedule

    zone = str(connector.scheduling.get("timezone") or "UTC")
    texts = {kind: connector.interval(kind) for kind in CONTENT_JOB_TYPES}
    words = [f"{kind} sync {parse_schedule(text, zone).describe()}" for kind, text in texts.items() if text]
    return ", ".join(words) or "no schedule, it syncs on demand"
