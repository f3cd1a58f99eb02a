"""The rules of the source contract as tests, by theme; `connectors.testing.acceptance` brings them together."""

from __future__ import annotations
