"""Example sources; docs/SOURCES.md explains them. Put this folder into PYTHONPATH to try one."""
