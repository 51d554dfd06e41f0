"""What a session takes on, what it turns down, and what it says of each request afterwards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engine_simulator import END, FORCE, THINK, automaton, device_watch, host_watch, judge
from session_makers import ALPHA, EAGER, POLICY, PROMPT, SO, WAIT, admit, feed, request, session


def test_a_stopped_request_is_reported_in_full(tmp_path: Path) -> None:
    file = tmp_path / "new" / "decisions.jsonl"
    one = session(decisions=file)
    admit(one, request("a"))
    assert one.watching
    assert feed(one, "a", SO, WAIT, *FORCE, SO) == [2, 3, 4]
    (running,) = one.decisions(10)
    admit(one, finished=("a",))
    (record,) = one.decisions(10)
    assert not one.watching
    assert running == {**record, "running": True}
    score = record.pop("score")
    assert record == {
        "request_id": "a",
        "decision": "stopped",
        "reason": "score_above_threshold",
        "position": 2,  # output tokens up to the cue, as offline
        "threshold": -100.0,
        "alpha": ALPHA,
        "cue": "wait",
        "cues": 1,
        "top_score": score,
        "cue_scores": [[2, score]],
        "prompt_tokens": len(PROMPT),
        "artifact": "abc",
        "running": False,
    }
    one.close()
    assert [json.loads(line) for line in file.read_text().splitlines()] == [
        {**record, "score": score}
    ]
    assert one.counters() == {"decisions": {"stopped": 1}, "not_applied": {}, "fail_open": {}}


@pytest.mark.parametrize(
    ("extra", "tokens", "decision", "reason"),
    [
        ({"stopper": "audit"}, [WAIT], "marked", "score_above_threshold"),
        ({"stopper": 0}, [WAIT], "off", "asked_off"),
        ({"stopper": "0", "stopper_alpha": 0.2}, [WAIT], "off", "asked_off"),
        ({"stopper": 2}, [WAIT], "not_applied", "bad_options"),
        ({"stopper_alpha": 1.5}, [WAIT], "not_applied", "bad_options"),
        ({"stopper_beta": 1}, [WAIT], "not_applied", "bad_options"),
        ({"stopper_alpha": 1e-4}, [WAIT], "not_applied", "too_few_calibration_traces"),
        ({"stopper": "fixed"}, [WAIT], "not_applied", "no_fixed_threshold"),
        ({"other": object()}, [SO], "not_stopped", "no_cue"),
        (None, [WAIT], "stopped", "score_above_threshold"),
    ],
)
def test_what_a_request_may_ask(
    extra: dict[str, Any] | None, tokens: list[int], decision: str, reason: str
) -> None:
    one = session()
    admit(one, request("a", extra))
    watched = decision not in ("off", "not_applied")
    assert one.watching == watched
    forced = feed(one, "a", *tokens)
    assert bool(forced) == (decision == "stopped")
    (running,) = one.decisions(10)  # an idle engine does not tell that it is finished
    admit(one, finished=("a",))
    (record,) = one.decisions(10)
    assert (record["decision"], record["reason"]) == (decision, reason)
    assert (running["decision"], running["running"]) == (decision, True)
    assert record["prompt_tokens"] == len(PROMPT)
    assert one.counters()["decisions"] == {decision: 1}
    applied = {reason: 1} if decision == "not_applied" else {}
    assert one.counters()["not_applied"] == applied


@pytest.mark.parametrize(
    ("fields", "answer_prompt", "reason"),
    [
        ({"lora_request": object()}, False, "lora"),
        ({"structured_outputs": object()}, True, "structured_outputs"),
        ({"structured_outputs": object()}, False, None),  # the grammar sees only </think>
        ({"prompt": None}, False, "no_prompt_token_ids"),
        ({"sampling_params": None}, False, "no_prompt_token_ids"),
    ],
)
def test_what_a_request_may_be(
    fields: dict[str, Any], answer_prompt: bool, reason: str | None
) -> None:
    one = session(answer_prompt=answer_prompt)
    admit(one, request("a", **fields))
    assert one.watching == (reason is None)
    admit(one, finished=("a",))
    assert one.counters()["not_applied"] == ({reason: 1} if reason else {})


def test_each_request_has_its_own_alpha() -> None:
    one = session(policy=POLICY)
    admit(one, request("a", {"stopper_alpha": 0.5}), request("b", {"stopper_alpha": "0.25"}))
    admit(one, request("c"), finished=("a", "b"))
    admit(one, finished=("c",))
    records = {record["request_id"]: record for record in one.decisions(10)}
    for name, alpha in (("a", 0.5), ("b", 0.25), ("c", ALPHA)):
        assert records[name]["alpha"] == alpha
        assert records[name]["threshold"] == float(POLICY.threshold(alpha))


@pytest.mark.parametrize(
    ("threshold", "decision", "reason"),
    [
        (-100.0, "stopped", "score_above_threshold_without_promise"),
        (100.0, "not_stopped", "score_below_threshold_without_promise"),
    ],
)
def test_a_fixed_threshold_stops_and_says_that_it_promises_nothing(
    threshold: float, decision: str, reason: str
) -> None:
    one = session(fixed=threshold)
    admit(one, request("a", {"stopper": "fixed"}))
    feed(one, "a", WAIT, *FORCE)
    admit(one, finished=("a",))
    (record,) = one.decisions(10)
    assert (record["decision"], record["reason"]) == (decision, reason)
    assert (record["alpha"], record["threshold"]) == (None, threshold)


def test_a_score_below_the_threshold_goes_on() -> None:
    high = type("High", (), {"threshold": lambda self, alpha: np.float32(100)})()
    one = session(policy=high)
    admit(one, request("a"))
    assert feed(one, "a", WAIT, SO, WAIT) == []
    admit(one, finished=("a",))
    (record,) = one.decisions(10)
    assert (record["reason"], record["cues"]) == ("score_below_threshold", 2)
    assert (record["position"], record["score"], record["cue"]) == (None, None, None)
    assert [at for at, _ in record["cue_scores"]] == [1, 3]


@pytest.mark.parametrize("kind", ["host", "device"])
def test_scores_that_are_not_finite_reach_no_json(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "decisions.jsonl"
    cues = automaton()
    one = session(
        host_watch(cues, judge()) if kind == "host" else device_watch(cues, judge(), 1),
        decisions=file,
        policy=type("Open", (), {"threshold": lambda self, alpha: np.float32(-np.inf)})(),
    )
    admit(one, request("a"))
    feed(one, "a", WAIT, WAIT, nan=True)
    json.dumps(one.decisions(10), allow_nan=False)
    admit(one, finished=("a",))
    (record,) = one.decisions(10)
    one.close()
    assert json.loads(file.read_text(), parse_constant=pytest.fail) == record
    assert (record["decision"], record["cues"], record["threshold"]) == ("not_stopped", 2, None)
    assert one.counters()["fail_open"] == {"score_not_finite": 2}
    json.dumps(record, allow_nan=False)


@pytest.mark.parametrize("kind", ["host", "device"])
def test_a_preempted_request_keeps_its_trace(kind: str) -> None:
    cues = automaton()
    one = session(host_watch(cues, judge()) if kind == "host" else device_watch(cues, judge(), 1))
    admit(one, request("a"), request("off", {"stopper": 0}))
    feed(one, "a", WAIT)
    admit(one, request("a"), request("off", {"stopper": 0}))  # as V2 announces a resumed request
    feed(one, "a", WAIT, END, start=1)
    record, _ = one.decisions(10)
    assert (record["position"], record["cues"]) == (1, 1)
    admit(one, finished=("a", "off"))
    assert one.counters()["decisions"] == {"stopped": 1, "off": 1}


@pytest.mark.parametrize("extra", [None, {"stopper": 0}])
def test_another_prompt_under_the_same_id_is_another_trace(extra: dict[str, Any] | None) -> None:
    one = session()
    admit(one, request("a"))
    feed(one, "a", SO, WAIT)
    longer = (*PROMPT, SO, WAIT, END, THINK)
    admit(one, request("a", extra, prompt=longer))
    assert one.watching == (extra is None)
    assert feed(one, "a", SO, prompt=longer) == []
    admit(one, finished=("a",))
    assert one.counters()["decisions"] == {
        "stopped": 1,
        "not_stopped" if extra is None else "off": 1,
    }
    (record,) = one.decisions(10)  # the newest of this id
    assert record["prompt_tokens"] == len(longer)


def test_an_id_finished_and_given_anew_in_one_step_is_two_requests() -> None:
    one = session()
    admit(one, request("a", {"stopper_alpha": 0.5}))
    feed(one, "a", WAIT)
    admit(one, request("a"), finished=("a",))
    assert one.watching
    assert one.counters()["decisions"] == {"stopped": 1}
    admit(one, finished=("a",))
    assert one.counters()["decisions"] == {"stopped": 1, "not_stopped": 1}
    (record,) = one.decisions(10)
    assert record["alpha"] == ALPHA


def test_ranks_that_do_not_report_decide_alike() -> None:
    one = session(journal=None)
    admit(one, request("a"), request("b", {"stopper": 2}))
    assert feed(one, "a", WAIT, *FORCE[:2]) == [1, 2, 3]
    admit(one, finished=("a", "b"))
    assert (one.decisions(10), one.counters()) == ([], {})
    one.close()


def test_closing_writes_down_what_is_open(tmp_path: Path) -> None:
    file = tmp_path / "decisions.jsonl"
    one = session(decisions=file)
    admit(one, request("a"), request("off", {"stopper": 0}), request("bad", {"stopper": 9}))
    feed(one, "a", WAIT)
    one.close()
    one.close()
    written = {
        row["request_id"]: row["decision"] for row in map(json.loads, file.read_text().splitlines())
    }
    assert written == {"a": "stopped", "off": "off", "bad": "not_applied"}
    assert not one.watching


def test_a_collection_hands_over_what_it_saw() -> None:
    watch = host_watch(automaton(), None, keep_hidden=True)
    one = session(watch, policy=None, alpha=None, keeps=True)
    admit(one, request("a"), request("b"), request("forced", {"stopper": 0}))
    assert feed(one, "a", WAIT, SO, WAIT) == []
    admit(one, finished=("a", "forced"))
    feed(one, "b", WAIT)
    first, second = one.drain_collected()
    assert [cue.position - len(PROMPT) + 1 for cue in first.seen] == [1, 3]
    assert (first.request_id, second.request_id) == ("a", "b")
    assert [outcome.request_id for outcome in one.drain_collected()] == ["b"]
    assert session().drain_collected() == []


def test_the_eager_policy_is_honest_about_too_few_traces() -> None:
    assert EAGER.threshold(1e-4) == np.inf
