"""Makes `makers` importable for the unit tests of every room."""
