"""What every block of `config.yml` has in common."""

from __future__ import annotations

from typing import ClassVar

from pydantic import BaseModel, ConfigDict

__all__ = ["Section"]


class Section(BaseModel):
    """A block of `config.yml`: frozen, and without keys that it does not know."""

    # Inputs are hidden in pydantic's own errors, since a value may be a secret.
    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)
