"""Software out of Debian's packages: installed, or unpacked beside the system."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.servers.fetch import cache_folder, once
from tests.servers.java import MissingError

__all__ = ["install", "may_install", "may_unpack", "program", "unpacked"]

_KEYRING: Final = "/usr/share/keyrings/debian-archive-keyring.gpg"


def may_install() -> bool:
    """Whether this user may install packages."""
    return os.geteuid() == 0 and shutil.which("apt-get") is not None


def install(package: str) -> None:
    """Installs a package, without starting its service; raises MissingError."""
    if not may_install():
        raise MissingError(f"Debian's package {package} is not here, and this user may not install it.")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    for command in (["update", "-qq"], ["install", "-qq", "-y", "--no-install-recommends", package]):
        _apt(command, environment, package)


def may_unpack() -> bool:
    """Whether packages can be fetched from Debian: any user may."""
    return Path(_KEYRING).exists() and shutil.which("apt-get") is not None and shutil.which("dpkg") is not None


def unpacked(package: str, suite: str) -> Path:
    """Returns a folder with the package and all that it needs, of another suite than this machine's.

    Nothing is installed: `program` runs what is in the folder. It is fetched once; delete it for a newer version.
    Raises MissingError.
    """
    return once(cache_folder() / f"{package}-{suite}", lambda work: _unpack(work, package, suite))


def program(home: Path, path: str) -> list[str]:
    """Returns the command that runs an unpacked program with the libraries that were unpacked with it."""
    (linker,) = home.glob("usr/lib/*/ld-linux-*.so.*")
    return [str(linker), "--library-path", str(linker.parent), str(home / path)]


def _unpack(work: Path, package: str, suite: str) -> Path:
    for archive in _download(work, package, suite):
        subprocess.run(["dpkg", "--extract", archive, work / "home"], check=True)
    return work / "home"


def _download(work: Path, package: str, suite: str) -> list[Path]:
    """Fetches by apt, with a state of its own in which nothing is installed yet."""
    for folder in ("lists/partial", "cache/archives/partial"):
        (work / folder).mkdir(parents=True)
    (work / "status").touch()
    (work / "sources.list").write_text(f"deb [signed-by={_KEYRING}] {_mirror()} {suite} main\n")
    (work / "apt.conf").write_text(
        f'Dir::Etc::sourcelist "{work / "sources.list"}";\nDir::Etc::sourceparts "-";\n'
        f'Dir::State::lists "{work / "lists"}";\nDir::State::status "{work / "status"}";\n'
        f'Dir::Cache "{work / "cache"}";\nAPT::Sandbox::User "";\nDebug::NoLocking "true";\n'
    )
    environment = {**os.environ, "APT_CONFIG": str(work / "apt.conf")}
    for command in (["update", "-qq"], ["install", "-qq", "-y", "--no-install-recommends", "--download-only", package]):
        _apt(command, environment, package)
    return sorted(work.glob("cache/archives/*.deb"))


def _mirror() -> str:
    """Returns the mirror that this machine takes Debian from."""
    command = ["apt-get", "indextargets", "--format", "$(CREATED_BY) $(ORIGIN) $(RELEASE) $(REPO_URI)"]
    told = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    for line in told.splitlines():
        match line.split():
            case ["Packages", "Debian", release, address] if "-" not in release:
                return address
    raise MissingError("apt-get knows no mirror of Debian: run apt-get update first.")


def _apt(command: Sequence[str], environment: dict[str, str], package: str) -> None:
    done = subprocess.run(["apt-get", *command], env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise MissingError(f"apt-get {command[0]} failed, so {package} is not here:\n{done.stderr[-2000:]}")
