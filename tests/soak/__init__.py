"""A soak: real processes are killed again and again beside a database that is written to (docs/TESTING.md)."""
