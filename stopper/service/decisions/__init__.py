"""The stop-decision endpoint: events at cues in, decisions out."""

from stopper.service.decisions.route import attach

__all__ = ["attach"]
