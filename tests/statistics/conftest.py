"""Makes `populations` importable for the statistics tests."""
