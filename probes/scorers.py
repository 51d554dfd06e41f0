"""Every kind of probe behind one name: what turns the cues of a trace into scores."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from probes.errors import UnsupportedError
from probes.network import Probe
from probes.sequence import SequenceProbe
from probes.spec import ProbeSpec

Scorer = Probe | SequenceProbe
"""Has ``spec``, ``score(hidden of one trace's cues in order)`` and ``to_tensors()``."""


def scorer_from_tensors(spec: ProbeSpec, tensors: Mapping[str, npt.NDArray[np.generic]]) -> Scorer:
    """Build the probe of the spec's kind from named weights.

    Raises
    ------
    InputError
        If the weights are not the spec's.

    """
    if spec.kind == "gru":
        return SequenceProbe(spec, tensors)
    return Probe.from_tensors(spec, tensors)


def require_servable(scorer: Scorer, source: object) -> Probe:
    """Return a probe that the engine can serve: one that needs no memory of earlier cues.

    Parameters
    ----------
    scorer
        An artifact's.
    source
        What to call the artifact in the error.

    Raises
    ------
    UnsupportedError
        For a sequence probe.

    """
    if isinstance(scorer, SequenceProbe):
        raise UnsupportedError(
            f"{source}: its probe is a {scorer.spec.kind} over a trace's cues, which the engine "
            "cannot serve yet (it keeps no probe memory per request); such an artifact can be "
            "calibrated and evaluated offline. Serve one of `stopper train --probe linear` or "
            "`stopper train --probe mlp`"
        )
    return scorer
