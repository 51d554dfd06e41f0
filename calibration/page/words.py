"""How numbers and strings are spelled on the page."""

from __future__ import annotations

import math
import unicodedata

UNKNOWN_TEXT = "unknown"
NEVER_TEXT = "never stops"
_GAP = "\N{NO-BREAK SPACE}"


def percent(share: float | None, digits: int = 1) -> str:
    """Spell a share; None is unknown.

    Examples
    --------
    >>> percent(0.0512), percent(0.05, 0), percent(None)
    ('5.1\xa0%', '5\xa0%', 'unknown')
    """
    if share is None:
        return UNKNOWN_TEXT
    return f"{_signed(f'{100 * share:.{digits}f}')}{_GAP}%"


def alpha_text(alpha: float) -> str:
    """Spell a tolerated share without digits that were not asked for.

    Examples
    --------
    >>> alpha_text(0.05), alpha_text(0.125)
    ('5\xa0%', '12.5\xa0%')
    """
    return f"{100 * alpha:.6g}{_GAP}%"


def points(difference: float | None) -> str:
    """Spell a difference of two shares in percentage points, with its sign."""
    if difference is None:
        return UNKNOWN_TEXT
    return f"{_signed(f'{100 * difference:+.1f}')}{_GAP}points"


def count(number: float) -> str:
    """Spell a count; expectations of randomised rules keep one digit."""
    return f"{number:,.0f}" if float(number).is_integer() else f"{number:,.1f}"


def counted(number: float | None, share: float | None) -> str:
    """Spell a count with its share."""
    if number is None:
        return percent(share)
    return f"{count(number)} ({percent(share)})"


def tokens_text(tokens: float) -> str:
    """Spell mean tokens: one digit below a hundred, none above a thousand."""
    return f"{tokens:,.1f}" if tokens < 1000 else f"{tokens:,.0f}"


def interval_text(interval: tuple[float, float] | None) -> str:
    """Spell an interval of shares; a dash where there is none."""
    if interval is None:
        return "\N{EN DASH}"
    low, high = interval
    return f"{100 * low:.1f}{_GAP}to{_GAP}{100 * high:.1f}{_GAP}%"


def threshold_text(threshold: float | None) -> str:
    """Spell a threshold, infinities in words."""
    if threshold is None:
        return "\N{EN DASH}"
    if math.isinf(threshold):
        return NEVER_TEXT if threshold > 0 else "stops at the first cue"
    return _signed(f"{threshold:.4g}")


def of_thousand(alpha: float) -> tuple[str, str]:
    """Give a share as "at most a of b requests" with whole numbers.

    Examples
    --------
    >>> of_thousand(0.05), of_thousand(0.005), of_thousand(0.00025)
    (('5', '100'), ('5', '1,000'), ('2.5', '10,000'))
    """
    for base in (100, 1_000, 10_000):
        if float(f"{alpha * base:.6g}").is_integer():
            return f"{alpha * base:.0f}", f"{base:,}"
    return f"{alpha * 10_000:.4g}", "10,000"


def label(text: str, limit: int = 22) -> str:
    """Make a label for a figure of any string: one line, printable, not too long."""
    flat = " ".join(text.split())
    kept = "".join(c if unicodedata.category(c)[0] != "C" else "?" for c in flat)
    return kept if len(kept) <= limit else kept[: limit - 1] + "\N{HORIZONTAL ELLIPSIS}"


def _signed(text: str) -> str:
    """Use a real minus, and none before zero."""
    if text.lstrip("+-").strip("0.") == "" and text[:1] in "+-":
        return text[1:] if text[0] == "-" else text
    return text.replace("-", "\N{MINUS SIGN}", 1) if text.startswith("-") else text
