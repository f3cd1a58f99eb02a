"""Backends of ours: where documents go (`Destination`) and where records live (`Store`), one room each."""
