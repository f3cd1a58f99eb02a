"""The preview of a connector's sync rules: its page, and its two buttons."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from connectors.filtering.basic_rule import BasicRule
from connectors.logger import mask
from connectors.service.operations import Operations
from connectors.service.web import words
from connectors.service.web.forms import read_form
from connectors.service.web.present import State
from connectors.service.web.trials import SHOWN, Choice, Trial, Trials
from connectors.sync.preview import Impact, Preview, Verdict
from connectors.utils import truncate

__all__ = ["Previews"]

#: Characters of a value that a rule found.
_LONGEST_VALUE: Final = 80


@dataclass(frozen=True, slots=True)
class Row:
    """One document as it is shown."""

    id: str
    state: State
    rule: str
    because: str
    value: str | None


@dataclass(frozen=True, slots=True)
class RuleRow:
    """What one rule decided."""

    id: str
    says: str
    documents: int
    deletes: int


@dataclass(frozen=True, slots=True)
class PreviewCard:
    """A preview as it is shown.

    Attributes:
        incomplete: why a sync would delete nothing.
        impact: None until everything is counted.
    """

    read: int
    kept: int
    dropped: int
    unreadable: int
    rows: list[Row]
    rules: list[RuleRow]
    incomplete: str | None
    impact: Impact | None


class Previews:
    """The handlers, on what they need."""

    def __init__(self, operations: Operations, trials: Trials) -> None:
        self._operations = operations
        self._trials = trials

    async def read(self, request: Request) -> dict[str, Any]:
        """The last preview of a connector, and the form for another one."""
        connector = await self._operations.connector(request.path_params["id"])
        trial = self._trials.get(connector.id)
        return {
            "id": connector.id,
            "name": connector.name or connector.id,
            "index": connector.index_name,
            "trial": trial,
            "state": _state(trial) if trial else None,
            "card": _card(trial.preview) if trial and trial.preview else None,
            "choices": _CHOICES,
            "shown": SHOWN,
            "busy": trial is not None and trial.running,
        }

    async def start(self, request: Request) -> Response:
        """Starts a preview."""
        form = await read_form(request)
        connector = await self._operations.connector(request.path_params["id"])
        chosen = form.get("choice", "")
        choice = Choice(chosen) if chosen in set(Choice) else Choice.NEXT
        self._trials.start(connector.id, choice, form.get("rules", ""))
        return _to_page(connector.id)

    async def cancel(self, request: Request) -> Response:
        """Stops the preview that runs."""
        connector = await self._operations.connector(request.path_params["id"])
        await self._trials.cancel(connector.id)
        return _to_page(connector.id)


_CHOICES: Final = (
    (Choice.NEXT.value, "The rules of the next sync", "those of config.yml, or the draft of a record"),
    (Choice.ACTIVE.value, "The rules in force", "those of the last sync, though others may be waiting"),
    (Choice.PASTED.value, "These rules", "as below filtering: in config.yml; basic ones only"),
)


def _to_page(connector_id: str) -> Response:
    return RedirectResponse(f"/preview/{words.segment(connector_id)}", status_code=303)


def _state(trial: Trial) -> State:
    if trial.running:
        return State("Reading", "busy")
    if trial.problems:
        return State("Not possible", "bad")
    return State("Cut short", "warn") if trial.cut_short else State("Complete", "ok")


def _card(preview: Preview) -> PreviewCard:
    return PreviewCard(
        read=preview.read,
        kept=preview.kept,
        dropped=preview.dropped,
        unreadable=preview.unreadable,
        rows=[_row(verdict) for verdict in preview.verdicts],
        rules=[
            RuleRow(_named(each.rule), mask(each.rule.words), each.documents, each.deletes) for each in preview.by_rule
        ],
        incomplete=mask(preview.incomplete[0]) if preview.incomplete else None,
        impact=preview.impact,
    )


_VERDICTS: Final = {True: State("Kept", "ok"), False: State("Dropped", "idle"), None: State("Unreadable", "warn")}


def _row(verdict: Verdict) -> Row:
    rule = verdict.rule
    return Row(
        id=verdict.id or "—",
        state=_VERDICTS[verdict.kept],
        rule=_named(rule) if rule is not None else "—",
        because=mask(rule.words if rule is not None else verdict.reason),
        value=None if verdict.value is None else truncate(mask(verdict.value), _LONGEST_VALUE),
    )


def _named(rule: BasicRule) -> str:
    return f"{rule.id}, last" if rule.is_default else f"{rule.id}, order {rule.order}"
