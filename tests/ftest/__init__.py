"""Proves a source end to end: `make ftest NAME=directory`."""
