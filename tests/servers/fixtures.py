"""Search servers as pytest fixtures: each is started when the first test asks, and serves the whole session."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Final

import pytest

from tests.servers.flavours import ALWAYS
from tests.servers.java import MissingError
from tests.servers.search import SearchServer, ServerError, available

__all__ = ["PASSWORD", "SearchServers", "pytest_collection_modifyitems", "pytest_configure", "search_servers"]

#: Of the administrator, on servers with security on; OpenSearch's image wants one with everything in it.
PASSWORD: Final = "Correct-horse-battery-9"
#: Seconds for a test that may have to fetch and start a server first.
_PATIENCE: Final = 300


class SearchServers:
    """The session's servers, by flavour, with and without security."""

    def __init__(self) -> None:
        self._servers: dict[tuple[str, bool], SearchServer | MissingError | ServerError] = {}

    def get(self, flavour: str, *, secured: bool = False) -> SearchServer:
        """Returns the running server, which is started first if need be (that blocks for some seconds).

        Where it cannot run, the test is skipped; in continuous integration it fails for the flavours that belong
        there. What did not start is not tried again.
        """
        if (flavour, secured) not in self._servers:
            self._servers[flavour, secured] = _started(flavour, secured=secured)
        server = self._servers[flavour, secured]
        if isinstance(server, SearchServer):
            return server
        if isinstance(server, ServerError) or (os.environ.get("CI") and flavour in ALWAYS):
            pytest.fail(str(server), pytrace=False)
        pytest.skip(str(server))

    def stop(self) -> None:
        """Ends all of them."""
        for server in self._servers.values():
            if isinstance(server, SearchServer):
                server.stop()
        self._servers.clear()


def _started(flavour: str, *, secured: bool) -> SearchServer | MissingError | ServerError:
    if (reason := available(flavour)) is not None:
        return MissingError(reason)
    try:
        return SearchServer(flavour, password=PASSWORD if secured else None).start()
    except (MissingError, ServerError) as problem:
        return problem


@pytest.fixture(scope="session")
def search_servers() -> Iterator[SearchServers]:
    """Gives the session's servers."""
    servers = SearchServers()
    yield servers
    servers.stop()


def pytest_configure(config: pytest.Config) -> None:
    """Makes the marker known."""
    config.addinivalue_line("markers", "server: needs a real search server (docs/TESTING.md)")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Gives tests with a real server the time to fetch and start it, unless they name their own."""
    for item in items:
        if item.get_closest_marker("server") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(_PATIENCE))
