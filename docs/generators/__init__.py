"""Makers of docs/reference/: each module reads the code and gives one page of Markdown."""
