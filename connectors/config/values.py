"""`${VAR}` and `file:` in a single value."""

from __future__ import annotations

import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

from connectors.config.secrets import looks_secret

__all__ = [
    "FileSignature",
    "Substituted",
    "UnresolvedError",
    "names_file",
    "read_secret_file",
    "signature",
    "substitute",
]

MAX_SECRET_BYTES: Final = 1_000_000

_REFERENCE: Final = re.compile(r"\$\$\{|\$\{([A-Za-z_][A-Za-z0-9_]*)(:-([^}]*))?\}|\$\{")

FileSignature: TypeAlias = tuple[int, int, int] | None
"""Modification time in nanoseconds, size and inode of a file; None when there is none."""


class UnresolvedError(Exception):
    """A value cannot be had; the message says why, and shows nothing of it."""


class Substituted(NamedTuple):
    """A text with its references replaced, and the secrets that came in with them."""

    text: str
    secrets: frozenset[str]


def substitute(text: str, environ: Mapping[str, str]) -> Substituted:
    """Replaces `${VAR}` by the variable, `${VAR:-default}` by it or else the default, and `$${` by `${`.

    As in the shell, the default also stands in for a variable that is empty. What is put in is not looked at again.

    Raises:
        UnresolvedError: a variable without a default is not set, or `${` is not followed by a name and `}`.
    """
    if "${" not in text:
        return Substituted(text, frozenset())
    secrets: set[str] = set()

    def replace(found: re.Match[str]) -> str:
        name, has_default, default = found[1], found[2] is not None, found[3]
        if found[0] == "$${":
            return "${"
        if name is None or "${" in (default or ""):
            raise UnresolvedError(
                "${ must be followed by a name and }, as in ${NAME} or ${NAME:-default}; write $${ for ${"
            )
        value = environ.get(name)
        if has_default and not value:
            value = default
        if value is None:
            raise UnresolvedError(f"the environment variable {name} is not set; set it, or write ${{{name}:-default}}")
        if value and looks_secret(name):
            secrets.add(value)
        return value

    return Substituted(_REFERENCE.sub(replace, text), frozenset(secrets))


def names_file(text: str) -> bool:
    """Whether the value stands in a file of its own: `file:/run/secrets/x`. `file://…` is an address and stays one."""
    return text.startswith("file:") and not text.startswith("file://")


def signature(path: Path) -> FileSignature:
    """Returns what tells a changed file from an unchanged one."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def read_secret_file(path: Path) -> str:
    """Returns the text of a secret's file, without the line break at its end.

    Raises:
        UnresolvedError: there is no such file, it cannot be read, or it holds no text.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise UnresolvedError(f"{path} is not a file; write the path of a file that holds the value")
        with path.open("rb") as file:
            content = file.read(MAX_SECRET_BYTES + 1)
    except FileNotFoundError:
        raise UnresolvedError(f"there is no file {path}; create it, or write another path") from None
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "its name is not valid"
        raise UnresolvedError(f"the file {path} cannot be read: {why}") from None
    if len(content) > MAX_SECRET_BYTES:
        raise UnresolvedError(f"the file {path} is larger than {MAX_SECRET_BYTES} bytes; that is no secret")
    try:
        text = content.decode("utf-8").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise UnresolvedError(f"the file {path} is not UTF-8 text") from None
    if not text:
        raise UnresolvedError(f"the file {path} is empty; write the value into it")
    return text
