"""Software unpacked out of Debian's packages, with scripts in the place of apt-get and dpkg."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import pytest

from tests.servers.debian import program, unpacked
from tests.servers.java import MissingError

_APT: Final = """
case "$1" in
  indextargets) echo "Packages Other stable https://other.invalid/"
                echo "Packages Debian stable-security https://security.invalid/"
                echo "Packages Debian stable https://mirror.invalid/debian/" ;;
  install) folder=$(dirname "$APT_CONFIG"); cp "$folder/sources.list" "$folder/cache/archives/one.deb" ;;
esac
"""
_DPKG: Final = """
mkdir -p "$3/usr/lib/any"; touch "$3/usr/lib/any/ld-linux-any.so.2"; cp "$2" "$3/usr/from"
"""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "bin").mkdir()
    _script(tmp_path, "apt-get", _APT)
    _script(tmp_path, "dpkg", _DPKG)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("CONNECTORS_TEST_CACHE", str(tmp_path / "cache"))
    return tmp_path


def _script(folder: Path, name: str, text: str) -> None:
    path = folder / "bin" / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_a_package_of_another_suite_is_unpacked_once(cache: Path) -> None:
    home = unpacked("thing", "unstable")
    assert home == cache / "cache" / "thing-unstable"
    assert "https://mirror.invalid/debian/ unstable main" in (home / "usr" / "from").read_text()
    linker = home / "usr" / "lib" / "any" / "ld-linux-any.so.2"
    assert program(home, "usr/bin/thing") == [
        str(linker), "--library-path", str(linker.parent), str(home / "usr/bin/thing"),
    ]  # fmt: skip
    _script(cache, "apt-get", "exit 1")
    assert unpacked("thing", "unstable") == home


@pytest.mark.parametrize(
    ("apt", "words"),
    [
        ("[ $1 != install ] || { echo 'unmet dependencies' >&2; exit 100; }\n" + _APT, "unmet dependencies"),
        ("[ $1 != update ] || { echo 'no network' >&2; exit 100; }\n" + _APT, "no network"),
        ("exit 0", "knows no mirror"),
    ],
)
def test_what_cannot_be_had_is_told_and_leaves_nothing(cache: Path, apt: str, words: str) -> None:
    _script(cache, "apt-get", apt)
    with pytest.raises(MissingError, match=words):
        unpacked("thing", "unstable")
    assert [path.name for path in (cache / "cache").iterdir() if path.is_dir()] == []
