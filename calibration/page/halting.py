"""The report of a halting rule: figures of one evaluation on full decodes, ready for its page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.denoising import DenoisingTable, Replay
from calibration.evaluate import clopper_pearson
from calibration.halting_outcomes import HaltingOutcome
from calibration.halting_plot import Point, draw_points
from calibration.page import words
from calibration.page.canvas import Numbers, Picture, Theme, legend_above
from calibration.page.halting_words import GLOSSARY, halting_promise_of, halting_verdict
from calibration.page.promise import Promise
from calibration.page.report import Origin
from calibration.page.stops import StopPlaces, length_picture, place_picture
from calibration.page.strata import (
    Breakdown,
    Part,
    mark,
    strata_picture,
    strata_sentence,
    upper_tail,
)
from calibration.page.verdict import Verdict


@dataclass(frozen=True, eq=False)
class HaltingReport:
    """All that the page of a halting rule shows; ``pictures`` in the order of the page."""

    n_test: int
    origin: Origin
    verdict: Verdict
    promise: Promise
    groups: Breakdown
    pictures: tuple[Picture, ...]
    glossary: tuple[tuple[str, str], ...] = field(default=GLOSSARY)

    @property
    def groups_sentence(self) -> str:
        """The breakdown in words."""
        return strata_sentence(self.groups).replace("stopped badly", "halted badly")


def make_halting_report(
    table: DenoisingTable,
    told: Replay,
    by_alpha: Sequence[tuple[float, HaltingOutcome]],
    rows: Sequence[HaltingOutcome],
    alpha: float,
    origin: Origin,
    confidence: float | None,
) -> HaltingReport:
    """Prepare everything; draws nothing yet.

    Parameters
    ----------
    table
        The test decodes.
    told
        The artifact's rule on them at `alpha`.
    by_alpha
        Its outcome by rising alpha, `alpha` among them.
    rows
        All rules at `alpha`: the full decode first, then the artifact's, the rivals, the oracle.
    origin
        See :class:`calibration.page.report.Origin`.
    confidence
        Of the promise; None where it holds on average.

    """
    own = next(outcome for asked, outcome in by_alpha if asked == alpha)
    groups = _breakdown(table, told, alpha)
    pictures = [
        _risk_picture(by_alpha, alpha),
        _tradeoff_picture(rows, by_alpha),
        *_place_pictures(told),
    ]
    if groups.parts:
        pictures.append(_groups_picture(groups))
    return HaltingReport(
        n_test=len(table),
        origin=origin,
        verdict=halting_verdict(own, rows[-1], alpha),
        promise=halting_promise_of(alpha, origin.n_units, origin.promise, confidence),
        groups=groups,
        pictures=tuple(pictures),
    )


def _risk_picture(by_alpha: Sequence[tuple[float, HaltingOutcome]], asked: float) -> Picture:
    chosen = next(outcome for alpha, outcome in by_alpha if alpha == asked)
    over = [words.alpha_text(alpha) for alpha, row in by_alpha if row.disagreement_share > alpha]
    kept = "no point lies above the line" if not over else f"above the line at {', '.join(over)}"
    return Picture(
        name="risk",
        title="Other answers, tolerated and measured",
        caption=(
            "Left to right: what you tolerate. Upwards: what was measured on the test decodes, "
            "with 95\xa0% intervals. On or below the diagonal the promise is kept; a bar that "
            "crosses the line leaves it open; a bar wholly in the shaded part is a broken "
            "promise. The points share the same decodes and move together."
        ),
        alt=(
            f"Share of requests halted at another answer against alpha at {len(by_alpha)} values "
            f"of alpha. At alpha {words.alpha_text(asked)}: "
            f"{words.percent(chosen.disagreement_share)}, interval "
            f"{words.interval_text(chosen.interval)}; {kept}."
        ),
        draw=lambda axes, theme: _draw_risk(axes, theme, by_alpha, asked),
        numbers=Numbers(
            ("alpha", "level", "other answers", "share", "95\xa0% interval", "passes", "fewer",
             "accuracy"),
            tuple(
                (
                    words.alpha_text(alpha),
                    words.threshold_text(row.level).replace("stops", "halts"),
                    words.count(row.disagreements),
                    words.percent(row.disagreement_share),
                    words.interval_text(row.interval),
                    f"{row.steps:.1f}",
                    f"{row.speedup:.2f}\N{MULTIPLICATION SIGN}",
                    words.percent(row.accuracy),
                )
                for alpha, row in by_alpha
            ),
            frozenset(i for i, (alpha, _) in enumerate(by_alpha) if alpha == asked),
        ),
    )  # fmt: skip


def _draw_risk(
    axes: Any, theme: Theme, by_alpha: Sequence[tuple[float, HaltingOutcome]], asked: float
) -> None:
    alphas = [100 * alpha for alpha, _ in by_alpha]
    shares = [100 * row.disagreement_share for _, row in by_alpha]
    bounds = [row.interval or (0.0, 0.0) for _, row in by_alpha]
    below = [share - 100 * low for share, (low, _) in zip(shares, bounds, strict=True)]
    above = [100 * high - share for share, (_, high) in zip(shares, bounds, strict=True)]
    right = 1.08 * max(alphas)
    top = 1.05 * max(right, *(s + a for s, a in zip(shares, above, strict=True)))
    axes.fill_between([0, right], [0, right], [top, top], color=theme.bad, alpha=0.09, linewidth=0)
    axes.plot([0, right], [0, right], color=theme.muted, linewidth=1.2, label="alpha")
    axes.errorbar(
        alphas, shares, yerr=[below, above], fmt="o-", color=theme.ours, capsize=3, markersize=5,
        label="this rule, 95 % interval",
    )  # fmt: skip
    place = alphas.index(100 * asked)
    axes.plot(
        alphas[place], shares[place], "o", markersize=11, markerfacecolor="none",
        markeredgecolor=theme.ink, label="the alpha above",
    )  # fmt: skip
    axes.set_xlim(0, right)
    axes.set_ylim(0, top)
    axes.set_xlabel("alpha: other answers tolerated, % of requests")
    axes.set_ylabel("other answers measured, %")
    legend_above(axes)


def _tradeoff_picture(
    rows: Sequence[HaltingOutcome], by_alpha: Sequence[tuple[float, HaltingOutcome]]
) -> Picture:
    full, own = rows[0], rows[1]
    kinds = ["full", "ours", *["rival"] * (len(rows) - 3), "oracle"]
    points = [
        Point(row.rule, row.steps, row.agreement, kind)
        for row, kind in zip(rows, kinds, strict=True)
    ]
    curve = [Point(row.rule, row.steps, row.agreement, "ours") for _, row in by_alpha]

    def draw(axes: Any, theme: Theme) -> None:
        line = sorted((p.steps, 100 * p.agreement) for p in curve)
        axes.plot(
            *zip(*line, strict=True), ".-", color=theme.ours, linewidth=1, markersize=4,
            label="this rule, other alphas",
        )  # fmt: skip
        draw_points(axes, theme, points)

    return Picture(
        name="tradeoff",
        title="Passes against agreement with the full decode",
        caption=(
            "Each number is a rule in the table below. Left is cheaper, up is better. The line is "
            "this artifact's rule from strict (right) to loose (left) alpha; the filled dot is the "
            "alpha of this report. Triangles promise nothing: the papers' hand-picked settings, "
            "Prophet with its thresholds stretched until it agrees as often as this rule (tuned on "
            "these very decodes, which flatters it), and the same number of steps for all. The "
            "star is the oracle, which knows the full decode's answer."
        ),
        alt=(
            f"Mean forward passes against agreement for {len(rows)} rules. Full decode: "
            f"{full.steps:.1f} passes; this rule: {own.steps:.1f} passes, "
            f"{words.percent(own.agreement)} agree."
        ),
        draw=draw,
        numbers=Numbers(
            ("rule", "passes", "fewer", "agree", "95\xa0% interval of other answers", "accuracy",
             "QPS", "promises"),
            tuple(
                (
                    f"{number}. {row.rule}",
                    f"{row.steps:.1f}",
                    f"{row.speedup:.2f}\N{MULTIPLICATION SIGN}",
                    words.percent(row.agreement),
                    words.interval_text(row.interval),
                    words.percent(row.accuracy),
                    "\N{EN DASH}" if row.qps is None else f"{row.qps:.2f}",
                    "other answers" if row.guarantee == "risk" else "no guarantee",
                )
                for number, row in enumerate(rows, 1)
            ),
            frozenset({1}),
        ),
        height=4.2,
    )  # fmt: skip


def _place_pictures(told: Replay) -> list[Picture]:
    """Show where it halts, and the passes before and after."""
    shares = told.steps[told.halted] / told.full_steps[told.halted]
    found = StopPlaces(shares, ~told.agree[told.halted], told.full_steps, told.steps)
    place, lengths = place_picture(found), length_picture(found)
    n, never = words.count(len(told.steps)), words.count(found.never)
    return [
        _labelled(
            replace(
                place,
                title="Place of the halts in the decode",
                caption=(
                    "Halted test requests by the share of the full decode's passes that were run: "
                    "0\xa0% is the beginning, 100\xa0% the end. Far left saves most. Orange, "
                    f"hatched: other answers. Not drawn: {never} of {n} requests that are decoded "
                    "to their end."
                ),
                alt=place.alt.replace("stops", "halts").replace("the trace", "the decode"),
                numbers=replace(
                    place.numbers, columns=("place in the decode", "halts", "other answers")
                ),
            ),
            "run at the halt, % of the full decode's passes",
            "test requests",
        ),
        _labelled(
            replace(
                lengths,
                title="Forward passes, before and after",
                caption=(
                    "All test requests by the passes they take. Outline: the full decode. Filled: "
                    "halted. What moves to the left is spared. Dashed and dotted: the means."
                ),
                alt=lengths.alt.replace("thinking tokens", "forward passes").replace(
                    "stopping", "halting"
                ),
                numbers=replace(
                    lengths.numbers, columns=("forward passes", "full decode", "halted")
                ),
            ),
            "forward passes per request",
            "test requests",
        ),
    ]


def _labelled(picture: Picture, across: str, up: str) -> Picture:
    """Draw a picture with other names on its axes and in its legend."""
    renamed = {"good stops": "same answer", "bad stops": "other answer",
               "with stopping": "halted", "without": "full"}  # fmt: skip

    def draw(axes: Any, theme: Theme) -> None:
        picture.draw(axes, theme)
        axes.set_xlabel(across)
        axes.set_ylabel(up)
        for text in axes.get_legend().get_texts():
            text.set_text(renamed.get(text.get_text(), text.get_text()))

    return replace(picture, draw=draw)


def _groups_picture(found: Breakdown) -> Picture:
    picture = strata_picture(found)
    columns = ("part", "requests", "other answers", *picture.numbers.columns[3:])
    return replace(
        picture,
        caption=picture.caption.replace("stopped badly", "halted at another answer"),
        alt=picture.alt.replace("bad stops", "other answers"),
        numbers=replace(picture.numbers, columns=columns),
    )


def _breakdown(table: DenoisingTable, told: Replay, alpha: float) -> Breakdown:
    """Account for each kind ("sudoku" of "sudoku/easy") and each whole level."""
    kinds = [level.split("/")[0] for level in table.levels]
    strata = {"kind": kinds, "level": list(table.levels)}
    if kinds == strata["level"]:
        del strata["level"]
    parts: list[Part] = []
    single: list[tuple[str, str]] = []
    full = table.full_correct()
    for name, values in strata.items():
        labels = np.array([value or words.UNKNOWN_TEXT for value in values], dtype=object)
        order = sorted(set(labels.tolist()))
        if len(order) == 1:
            single.append((name, order[0]))
        elif len(order) <= _MOST:
            parts += [_part(name, value, labels == value, told, full, alpha) for value in order]
    return Breakdown(mark(parts), tuple(single), alpha)


_MOST = 20
"""A stratum of more values is left out: each would tell too little."""


def _part(
    name: str,
    value: str,
    rows: NDArray[np.bool_],
    told: Replay,
    full: NDArray[np.int8],
    alpha: float,
) -> Part:
    n, bad = int(rows.sum()), int((~told.agree[rows]).sum())
    interval = clopper_pearson(bad, n)
    return Part(
        stratum=name,
        value=value,
        n=n,
        bad_stops=bad,
        share=bad / n,
        interval=interval,
        saved=1 - float(told.steps[rows].sum() / told.full_steps[rows].sum()),
        full_accuracy=_share(full[rows]),
        accuracy=_share(told.correct[rows]),
        p_value=upper_tail(bad, n, float(n), alpha),
        above=interval[0] > alpha,
    )


def _share(labels: NDArray[np.int8]) -> float | None:
    return None if (labels < 0).any() else float(labels.mean())
