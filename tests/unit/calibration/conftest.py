"""Makes `table_makers` importable for the tests of this room."""
