import doctest
import itertools
import math
import sys
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mapie.exchangeability_testing.risk_monitoring import RiskMonitoring

from calibration.monitor import evidence as evidence_module
from calibration.monitor import panels as panels_module
from calibration.monitor.evidence import (
    ODDS_RATIOS,
    Betting,
    BettingState,
    MapieBound,
    evidence,
    risk_interval,
    start_weight,
)
from probes.errors import InputError, UnsupportedError

ALPHAS = (0.1, 0.3, 0.05, 0.1, 0.3, 0.5, 0.02, 0.1, 0.2, 0.1)


def after(losses: tuple[int, ...], alphas: tuple[float, ...] = ALPHAS) -> float:
    test = Betting(0.01)
    for loss, alpha in zip(losses, alphas, strict=False):
        test.update(bool(loss), alpha)
    return float(10**test.value)


@pytest.mark.parametrize("share", [1.0, 0.7, 0.0])
def test_the_evidence_is_expected_to_be_one_at_risk_alpha_and_less_below(share: float) -> None:
    """Exactly, over all 1,024 outcomes of ten audits at mixed alphas."""
    expected = 0.0
    for losses in itertools.product((0, 1), repeat=len(ALPHAS)):
        pairs = zip(losses, ALPHAS, strict=True)
        chance = math.prod(share * a if loss else 1 - share * a for loss, a in pairs)
        expected += chance * after(losses)
    if share == 1.0:
        assert expected == pytest.approx(1.0, abs=1e-12)
    else:
        assert expected < 1.0


def test_an_expectation_above_alpha_grows() -> None:
    """The negative control of the test above."""
    expected = 0.0
    for losses in itertools.product((0, 1), repeat=len(ALPHAS)):
        pairs = zip(losses, ALPHAS, strict=True)
        chance = math.prod(1.5 * a if loss else 1 - 1.5 * a for loss, a in pairs)
        expected += chance * after(losses)
    assert expected > 1.05


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.sampled_from([0.05, 0.1, 0.4])), max_size=40))
def test_the_recursion_is_the_mixture_written_out(stream: list[tuple[bool, float]]) -> None:
    test = Betting(0.01)
    for bad, alpha in stream:
        test.update(bad, alpha)
    bets = np.array([ODDS_RATIOS**bad / (1 + a * (ODDS_RATIOS - 1)) for bad, a in stream])
    mixed = 1 - sum(start_weight(j + 1) for j in range(len(stream)))
    for start in range(len(stream)):
        mixed += start_weight(start + 1) * bets[start:].prod(axis=0).mean()
    assert 10**test.value == pytest.approx(mixed, rel=1e-9)


def test_the_starts_weigh_one_together() -> None:
    total = math.fsum(start_weight(audit) for audit in range(1, 200_001))
    assert total == pytest.approx(1 - 0.5 * 1000 / 201_000, abs=1e-12)


@settings(max_examples=30, deadline=None)
@given(
    st.floats(0.01, 0.6),
    st.floats(0.02, 0.3),
    st.sampled_from([0.001, 0.01, 0.05, 0.2]),
    st.integers(0, 10_000),
)
def test_the_mapie_bound_is_risk_monitorings_to_the_last_bit(
    risk: float, alpha: float, delta: float, seed: int
) -> None:
    losses = (np.random.default_rng(seed).random(150) < risk).astype(int)
    theirs = RiskMonitoring("fpr", test_level=delta, threshold=alpha, warn=False)
    theirs.update(np.zeros(150, dtype=int), losses)
    ours, bounds, alarms = MapieBound(delta), [], []
    for loss in losses.tolist():
        ours.update(bool(loss), alpha)
        bounds.append(ours.value)
        alarms.append(ours.alarming)
    assert bounds == theirs.online_risk_lower_bound_sequence_history.tolist()
    assert alarms[-1] == theirs.harmful_shift_detected


def test_betting_alarms_before_mapie_does() -> None:
    first = {}
    for method in ("betting", "mapie"):
        test, rng = evidence(method, 0.01), np.random.default_rng(1)
        for audit in range(1, 3001):
            test.update(bool(rng.random() < 0.2), 0.1)
            if test.alarming:
                first[method] = audit
                break
    assert first["betting"] < first["mapie"]


@pytest.mark.parametrize("method", ["betting", "mapie"])
@settings(deadline=None)
@given(losses=st.lists(st.booleans(), max_size=30), cut=st.integers(0, 30))
def test_a_test_goes_on_from_its_state(method: str, losses: list[bool], cut: int) -> None:
    whole, part = evidence(method, 0.05), evidence(method, 0.05)
    for bad in losses:
        whole.update(bad, 0.1)
    for bad in losses[:cut]:
        part.update(bad, 0.1)
    kept = type(part.state()).model_validate_json(part.state().model_dump_json())
    part = evidence(method, 0.05, kept)
    for bad in losses[cut:]:
        part.update(bad, 0.1)
    assert part.state() == whole.state()
    assert (part.value, part.bar, part.alarming) == (whole.value, whole.bar, whole.alarming)


def test_mapie_judges_one_alpha_only() -> None:
    test = evidence("mapie", 0.01)
    test.admit({0.1})
    test.update(True, 0.1)
    with pytest.raises(InputError, match=r"one alpha, got \[0.1, 0.2\]; give --alpha"):
        test.admit({0.2})
    evidence("betting", 0.01).admit({0.1, 0.2})


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(InputError, match="choose one of betting, mapie"):
        evidence("cusum", 0.01)
    for delta in (0.0, 1.0, -1.0):
        with pytest.raises(InputError, match="delta must lie between 0 and 1"):
            evidence("betting", delta)
    with pytest.raises(InputError, match="the state is of method 'betting'"):
        evidence("mapie", 0.01, BettingState())


def test_a_missing_mapie_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mapie.exchangeability_testing.bounds", None)
    with pytest.raises(UnsupportedError, match=r"MAPIE 1\.6 or newer"):
        MapieBound(0.01)
    assert Betting(0.01).value == 0.0


@settings(deadline=None)
@given(st.integers(0, 500), st.integers(0, 500), st.sampled_from([0.8, 0.95, 0.99]))
def test_the_interval_holds_the_share_and_mirrors(bad: int, good: int, level: float) -> None:
    low, high = risk_interval(bad, bad + good, level)
    share = bad / (bad + good) if bad + good else 0.5
    assert 0 <= low <= share <= high <= 1
    mirrored = risk_interval(good, bad + good, level)
    assert (1 - mirrored[1], 1 - mirrored[0]) == pytest.approx((low, high))
    assert low == 0 or low < share
    inner = risk_interval(bad, bad + good, 0.5)
    assert low <= inner[0] and inner[1] <= high


def test_the_interval_is_where_the_bets_reach_their_bar() -> None:
    low, _ = risk_interval(60, 400, 0.9)
    bets = (ODDS_RATIOS**60 / (1 + low * (ODDS_RATIOS - 1)) ** 400).mean()
    assert bets == pytest.approx(2 / 0.1)


@pytest.mark.parametrize("module", [evidence_module, panels_module], ids=["evidence", "panels"])
def test_the_examples_in_docstrings_are_true(module: ModuleType) -> None:
    result = doctest.testmod(module)
    assert result.attempted > 0 and result.failed == 0
