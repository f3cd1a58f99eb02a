"""Previews that somebody started on the page: they run beside it, within limits, and their results stay for a while."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from connectors.config import ConfigError, Problem, read_rules
from connectors.errors import ConflictError, ConnectorsError, describe
from connectors.logger import mask
from connectors.runtime import Runtime
from connectors.service.preview import Previewer, TriedRules
from connectors.service.subjects import Subject
from connectors.sync.preview import Preview
from connectors.utils import format_duration

__all__ = ["SHOWN", "Choice", "Trial", "Trials"]

_logger = logging.getLogger("connectors.web")

#: Documents that are shown of a preview.
SHOWN: Final = 50
#: Seconds that a preview may take.
_LONGEST: Final = 300.0
_MOST_RUNNING: Final = 2
#: Connectors whose last preview stays.
_MOST_KEPT: Final = 20
_PASTED: Final = "pasted rules"


class Choice(StrEnum):
    """Which rules a preview tries."""

    NEXT = "next"
    ACTIVE = "active"
    PASTED = "pasted"


@dataclass(eq=False, slots=True)
class Trial:
    """One preview.

    Attributes:
        text: the rules that were pasted.
        origin: where the rules come from, in words; empty until they are found.
        preview: None until reading starts.
        problems: why it could not be done.
        cut_short: why it ended before everything was counted.
        running: whether it has not ended yet.
    """

    choice: Choice
    text: str = field(repr=False)
    origin: str = ""
    preview: Preview | None = None
    problems: list[str] = field(default_factory=list)
    cut_short: str | None = None
    running: bool = True


class Trials:
    """The last preview of each connector.

    Args:
        seconds: that a preview may take.
    """

    def __init__(self, previewer: Previewer, runtime: Runtime, *, seconds: float = _LONGEST) -> None:
        self._previewer = previewer
        self._runtime = runtime
        self._seconds = seconds
        self._trials: OrderedDict[str, Trial] = OrderedDict()
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def get(self, connector_id: str) -> Trial | None:
        """Returns the last preview of a connector, None where there is none."""
        return self._trials.get(connector_id)

    def start(self, connector_id: str, choice: Choice, text: str) -> None:
        """Starts a preview.

        Raises:
            ConflictError: one of this connector runs, or too many of others do.
        """
        if connector_id in self._tasks:
            raise ConflictError("a preview of this connector is running; wait for its end, or cancel it")
        if len(self._tasks) >= _MOST_RUNNING:
            raise ConflictError(f"{_MOST_RUNNING} previews are running, which is the limit; try again in a moment")
        trial = Trial(choice, text)
        self._trials[connector_id] = trial
        self._trials.move_to_end(connector_id)
        for name in [name for name, kept in self._trials.items() if not kept.running][:-_MOST_KEPT]:
            del self._trials[name]
        task = self._tasks[connector_id] = asyncio.create_task(self._run(connector_id, trial))
        task.add_done_callback(lambda ended: self._end(connector_id, trial, ended))

    def _end(self, connector_id: str, trial: Trial, ended: asyncio.Task[None]) -> None:
        trial.running = False
        if ended.cancelled():  # perhaps before it began
            trial.cut_short = "It was cancelled."
        del self._tasks[connector_id]

    async def cancel(self, connector_id: str) -> None:
        """Cancels the preview of a connector; nothing happens where none runs."""
        task = self._tasks.get(connector_id)
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def close(self) -> None:
        """Cancels all of them."""
        await asyncio.gather(*map(self.cancel, list(self._tasks)))

    async def _run(self, connector_id: str, trial: Trial) -> None:
        limit = asyncio.timeout(self._seconds)
        try:
            async with limit:
                await self._preview(connector_id, trial)
        except TimeoutError:
            trial.cut_short = (
                f"It took more than {format_duration(self._seconds)}, the limit on this page. To count everything: "
                f"connectors preview {connector_id}"
            )
        except ConfigError as error:
            trial.problems = [mask(str(problem)) for problem in error.problems]
        except ConnectorsError as error:
            trial.problems = [mask(describe(error))]
        except Exception:
            _logger.exception("the preview of %s could not be made", connector_id)
            trial.problems = ["This is a defect of the page; the log of the daemon tells more."]

    async def _preview(self, connector_id: str, trial: Trial) -> None:
        async def watch(preview: Preview) -> None:
            trial.preview = preview

        subject = await self._previewer.subject(connector_id)
        tried = await self._tried(subject, trial)
        trial.origin = tried.origin
        trial.preview = await self._previewer.run(subject, tried, limit=SHOWN, count=True, watch=watch)

    async def _tried(self, subject: Subject, trial: Trial) -> TriedRules:
        if trial.choice is not Choice.PASTED:
            return await self._previewer.rules(subject, active=trial.choice is Choice.ACTIVE)
        # Long lists take a moment to read, which other visitors and syncs should not wait for.
        written = await self._runtime.in_thread(read_rules, trial.text, _PASTED)
        if written.advanced:
            # These are queries in the source's own language: whoever may look at the page need not be let near them.
            name = subject.connector.id
            message = (
                "only basic rules can be tried here, together with the advanced ones that are in use; try others with: "
                f"connectors preview {name} --rules FILE"
            )
            raise ConfigError([Problem(_PASTED, None, None, "advanced", message)])
        current = await self._previewer.rules(subject)
        return TriedRules.of(written, f"the {_PASTED}", advanced=current.rules)
