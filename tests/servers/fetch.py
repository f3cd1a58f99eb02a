"""Fetches a server's software once, into a cache that all checkouts of one user share.

Nothing of the servers belongs to this project: what their owners publish is fetched when a test asks, by Maven and
its ordinary settings (mirrors and proxies included), and never handed on.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final

from tests.servers.flavours import Flavour
from tests.servers.java import MissingError, maven

__all__ = ["cache_folder", "fetched", "modules", "once", "security_plugin", "software"]

_PLUGIN: Final = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1"
#: What the modules' own metadata forgets to name.
_ADDED: Final = {
    "os2": ("com.google.guava:guava:33.2.1-jre",),
    "os3": ("com.google.guava:guava:33.2.1-jre", "org.opensearch.plugin:transport-grpc-spi:3.6.0"),
}


def cache_folder() -> Path:
    """Returns `CONNECTORS_TEST_CACHE`, or `connectors-test-servers` in the user's cache folder."""
    if named := os.environ.get("CONNECTORS_TEST_CACHE"):
        return Path(named).absolute()
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base).absolute() / "connectors-test-servers"


def fetched(flavour: Flavour) -> bool:
    """Says whether the software is in the cache."""
    return _home(flavour).is_dir()


def software(flavour: Flavour) -> Path:
    """Returns the folder with the server's software, which is fetched when it is not there; raises MissingError."""
    fetch = _fetch_elasticsearch if flavour.product == "elasticsearch" else _fetch_opensearch
    return once(_home(flavour), partial(fetch, flavour))


def security_plugin(flavour: Flavour) -> Path:
    """Returns the folder of the flavour's security plugin, likewise: its libraries, and its configuration."""
    return once(cache_folder() / f"security-{flavour.name}-{flavour.version}", partial(_fetch_security, flavour))


def once(home: Path, fetch: Callable[[Path], Path]) -> Path:
    """Returns a folder of the cache; when it is not there, `fetch` makes it in the empty folder that it is given.

    It appears whole or not at all, and two processes fetch one after the other.
    """
    if home.is_dir():
        return home
    home.parent.mkdir(parents=True, exist_ok=True)
    with _locked(home.parent / f".{home.name}.lock"):
        if home.is_dir():
            return home
        for left in home.parent.glob(f".{home.name}-*"):  # of a process that was killed: we hold the lock
            shutil.rmtree(left)
        work = Path(tempfile.mkdtemp(prefix=f".{home.name}-", dir=home.parent))
        try:
            fetch(work).rename(home)
        finally:
            shutil.rmtree(work)
    return home


def _home(flavour: Flavour) -> Path:
    return cache_folder() / f"{flavour.name}-{flavour.version}"


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _fetch_elasticsearch(flavour: Flavour, work: Path) -> Path:
    """Takes the server out of the archive of a product that ships one, and leaves the rest."""
    _mvn(
        work,
        f"{_PLUGIN}:unpack",
        f"-Dartifact={flavour.artefact}",
        f"-DoutputDirectory={work / 'unpacked'}",
        "-Dmdep.unpack.includes=sonarqube-*/elasticsearch/**",
    )
    found = list(work.glob(f"unpacked/*/elasticsearch/lib/elasticsearch-{flavour.version}.jar"))
    if len(found) != 1:
        raise MissingError(f"{flavour.artefact} does not hold {flavour.title} where it was expected.")
    home = found[0].parent.parent
    (home / "plugins").mkdir(exist_ok=True)  # the server looks for the folder, and the archive has no empty ones
    return home


def _fetch_opensearch(flavour: Flavour, work: Path) -> Path:
    """Collects every module of the server with what it needs, as one flat class path."""
    return modules(work, (flavour.artefact, *_ADDED[flavour.name]))


def modules(work: Path, artefacts: tuple[str, ...]) -> Path:
    """Fetches artefacts with what they need at run time; returns a folder that has them in its folder `lib`."""
    pom, home = work / "pom.xml", work / "home"
    pom.write_text(_pom(artefacts), encoding="utf-8")
    copy, folder = f"{_PLUGIN}:copy-dependencies", f"-DoutputDirectory={home / 'lib'}"
    _mvn(work, "--file", str(pom), copy, "-DincludeScope=runtime", folder)
    return home


def _fetch_security(flavour: Flavour, work: Path) -> Path:
    """Unpacks the plugin, and leaves out the libraries that the server has in another version."""
    if flavour.security is None:
        raise MissingError(f"{flavour.title} has no security plugin here.")
    home = work / "home"
    _mvn(work, f"{_PLUGIN}:unpack", f"-Dartifact={flavour.security}", f"-DoutputDirectory={home}")
    names = {_library(jar) for jar in (software(flavour) / "lib").glob("*.jar")}
    for jar in home.glob("*.jar"):
        if _library(jar) in names:
            jar.unlink()
    return home


def _library(jar: Path) -> str:
    """Returns a library's name without its version: `guava` of `guava-33.2.1-jre.jar`."""
    return re.split(r"-\d", jar.stem)[0]


def _pom(coordinates: tuple[str, ...]) -> str:
    dependencies = "".join(
        "<dependency><groupId>{}</groupId><artifactId>{}</artifactId><version>{}</version></dependency>".format(
            *coordinate.split(":")
        )
        for coordinate in coordinates
    )
    return (
        "<project><modelVersion>4.0.0</modelVersion><groupId>local</groupId><artifactId>server</artifactId>"
        f"<version>1</version><packaging>pom</packaging><dependencies>{dependencies}</dependencies></project>"
    )


def _mvn(work: Path, *arguments: str) -> None:
    """Runs Maven with a repository of its own, so that archives of a gigabyte do not stay in the user's."""
    done = subprocess.run(
        [maven(), "--batch-mode", "--quiet", f"-Dmaven.repo.local={work / 'repository'}", *arguments],
        cwd=work,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise MissingError(f"Maven could not fetch the server (no network?):\n{done.stdout[-2000:]}")
