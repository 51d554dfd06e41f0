"""The breakdown: a promise over all requests may hide a group that fares worse."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import betainc

from calibration.evaluate import INTERVAL_LEVEL, NEVER, effective_n, never_stops, replay
from calibration.page import words
from calibration.page.canvas import Numbers, Picture, Theme, legend_above
from calibration.table import CueTable

MOST_VALUES = 20
PROMPT_SIZE = "traces of the prompt"
_REST = "all others"
_TAIL = (1 - INTERVAL_LEVEL) / 2


@dataclass(frozen=True)
class Part:
    """One value of one stratum.

    Attributes
    ----------
    stratum, value
        Such as "level" and "3"; value "unknown" where traces have none.
    n, bad_stops, share, interval
        Traces, bad stops, their share and its Clopper-Pearson interval (allowing for rollouts).
    saved
        Share of the part's thinking tokens that is saved; None if it has none.
    full_accuracy, accuracy
        Without and with stopping; None unknown.
    p_value
        One-sided: chance of so many bad stops if the part's true share were alpha.
    above
        Whether the interval lies above alpha.
    above_adjusted
        Whether it still does when looking at so many parts is allowed for (Holm, 1979).
    """

    stratum: str
    value: str
    n: int
    bad_stops: int
    share: float
    interval: tuple[float, float]
    saved: float | None
    full_accuracy: float | None
    accuracy: float | None
    p_value: float
    above: bool = False
    above_adjusted: bool = False


@dataclass(frozen=True)
class Breakdown:
    """All parts, and the strata with one value only, in which there is nothing to compare."""

    parts: tuple[Part, ...]
    single: tuple[tuple[str, str], ...]
    alpha: float


def breakdown(
    table: CueTable, bad: NDArray[np.bool_], stops: NDArray[np.int64], alpha: float
) -> Breakdown:
    """Account for the stops of each part.

    Parameters
    ----------
    table, bad, stops
        As in :func:`calibration.evaluate.replay`.
    alpha
        The tolerated share.

    Notes
    -----
    Of a stratum with more than 20 values the rarest are pooled as "all others".
    """
    sizes = np.bincount(table.group_codes)[table.group_codes]
    strata: dict[str, Sequence[str | None]] = dict(table.strata)
    strata[PROMPT_SIZE] = [str(size) for size in sizes]
    parts: list[Part] = []
    single: list[tuple[str, str]] = []
    for name, values in strata.items():
        named = _pooled([words.UNKNOWN_TEXT if value is None else value for value in values])
        order = sorted(set(named), key=_sort_key)
        if len(order) == 1:
            single.append((name, order[0]))
            continue
        column = np.array(named, dtype=object)
        for value in order:
            rows = np.flatnonzero(column == value)
            parts.append(_part(name, value, rows, table, bad, stops, alpha))
    return Breakdown(mark(parts), tuple(single), alpha)


def _part(
    stratum: str,
    value: str,
    rows: NDArray[np.int64],
    table: CueTable,
    bad: NDArray[np.bool_],
    stops: NDArray[np.int64],
    alpha: float,
) -> Part:
    sub = table.take(rows)
    # A stop's place among all cues becomes its place among the part's.
    shift = sub.offsets[:-1] - table.offsets[rows]
    moved = np.where(stops[rows] == NEVER, NEVER, stops[rows] + shift)
    here = np.zeros(len(table), dtype=np.bool_)
    here[rows] = True
    bad_here = bad[here[table.rows]]  # `rows` ascend, so that the cues keep their order
    full = replay("full", sub, bad_here, never_stops(sub))
    row = replay(value, sub, bad_here, moved)
    badly = np.zeros(len(sub), dtype=np.bool_)
    badly[moved != NEVER] = bad_here[moved[moved != NEVER]]
    low, _ = row.bad_stop_interval or (0.0, 1.0)
    return Part(
        stratum=stratum,
        value=value,
        n=len(sub),
        bad_stops=int(row.bad_stops),
        share=row.bad_stop_share,
        interval=row.bad_stop_interval or (0.0, 1.0),
        saved=1 - row.tokens / full.tokens if full.tokens else None,
        full_accuracy=full.accuracy,
        accuracy=row.accuracy,
        p_value=upper_tail(int(row.bad_stops), len(sub), effective_n(badly, sub), alpha),
        above=low > alpha,
    )


def upper_tail(count: int, n: int, effective: float, alpha: float) -> float:
    """Give P(X >= count) for X binomial with share alpha; `effective` trials instead of n.

    Examples
    --------
    >>> round(upper_tail(2, 4, 4.0, 0.5), 4), upper_tail(0, 4, 4.0, 0.5)
    (0.6875, 1.0)
    """
    events = count / n * effective
    return 1.0 if count == 0 else float(betainc(events, effective - events + 1, alpha))


def mark(parts: Sequence[Part]) -> tuple[Part, ...]:
    """Mark by Holm's step-down: the i-th smallest of m p-values must be at most tail/(m - i)."""
    order = sorted(range(len(parts)), key=lambda i: parts[i].p_value)
    adjusted: set[int] = set()
    for step, index in enumerate(order):
        if parts[index].p_value > _TAIL / (len(parts) - step):
            break
        adjusted.add(index)
    return tuple(replace(part, above_adjusted=i in adjusted) for i, part in enumerate(parts))


def _pooled(values: Sequence[str]) -> list[str]:
    """Keep the most frequent values by name, pool the others."""
    frequent = Counter(values).most_common()
    if len(frequent) <= MOST_VALUES:
        return list(values)
    kept = {value for value, _ in frequent[: MOST_VALUES - 1]}
    return [value if value in kept else _REST for value in values]


def _sort_key(value: str) -> tuple[int, float, str]:
    """Order numbers by size, then names, then what is pooled or unknown."""
    if value in (_REST, words.UNKNOWN_TEXT):
        return 2, 0.0, value
    try:
        return 0, float(int(value)), value
    except ValueError:
        return 1, 0.0, value


def strata_sentence(found: Breakdown) -> str:
    """Say in words what the breakdown shows and what it cannot."""
    once = [part for part in found.parts if part.above]
    sure = [part for part in found.parts if part.above_adjusted]
    general = (
        "The promise is marginal: it holds over all requests together. Nothing in it keeps one "
        "kind of request, the hard ones say, from being stopped badly more often than alpha while "
        "the others make up for it. "
    )
    if not found.parts:
        return general + "These traces offer nothing to break them down by."
    many = (
        f"Of {len(found.parts)} parts looked at, some will stand out by chance alone; the double "
        "mark allows for that (Holm's correction)."
    )
    if not once:
        return general + f"Here the interval of no part lies above alpha. {many}"
    general += f"Here the interval of {_names(once)} lies above alpha"
    if not sure:
        return f"{general}; allowing for the number of parts, none is certain to be. {many}"
    return (
        f"{general}; allowing for the number of parts, this is certain enough for {_names(sure)}. "
        f"If that matters to you, calibrate such requests apart. {many}"
    )


def _names(parts: Sequence[Part]) -> str:
    return ", ".join(f"{part.stratum} {part.value}" for part in parts)


def strata_picture(found: Breakdown) -> Picture:
    """Draw the share of bad stops of every part, of which there is at least one."""
    marked = [f"{part.stratum} {part.value}" for part in found.parts if part.above]
    return Picture(
        name="groups",
        title="Does one kind of request fare worse?",
        caption=(
            "One line a part: the share of its requests that were stopped badly, with a 95\xa0% "
            "interval. The vertical line is alpha, tolerated over all requests together. A part "
            "whose whole interval lies right of it is drawn in orange. Long bars are small parts: "
            "they tell little."
        ),
        alt=(
            f"Shares of bad stops of {len(found.parts)} parts against alpha "
            f"{words.alpha_text(found.alpha)}. "
            + (f"Above alpha: {', '.join(marked)}." if marked else "No interval lies above alpha.")
        ),
        draw=lambda axes, theme: _draw(axes, theme, found),
        numbers=strata_numbers(found),
        height=max(2.2, 1.15 + 0.25 * len(found.parts)),
    )


def strata_numbers(found: Breakdown) -> Numbers:
    """Give the parts as a table."""
    return Numbers(
        ("part", "requests", "bad stops", "95\xa0% interval", "saved", "accuracy before",
         "accuracy", "against alpha"),
        tuple(
            (
                f"{part.stratum}: {part.value}",
                words.count(part.n),
                words.counted(part.bad_stops, part.share),
                words.interval_text(part.interval),
                words.percent(part.saved),
                words.percent(part.full_accuracy),
                words.percent(part.accuracy),
                _mark(part),
            )
            for part in found.parts
        ),
        frozenset(i for i, part in enumerate(found.parts) if part.above),
    )  # fmt: skip


def _mark(part: Part) -> str:
    if part.above_adjusted:
        return "\N{BLACK UP-POINTING TRIANGLE}\N{BLACK UP-POINTING TRIANGLE} above"
    return "\N{BLACK UP-POINTING TRIANGLE} above, perhaps by chance" if part.above else "not above"


def _draw(axes: Any, theme: Theme, found: Breakdown) -> None:
    names = [words.label(f"{part.stratum}: {part.value}", 26) for part in found.parts]
    places = np.arange(len(found.parts))[::-1]
    for place, part in zip(places, found.parts, strict=True):
        low, high = (100 * bound for bound in part.interval)
        colour = theme.bad if part.above else theme.ours
        axes.plot([low, high], [place, place], color=colour, linewidth=2, solid_capstyle="butt")
        axes.plot(100 * part.share, place, "D" if part.above else "o", color=colour, markersize=6)
    axes.axvline(100 * found.alpha, color=theme.ink, linestyle="--", linewidth=1.3, label="alpha")
    axes.set_yticks(places, names)
    axes.set_ylim(-0.6, len(found.parts) - 0.4)
    right = 100 * max(found.alpha, *(part.interval[1] for part in found.parts))
    axes.set_xlim(0, min(100.0, 1.05 * right))
    axes.grid(False, axis="y")
    axes.set_xlabel("stopped badly, % of the part's requests")
    legend_above(axes)
