"""Sync rules: `basic_rule` decides about documents, `validation` about rules."""

from __future__ import annotations

__all__: list[str] = []
