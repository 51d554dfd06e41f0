"""The `stopper` object that the proxy adds to every response."""

from __future__ import annotations

from typing import Literal

import msgspec

from stopper.wire.context import ContextReport

Outcome = Literal[
    "stopped", "not_stopped", "audited", "off", "not_applied", "failed_open", "unknown"
]
"""What became of a request.

audited: marked where it would have stopped, or never reached such a cue, and left to think to its
end. unknown: the engine has a stopper but did not tell in time.
"""


class Report(msgspec.Struct, frozen=True):
    """What was decided about one request, and why.

    Attributes
    ----------
    decision, reason
        `reason` is the engine's (docs/vllm.md) or the sidecar's (docs/sidecar.md).
    position
        Output tokens up to and including the cue of the stop (of the mark, in an audit).
    score, threshold, alpha
        At the stop; None where there is none.
    tokens_saved_estimate
        How many more thinking tokens the artifact's calibration traces had, on average, of those
        that got this far; an estimate, for the rest of this trace was never made. None without a
        stop.
    artifact
        First 16 digits of the SHA-256 of the artifact's manifest.
    context
        What was done with the request's documents; left out where it has none.

    """

    decision: Outcome
    reason: str | None = None
    position: int | None = None
    score: float | None = None
    threshold: float | None = None
    alpha: float | None = None
    tokens_saved_estimate: float | None = None
    artifact: str | None = None
    context: ContextReport | msgspec.UnsetType = msgspec.UNSET
