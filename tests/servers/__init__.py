"""Real search servers for tests, and the instruments that make the way to them fail (docs/TESTING.md)."""
