"""Is alpha kept: the share asked for against the share measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from calibration.page import words
from calibration.page.canvas import Numbers, Picture, Theme, legend_above
from calibration.report import PLOT_ALPHAS, Evaluation, Rule
from calibration.rules import rule_class


def alphas_to_show(rule: Rule, asked: Sequence[float]) -> list[float]:
    """Choose alphas around those asked for, as far as the calibration carries them."""
    end = max(0.2, *(1.5 * alpha for alpha in asked))
    more = [alpha for alpha in PLOT_ALPHAS if alpha <= end and rule.carries(alpha)]
    # Some rules are fitted at one alpha and answer no other.
    any_alpha = rule.method == "lynx" or rule_class(rule.rule).any_alpha
    return sorted({*asked, *(more if any_alpha else ())})


def risk_picture(evaluations: Sequence[Evaluation], asked: float) -> Picture:
    """Draw measured bad stops over alpha.

    Parameters
    ----------
    evaluations
        Of one rule on one data set, by rising alpha.
    asked
        The headline's alpha, among them.
    """
    chosen = next(e for e in evaluations if e.alpha == asked)
    above = [words.alpha_text(e.alpha) for e in evaluations if e.stopped.bad_stop_share > e.alpha]
    kept = "no point lies above the line" if not above else f"above the line at {', '.join(above)}"
    return Picture(
        name="risk",
        title="Bad stops, tolerated and measured",
        caption=(
            "Left to right: what you tolerate. Upwards: what was measured on the test traces, with "
            "95\xa0% intervals. On or below the diagonal the promise is kept; a bar that crosses "
            "the line leaves it open; a bar wholly in the shaded part is a broken promise. The "
            "points share the same traces and move together."
            + (
                " LYNX is calibrated cue by cue, not per request: nothing keeps its points below "
                "the line."
                if any(e.lynx for e in evaluations)
                else ""
            )
        ),
        alt=(
            f"Share of requests stopped badly against alpha at {len(evaluations)} values of alpha. "
            f"At alpha {words.alpha_text(asked)}: "
            f"{words.percent(chosen.stopped.bad_stop_share)}, interval "
            f"{words.interval_text(chosen.stopped.bad_stop_interval)}; {kept}."
        ),
        draw=lambda axes, theme: _draw(axes, theme, evaluations, chosen),
        numbers=_numbers(evaluations, asked),
    )


def _numbers(evaluations: Sequence[Evaluation], asked: float) -> Numbers:
    rows = [
        (
            words.alpha_text(e.alpha),
            words.threshold_text(e.stopped.threshold),
            words.count(e.stopped.bad_stops),
            words.percent(e.stopped.bad_stop_share),
            words.interval_text(e.stopped.bad_stop_interval),
            words.percent(e.saved_share),
            words.percent(e.stopped.accuracy),
            "\N{EN DASH}" if e.lynx is None else words.percent(e.lynx.bad_stop_share),
        )
        for e in evaluations
    ]
    return Numbers(
        ("alpha", "threshold", "bad stops", "share", "95\xa0% interval", "tokens saved",
         "accuracy", "LYNX share"),
        tuple(rows),
        frozenset(i for i, e in enumerate(evaluations) if e.alpha == asked),
    )  # fmt: skip


def _draw(axes: Any, theme: Theme, evaluations: Sequence[Evaluation], chosen: Evaluation) -> None:
    alphas = [100 * e.alpha for e in evaluations]
    shares = [100 * e.stopped.bad_stop_share for e in evaluations]
    intervals = [e.stopped.bad_stop_interval or (0.0, 0.0) for e in evaluations]
    below = [share - 100 * low for share, (low, _) in zip(shares, intervals, strict=True)]
    over = [100 * high - share for share, (_, high) in zip(shares, intervals, strict=True)]
    lynx = [(100 * e.alpha, 100 * e.lynx.bad_stop_share) for e in evaluations if e.lynx]
    right = 1.08 * max(alphas)
    top = 1.05 * max(right, *(s + o for s, o in zip(shares, over, strict=True)))
    axes.fill_between([0, right], [0, right], [top, top], color=theme.bad, alpha=0.09, linewidth=0)
    axes.plot([0, right], [0, right], color=theme.muted, linewidth=1.2, label="alpha")
    if lynx:
        deltas, broken = zip(*lynx, strict=True)
        axes.plot(
            deltas, broken, "^:", color=theme.rival, markersize=5, label="LYNX per cue",
            clip_on=True,
        )  # fmt: skip
    axes.errorbar(
        alphas, shares, yerr=[below, over], fmt="o-", color=theme.ours, capsize=3, markersize=5,
        label=f"{chosen.stopped.rule}, 95 % interval",
    )  # fmt: skip
    axes.plot(
        100 * chosen.alpha, 100 * chosen.stopped.bad_stop_share, "o", markersize=11,
        markerfacecolor="none", markeredgecolor=theme.ink, label="the alpha above",
    )  # fmt: skip
    axes.set_xlim(0, right)
    axes.set_ylim(0, top)
    axes.set_xlabel("alpha: bad stops tolerated, % of requests")
    axes.set_ylabel("bad stops measured, %")
    legend_above(axes)
