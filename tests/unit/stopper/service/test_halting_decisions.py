"""Denoising steps are decided by the halting rule of the model's artifact, at the event's alpha."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import decision_makers as dm
import makers
import numpy as np
import pytest
from decision_makers import Sidecar, encoded, event, sidecar, written
from halting_makers import SHAPE, halting_artifact
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration.risk import threshold
from probes.margins import SIGNALS, aggregate
from stopper.errors import ArtifactError, InputError
from stopper.halting import HaltingRule
from stopper.service.catalog import Served
from stopper.service.settings import ArtifactSource

NAMES = (f"denoising {number}" for number in count())
WORST = makers.worst_scores()


def step(position: int, name: str, margins: list[float], **fields: Any) -> dict[str, Any]:
    return event(position, name, logit_margins=margins, **({"progress": 0.5} | fields))


@pytest.fixture(scope="module")
def halting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    """Serve an artifact beside a schedule, which must not be asked."""
    folder = written(tmp_path_factory.mktemp("halting") / "artifact", halting_artifact())
    with sidecar(folder, schedule={"kind": "linear", "high": 0.0, "low": 0.0}) as made:
        yield made


@pytest.fixture(scope="module")
def gated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    made = halting_artifact(stable_argmax=True)
    with sidecar(written(tmp_path_factory.mktemp("gated") / "artifact", made)) as served:
        yield served


@settings(max_examples=25, deadline=None)
@given(
    steps=st.lists(
        st.lists(st.floats(0, 12, width=32), min_size=1, max_size=6), min_size=2, max_size=8
    ),
    alpha=st.sampled_from([None, 0.07, 0.1, 0.3, 0.6]),
    form=st.sampled_from(["json", "msgpack"]),
)
def test_it_halts_where_the_pure_rule_says_at_any_alpha(
    halting: Sidecar, steps: list[list[float]], alpha: float | None, form: str
) -> None:
    rule = HaltingRule.from_json(SHAPE)
    level = np.float32(threshold(WORST, alpha or 0.1, "ltt", 0.9))
    name, last = next(NAMES), len(steps) - 1
    chosen = {} if alpha is None else {"alpha": alpha}
    events = [
        step(k, name, margins, progress=k / last, **chosen) for k, margins in enumerate(steps)
    ]
    for one, answer in zip(events, halting.ask(*events, form=form), strict=True):
        row = np.array([one["logit_margins"]], dtype=np.float32)
        signal = aggregate(row, np.ones_like(row, dtype=np.bool_), "median")[0]
        halts = rule.halts(signal, one["progress"], True, float(level))
        assert answer["stop"] == halts
        assert answer["reason"] == f"score_{'above' if halts else 'below'}_threshold"
        assert answer["score"] == float(rule.score(signal, one["progress"], True))
        assert answer["threshold"] == float(level)
        assert answer["alpha"] == (alpha or 0.1)
        assert answer["artifact"] == halting.runtime.catalog.active(dm.MODEL).version


@pytest.mark.parametrize("how", SIGNALS)
def test_margins_are_aggregated_as_the_rule_says(how: Any, tmp_path: Path) -> None:
    margins = [1.0, 2.0, 4.0, 9.0]
    made = halting_artifact(aggregate=how, high=0.0, low=0.0)
    with sidecar(written(tmp_path / "artifact", made)) as served:
        (answer,) = served.ask(step(0, "one", margins))
    row = np.array([margins], dtype=np.float32)
    assert answer["score"] == float(aggregate(row, row > 0, how)[0])


def test_a_stable_argmax_is_waited_for(gated: Sidecar) -> None:
    name = next(NAMES)
    early, late = gated.ask(
        step(0, name, [50.0], argmax_changed=True), step(1, name, [50.0], argmax_changed=False)
    )
    assert (early["stop"], early["reason"], early["score"]) == (False, "argmax_changed", None)
    assert (late["stop"], late["reason"], late["score"]) == (True, "score_above_threshold", 45.0)
    again = gated.ask(step(0, name, [50.0], argmax_changed=True))
    assert again == [early]


def test_a_rule_that_waits_needs_to_be_told(gated: Sidecar, halting: Sidecar) -> None:
    name = next(NAMES)
    refusal = gated.post(encoded(step(0, name, [50.0])))
    assert refusal.status_code == 422
    assert "argmax_changed" in refusal.json()["detail"]
    batch = gated.ask(step(0, name, [50.0]), step(1, name, [50.0], argmax_changed=False))
    assert [answer["reason"] for answer in batch] == ["refused", "score_above_threshold"]
    # A rule without the gate may be told and does not mind.
    (answer,) = halting.ask(step(0, next(NAMES), [50.0], argmax_changed=True))
    assert answer["stop"]


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no_progress": ({"logit_margins": [1.0]}, "need progress"),
    "progress": ({"logit_margins": [1.0], "progress": 1.5}, "need progress"),
    "alpha": ({"logit_margins": [1.0], "progress": 1.0, "alpha": 1.0}, "alpha"),
    "hidden_state": (
        {"hidden_state": {"data": "AAAAAA==", "dtype": "float32", "shape": [1]}},
        "halts a diffusion model; send logit_margins",
    ),
    "stray": ({"score": 1.0, "argmax_changed": True}, "belong to logit_margins"),
    "two": ({"score": 1.0, "logit_margins": [1.0], "progress": 1.0}, "exactly one"),
}


@pytest.mark.parametrize("kind", list(WRONG))
def test_an_event_that_is_none_of_a_denoising_is_refused(halting: Sidecar, kind: str) -> None:
    fields, says = WRONG[kind]
    refusal = halting.post(encoded(event(0, next(NAMES), **fields)))
    assert refusal.status_code == 422
    assert says in refusal.json()["detail"]


def test_margins_that_are_not_finite_are_refused_or_do_not_halt(halting: Sidecar) -> None:
    nan = halting.post(encoded(step(0, next(NAMES), [float("nan")]), "msgpack"), "msgpack")
    assert nan.status_code == 422
    (huge,) = halting.ask(step(0, next(NAMES), [1e300]))
    assert (huge["stop"], huge["reason"], huge["score"]) == (False, "score_not_finite", None)


def test_a_score_that_was_computed_elsewhere_is_judged_alike(halting: Sidecar) -> None:
    (margin,) = halting.ask(step(0, next(NAMES), [6.25]))
    (score,) = halting.ask(event(0, next(NAMES), score=margin["score"]))
    drop = {"request_id"}
    assert {k: v for k, v in margin.items() if k not in drop} == {
        k: v for k, v in score.items() if k not in drop
    }


def test_another_model_is_answered_by_the_schedule(halting: Sidecar) -> None:
    other = step(0, next(NAMES), [1.0]) | {"model": "org/other"}
    (answer,) = halting.ask(other)
    assert (answer["stop"], answer["reason"]) == (True, "margin_above_schedule")
    assert answer["artifact"] is None


def test_without_schedule_and_rule_both_are_named(gated: Sidecar) -> None:
    refusal = gated.post(encoded(step(0, next(NAMES), [1.0]) | {"model": "org/other"}))
    assert refusal.status_code == 422
    assert "schedule" in refusal.json()["detail"]
    assert "halting rule" in refusal.json()["detail"]


def test_an_audited_denoising_is_marked_and_never_halted(halting: Sidecar) -> None:
    name = next(NAMES)
    before, here, after = halting.ask(
        step(0, name, [0.0], audit=True), step(1, name, [50.0], audit=True), step(2, name, [0.0])
    )
    assert (before["reason"], here["reason"]) == ("score_below_threshold", "audit")
    assert not here["stop"]
    assert here["marked"]
    assert after["marked"]


def test_a_denoising_ends_under_the_artifact_it_began_with(tmp_path: Path) -> None:
    with sidecar(written(tmp_path / "artifact", halting_artifact(high=3.0, low=3.0))) as served:
        (first,) = served.ask(step(0, "old", [0.0]))
        dm.activate(served.runtime, written(tmp_path / "next", halting_artifact(high=9.0, low=9.0)))
        old, new = served.ask(step(1, "old", [10.0]), step(0, "new", [10.0]))
    assert (old["score"], new["score"]) == (7.0, 1.0)
    assert old["artifact"] == first["artifact"] != new["artifact"]


def test_a_denoising_that_began_under_a_rule_that_waits_must_be_told(tmp_path: Path) -> None:
    with sidecar(written(tmp_path / "artifact", halting_artifact(stable_argmax=True))) as served:
        served.ask(step(0, "old", [0.0], argmax_changed=True))
        dm.activate(served.runtime, written(tmp_path / "next", halting_artifact()))
        old, told = served.ask(step(1, "old", [50.0]), step(1, "old", [50.0], argmax_changed=False))
    assert (old["reason"], old["problem"]["status"]) == ("refused", 422)
    assert (told["stop"], told["score"]) == (True, 45.0)


def test_a_rule_that_needs_other_events_is_not_loaded_in_passing(tmp_path: Path) -> None:
    with sidecar(written(tmp_path / "artifact", halting_artifact())) as served:
        catalog = served.runtime.catalog
        written(tmp_path / "same", halting_artifact(high=9.0))
        written(tmp_path / "span", halting_artifact(region="span"))
        written(tmp_path / "gate", halting_artifact(stable_argmax=True))
        written(tmp_path / "cues")
        assert catalog.read(dm.MODEL, "same").halting is not None
        for other in ("span", "gate", "cues"):
            with pytest.raises(ArtifactError, match="needs other events"):
                catalog.read(dm.MODEL, other)


def test_one_alpha_is_all_that_mapie_answers(tmp_path: Path) -> None:
    made = halting_artifact(calibration={"method": "mapie", "threshold": 0.25})
    folder = written(tmp_path / "artifact", made)
    with sidecar(folder) as served:
        (answer,) = served.ask(step(0, "own", [6.0]))
        assert (answer["stop"], answer["threshold"], answer["alpha"]) == (True, 0.25, 0.1)
        refusal = served.post(encoded(step(0, "other", [6.0], alpha=0.2)))
        assert refusal.status_code == 422
        assert "for alpha 0.1 alone" in refusal.json()["detail"]
        (card,) = served.get("/v1/artifacts").json()["artifacts"]
        assert (card["method"], card["alpha"], card["confidence"]) == ("mapie", 0.1, 0.9)
    with pytest.raises(InputError, match="alone"):
        Served.read(ArtifactSource(folder=folder, model=dm.MODEL), 0.2)


def test_too_few_prompts_for_an_alpha_halt_nothing(halting: Sidecar) -> None:
    (answer,) = halting.ask(step(0, next(NAMES), [50.0], alpha=0.001))
    assert (answer["stop"], answer["reason"]) == (False, "too_few_calibration_traces")
