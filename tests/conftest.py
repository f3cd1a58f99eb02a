"""What all tests share."""

from __future__ import annotations

from hypothesis import settings

pytest_plugins = ("tests.servers.fixtures",)

# How long an example takes says how busy the machine is.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
