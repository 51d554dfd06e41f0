"""Sentence filters as artifacts: trained, calibrated, evaluated and loaded.

`load` gives the one that comes with the package, or yours.
"""

from stopper.relevance.loading import DEFAULT, ContextFilter, load

__all__ = ["DEFAULT", "ContextFilter", "load"]
