"""Further processes of the daemon: how they are started, how they are spoken to, and that none is left behind."""

from connectors.processes.channel import Channel
from connectors.processes.child import Child, end_with_parent, start_child

__all__ = ["Channel", "Child", "end_with_parent", "start_child"]
