"""A seeded fault simulation: the real service on a virtual clock, between a source and servers that misbehave."""
