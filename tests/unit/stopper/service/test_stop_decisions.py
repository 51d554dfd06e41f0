"""The stop-decision endpoint decides as the engine and the replay do."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import decision_makers as dm
import makers
import numpy as np
import pytest
from decision_makers import Sidecar, encoded, event, sidecar, state, written
from hypothesis import given, settings
from hypothesis import strategies as st

from probes.events import CueEvent, Trace
from probes.shaping import shape
from stopper.policy import StopPolicy
from stopper.replaying import replay
from stopper.schedule import Schedule, mean_margin
from stopper.service.control import Alarm, Switch
from stopper.service.store import Advanced, MemoryStore, Step, StoreUnavailable
from stopper.wire import MAX_BATCH

NAMES = (f"trace {number}" for number in count())
ARTIFACT = makers.artifact()
POLICY = StopPolicy.from_artifact(ARTIFACT)
ALPHA = 0.1

quick = settings(max_examples=30, deadline=None)
seeds = st.integers(0, 2**32 - 1)
every_form = pytest.mark.parametrize("form", dm.FORMS)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    with sidecar(
        written(tmp_path_factory.mktemp("served") / "artifact"), schedule={"kind": "linear"}
    ) as made:
        yield made


def hidden(seed: int, cues: int) -> np.ndarray:
    """Return float32 [cues, d], whose scores lie on both sides of the threshold."""
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(cues, dm.WIDTH)) * rng.choice([0.01, 0.3, 1.0])).astype(np.float32)


def scores_of(rows: np.ndarray) -> np.ndarray:
    assert ARTIFACT.probe is not None
    return shape(ARTIFACT.probe.score(rows), makers.spec())  # type: ignore[arg-type]


def cues(rows: np.ndarray, dtype: str, name: str, **fields: Any) -> list[dict[str, Any]]:
    return [
        event(10 * k + 5, name, hidden_state=state(row, dtype), **fields)
        for k, row in enumerate(rows)
    ]


@every_form
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@quick
@given(seed=seeds, number=st.integers(1, 6), one_by_one=st.booleans())
def test_a_trace_is_scored_shaped_and_decided_as_in_the_engine(
    served: Sidecar, form: str, dtype: str, seed: int, number: int, one_by_one: bool
) -> None:
    rows = hidden(seed, number)
    events = cues(rows, dtype, next(NAMES))
    if one_by_one:
        answers = [served.post(encoded(one, form), form).json() for one in events]
    else:
        answers = served.ask(*events, form=form)
    shaped = scores_of(dm.as_sent(rows, dtype))
    assert np.array_equal(np.float32([answer["score"] for answer in answers]), shaped)
    for answer, score in zip(answers, shaped, strict=True):
        wanted = POLICY.decide(score, ALPHA)
        assert (answer["stop"], answer["reason"]) == (wanted.stop, wanted.reason)
        assert answer["threshold"] == float(wanted.threshold)
        assert answer["alpha"] == ALPHA


@quick
@given(seed=seeds, number=st.integers(1, 8), alpha=st.sampled_from([0.05, 0.1, 0.3, 0.6]))
def test_the_first_stop_is_the_one_that_a_replay_makes(
    served: Sidecar, seed: int, number: int, alpha: float
) -> None:
    rows = hidden(seed, number)
    events = cues(rows, "float32", next(NAMES), alpha=alpha)
    stops = [answer["position"] for answer in served.ask(*events) if answer["stop"]]
    seen = tuple(
        CueEvent(one["position"], float(score))
        for one, score in zip(events, scores_of(rows), strict=True)
    )
    trace = Trace("t", "g", 10 * number, None, seen)
    (replayed,) = replay(POLICY, alpha, "disagree", [(trace, ["cue"] * number)])
    assert (stops or [None])[0] == replayed.position


@every_form
@quick
@given(seed=seeds, number=st.integers(1, 5), again=st.data())
def test_a_repeated_body_is_answered_by_the_same_bytes(
    served: Sidecar, form: str, seed: int, number: int, again: st.DataObject
) -> None:
    events = cues(hidden(seed, number), "float16", next(NAMES))
    bodies = [encoded(one, form) for one in events]
    first = [served.post(body, form).content for body in bodies]
    for at in again.draw(st.lists(st.integers(0, number - 1), max_size=6)):
        assert served.post(bodies[at], form).content == first[at]


@quick
@given(seed=seeds, order=st.permutations(range(8)))
def test_a_batch_of_several_traces_is_its_events_one_by_one(
    served: Sidecar, seed: int, order: list[int]
) -> None:
    rows = hidden(seed, 8)
    names = [next(NAMES) for _ in range(4)]
    events = sorted(
        [event(k // 2, f"{k % 2}", hidden_state=state(rows[k])) for k in order],
        key=lambda one: one["position"],
    )
    alone = [{**one, "request_id": names[int(one["request_id"])]} for one in events]
    together = [{**one, "request_id": names[2 + int(one["request_id"])]} for one in events]
    singles = [served.post(encoded(one)).json() for one in alone]
    batch = served.ask(*together)
    for one, other in zip(singles, batch, strict=True):
        assert one | {"request_id": ""} == other | {"request_id": ""}


def test_a_whole_batch_with_a_mix_of_dtypes_is_scored_in_order(served: Sidecar) -> None:
    rows = hidden(3, MAX_BATCH)
    kinds = ["float16", "bfloat16", "float32"]
    base = next(NAMES)
    events = [
        event(1, f"{base}/{k}", hidden_state=state(row, kinds[k % 3])) for k, row in enumerate(rows)
    ]
    answers = served.ask(*events, form="msgpack")
    assert ARTIFACT.probe is not None
    wanted = [
        float(ARTIFACT.probe.score(dm.as_sent(row, kinds[k % 3])[None])[0])  # type: ignore[arg-type]
        for k, row in enumerate(rows)
    ]
    assert [answer["score"] for answer in answers] == wanted


def test_positions_must_ascend(served: Sidecar) -> None:
    name = next(NAMES)
    assert served.post(encoded(event(9, name, score=0.0))).status_code == 200
    response = served.post(encoded(event(8, name, score=0.0)))
    assert response.status_code == 409
    assert response.json()["type"] == "urn:stopper:problem:out-of-order"
    assert response.json()["instance"] == name
    late, next_one = served.ask(event(8, name, score=0.0), event(10, name, score=0.0))
    assert (late["reason"], late["stop"]) == ("refused", False)
    assert late["problem"]["status"] == 409
    assert next_one["reason"] == "score_below_threshold"


def test_alpha_is_fixed_by_the_first_event_and_need_not_be_said_again(served: Sidecar) -> None:
    name = next(NAMES)
    first, second, third = served.ask(
        event(1, name, score=0.0, alpha=0.25), event(2, name, score=0.0), event(3, name, score=9.0)
    )
    assert first["alpha"] == second["alpha"] == third["alpha"] == 0.25
    assert first["threshold"] == second["threshold"] == float(POLICY.threshold(0.25))
    assert third["stop"]
    response = served.post(encoded(event(4, name, score=0.0, alpha=0.1)))
    assert response.status_code == 409
    assert "0.25" in response.json()["detail"]


def test_each_event_of_a_batch_has_its_own_alpha(served: Sidecar) -> None:
    given = [0.3, None, 0.1, None, 0.3]
    answers = served.ask(
        *(event(1, next(NAMES), score=0.0, **({"alpha": a} if a else {})) for a in given)
    )
    assert [answer["alpha"] for answer in answers] == [0.3, ALPHA, 0.1, ALPHA, 0.3]
    assert [answer["threshold"] for answer in answers] == [
        float(POLICY.threshold(a or ALPHA)) for a in given
    ]


def test_too_few_calibration_traces_never_stop(served: Sidecar) -> None:
    answer = served.post(encoded(event(1, next(NAMES), score=99.0, alpha=1e-6))).json()
    assert (answer["stop"], answer["reason"]) == (False, "too_few_calibration_traces")
    assert answer["threshold"] is None


def test_a_score_beyond_reason_counts_as_not_finite(served: Sidecar) -> None:
    name = next(NAMES)
    huge, small = served.ask(event(1, name, score=1e200), event(2, name, score=5.0))
    assert (huge["stop"], huge["reason"], huge["score"]) == (False, "score_not_finite", None)
    assert (small["stop"], small["score"]) == (True, 5.0)


def test_an_audited_trace_is_marked_and_never_stopped(served: Sidecar) -> None:
    name = next(NAMES)
    answers = served.ask(
        *(event(k, name, score=score, audit=True) for k, score in enumerate([-5.0, 3.0, -5.0]))
    )
    assert [answer["stop"] for answer in answers] == [False] * 3
    assert [answer["reason"] for answer in answers] == [
        "score_below_threshold", "audit", "score_below_threshold",
    ]  # fmt: skip
    assert [answer.get("marked", False) for answer in answers] == [False, True, True]


def test_the_sidecar_audits_its_share_where_the_event_leaves_that_to_it(tmp_path: Path) -> None:
    with sidecar(written(tmp_path / "a"), audits={"share": 1.0}) as made:
        left, forbidden = made.ask(event(1, "x", score=9.0), event(1, "y", score=9.0, audit=False))
        assert (left["stop"], left["reason"]) == (False, "audit")
        assert (forbidden["stop"], forbidden["reason"]) == (True, "score_above_threshold")


def test_the_kill_switch_and_an_alarm_silence_all_but_audits(tmp_path: Path) -> None:
    with sidecar(written(tmp_path / "a")) as made:
        board = made.runtime.board
        version = made.runtime.catalog.active(dm.MODEL).version

        def ask(position: int) -> list[tuple[bool, str]]:
            answers = made.ask(
                event(position, "stops", score=9.0),
                event(position, "audited", score=9.0, audit=True),
            )
            return [(answer["stop"], answer["reason"]) for answer in answers]

        stops, audited = (True, "score_above_threshold"), (False, "audit")
        assert ask(1) == [stops, audited]
        alarm = Alarm("2025-01-01T00:00:00Z", "drift")
        made.runner.run(board.change(lambda old: type(old)(alarms={version: alarm})))
        assert ask(2) == [(False, "alarm"), audited]
        assert ask(1) == [(False, "alarm"), audited]  # not even on a retry
        switch = Switch(True, "me", "why", "2025-01-01T00:00:00Z")
        made.runner.run(board.change(lambda old: type(old)(kill_switch=switch)))
        assert ask(3) == [(False, "kill_switch"), audited]
        made.runner.run(board.change(lambda old: type(old)()))
        assert ask(4) == [stops, audited]


def test_a_trace_ends_under_the_artifact_that_it_began_with(tmp_path: Path) -> None:
    rows = hidden(5, 4)
    with sidecar(written(tmp_path / "a")) as made:
        first = made.ask(*cues(rows[:2], "float32", "old"))
        other = makers.artifact(probe=makers.spec(), training={"label": "other"})
        newer = dm.activate(made.runtime, written(tmp_path / "b", other))
        events = cues(rows, "float32", "old")
        rest = made.ask(*events[2:], *cues(rows[:1], "float32", "new"))
        assert {one["artifact"] for one in (*first, *rest[:2])} == {first[0]["artifact"]}
        assert rest[2]["artifact"] == newer.version != first[0]["artifact"]
        found = [one["score"] for one in (*first, *rest[:2])]
        assert np.array_equal(np.float32(found), scores_of(rows))


def test_a_trace_whose_artifact_is_gone_goes_on_and_is_counted(tmp_path: Path) -> None:
    with sidecar(written(tmp_path / "a")) as made:
        assert made.ask(event(1, "old", score=9.0))[0]["stop"]
        for number in range(4):
            training = {"label": f"another {number}"}
            dm.activate(
                made.runtime, written(tmp_path / f"{number}", makers.artifact(training=training))
            )
        repeated, gone, new = made.ask(
            event(1, "old", score=9.0), event(2, "old", score=9.0), event(1, "new", score=9.0)
        )
        assert repeated["stop"]
        assert (gone["stop"], gone["reason"], gone["score"]) == (False, "artifact_changed", None)
        assert new["stop"]
        line = 'stopper_not_applied_total{cause="artifact_changed"} 1.0'
        assert line in made.get("/metrics").text


def test_an_artifact_that_is_withheld_decides_nothing(tmp_path: Path) -> None:
    with sidecar(written(tmp_path / "a")) as made:
        made.runtime.catalog.withhold(dm.MODEL, "cannot be loaded")
        (answer,) = made.ask(event(1, score=9.0))
        assert (answer["stop"], answer["reason"]) == (False, "artifact_unavailable")
        made.runtime.catalog.withhold(dm.MODEL, None)
        assert made.ask(event(1, score=9.0))[0]["stop"]


class Away(MemoryStore):
    """A store that goes away when told to."""

    away = False

    async def advance(self, steps: Any) -> list[Advanced]:
        if self.away:
            raise StoreUnavailable("gone")
        return await super().advance(steps)

    async def count(self, amounts: Any) -> None:
        if self.away:
            raise StoreUnavailable("gone")
        await super().count(amounts)


def test_while_the_store_is_away_every_trace_goes_on(tmp_path: Path) -> None:
    store = Away()
    with sidecar(written(tmp_path / "a"), store) as made:
        store.away = True
        answers = made.ask(
            event(1, "x", score=9.0), event(1, "y", score=9.0), event(1, "z", score=1.0, alpha=2.0)
        )
        assert [(one["stop"], one["reason"]) for one in answers] == [
            (False, "store_unavailable"), (False, "store_unavailable"), (False, "refused"),
        ]  # fmt: skip
        assert 'stopper_fail_open_total{cause="store_unavailable"} 2.0' in made.get("/metrics").text
        store.away = False
        assert made.ask(event(2, "x", score=9.0))[0]["stop"]


def test_one_body_is_one_call_of_the_store(tmp_path: Path) -> None:
    calls: list[int] = []

    class Counting(MemoryStore):
        async def advance(self, steps: Any) -> list[Advanced]:
            calls.append(len(steps))
            return await super().advance(steps)

    with sidecar(written(tmp_path / "a"), Counting()) as made:
        made.ask(*cues(hidden(1, 5), "float16", "x"), event(3, "y", score=1.0))
    assert calls == [6]


@settings(max_examples=8, deadline=None)
@given(
    kind=st.sampled_from(["linear", "cosine", "exponential"]),
    steps=st.lists(
        st.lists(st.floats(0, 12, width=32), min_size=1, max_size=5), min_size=2, max_size=6
    ),
)
def test_margins_are_answered_by_the_schedule(
    tmp_path_factory: pytest.TempPathFactory, kind: Any, steps: list[list[float]]
) -> None:
    chosen = {"kind": kind, "high": 7.5, "low": 2.5, "rate": 4.0}
    schedule = Schedule(**chosen)
    with sidecar(None, schedule=chosen) as made:
        events = [
            event(k, logit_margins=margins, progress=k / (len(steps) - 1))
            for k, margins in enumerate(steps)
        ]
        answers = made.ask(*events)
        for one, answer in zip(events, answers, strict=True):
            halts = schedule.halts(mean_margin(one["logit_margins"]), one["progress"])
            assert answer["stop"] == halts
            assert answer["reason"] == f"margin_{'above' if halts else 'below'}_schedule"
            assert answer["score"] == float(mean_margin(one["logit_margins"]))
            assert answer["threshold"] == float(schedule.threshold(one["progress"]))
            assert (answer["alpha"], answer["artifact"]) == (None, None)
        assert made.ask(*events) == answers
        (late,) = made.ask(event(0, "late", logit_margins=[1.0], progress=0.5))
        assert late["reason"] == "margin_below_schedule"


def test_a_schedule_keeps_the_order_of_a_trace(served: Sidecar) -> None:
    name = next(NAMES)
    fields = {"logit_margins": [9.0], "progress": 0.5}
    assert served.ask(event(5, name, **fields))[0]["stop"]
    assert served.post(encoded(event(4, name, **fields))).status_code == 409
    other = served.ask(event(6, name, score=9.0))[0]
    assert (other["stop"], other["reason"]) == (False, "artifact_changed")


def test_an_artifact_of_own_scores_takes_them_as_they_are(tmp_path: Path) -> None:
    own = makers.artifact(probe=None, cues=None, model=None, closing=None)
    with sidecar(written(tmp_path / "own", own)) as made:
        values = [-3.0, 0.5, 1.5]
        answers = made.ask(*(event(k, score=value) for k, value in enumerate(values)))
        assert [answer["score"] for answer in answers] == values
        assert [answer["stop"] for answer in answers] == [
            POLICY.decide(value, ALPHA).stop for value in values
        ]
        response = made.post(encoded(event(9, hidden_state=state(np.zeros(4)))))
        assert response.status_code == 422
        assert "send score" in response.json()["detail"]


def test_the_store_sees_what_the_policy_says(tmp_path: Path) -> None:
    seen: list[Step] = []

    class Watching(MemoryStore):
        async def advance(self, steps: Any) -> list[Advanced]:
            seen.extend(steps)
            return await super().advance(steps)

    with sidecar(written(tmp_path / "a"), Watching()) as made:
        made.ask(event(7, "x", score=0.1, alpha=0.3, audit=True))
        version = made.runtime.catalog.active(dm.MODEL).version
    level, limit = float(np.float32(0.1)), float(POLICY.threshold(0.3))
    assert seen == [Step("x", 7, level, 0.5, limit, 0.3, version, True)]
