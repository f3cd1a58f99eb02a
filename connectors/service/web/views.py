"""What each address of the page answers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, TypeAlias
from urllib.parse import urlencode

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from connectors import __version__
from connectors.byoc import JobType
from connectors.errors import (
    ConfigurationError,
    ConflictError,
    ConnectorsError,
    NotFoundError,
    RetryableError,
    SuspendSync,
    describe,
)
from connectors.logger import mask
from connectors.runtime import Runtime
from connectors.service.crew import WorkerSight
from connectors.service.drafts import draft_is_in_force, draft_problems
from connectors.service.metrics import Metrics
from connectors.service.operations import ConnectorView, Operations
from connectors.service.web import words
from connectors.service.web.forms import read_form, sent_back
from connectors.service.web.hits import card
from connectors.service.web.present import KINDS, connector_card, history, job_card, settings
from connectors.service.web.render import Assets, Renderer
from connectors.service.web.security import COOKIE, TokenGate, TooManyAttemptsError, local_path

__all__ = ["Context", "Reader", "Views"]

_logger = logging.getLogger("connectors.web")

Context: TypeAlias = dict[str, Any]
Handler: TypeAlias = Callable[[Request], Awaitable[Response]]
#: Reads what a template shows.
Reader: TypeAlias = Callable[[Request], Awaitable[Context]]

MAX_QUERY: Final = 500
HITS: Final = 10
#: Backends count and page this far.
MAX_HITS: Final = 10_000
JOBS: Final = 200
#: Of these, rows on a connector's own page.
ROWS: Final = 20
LETTERS: Final = 50
#: Seconds in which the store has to answer for `/health`.
_HEALTH_TIMEOUT: Final = 5.0

#: What is said after an action, by the name that the redirect carries.
NOTICES: Final = {
    "sync": "The sync is queued; it starts within a moment.",
    "cancel": "The sync is being stopped. What it has written so far stays.",
    "pause": "Paused: no sync starts by schedule until you resume it.",
    "resume": "Resumed: syncs start by schedule again.",
    "replay": "Sent again, and off the list.",
    "replay-in-part": "Sent again. What is still on the list was not taken, and says why.",
    "drop": "Dropped. The next full sync tries the documents again.",
}
_STATUSES: Final[tuple[tuple[type[ConnectorsError], int, str], ...]] = (
    (NotFoundError, 404, "Not found"),
    (ConflictError, 409, "That is not possible now"),
    (ConfigurationError, 409, "That is not possible"),
    (RetryableError, 503, "Not available at the moment"),
    (SuspendSync, 503, "Not available at the moment"),
    (ConnectorsError, 500, "That did not work"),
)


@dataclass(frozen=True, slots=True)
class Views:
    """The handlers, on what they need.

    Attributes:
        ready: says what keeps the daemon from its work, None when nothing does.
        gate: None: no token is asked for.
        workers: who runs syncs.
    """

    operations: Operations
    metrics: Metrics
    runtime: Runtime
    renderer: Renderer
    assets: Assets
    ready: Callable[[], str | None]
    gate: TokenGate | None
    workers: Callable[[], Sequence[WorkerSight]] = list

    # How handlers are made

    def page(self, template: str, read: Reader) -> Handler:
        """Returns the handler that shows what `read` returns in a template."""

        async def show(request: Request) -> Response:
            notice = NOTICES.get(request.query_params.get("done", ""))
            return self.renderer.page(request, template, **await read(request), notice=notice)

        return self.safely(show)

    def safely(self, handler: Handler) -> Handler:
        """Returns the handler with its errors as pages."""

        async def run(request: Request) -> Response:
            try:
                return await handler(request)
            except HTTPException:
                raise
            except ConnectorsError as error:
                status, title = next((s, t) for kind, s, t in _STATUSES if isinstance(error, kind))
                return self.error(request, status, title, mask(describe(error)))
            except Exception:  # a defect of ours: the visitor gets a page, the log the place
                _logger.exception("the page %s could not be made", request.scope["path"])
                message = "This is a defect of the page; the log of the daemon tells more."
                return self.error(request, 500, "Something is broken", message)

        return run

    def error(self, request: Request, status: int, title: str, message: str) -> Response:
        """Returns an error as a page."""
        return self.renderer.page(request, "error.html", status, code=status, title=title, message=message)

    async def http_error(self, request: Request, error: Exception) -> Response:
        """Answers an address or a method that does not exist."""
        status = error.status_code if isinstance(error, HTTPException) else 500
        if status == 404:
            return self.error(request, 404, "No such page", "There is nothing at this address.")
        detail = error.detail if isinstance(error, HTTPException) else ""
        return self.error(request, status, "That is not possible", f"{detail}." if detail else "")

    # Looking

    async def search(self, request: Request) -> Context:
        """Search, with its hits."""
        parameters = request.query_params
        query = words.clean(parameters.get("q", ""))[:MAX_QUERY].strip()
        indices = await self.operations.destination.indices()
        index = parameters.get("index") or (indices[0] if indices else "")
        page = _natural(parameters.get("page"), most=MAX_HITS // HITS)
        context: Context = {
            "query": query, "indices": indices, "index": index, "found": None, "page": page, "max_query": MAX_QUERY,
            **await self.connectors(request),
        }  # fmt: skip
        if query and index:
            began = self.runtime.monotonic()
            found = await self.operations.search(index, query, limit=HITS, offset=(page - 1) * HITS)
            reachable = min(found.total, MAX_HITS)
            context |= {
                "found": found.total,
                "capped": found.total >= MAX_HITS,
                "took": max(self.runtime.monotonic() - began, 0.001),
                "cards": [card(hit) for hit in found.hits],
                "pages": -(-reachable // HITS),
                "link": urlencode({"q": query, "index": index}, errors="replace"),
            }
        return context

    async def connectors(self, _request: Request) -> Context:
        """All connectors."""
        cards = [connector_card(view) for view in await self.operations.views()]
        workers = self.workers()
        return {
            "connectors": cards,
            "busy": any(item.busy for item in cards),
            "workers": workers if len(workers) > 1 else [],
        }

    async def connector(self, request: Request) -> Context:
        """One connector, whole."""
        connector_id = request.path_params["id"]
        view = await self.operations.view(await self.operations.connector(connector_id))
        after = request.query_params.get("after")
        letters = await self.operations.dead_letters(connector_id, limit=LETTERS + 1, after=after)
        rules = view.connector.active_filter
        shown = connector_card(view)
        jobs = history(await self.operations.jobs(connector_id, limit=JOBS))
        return {
            "connector": shown,
            "busy": shown.busy,
            "jobs": jobs[:ROWS],
            "job": shown.running or next((job for job in jobs if not job.unchanged), shown.last),
            "letters": [(letter, mask(letter.reason)) for letter in letters[:LETTERS]],
            "more_letters": letters[LETTERS - 1].id if len(letters) > LETTERS else None,
            "after": after,
            "schedules": _schedules(view),
            "settings": settings(view.connector),
            "rules": words.rules_in_words(rules),
            "draft_problems": draft_problems(view.connector),
            "draft_is_in_force": draft_is_in_force(view.connector),
            "advanced": words.advanced_rules(rules),
        }

    async def jobs(self, request: Request) -> Context:
        """The history of jobs, of one connector or of all."""
        wanted = request.query_params.get("connector") or None
        jobs = await self.operations.jobs(wanted, limit=JOBS)
        rows = history(jobs)
        names = {connector.id: connector.name or connector.id for connector in await self.operations.store.connectors()}
        return {
            "jobs": rows,
            "names": names,
            "wanted": wanted,
            "more": len(jobs) == JOBS,
            "limit": JOBS,
            "busy": any(row.state.tone == "busy" for row in rows),
            "query_string": f"?{urlencode({'connector': wanted})}" if wanted else "",
        }

    async def job(self, request: Request) -> Context:
        """One job."""
        job = job_card(await self.operations.store.job(request.path_params["id"]))
        names = {connector.id: connector.name or connector.id for connector in await self.operations.store.connectors()}
        return {"job": job, "names": names, "busy": job.state.tone == "busy"}

    # Acting

    async def sync(self, request: Request) -> Response:
        """Queues a sync."""
        form = await read_form(request)
        kind = JobType.INCREMENTAL if form.get("kind") == JobType.INCREMENTAL else JobType.FULL
        await self.operations.sync_now(request.path_params["id"], kind)
        return sent_back(form, "sync")

    async def pause(self, request: Request) -> Response:
        """Stops the schedules of a connector."""
        form = await read_form(request)
        await self.operations.pause(request.path_params["id"], paused=True)
        return sent_back(form, "pause")

    async def resume(self, request: Request) -> Response:
        """Lets the schedules of a connector go on."""
        form = await read_form(request)
        await self.operations.pause(request.path_params["id"], paused=False)
        return sent_back(form, "resume")

    async def cancel(self, request: Request) -> Response:
        """Stops a job."""
        form = await read_form(request)
        try:
            await self.operations.cancel(request.path_params["id"])
        except ConflictError:
            raise ConflictError("this sync has ended already, so there is nothing to cancel") from None
        return sent_back(form, "cancel")

    # The token

    async def login(self, request: Request) -> Response:
        """Asks for the token, and gives a cookie for it."""
        if self.gate is None or (request.method != "POST" and request.state.trusted):
            return RedirectResponse("/", status_code=303)
        target = local_path(request.query_params.get("next", "/"))
        if request.method != "POST":
            return self.renderer.page(request, "login.html", target=target, problem=None)
        form = await read_form(request)
        target = local_path(form.get("next", "/"))
        try:
            admitted = await self.gate.admits(form.get("token", "").strip())
        except TooManyAttemptsError:
            problem = "Too many wrong tokens; try again in a minute."
            return self.renderer.page(request, "login.html", 429, target=target, problem=problem)
        if not admitted:
            problem = "That is not the token. It is the value of web.token in config.yml."
            return self.renderer.page(request, "login.html", 401, target=target, problem=problem)
        response = RedirectResponse(target, status_code=303)
        # The Guard compared Origin with Host, so the browser's own word on how it reached us can be relied upon.
        self.gate.set_cookie(response, secure=request.headers.get("origin", "").startswith("https://"))
        return response

    async def logout(self, _request: Request) -> Response:
        """Takes the cookie back."""
        response = RedirectResponse("/login" if self.gate else "/", status_code=303)
        response.delete_cookie(COOKIE, httponly=True, samesite="strict")
        return response

    # Machines

    async def health(self, request: Request) -> Response:
        """Says whether the daemon works: 200, or 503 with what is wrong, in words only for who may see the pages."""
        problems: dict[str, str] = {}
        try:
            async with asyncio.timeout(_HEALTH_TIMEOUT):
                await self.operations.store.connectors()
        except TimeoutError:
            problems["store"] = f"no answer within {_HEALTH_TIMEOUT:g} seconds"
        except ConnectorsError as error:
            problems["store"] = mask(describe(error))
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what this address is asked for
            problems["store"] = mask(describe(error))
        waiting = self.ready()
        if waiting is not None:
            problems["work"] = mask(waiting)
        body: Context = {"service": "connectors", "version": __version__, "status": "failing" if problems else "ok"}
        if request.state.trusted and len(workers := self.workers()) > 1:
            body["workers"] = [asdict(each) for each in workers]
        if problems:
            body["problems"] = problems if request.state.trusted else sorted(problems)
        return JSONResponse(body, status_code=503 if problems else 200)

    async def prometheus(self, request: Request) -> Response:
        """The metrics as Prometheus reads them."""
        accept = request.headers.get("accept", "")
        content, content_type = await self.runtime.in_thread(self.metrics.render, accept)
        return Response(content, headers={"Content-Type": content_type})

    async def static(self, request: Request) -> Response:
        """Style sheet, script and logo."""
        response = self.assets.response(request.path_params["name"], request.query_params.get("v", ""))
        if response is None:
            raise HTTPException(404)
        return response


def _natural(text: str | None, *, most: int) -> int:
    """Returns the number from 1 to `most` that the text is, 1 for what is none."""
    is_number = text is not None and text.isascii() and text.isdigit() and len(text) < 10
    return min(max(int(text), 1), most) if text and is_number else 1


def _schedules(view: ConnectorView) -> list[tuple[str, str]]:
    """Returns the kinds of sync with when they run, in words."""
    connector = view.connector
    timezone = str(connector.scheduling.get("timezone") or "UTC")
    found: list[tuple[str, str]] = []
    for job_type in JobType:
        try:
            interval = connector.interval(job_type)
        except ConfigurationError as error:  # another tool may write anything
            found.append((KINDS[job_type], mask(str(error))))
        else:
            found += [(KINDS[job_type], words.schedule_in_words(interval, timezone))] if interval else []
    return found
