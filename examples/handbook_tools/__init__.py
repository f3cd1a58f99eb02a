"""Makes the binary documents of the example handbook."""
