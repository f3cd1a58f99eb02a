"""Starts what a functional test needs in containers: `tests/sources/fixtures/<name>/docker-compose.yml`."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.servers.docker import container_name
from tests.servers.search import ServerError

__all__ = ["ADDRESSES", "SEARCH", "composed", "fixture"]

_FIXTURES: Final = Path(__file__).parents[1] / "sources" / "fixtures"
_PASSWORD: Final = "correct-horse-battery"
#: Name of the test → the port of its server in the container, the variable that names the server, and the address.
ADDRESSES: Final[Mapping[str, tuple[int, str, str]]] = {
    "mariadb": (3306, "CONNECTORS_TEST_MARIADB_URL", f"mysql://root:{_PASSWORD}@{{}}"),
    "mongodb": (27017, "CONNECTORS_TEST_MONGODB_URL", "mongodb://{}/?directConnection=true"),
    "mysql": (3306, "CONNECTORS_TEST_MYSQL_URL", f"mysql://root:{_PASSWORD}@{{}}"),
    "postgresql": (5432, "CONNECTORS_TEST_POSTGRES_URL", f"postgresql://postgres:{_PASSWORD}@{{}}/postgres"),
}
SEARCH: Final = (9200, "CONNECTORS_TEST_ES8_URL", "http://{}")


def fixture(name: str) -> Path:
    """Returns the file of a test."""
    return _FIXTURES / name / "docker-compose.yml"


@contextmanager
def composed(name: str, *, search: bool) -> Iterator[None]:
    """Runs the servers of a test while the block runs; their addresses are in the environment then.

    A server that the environment names already is not started.

    Args:
        search: whether the search server is wanted, too.

    Raises:
        ServerError: they did not start; the message ends with what Docker printed.
    """
    wanted = {"source": ADDRESSES[name]} if name in ADDRESSES else {}
    if search:
        wanted["search"] = SEARCH
    wanted = {service: what for service, what in wanted.items() if what[1] not in os.environ}
    if not wanted:
        yield
        return
    project = ("--project-name", container_name(), "--file", str(fixture(name)))
    try:
        _docker(*project, "up", "--detach", "--wait", *wanted)
        for service, (port, variable, address) in wanted.items():
            os.environ[variable] = address.format(_docker(*project, "port", service, str(port)))
        yield
    finally:
        for _, variable, _ in wanted.values():
            os.environ.pop(variable, None)
        _docker(*project, "down", "--volumes", "--timeout", "0")


def _docker(*arguments: str) -> str:
    done = subprocess.run(["docker", "compose", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise ServerError(f"docker compose failed. It printed:\n{done.stdout}{done.stderr}")
    return done.stdout.strip()
