"""Finds a Java that fits a server, and Maven, which fetches it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Final

from tests.servers.flavours import Flavour

__all__ = ["MissingError", "find_java", "lowest_jdk", "maven", "maven_obstacle"]

#: Where Java usually lies, on Debian, Fedora, macOS and with SDKMAN.
_PLACES: Final = ("/usr/lib/jvm", "/Library/Java/JavaVirtualMachines", "~/.sdkman/candidates/java")


class MissingError(RuntimeError):
    """Something that a server needs is not on this machine; the message says what, and how to get it."""


def find_java(flavour: Flavour) -> Path:
    """Returns the home of the lowest Java that runs the server; raises MissingError.

    `CONNECTORS_TEST_JAVA_HOME`, `JAVA_HOME`, the usual places and `java` on the path are looked at.
    """
    lowest, highest = flavour.java
    fitting = [
        (major, home)
        for home in _homes()
        if (major := _major(home)) is not None
        and lowest <= major <= highest
        and (not flavour.jdk or (home / "bin" / "javac").exists())
    ]
    if not fitting:
        wanted = f"Java {lowest} or later" if highest > 90 else f"Java {lowest} to {highest}"
        whole = " (a whole JDK, with javac)" if flavour.jdk else ""
        raise MissingError(
            f"{flavour.title} needs {wanted}{whole}, and there is none here: install one, or name its folder in "
            f"CONNECTORS_TEST_JAVA_HOME."
        )
    return min(fitting, key=lambda candidate: candidate[0])[1]


def lowest_jdk(version: int) -> Path | None:
    """Returns the home of the lowest JDK of this version or later."""
    homes = [home for home in _homes() if (home / "bin" / "javac").exists() and (_major(home) or 0) >= version]
    return min(homes, key=lambda home: _major(home) or 0, default=None)


def maven_obstacle() -> str | None:
    """Says why `maven()` cannot succeed; None when Maven is there or can be installed."""
    if shutil.which("mvn") or _may_install():
        return None
    return "Maven (mvn), which fetches the server, is not here: install it."


def maven() -> str:
    """Returns the path of `mvn`, which is installed first where this user may do so; raises MissingError."""
    if (found := shutil.which("mvn")) is None and _may_install():
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
        for arguments in (["update"], ["install", "-y", "--no-install-recommends", "maven"]):
            done = subprocess.run(
                ["apt-get", "-qq", *arguments], env=environment, capture_output=True, text=True, check=False
            )
            if done.returncode != 0:
                raise MissingError(f"Maven could not be installed: apt-get {arguments[0]}: {done.stderr[-500:]}")
        found = shutil.which("mvn")
    if found is None:
        raise MissingError(maven_obstacle() or "Maven was installed, but there is no mvn on the path.")
    return found


def _may_install() -> bool:
    return os.geteuid() == 0 and shutil.which("apt-get") is not None


def _homes() -> list[Path]:
    named = [Path(value) for key in ("CONNECTORS_TEST_JAVA_HOME", "JAVA_HOME") if (value := os.environ.get(key))]
    usual = [
        home
        for place in _PLACES
        for entry in sorted(Path(place).expanduser().glob("*"))
        for home in (entry, entry / "Contents" / "Home")
    ]
    on_path = [Path(java).resolve().parent.parent] if (java := shutil.which("java")) else []
    return [home for home in (*named, *usual, *on_path) if (home / "bin" / "java").exists()]


@cache
def _major(home: Path) -> int | None:
    """Returns 17 for `openjdk version "17.0.15"`; None for what does not run."""
    done = subprocess.run([home / "bin" / "java", "-version"], capture_output=True, text=True, check=False)
    found = re.search(r'version "(\d+)', done.stderr)
    return int(found[1]) if found and done.returncode == 0 else None
