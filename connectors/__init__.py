"""connectors keeps a search index true to the places where people's data lives."""

__all__ = ["__version__"]

__version__ = "0.1.0"
