"""``level``: the plain threshold on the probe's (shaped) score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from calibration.rules.scored import TraceRule


@dataclass(frozen=True)
class Level(TraceRule):
    """Stop at the first cue whose score exceeds the threshold: what the engine serves.

    Raw or with its rise over the trace's minimum: that is the probe's shaping
    (probes/shaping.py), chosen before calibration.
    """

    name: ClassVar[str] = "level"
