"""The page as one ASGI application: addresses, handlers, and the Guard around them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.routing import Route
from starlette.types import ASGIApp

from connectors.config import WebConfig
from connectors.logger import mask
from connectors.runtime import Runtime
from connectors.service.crew import WorkerSight
from connectors.service.metrics import Metrics
from connectors.service.operations import Operations
from connectors.service.web.letters import LetterViews
from connectors.service.web.previews import Previews
from connectors.service.web.render import Assets, Renderer
from connectors.service.web.security import Guard, TokenGate, host_names
from connectors.service.web.trials import Trials
from connectors.service.web.views import Reader, Views

__all__ = ["build_app"]


def build_app(
    config: WebConfig,
    operations: Operations,
    metrics: Metrics,
    *,
    runtime: Runtime,
    config_error: Callable[[], str | None],
    ready: Callable[[], str | None],
    trials: Trials,
    workers: Callable[[], Sequence[WorkerSight]] = list,
) -> ASGIApp:
    """Returns the application. Reads files and stretches the token, so call it in a thread."""
    gate = TokenGate(config.token.get_secret_value(), runtime) if config.token else None
    assets = Assets()

    def banner() -> str | None:
        problem = config_error()
        return None if problem is None else mask(problem)

    renderer = Renderer(runtime, assets, config_error=banner, secured=gate is not None)
    views = Views(operations, metrics, runtime, renderer, assets, ready, gate, workers)
    app = Starlette(
        routes=_routes(views, Previews(operations, trials)), exception_handlers={HTTPException: views.http_error}
    )
    return Guard(app, hosts=host_names(config), gate=gate)


def _routes(views: Views, previews: Previews) -> list[Route]:
    """Each page also has its live part, below `/live`, which the script fetches to follow what happens."""
    pages: list[tuple[str, str, Reader]] = [
        ("/connectors", "connectors", views.connectors),
        ("/connectors/{id:path}", "connector", views.connector),
        ("/preview/{id:path}", "preview", previews.read),
        ("/jobs", "jobs", views.jobs),
        ("/jobs/{id:path}", "job", views.job),
    ]
    letters = LetterViews(views.operations, views.runtime)
    actions = {
        "/connectors/{id:path}/sync": views.sync,
        "/connectors/{id:path}/pause": views.pause,
        "/connectors/{id:path}/resume": views.resume,
        "/connectors/{id:path}/preview": previews.start,
        "/connectors/{id:path}/preview/cancel": previews.cancel,
        "/jobs/{id:path}/cancel": views.cancel,
        "/dead-letters/replay": letters.replay,
        "/dead-letters/drop": letters.drop,
        "/logout": views.logout,
    }
    routes = [Route(path, views.safely(handler), methods=["POST"]) for path, handler in actions.items()]
    routes += [
        Route("/health", views.health),
        Route("/metrics", views.safely(views.prometheus)),
        Route("/static/{name}", views.static),
        Route("/login", views.safely(views.login), methods=["GET", "POST"]),
        Route("/", views.page("search.html", views.search)),
        Route("/dead-letters/letter", views.page("letter.html", letters.letter)),
        Route("/dead-letters/drop", views.page("drop.html", letters.question)),
        Route("/live/summary", views.page("live/summary.html", views.connectors)),
    ]
    for path, name, read in pages:
        routes.append(Route(path, views.page(f"{name}.html", read)))
        routes.append(Route(f"/live{path}", views.page(f"live/{name}.html", read)))
    return routes
