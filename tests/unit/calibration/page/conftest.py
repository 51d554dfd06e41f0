"""Makes `page_makers` importable for the tests of the page."""
