"""The root of the errors that stopper raises on purpose; every room derives from it.

StopperError
├── InputError          a file, field or flag is not what it should be (exit code 2, HTTP 400)
│   ├── ArtifactError   an artifact is corrupt, foreign, expired or too new
│   └── TooFewTraces    the promise asked for needs more calibration traces
└── UnsupportedError    this engine or setting cannot keep the promise: refuse to start
"""

from __future__ import annotations


class StopperError(Exception):
    """Base class. The message names the culprit and the remedy; no traceback is needed."""


class InputError(StopperError):
    """A file, a field or a flag is not what it should be."""


class ArtifactError(InputError):
    """An artifact is corrupt, foreign, expired or of an unknown schema."""


class TooFewTraces(InputError):  # noqa: N818 - reads as a sentence where it is raised
    """Fewer calibration traces than the asked promise needs."""


class UnsupportedError(StopperError):
    """The engine or a setting cannot keep the promise; stopper refuses to start."""
