"""How much thinking a stop has spared, by what the calibration traces did: an estimate."""

from __future__ import annotations

from calibration.profile import Histogram


def tokens_saved_estimate(tokens: Histogram, position: int) -> float | None:
    """Estimate how many thinking tokens a stop at `position` has spared.

    The mean of T - position over the calibration traces whose thinking was longer, T being their
    thinking tokens. Only their histogram is kept, so that within an inner bin T is taken to lie
    evenly between the edges, in the first one between 0 and its edge, and in the last one *at* its
    edge, for nothing tells where it ends: the estimate is rather too small. Beyond the last edge
    it is 0.

    Parameters
    ----------
    tokens
        `manifest.profile.tokens`.
    position
        Output tokens up to and including the cue of the stop.

    Returns
    -------
    float or None
        Tokens, at least 0; None where the histogram has no edge or no longer trace.

    """
    if not tokens.edges:
        return None
    traces = spared = 0.0
    for low, high, count in zip(
        (0.0, *tokens.edges), (*tokens.edges, None), tokens.counts, strict=True
    ):
        if high is None:
            traces += count
            spared += count * max(low - position, 0.0)
        elif high > position:
            start = max(low, position)
            longer = count * (high - start) / (high - low) if high > low else float(count)
            traces += longer
            spared += longer * ((start + high) / 2 - position)
    return spared / traces if traces > 0 else None
