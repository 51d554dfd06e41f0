"""Tokens against accuracy, all rules on one plane."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from calibration.page import words
from calibration.page.canvas import Numbers, Picture, Theme, legend_above
from calibration.page.labels import place_labels
from calibration.page.rows import Rival
from calibration.report import Evaluation

_DASH = "\N{EN DASH}"
_PROMISES = {"risk": "bad stops", "tokens": "mean tokens", "none": "nothing"}


def tradeoff_picture(rivals: Sequence[Rival], evaluations: Sequence[Evaluation]) -> Picture:
    """Draw every rule, numbered as in its table, and the artifact's curve over alpha.

    Parameters
    ----------
    rivals
        At the headline's alpha, at least the full trace and the artifact's rule.
    evaluations
        The artifact's rule by rising alpha.

    Notes
    -----
    Where the accuracy of the artifact's rule is unknown, the share of requests not stopped badly
    takes its place, for all rules.
    """
    ours = next(rival for rival in rivals if rival.kind == "ours")
    full = next(rival for rival in rivals if rival.kind == "full")
    known = ours.accuracy is not None and full.accuracy is not None
    what = "right answers" if known else "requests not stopped badly"
    drawn = [(i, r) for i, r in enumerate(rivals, 1) if _height(r, known) is not None]
    missing = len(rivals) - len(drawn)
    floor = _floor(drawn, evaluations, known)
    far = ", ".join(str(i) for i, r in drawn if (_height(r, known) or 0.0) < floor)
    notes = [
        f"{missing} of the rules cannot be drawn: {what} unknown." if missing else "",
        f"Far below, drawn as arrows at the lower edge: {far}." if far else "",
        "Rules measured on other requests than this report's have a dagger in the table; compare "
        "them by tokens saved, not by height."
        if any(_elsewhere(r, ours) for r in rivals)
        else "",
    ]
    caption = (
        f"Each number is a rule in the table below. Left is cheaper, up is better: {what}, of all "
        "requests. The line is this artifact's rule from strict (right) to loose (left) alpha; the "
        "filled dot is the alpha of this report. The star is the oracle, which knows "
        "the labels and never stops badly; a rule that may stop badly now and then can save even "
        "more. The vertical axis does not begin at zero. " + " ".join(filter(None, notes))
    )
    return Picture(
        name="tradeoff",
        title=f"Tokens against {what}",
        caption=caption.strip(),
        alt=(
            f"Mean thinking tokens against {what} for {len(drawn)} rules. Full thinking: "
            f"{words.tokens_text(full.tokens)} tokens, {_spelled(full, known)}; this rule: "
            f"{words.tokens_text(ours.tokens)} tokens, {_spelled(ours, known)}."
        ),
        draw=lambda axes, theme: _draw(axes, theme, drawn, evaluations, floor, known),
        numbers=rules_numbers(rivals),
        height=3.9,
    )


def rules_numbers(rivals: Sequence[Rival]) -> Numbers:
    """Give all rules as a table, unknown figures as "unknown"."""
    ours = next(rival for rival in rivals if rival.kind == "ours")
    with_extra = any(r.extra_tokens for r in rivals)
    with_time = any(r.wall_s is not None for r in rivals)
    columns = ["rule", "accuracy", "tokens", "saved", "bad stops", "95\xa0% interval",
               "stopped", "promises"]  # fmt: skip
    columns += ["to decide"] if with_extra else []
    columns += ["seconds"] if with_time else []
    rows = []
    for number, row in enumerate(rivals, 1):
        mark = "\xa0\N{DAGGER}" if _elsewhere(row, ours) else ""
        saved = None if not row.full_tokens else 1 - row.tokens / row.full_tokens
        cells = [
            f"{number}. {row.rule}{mark}",
            words.percent(row.accuracy),
            words.tokens_text(row.tokens),
            words.percent(saved),
            words.counted(row.bad_stops, row.bad_stop_share),
            words.interval_text(row.bad_stop_interval),
            words.percent(row.stopped_share),
            _PROMISES[row.guarantee],
        ]
        if with_extra:
            cells.append("unknown" if row.extra_tokens is None else f"{row.extra_tokens:,.1f}")
        if with_time:
            cells.append(_DASH if row.wall_s is None else f"{row.wall_s:,.1f}")
        rows.append(tuple(cells))
    strong = frozenset(i for i, r in enumerate(rivals) if r.kind == "ours")
    return Numbers(tuple(columns), tuple(rows), strong)


def _draw(
    axes: Any,
    theme: Theme,
    drawn: Sequence[tuple[int, Rival]],
    evaluations: Sequence[Evaluation],
    floor: float,
    known: bool,
) -> None:
    curve = [
        (e.stopped.tokens, e.stopped.accuracy if known else 1 - e.stopped.bad_stop_share)
        for e in evaluations
    ]
    line = sorted((tokens, 100 * height) for tokens, height in curve if height is not None)
    if line:
        axes.plot(*zip(*line, strict=True), ".-", color=theme.ours, linewidth=1, markersize=4,
                  label="this rule, other alphas")  # fmt: skip
    looks = {
        "full": ("full thinking", "D", theme.ink, theme.ink, 6),
        "ours": ("this rule", "o", theme.ours, theme.ours, 9),
        "oracle": ("oracle", "*", theme.gold, theme.gold, 12),
        "risk": ("promises alpha", "o", theme.rival, theme.rival, 6),
        "tokens": ("promises tokens", "s", theme.rival, theme.surface, 6),
        "none": ("no promise", "^", theme.rival, theme.surface, 6),
    }
    labels, seen = [], set()
    for number, rival in drawn:
        key = rival.guarantee if rival.kind == "rival" else rival.kind
        name, marker, edge, face, size = looks[key]
        height = _height(rival, known) or 0.0
        x, y = rival.tokens, 100 * max(height, floor)
        marker = marker if height >= floor else "v"
        axes.plot(
            x, y, marker, color=edge, markerfacecolor=face, markersize=size, linestyle="none",
            label=None if key in seen else name, zorder=4 if rival.kind == "ours" else 3,
        )  # fmt: skip
        seen.add(key)
        labels.append((x, y, str(number), edge))
    axes.set_xlim(left=0, right=1.08 * max(x for x, *_ in labels) or 1.0)
    axes.margins(y=0.2)
    axes.set_xlabel("thinking tokens per request, mean")
    axes.set_ylabel("right answers, %" if known else "not stopped badly, %")
    legend_above(axes, columns=2)
    axes.autoscale_view(scalex=False)
    place_labels(axes, labels, _along(line))


def _along(line: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Give points all along a line, for labels to keep clear of."""
    return [
        (x + step / 12 * (right - x), y + step / 12 * (up - y))
        for (x, y), (right, up) in pairwise(line)
        for step in range(13)
    ]


def _floor(
    drawn: Sequence[tuple[int, Rival]], evaluations: Sequence[Evaluation], known: bool
) -> float:
    """Choose the lowest height to draw true: one hopeless rival must not flatten all others."""
    curve = [e.stopped.accuracy if known else 1 - e.stopped.bad_stop_share for e in evaluations]
    core = [_height(rival, known) for _, rival in drawn if rival.kind != "rival"]
    heights = [height for height in (*curve, *core) if height is not None]
    return max(0.0, min(heights) - max(0.15, max(heights) - min(heights)))


def _height(rival: Rival, known: bool) -> float | None:
    if known:
        return rival.accuracy
    return None if rival.bad_stop_share is None else 1 - rival.bad_stop_share


def _spelled(rival: Rival, known: bool) -> str:
    return f"{words.percent(_height(rival, known))} {'right' if known else 'not stopped badly'}"


def _elsewhere(rival: Rival, ours: Rival) -> bool:
    if rival.n_test != ours.n_test:
        return True
    if rival.full_tokens is None or ours.full_tokens is None:
        return rival.kind == "rival" and rival.source != ""
    return abs(rival.full_tokens - ours.full_tokens) > 1e-6
