"""The errors that stopper raises on purpose; the tree is drawn in :mod:`probes.errors`."""

from probes.errors import ArtifactError, InputError, StopperError, TooFewTraces, UnsupportedError

__all__ = ["ArtifactError", "InputError", "StopperError", "TooFewTraces", "UnsupportedError"]
