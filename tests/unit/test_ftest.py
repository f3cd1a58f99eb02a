"""The functional tests' own parts: the files for Docker, which not every machine has, and the measuring of memory."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.ftest import __main__ as command
from tests.ftest import measured
from tests.ftest.__main__ import CASES, USUAL
from tests.ftest.compose import ADDRESSES, SEARCH, composed, fixture
from tests.ftest.directory import DirectoryCase
from tests.servers.database import PASSWORD, DatabaseServer
from tests.servers.docker import engine_answers
from tests.servers.flavours import FLAVOURS
from tests.servers.java import MissingError
from tests.servers.mariadb import MariaDBServer, MySQLServer
from tests.servers.mongo import MongoServer
from tests.servers.postgres import PostgresServer
from tests.servers.search import ServerError

ROOT = Path(__file__).parents[2]
SERVERS: dict[str, type[DatabaseServer]] = {
    "mariadb": MariaDBServer,
    "mongodb": MongoServer,
    "mysql": MySQLServer,
    "postgresql": PostgresServer,
}


def _services(name: str) -> dict[str, Any]:
    """Returns the services of a file, with what they extend."""
    file = fixture(name)
    services = yaml.safe_load(file.read_text("utf-8"))["services"]
    for service in services.values():
        if (extended := service.pop("extends", None)) is not None:
            base = yaml.safe_load((file.parent / extended["file"]).read_text("utf-8"))["services"]
            service.update(base[extended["service"]] | service)
    return dict(services)


@pytest.mark.parametrize("name", CASES)
def test_each_source_has_a_file_for_docker(name: str) -> None:
    services = _services(name)
    wanted = {"search": (FLAVOURS[USUAL].image, SEARCH[0])}
    if name in SERVERS:
        port, variable, _ = ADDRESSES[name]
        wanted["source"] = (SERVERS[name].image, port)
        assert (variable, port) == (SERVERS[name].address, SERVERS[name].container_port)
    images = {key: service["image"] for key, service in services.items()}
    assert images == {key: image for key, (image, _) in wanted.items()}
    for key, service in services.items():
        assert re.search(r":\d[\d.]*$", service["image"]), "the image has a version"
        assert service["ports"] == [f"127.0.0.1::{wanted[key][1]}"], "a free port of this machine alone"
        assert service["healthcheck"]["test"], "so that --wait knows when it is ready"
        assert {"interval", "timeout", "retries"} <= service["healthcheck"].keys()
        secrets = [value for variable, value in service.get("environment", {}).items() if "PASSWORD" in variable]
        assert set(secrets) <= {PASSWORD}


@pytest.mark.process
def test_a_source_of_another_package_is_proven_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the case that the guide shows."""
    guide = (ROOT / "docs/SOURCES.md").read_text("utf-8").partition("### From end to end")[2]
    (tmp_path / "notes_case.py").write_text(guide.partition("```python\n")[2].partition("```")[0], "utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.syspath_prepend(str(ROOT / "examples/sources"))
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{ROOT / 'examples/sources'}")
    monkeypatch.setenv("SEARCH", "embedded")
    monkeypatch.setattr(command, "SIZES", {"small": 10})
    monkeypatch.setattr(command, "engine_answers", lambda: False)
    monkeypatch.setattr(sys, "argv", ["ftest", "notes_case:NotesCase"])
    assert command.main() == 0, capsys.readouterr().out
    told = capsys.readouterr().out
    assert "notes: added, changed, deleted: 9 documents equal" in told
    assert "1 passed, 0 failed" in told


class Docker:
    """A program `docker` on the path, which does as a script says, and what it was called with."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def does(self, script: str) -> None:
        program = self._folder / "docker"
        program.write_text(f'#!/bin/sh\nshift 5\necho "$@" >> {self._folder / "calls"}\n{script}\n')
        program.chmod(0o755)

    @property
    def calls(self) -> list[str]:
        return (self._folder / "calls").read_text("utf-8").splitlines()


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Docker:
    for variable in [SEARCH[1], *(variable for _, variable, _ in ADDRESSES.values())]:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    return Docker(tmp_path)


def test_servers_in_containers_are_named_while_they_run(docker: Docker) -> None:
    docker.does('[ "$1" != port ] || echo 127.0.0.1:4$3')
    with composed("mysql", search=True):
        assert os.environ["CONNECTORS_TEST_MYSQL_URL"] == f"mysql://root:{PASSWORD}@127.0.0.1:43306"
        assert os.environ["CONNECTORS_TEST_ES8_URL"] == "http://127.0.0.1:49200"
    assert "CONNECTORS_TEST_MYSQL_URL" not in os.environ
    assert docker.calls == [
        "up --detach --wait source search",
        "port source 3306",
        "port search 9200",
        "down --volumes --timeout 0",
    ]


def test_what_is_named_is_not_started(docker: Docker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONNECTORS_TEST_ES8_URL", "http://search.invalid")
    docker.does('[ "$1" != port ] || echo 127.0.0.1:4$3')
    with composed("mongodb", search=True):
        pass
    assert docker.calls[0] == "up --detach --wait source"
    assert os.environ["CONNECTORS_TEST_ES8_URL"] == "http://search.invalid"
    with composed("directory", search=True):
        pass
    assert len(docker.calls) == 3


def test_what_does_not_start_is_told_and_taken_down(docker: Docker) -> None:
    docker.does('[ "$1" = down ] || { echo "no such image" >&2; exit 1; }')
    with pytest.raises(ServerError, match="no such image"), composed("postgresql", search=False):
        pass
    assert docker.calls == ["up --detach --wait source", "down --volumes --timeout 0"]


class Missing(DirectoryCase):
    """A source whose server cannot run."""

    service_type = "missing"

    def prepare(self) -> None:
        raise MissingError("there is no server for it")


def test_what_cannot_run_is_named_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "CASES", {"missing": f"{__name__}:Missing"})
    monkeypatch.setenv("SEARCH", "embedded")
    monkeypatch.setenv("CONNECTORS_TEST_DOCKER", "0")
    monkeypatch.delenv("CI", raising=False)
    for name, ci, code in (("all", "", 0), ("missing", "", 1), ("all", "true", 1)):
        if ci:
            monkeypatch.setenv("CI", ci)
        monkeypatch.setattr(sys, "argv", ["ftest", name])
        engine_answers.cache_clear()
        assert command.main() == code
        assert "missing: not run: there is no server for it\n" in capsys.readouterr().out
    engine_answers.cache_clear()


def test_the_memory_is_that_of_the_command_alone(tmp_path: Path) -> None:
    ballast = bytearray(300 * 2**20)  # which the command would be told to have, were it started from here
    file = tmp_path / "peak"
    small = [sys.executable, "-c", "print('small')"]
    done = subprocess.run(
        [sys.executable, "-I", "-S", measured.__file__, str(file), *small], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "small\n")
    assert int(file.read_text("utf-8")) < 100 * 1024
    large = [sys.executable, "-c", "bytearray(200 * 2**20); raise SystemExit(3)"]
    code = subprocess.call([sys.executable, "-I", "-S", measured.__file__, str(file), *large])
    assert code == 3
    assert int(file.read_text("utf-8")) > 200 * 1024
    assert len(ballast) == 300 * 2**20
