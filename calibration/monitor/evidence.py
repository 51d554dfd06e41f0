"""Evidence against "the promise is kept" that may be looked at after every audit.

H0: every audited request's risk is at most its own alpha, given all audits before it.

*Betting* (the default). For an odds ratio rho > 1, the bet that pays rho^L / (1 + alpha (rho - 1))
on a loss L in {0, 1} is fair or worse under H0, so the product of such bets from audit j on is a
nonnegative supermartingale that starts at 1. (It is the likelihood ratio of a risk whose odds are
rho times those of alpha.) The evidence is a mixture of these products: over 16 odds ratios with
equal weights and over the audit j from which on one bets, weight 1/2 on the first and
1/2 * s / ((s + j - 1)(s + j)) on each j, s = 1000, so that a late shift is found too. A mixture of
supermartingales is one, and by Ville's inequality the probability that the evidence ever reaches
1 / delta is at most delta. The recursion over the starts, R_t = (R_(t-1) + w_t) * bet_t, makes an
audit cost O(1) in time and memory. Each audit carries its own alpha, known before its loss.

*MAPIE*. The time-uniform lower bound on the mean risk since the start that MAPIE's
:class:`RiskMonitoring` computes (conjugate mixture, empirical Bernstein), to the last bit, but from
three running sums: MAPIE scans its whole history at every update. Being a bound on the mean since
the start, it is slow to see a shift after a long good time.

References: Ville (1939); Howard, Ramdas, McAuliffe, Sekhon, "Time-uniform, nonparametric,
nonasymptotic confidence sequences" (2021); Shin, Ramdas, Rinaldo, "E-detectors" (2023, the mixture
over starting times); Podkopaev, Ramdas, "Tracking the risk of a deployed model and detecting
harmful distribution shifts" (2022); Waudby-Smith, Ramdas, "Estimating means of bounded random
variables by betting" (2024).
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Annotated, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from probes.errors import InputError, UnsupportedError
from probes.validation import Count, Finite, Real, Record

ODDS_RATIOS = 1 + 0.02 * 1.6 ** np.arange(16)
"""What one bets on: float64[16], from 1.02 to 23."""

SPREAD = 1000.0
"""s above: half of the late starts lie within so many audits."""

_LOG_ODDS = np.log(ODDS_RATIOS)
_LOG_EACH = -math.log(len(ODDS_RATIOS))


class BettingState(Record):
    """Audits so far, and log R_t of each odds ratio."""

    kind: Literal["betting"] = "betting"
    audits: Count = 0
    log_started: Annotated[
        tuple[Real, ...], Field(min_length=len(ODDS_RATIOS), max_length=len(ODDS_RATIOS))
    ] = (-math.inf,) * len(ODDS_RATIOS)


class MapieState(Record):
    """Audits and bad ones so far, the sum of squares V_t, the bound, and the one alpha."""

    kind: Literal["mapie"] = "mapie"
    audits: Count = 0
    bad: Count = 0
    squares: Finite = 0.0
    lower: Finite = 0.0
    alpha: Finite | None = None


EvidenceState = Annotated[BettingState | MapieState, Field(discriminator="kind")]


class Evidence(Protocol):
    """One sequential test: `value` reaches `bar` with probability at most delta under H0."""

    label: str
    """What `value` is, for a plot's axis."""

    @property
    def value(self) -> float:
        """Where the test stands."""

    @property
    def bar(self) -> float:
        """What `value` is compared with."""

    @property
    def alarming(self) -> bool:
        """Whether the test speaks against H0 now."""

    def admit(self, alphas: set[float]) -> None:
        """Refuse alphas that this test cannot judge together."""

    def update(self, bad: bool, alpha: float) -> None:
        """Take one audit in."""

    def state(self) -> BettingState | MapieState:
        """Give what the future of the test depends on."""


class Betting:
    """The mixture of bets; `value` is log10 of the evidence.

    Parameters
    ----------
    delta
        Probability of any false alarm, ever.
    state
        To go on from.

    """

    label = "evidence against the promise, log10"

    def __init__(self, delta: float, state: BettingState | None = None) -> None:
        state = state or BettingState()
        self.delta = delta
        self._audits = state.audits
        self._log_started = np.array(state.log_started, dtype=np.float64)

    @property
    def value(self) -> float:
        """log10 of the evidence."""
        waiting = math.log(0.5 * SPREAD / (SPREAD + self._audits) if self._audits else 1.0)
        started = float(np.logaddexp.reduce(self._log_started)) + _LOG_EACH
        return float(np.logaddexp(started, waiting)) / math.log(10)

    @property
    def bar(self) -> float:
        """log10(1 / delta)."""
        return -math.log10(self.delta)

    @property
    def alarming(self) -> bool:
        """Whether the evidence is at its bar now; it may sink again."""
        return self.value >= self.bar

    def admit(self, alphas: set[float]) -> None:
        """Any alphas may be mixed."""

    def update(self, bad: bool, alpha: float) -> None:
        """Take one audit in."""
        self._audits += 1
        won, lost = _bets(alpha)
        joined = np.logaddexp(self._log_started, math.log(start_weight(self._audits)))
        self._log_started = joined + (won if bad else lost)

    def state(self) -> BettingState:
        """Give what the next bets depend on."""
        return BettingState(audits=self._audits, log_started=tuple(self._log_started.tolist()))


def start_weight(audit: int) -> float:
    """Give the weight of the bets that begin with this audit (the first is 1); they sum to 1."""
    late = 0.5 * SPREAD / ((SPREAD + audit - 1) * (SPREAD + audit))
    return late + 0.5 if audit == 1 else late


@lru_cache(maxsize=4096)
def _bets(alpha: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    lost = -np.log1p(alpha * (ODDS_RATIOS - 1))
    return _LOG_ODDS + lost, lost


class MapieBound:
    """MAPIE's running lower bound on the risk; `value` is the bound, the bar is alpha.

    Parameters
    ----------
    delta
        MAPIE's ``test_level``. (MAPIE spends a quarter of it on this bound: half is for a reference
        sample that is not needed where alpha is given, half of the rest for an upper bound.)
    state
        To go on from.

    Raises
    ------
    UnsupportedError
        When MAPIE is not installed.

    """

    label = "lower bound on the risk since the start"

    def __init__(self, delta: float, state: MapieState | None = None) -> None:
        try:
            from mapie.exchangeability_testing.bounds import GammaExponentialMixtureBound
        except ImportError:
            raise UnsupportedError(
                "method 'mapie' needs MAPIE 1.6 or newer; install it with "
                "`pip install 'stopper[calibrate]'`, or use the method 'betting'."
            ) from None
        self._level = delta / 2 / 2
        self._bound: Any = GammaExponentialMixtureBound(v_opt=1, c=1, alpha_opt=self._level)
        self._now = state or MapieState()

    @property
    def value(self) -> float:
        """The highest lower bound so far."""
        return self._now.lower

    @property
    def bar(self) -> float:
        """The alpha of all audits; 1 before the first."""
        return 1.0 if self._now.alpha is None else self._now.alpha

    @property
    def alarming(self) -> bool:
        """Whether the bound is above alpha."""
        return self.value > self.bar

    def admit(self, alphas: set[float]) -> None:
        """Refuse a second alpha: the bound is on one mean."""
        known = alphas | ({self._now.alpha} if self._now.alpha is not None else set())
        if len(known) > 1:
            raise InputError(
                f"method 'mapie' judges audits of one alpha, got {sorted(known)}; give --alpha, or "
                "use the method 'betting', which judges each audit by its own."
            )

    def update(self, bad: bool, alpha: float) -> None:
        """Take one audit in."""
        now = self._now
        mean_before = now.bad / now.audits if now.audits else 0.5
        audits, total = now.audits + 1, now.bad + bad
        squares = now.squares + (bad - mean_before) * (bad - mean_before)
        width = self._bound(v=squares, alpha=self._level) / audits
        lower = max(now.lower, total / audits - width, 0.0)
        self._now = MapieState(audits=audits, bad=total, squares=squares, lower=lower, alpha=alpha)

    def state(self) -> MapieState:
        """Give what the next bounds depend on."""
        return self._now


METHODS = ("betting", "mapie")


def evidence(method: str, delta: float, state: BettingState | MapieState | None = None) -> Evidence:
    """Make the test of a method, new or from its state.

    Raises
    ------
    InputError
        When the method is unknown or the state another's.

    """
    if not 0 < delta < 1:
        raise InputError(f"delta must lie between 0 and 1, both excluded; got {delta}.")
    if method not in METHODS:
        raise InputError(f"method {method!r} is unknown; choose one of {', '.join(METHODS)}.")
    if state is not None and state.kind != method:
        raise InputError(f"the state is of method {state.kind!r}, not {method!r}.")
    if method == "betting":
        return Betting(delta, state if isinstance(state, BettingState) else None)
    return MapieBound(delta, state if isinstance(state, MapieState) else None)


def risk_interval(bad: int, audits: int, level: float = 0.95) -> tuple[float, float]:
    """Bound the mean risk of all audits so far; with probability `level` it holds at all times.

    Parameters
    ----------
    bad, audits
        Bad ones among so many.
    level
        Two-sided.

    Notes
    -----
    The bets above on both sides, turned round: a mean risk m is excluded when the mixture of
    rho^bad / (1 + m (rho - 1))^audits reaches 2 / (1 - level). The risk may change from audit to
    audit: log(1 + r (rho - 1)) is concave in r, so that by Jensen's inequality the bets at the mean
    risk are worth no more than those at each audit's own.

    Examples
    --------
    >>> low, high = risk_interval(30, 300)
    >>> round(low, 3), round(high, 3)
    (0.052, 0.167)

    """
    if not audits:
        return 0.0, 1.0
    return _lower(bad, audits, level), 1.0 - _lower(audits - bad, audits, level)


def _lower(bad: int, audits: int, level: float) -> float:
    bar = math.log(2 / (1 - level))
    low, high = 0.0, bad / audits  # excluded at low (or it is 0), never at the mean itself
    for _ in range(40):
        middle = (low + high) / 2
        logs = bad * _LOG_ODDS - audits * np.log1p(middle * (ODDS_RATIOS - 1))
        if float(np.logaddexp.reduce(logs)) + _LOG_EACH >= bar:
            low = middle
        else:
            high = middle
    return low
