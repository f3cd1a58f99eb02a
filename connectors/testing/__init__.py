"""For authors of sources and for tests: what stands in for a real system, and checks of what a source promises."""

from __future__ import annotations
