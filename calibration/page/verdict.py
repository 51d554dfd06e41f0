"""What came out, in one breath: saved, before and after, bad stops against alpha."""

from __future__ import annotations

from dataclasses import dataclass

from calibration.page import words
from calibration.report import Evaluation


@dataclass(frozen=True)
class Tile:
    """One figure of the verdict: what it is, the number, and how it came about."""

    title: str
    value: str
    detail: str


@dataclass(frozen=True)
class Verdict:
    """Whether the promise was kept on the test traces.

    Attributes
    ----------
    status
        "kept": the share of bad stops is at most alpha. "noise": above, but alpha lies within the
        interval. "broken": the whole interval lies above. "none": the rule promises nothing about
        bad stops.
    headline, sentence
        For people.
    tiles
        The figures.
    low, share, high, alpha
        Of bad stops; what the gauge draws.
    """

    status: str
    headline: str
    sentence: str
    tiles: tuple[Tile, ...]
    low: float
    share: float
    high: float
    alpha: float

    @property
    def gauge_top(self) -> float:
        """The share at the right end of the gauge."""
        return min(1.0, 1.25 * max(self.high, self.alpha, 0.01))


def verdict_of(evaluation: Evaluation) -> Verdict:
    """Judge an evaluation."""
    row, alpha = evaluation.stopped, evaluation.alpha
    low, high = row.bad_stop_interval or (0.0, 1.0)
    status = _status(evaluation, low)
    n = evaluation.n_test
    shares = f"{words.count(row.bad_stops)} of {words.count(n)} test requests were stopped badly"
    tolerated = f"{words.alpha_text(alpha)} tolerated"
    headline, sentence = {
        "kept": (
            "The promise was kept on these test traces",
            f"{shares}, {words.percent(row.bad_stop_share)} where {words.alpha_text(alpha)} are "
            "tolerated. " + _margin(high, alpha),
        ),
        "noise": (
            "Slightly above what is tolerated, but within chance",
            f"{shares}, {words.percent(row.bad_stop_share)} where {words.alpha_text(alpha)} are "
            "tolerated. So few traces cannot tell this from a rule that keeps its promise: "
            "test on more.",
        ),
        "broken": (
            "The promise is broken on these test traces",
            f"{shares}, {words.percent(row.bad_stop_share)} where {words.alpha_text(alpha)} are "
            "tolerated, and chance does not explain it: these traces are not like those that the "
            "rule was calibrated on. Do not serve it to this traffic; calibrate again on it.",
        ),
        "none": (
            "This rule makes no promise about bad stops",
            f"{shares}, {words.percent(row.bad_stop_share)}. {_instead(evaluation)}",
        ),
    }[status]
    return Verdict(
        status=status,
        headline=headline,
        sentence=sentence,
        tiles=_tiles(evaluation, tolerated),
        low=low,
        share=row.bad_stop_share,
        high=high,
        alpha=alpha,
    )


def _status(evaluation: Evaluation, low: float) -> str:
    if evaluation.guarantee != "risk":
        return "none"
    if evaluation.stopped.bad_stop_share <= evaluation.alpha:
        return "kept"
    return "noise" if low <= evaluation.alpha else "broken"


def _instead(evaluation: Evaluation) -> str:
    alpha = words.alpha_text(evaluation.alpha)
    if evaluation.method == "lynx":
        return (
            "It is calibrated per cue (method 'lynx', a baseline), so that its delta of "
            f"{alpha} is no bound on this share."
        )
    if evaluation.promised_tokens is not None:
        promised = words.tokens_text(evaluation.promised_tokens)
        return (
            f"It promises at most {promised} thinking tokens on average, and took "
            f"{words.tokens_text(evaluation.stopped.tokens)} here; alpha {alpha} is drawn for "
            "comparison."
        )
    return f"Alpha {alpha} is drawn for comparison."


def _margin(high: float, alpha: float) -> str:
    if high <= alpha:
        return "Even the upper end of the interval is below that."
    return "The interval reaches above it, as far as this many test traces can tell."


def _tiles(evaluation: Evaluation, tolerated: str) -> tuple[Tile, ...]:
    row, full, oracle = evaluation.stopped, evaluation.full, evaluation.oracle
    both = row.accuracy is not None and full.accuracy is not None
    change = row.accuracy - full.accuracy if both else None  # type: ignore[operator]
    possible = full.tokens - oracle.tokens
    spent = row.tokens + row.extra_tokens
    reached = ""
    looking = ""
    if row.extra_tokens:
        looking = f" ({words.tokens_text(row.extra_tokens)} of them to decide)"
    if possible > 0:
        share = words.percent((full.tokens - spent) / possible, 0)
        reached = f"; {share} of what the oracle saves"
    return (
        Tile(
            "Thinking tokens saved",
            words.percent(evaluation.saved_share),
            f"{words.tokens_text(full.tokens)} per request before, "
            f"{words.tokens_text(spent)} with stopping{looking}{reached}",
        ),
        Tile(
            "Right answers",
            words.percent(row.accuracy),
            f"{words.percent(full.accuracy)} without stopping ({words.points(change)})"
            if both
            else "no gold answers for all of these traces, so that nobody can say",
        ),
        Tile(
            "Bad stops",
            words.percent(row.bad_stop_share),
            f"{tolerated}; 95{chr(160)}% interval {words.interval_text(row.bad_stop_interval)}",
        ),
        Tile(
            "Stopped early at all",
            words.percent(row.stopped_share),
            "of the requests; the others think to their end",
        ),
    )
