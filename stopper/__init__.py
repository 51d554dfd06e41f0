"""The decision when to end the thinking, and the tools and services around it."""

from importlib.metadata import version as _version

#: Of the installed distribution, which has it from pyproject.toml: the version stands there alone.
__version__ = _version("stopper")
