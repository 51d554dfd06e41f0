import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from monitor_makers import a_profile, audit
from scipy.stats import chi2_contingency

from calibration.monitor.panels import (
    PANELS,
    Panel,
    PanelState,
    describe,
    homogeneity,
    references,
    values_of,
)
from calibration.profile import Histogram, Profile, profile_of
from calibration.simulate import SimulatorSettings, simulate
from probes.errors import InputError
from probes.validation import parse

REFERENCE = Histogram(edges=(1.0, 2.0, 3.0), counts=(100, 100, 100, 100))


def feed(panel: Panel, shares: list[float], count: int, first: int = 0, seed: int = 0) -> None:
    """Show `count` values: bin i with probability shares[i]."""
    bins = np.random.default_rng(seed).choice(len(shares), size=count, p=shares)
    for number, place in enumerate(bins.tolist(), start=first + 1):
        panel.update(place + 0.5, audit(number), number)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(20, 200), st.integers(20, 200)), min_size=2, max_size=8))
def test_the_test_is_scipys(columns: list[tuple[int, int]]) -> None:
    rows = np.array(columns).T
    p_value, distance = homogeneity(rows[0], rows[1])
    assert p_value == pytest.approx(chi2_contingency(rows, correction=False).pvalue, rel=1e-9)
    shares = rows / rows.sum(axis=1, keepdims=True)
    assert distance == pytest.approx(np.abs(shares[0] - shares[1]).sum() / 2)


def test_thin_bins_are_joined_with_their_neighbours() -> None:
    joined = homogeneity([40, 1, 1, 40, 1, 1], [10, 1, 0, 40, 0, 1])
    assert joined == homogeneity([40, 44], [10, 42])
    assert homogeneity([1000, 2, 0], [3, 1, 1]) == (1.0, 0.0)
    assert homogeneity([4, 0], [0, 1]) == (1.0, 0.0)


def test_a_shift_is_noticed_at_the_first_look_and_told_in_words() -> None:
    panel = Panel("cues", REFERENCE, 0.05)
    feed(panel, [0.0, 0.0, 0.1, 0.9], 49)
    assert panel.warning is None
    feed(panel, [0.0, 0.0, 0.1, 0.9], 1, first=49)
    assert panel.warning is not None
    assert (panel.warning.audits, panel.warning.window) == (50, 50)
    assert panel.warning.time == audit(50).time
    assert panel.warning.p_value < panel.warning.spent == 0.05 / 3 / 2
    assert "of 50 requests have 3 or more cues; 25% of those calibrated on had" in str(
        panel.warning.text
    )


def test_the_first_warning_stays() -> None:
    panel = Panel("cues", REFERENCE, 0.05)
    feed(panel, [0.0, 0.0, 0.1, 0.9], 50)
    first = panel.warning
    feed(panel, [0.25] * 4, 2000, first=50)
    assert panel.warning == first is not None


def test_a_late_shift_is_noticed_by_the_next_block() -> None:
    panel = Panel("tokens", REFERENCE, 0.05)
    feed(panel, [0.25] * 4, 10_000)
    assert panel.warning is None
    feed(panel, [0.0, 0.0, 0.05, 0.95], 100, first=10_000)
    assert panel.warning is not None
    assert (panel.warning.audits, panel.warning.window) == (10_050, 50)


def test_a_late_smaller_shift_needs_the_longer_block() -> None:
    panel = Panel("tokens", REFERENCE, 0.05)
    feed(panel, [0.25] * 4, 10_000)
    feed(panel, [0.1, 0.25, 0.25, 0.4], 2000, first=10_000)
    assert panel.warning is not None
    assert panel.warning.window == 400


def test_many_requests_do_not_warn_of_trifles() -> None:
    many = Histogram(edges=(1.0, 2.0, 3.0), counts=(100_000,) * 4)
    panel, slight = Panel("cues", many, 0.05), [0.28, 0.25, 0.25, 0.22]
    feed(panel, slight, 60_000)
    p_value, distance = homogeneity(many.counts, panel.counts)
    assert p_value < 1e-20 and distance < 0.1
    assert panel.warning is None


def test_all_looks_together_spend_no_more_than_the_level() -> None:
    looks = np.arange(1, 1_000_001, dtype=np.float64)
    assert 3 * (0.05 / 3 / (looks * (looks + 1))).sum() < 0.05


def test_words_name_the_direction() -> None:
    assert describe("tokens", REFERENCE, [90, 10, 0, 0]).startswith(
        "90% of 100 requests have less than 1 thinking tokens; 25%"
    )
    assert "a highest score of 2 or more; 50%" in describe("top_scores", REFERENCE, [0, 0, 50, 50])


def test_what_is_watched_is_what_the_profile_holds() -> None:
    profile = a_profile()
    assert references(profile).keys() == PANELS.keys()
    assert references(None) == {}
    assert references(profile.model_copy(update={"top_scores": None})).keys() == {"cues", "tokens"}
    one_cue = profile_of(simulate(SimulatorSettings(50, cues=1, seed=1)))
    assert "tokens" in references(one_cue)
    assert values_of(audit(cues=0, top_score=None, marked=False, score=None)) == {
        "cues": 0,
        "tokens": 300,
        "top_scores": None,
    }


def test_a_state_of_unequal_bins_is_refused() -> None:
    good = Panel("cues", REFERENCE, 0.05).state().model_dump()
    bad = good | {"counts": [0, 0]}
    with pytest.raises(InputError, match="blocks: other bins than counts"):
        parse(PanelState, bad, "state", "Restore it")


def test_the_profile_keeps_one_top_score_a_request() -> None:
    table = simulate(SimulatorSettings(60, cues=4, no_cues=0.2, rollouts=1, seed=4))
    profile = profile_of(table)
    assert profile.top_scores is not None and profile.n_traces == 60
    tops = [max(cue.score for cue in trace.cues) for trace in table.traces() if trace.cues]
    assert profile.top_scores == Histogram.by_quantiles(np.array(tops, dtype=np.float32))
    assert profile.top_scores.total == len(tops) < 60 == profile.cues.total
    without = profile_of(table.take([row for row, t in enumerate(table.traces()) if not t.cues]))
    assert without.top_scores == Histogram(edges=(), counts=(0,))


def test_rollouts_of_a_prompt_are_profiled_once() -> None:
    table = simulate(SimulatorSettings(60, cues=4, rollouts=3, seed=4))
    assert profile_of(table).n_traces == profile_of(table).tokens.total == 20


def test_an_older_profile_without_top_scores_is_read() -> None:
    fields = a_profile().model_dump(mode="json")
    del fields["top_scores"]
    assert parse(Profile, fields, "p", "r").top_scores is None


def test_bins_are_found_as_they_were_counted() -> None:
    values = [0.5, 1.0, 1.5, 2.0, 3.0, 9.0]
    counted = Histogram.of(values, (1.0, 2.0, 3.0))
    places = [counted.bin_of(value) for value in values]
    assert tuple(np.bincount(places, minlength=4).tolist()) == counted.counts == (1, 2, 1, 2)
