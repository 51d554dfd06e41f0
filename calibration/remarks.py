"""What a person should know of a calibration that is degenerate, or nearly so."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from probes.errors import InputError

if TYPE_CHECKING:
    from calibration.calibrate import Evidence


def on_evidence(
    evidence: Evidence, loss: str, rollouts: str, allow_one_class: bool, source: str
) -> list[str]:
    """Explain cues of one class, scores that are all the same, and rollouts.

    Raises
    ------
    InputError
        When all cues are of one class and nobody said that this is right.
    """
    return [
        *_on_classes(evidence, loss, source, allow_one_class),
        *_on_scores(evidence),
        *_on_rollouts(evidence.group_sizes, rollouts),
    ]


def on_threshold(evidence: Evidence, limit: float, allowed: int) -> list[str]:
    """Explain a threshold that stops all, none, or fewer than alpha allows.

    Parameters
    ----------
    evidence
        What it was found on.
    limit
        The threshold.
    allowed
        How many units may be stopped badly, :func:`calibration.risk.allowed_above`.
    """
    if limit == -np.inf:
        return ["bad stops are so rare here that the rule stops at the first cue"]
    notes = []
    if limit >= _ends(evidence)[1]:
        notes.append("no calibration cue scores above the threshold: none of these would stop")
    above = int((evidence.worst_scores > limit).sum())
    if above < allowed:
        notes.append(
            f"equal scores: {above} of the {allowed} bad stops that alpha allows are used, and the "
            "next lower threshold would bring too many at once"
        )
    return notes


def _on_classes(evidence: Evidence, loss: str, source: str, allow_one_class: bool) -> list[str]:
    n_bad, n_cues = len(evidence.bad_scores), evidence.n_cues
    if 0 < n_bad < n_cues:
        return []
    kind = "bad" if n_bad else "good"
    outcome = (
        "only scores above nearly all of these would stop"
        if n_bad
        else "every trace would be stopped at its first cue"
    )
    found = f"all {n_cues} cues are {kind} under the loss '{loss}': {outcome}"
    if not allow_one_class:
        raise InputError(
            f"{source}: {found}. One class only usually means wrong labels or the wrong loss; if "
            "they are right, say so with --allow-one-class."
        )
    return [found]


def _on_scores(evidence: Evidence) -> list[str]:
    lowest, highest = _ends(evidence)
    if lowest != highest or evidence.n_cues == 1:
        return []
    return [
        f"all {evidence.n_cues} cues have the same score, {lowest:g}: it cannot tell good stops "
        "from bad ones"
    ]


def _on_rollouts(sizes: NDArray[np.int64], rollouts: str) -> list[str]:
    repeated = int((sizes > 1).sum())
    if not repeated:
        return []
    how = "one drawn rollout stands for each" if rollouts == "one" else "each counts by its worst"
    return [f"{repeated} of {len(sizes)} groups have several traces and count once: {how}"]


def _ends(evidence: Evidence) -> tuple[float, float]:
    """Give the lowest and the highest score; both classes are sorted, and one may be empty."""
    parts = [part for part in (evidence.good_scores, evidence.bad_scores) if len(part)]
    return float(min(part[0] for part in parts)), float(max(part[-1] for part in parts))
