"""Document-level security: how permissions are written into documents and identities."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

__all__ = ["ACCESS_CONTROL", "add_access_control", "prefix_identity"]

#: The field of a document that lists who may see it.
ACCESS_CONTROL: Final = "_allow_access_control"


def prefix_identity(prefix: str, identity: str | None) -> str | None:
    """Returns `prefix:identity`, so that a user and a group of one name differ; None where there is no identity."""
    return f"{prefix}:{identity}" if identity else None


def add_access_control(document: dict[str, Any], identities: Iterable[str | None]) -> dict[str, Any]:
    """Adds the identities, without blanks and repetitions and sorted, so that the document's hash is stable."""
    known = {identity for identity in (*document.get(ACCESS_CONTROL, ()), *identities) if identity}
    document[ACCESS_CONTROL] = sorted(known)
    return document
