"""The daemon: scheduling, claiming and running jobs, heartbeats, housekeeping, and the web page."""
