"""The launcher, with scripts in the place of Java, Maven and Docker: no server is started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.servers import java, search
from tests.servers.docker import engine_answers
from tests.servers.fetch import cache_folder, security_plugin, software
from tests.servers.fixtures import SearchServers
from tests.servers.flavours import FLAVOURS
from tests.servers.java import MissingError, find_java
from tests.servers.process import Keep, Kept
from tests.servers.search import SearchServer, ServerError, available

_HEALTHY = """
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
class Healthy(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(b'{"authorization": "%s"}' % (self.headers["Authorization"] or "").encode())
server = HTTPServer(("127.0.0.1", 0), Healthy)
open(sys.argv[1], "w").write(str(server.server_port))
server.serve_forever()
"""

Script = Callable[[str, str], Path]


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Script:
    """Puts a shell script of some name first on the path."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    def write(name: str, text: str) -> Path:
        path = folder / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        return path

    return write


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine without servers in the environment, Docker or a filled cache."""
    for name in FLAVOURS:
        monkeypatch.delenv(f"CONNECTORS_TEST_{name.upper()}_URL", raising=False)
        monkeypatch.delenv(f"CONNECTORS_TEST_{name.upper()}_SECURED_URL", raising=False)
    monkeypatch.setattr(search, "engine_answers", lambda: False)
    monkeypatch.setenv("CONNECTORS_TEST_CACHE", str(tmp_path / "cache"))


def _gone(pid: int) -> bool:
    """Waits until a process is no more."""
    until = time.monotonic() + 10
    while time.monotonic() < until:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.01)
    return False


def _appears(path: Path) -> str:
    until = time.monotonic() + 10
    while time.monotonic() < until:
        if path.exists() and (text := path.read_text()):
            return text
        time.sleep(0.01)
    raise AssertionError(f"{path} did not appear")


def _keep(folder: Path, command: str, **more: object) -> Keep:
    folder.mkdir()
    return Keep(["sh", "-c", command], str(folder), str(folder / "server.log"), **more)  # type: ignore[arg-type]  # by name


def test_stopping_kills_the_server_with_all_that_it_started(tmp_path: Path) -> None:
    last = tmp_path / "last"
    keep = _keep(tmp_path / "data", "sleep 600 & echo $! > ../pids; exec sleep 600", last=["touch", str(last)])
    kept = Kept(keep)
    child = int(_appears(tmp_path / "pids"))
    assert not kept.ended
    kept.stop()
    assert _gone(child)
    assert last.exists()
    assert not (tmp_path / "data").exists()
    kept.stop()


def test_a_server_that_ends_by_itself_is_noticed_and_leaves_its_log(tmp_path: Path) -> None:
    kept = Kept(_keep(tmp_path / "data", "echo no such option; exit 3"))
    until = time.monotonic() + 10
    while not kept.ended and time.monotonic() < until:
        time.sleep(0.01)
    assert kept.ended
    assert kept.log() == "no such option"
    kept.stop()


def test_a_server_dies_with_the_tests_even_when_they_are_killed(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    program = (
        "import sys, time\nfrom tests.servers.process import Keep, Kept\n"
        f"Kept(Keep(['sh', '-c', 'echo $$ > ../pid; exec sleep 600'], {str(tmp_path / 'data')!r}, '/dev/null'))\n"
        "time.sleep(600)\n"
    )
    tests = subprocess.Popen([sys.executable, "-c", program], cwd=Path(__file__).parents[2])
    server = int(_appears(tmp_path / "pid"))
    tests.send_signal(signal.SIGKILL)
    tests.wait()
    assert _gone(server)
    until = time.monotonic() + 10
    while (tmp_path / "data").exists() and time.monotonic() < until:
        time.sleep(0.01)
    assert not (tmp_path / "data").exists()


def test_the_lowest_fitting_java_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(java, "_PLACES", (str(tmp_path),))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", "/nowhere")
    for name, version, compiler in (("a", "25.0.1", True), ("b", "21.0.2", False), ("c", "17.0.9", True)):
        (tmp_path / name / "bin").mkdir(parents=True)
        (tmp_path / name / "bin" / "java").write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\"' >&2\n")
        (tmp_path / name / "bin" / "java").chmod(0o755)
        if compiler:
            (tmp_path / name / "bin" / "javac").touch()
    chosen = {name: find_java(flavour).name for name, flavour in FLAVOURS.items()}
    assert chosen == {"es8": "c", "es9": "a", "os2": "c", "os3": "a"}
    (tmp_path / "a" / "bin" / "java").unlink()
    assert find_java(FLAVOURS["es8"]).name == "c"
    with pytest.raises(MissingError, match=r"Elasticsearch 9.* needs Java 21 or later \(a whole JDK, with javac\)"):
        find_java(FLAVOURS["es9"])
    assert "CONNECTORS_TEST_JAVA_HOME" in str(available("os3"))
    monkeypatch.setattr(java, "_may_install", lambda: False)
    assert "Maven" in str(java.maven_obstacle())


def test_maven_is_installed_where_that_is_allowed(
    tmp_path: Path, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    mvn = tmp_path / "bin" / "mvn"
    made = f": > {mvn}; /bin/chmod +x {mvn}"
    script("apt-get", f'echo "$*" >> {tmp_path}/calls; case $2 in install) {made} ;; esac')
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(MissingError, match="Maven"):
        java.maven()
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert java.maven_obstacle() is None
    assert java.maven() == str(mvn)
    assert (tmp_path / "calls").read_text().splitlines()[-1].endswith("install -y --no-install-recommends maven")


def test_a_missing_server_is_skipped_but_not_where_it_belongs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.servers.fixtures.available", lambda flavour: f"no {flavour} here")
    servers = SearchServers()
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no os2 here"):
        servers.get("os2")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="no os2 here"):
        servers.get("os2")
    with pytest.raises(pytest.skip.Exception, match="no os3 here"):
        servers.get("os3")
    servers.stop()


def test_a_server_that_does_not_start_is_not_tried_for_each_test(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []

    def start(server: SearchServer) -> SearchServer:
        tried.append(server.flavour.name)
        raise ServerError("the port is taken")

    monkeypatch.setattr(SearchServer, "start", start)
    monkeypatch.setattr("tests.servers.fixtures.available", lambda _: None)
    servers = SearchServers()
    for _ in range(3):
        with pytest.raises(pytest.fail.Exception, match="the port is taken"):
            servers.get("es8", secured=True)
    assert tried == ["es8"]
    servers.stop()


def test_the_cache_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("CONNECTORS_TEST_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "connectors-test-servers"


_MAVEN = r"""
echo run >> "$0.runs"
for a in "$@"; do case $a in -DoutputDirectory=*) out=${a#*=};; -Dmaven.repo.local=*) mkdir -p "${a#*=}";; esac; done
sleep 0.2
case $* in
  *:unpack*) mkdir -p "$out/sonarqube-1/elasticsearch/lib"
             touch "$out/sonarqube-1/elasticsearch/lib/elasticsearch-8.19.13.jar" ;;
  *) mkdir -p "$out"; touch "$out/opensearch.jar" ;;
esac
"""


@pytest.mark.parametrize(("name", "jar"), [("es8", "elasticsearch-8.19.13.jar"), ("os2", "opensearch.jar")])
def test_software_is_fetched_once_by_whoever_comes_first(tmp_path: Path, script: Script, name: str, jar: str) -> None:
    mvn = script("mvn", _MAVEN)
    left = tmp_path / "cache" / f".{name}-{FLAVOURS[name].version}-of-a-killed-process"
    left.mkdir(parents=True)
    homes: list[Path] = []
    threads = [threading.Thread(target=lambda: homes.append(software(FLAVOURS[name]))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert homes == [tmp_path / "cache" / f"{name}-{FLAVOURS[name].version}"] * 3
    assert (homes[0] / "lib" / jar).exists()
    assert mvn.with_name("mvn.runs").read_text() == "run\n"
    assert {path.name for path in homes[0].parent.iterdir()} == {homes[0].name, f".{homes[0].name}.lock"}


def test_of_a_plugin_what_the_server_has_is_left_out(tmp_path: Path, script: Script) -> None:
    lib = tmp_path / "cache" / f"os2-{FLAVOURS['os2'].version}" / "lib"
    lib.mkdir(parents=True)
    (lib / "guava-33.2.1-jre.jar").touch()
    jars = " ".join(f'"$out/{name}.jar"' for name in ("guava-33.4.0-jre", "guava-testing-1.0", "passay-1.6.6"))
    script("mvn", _MAVEN.split("case $*", maxsplit=1)[0] + f'mkdir -p "$out/config"; touch {jars}')
    plugin = security_plugin(FLAVOURS["os2"])
    assert {path.name for path in plugin.iterdir()} == {"config", "guava-testing-1.0.jar", "passay-1.6.6.jar"}
    with pytest.raises(MissingError, match=r"OpenSearch 3.* has no security plugin"):
        security_plugin(FLAVOURS["os3"])


def test_a_failed_fetch_leaves_nothing_and_says_why(tmp_path: Path, script: Script) -> None:
    script("mvn", "echo 'no route to the repository'; exit 1")
    with pytest.raises(MissingError, match="no route to the repository"):
        software(FLAVOURS["os2"])
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [".os2-2.19.1.lock"]


def test_a_container_is_used_where_an_engine_answers(
    tmp_path: Path, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "healthy.py").write_text(_HEALTHY)
    docker = script(
        "docker",
        f'echo "$@" >> "$0.calls"\ncase $1 in\n'
        f"  run) exec {sys.executable} {tmp_path / 'healthy.py'} {tmp_path / 'port'} ;;\n"
        f"  port) echo 127.0.0.1:$(cat {tmp_path / 'port'}) ;;\nesac",
    )
    engine_answers.cache_clear()
    assert engine_answers()
    engine_answers.cache_clear()
    monkeypatch.setattr(search, "engine_answers", lambda: True)
    assert available("es9") is None
    with SearchServer("es8", password="secret-word", settings={"a.b": "c"}) as server:
        assert server.request("GET", "/").body["authorization"].startswith("Basic ")
    calls = docker.with_name("docker.calls").read_text().splitlines()
    run = next(call for call in calls if call.startswith("run"))
    assert run.endswith(" elasticsearch:8.19.13")
    assert "--env ELASTIC_PASSWORD=secret-word" in run
    assert "--env a.b=c" in run
    assert "--publish 127.0.0.1::9200" in run
    assert calls[-1].startswith("rm --force --volumes connectors-test-")


def test_a_server_that_does_not_start_says_what_it_printed_and_leaves_nothing(
    tmp_path: Path, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    script("docker", "case $1 in run) echo vm.max_map_count is too low; exit 78 ;; *) exit 1 ;; esac")
    monkeypatch.setattr(search, "engine_answers", lambda: True)
    with pytest.raises(ServerError, match=r"(?s)OpenSearch 2.19.1 ended while it started.*max_map_count"):
        SearchServer("os2").start()
    monkeypatch.setattr(search, "engine_answers", lambda: False)
    script("mvn", "exit 1")
    with pytest.raises(MissingError, match="Maven could not fetch"):
        SearchServer("os2").start()
    assert list((tmp_path / "tmp").iterdir()) == []


def test_an_address_in_the_environment_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "healthy.py").write_text(_HEALTHY)
    with subprocess.Popen([sys.executable, str(tmp_path / "healthy.py"), str(tmp_path / "port")]) as other:
        port = _appears(tmp_path / "port")
        monkeypatch.setenv("CONNECTORS_TEST_ES9_SECURED_URL", f"http://elastic:p%40ss@127.0.0.1:{port}/prefix/")
        with SearchServer("es9", password="unused") as server:
            assert server.url == f"http://127.0.0.1:{port}/prefix"
            assert (server.user, server.password) == ("elastic", "p@ss")
        monkeypatch.setenv("CONNECTORS_TEST_OS3_URL", f"http://127.0.0.1:{port}")
        assert available("os3") is None
        with SearchServer("os3") as server:
            assert server.user is None
        assert other.poll() is None, "it is not ours to end"
        other.kill()
    with pytest.raises(ServerError, match="the environment names"):
        SearchServer("os3").start()


def test_not_every_server_takes_a_password() -> None:
    with pytest.raises(ValueError, match="no security module here"):
        SearchServer("os3", password="secret-word")
