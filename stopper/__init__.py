"""The decision when to end the thinking, and the tools and services around it."""

__version__ = "0.1.0"
