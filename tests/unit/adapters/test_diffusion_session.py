"""The worker's side on a diffusion model: who is watched, what is recorded, what survives."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from adapters.vllm.diffusion.decision import Decision
from adapters.vllm.diffusion.levels import Levels
from adapters.vllm.diffusion.sampler import HaltingSampler
from adapters.vllm.diffusion.session import DiffusionSession
from adapters.vllm.journal import Journal
from stopper.halting import HaltingRule
from stopper.halting_policy import HaltingPolicy
from stopper.manifest import HaltingSpec, SamplerSpec
from stopper.policy import StopPolicy

STEPS = 8
SPEC = HaltingSpec(
    **HaltingRule().to_json(),
    sampler=SamplerSpec(steps=STEPS, block_length=4, canvas_length=4, order="entropy_bound"),
)
WORST = np.linspace(0, 1, 99, dtype=np.float32)
PROMISED = Levels(HaltingPolicy(SPEC, 0.1, 0.9, StopPolicy(WORST, "crc", 0.9)))
ONE_ALPHA = Levels(HaltingPolicy(SPEC, 0.1, 0.9, None))
HAND_PICKED = Levels(None)


def session(levels: Levels = PROMISED, path: Path | None = None) -> DiffusionSession:
    return DiffusionSession(levels, max_steps=STEPS, artifact="abc", journal=Journal(path))


def new(request_id: str, lora: Any = None, prompt: int = 3, **extra: Any) -> SimpleNamespace:
    return SimpleNamespace(
        req_id=request_id,
        prompt_token_ids=list(range(prompt)),
        sampling_params=SimpleNamespace(extra_args=extra or None),
        lora_request=lora,
    )


def admit(to: DiffusionSession, *requests: Any, finished: tuple[str, ...] = ()) -> None:
    to.admit(SimpleNamespace(finished_req_ids=finished, scheduled_new_reqs=requests))


def step(
    to: DiffusionSession, request_id: str, at: int, score: float, *, commit: bool = False
) -> None:
    """One engine step of one request, decided as the device would."""
    watched = to.watched(request_id)
    assert watched is not None
    halts = score > watched.level and not commit
    to.log(
        [watched],
        Decision(
            torch.tensor([at]),
            torch.tensor([commit]),
            torch.tensor([score], dtype=torch.float32),
            torch.tensor([halts]),
            torch.tensor([np.isnan(score)]),
        ),
    )


def only(of: DiffusionSession) -> dict[str, Any]:
    (found,) = of.decisions(10)
    return found


@pytest.mark.parametrize(
    ("levels", "extra", "decision", "reason"),
    [
        (PROMISED, {"stopper": 0}, "off", "asked_off"),
        (PROMISED, {"stopper": "fixed"}, "not_applied", "no_fixed_threshold"),
        (PROMISED, {"stopper": 7}, "not_applied", "bad_options"),
        (PROMISED, {"stopper_alpha": 0.001}, "not_applied", "too_few_calibration_traces"),
        (PROMISED, {"diffusion_max_steps": 3}, "not_applied", "diffusion_max_steps"),
        (PROMISED, {"diffusion_seed_canvas": [1] * 4}, "not_applied", "diffusion_options"),
        (PROMISED, {"diffusion_read_only": 1}, "not_applied", "diffusion_options"),
        (ONE_ALPHA, {"stopper_alpha": 0.3}, "not_applied", "alpha_not_calibrated"),
        (HAND_PICKED, {"stopper_alpha": 0.3}, "not_applied", "no_promise"),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else "",
)
def test_who_is_not_watched_is_told_why(
    levels: Levels, extra: dict[str, Any], decision: str, reason: str
) -> None:
    one = session(levels)
    admit(one, new("r", **extra))
    assert not one.following
    assert one.watched("r") is None
    assert (only(one)["decision"], only(one)["reason"]) == (decision, reason)


def test_an_adapter_is_another_model() -> None:
    one = session()
    admit(one, new("r", lora=object()))
    assert only(one)["reason"] == "lora"


def test_each_request_has_the_level_of_its_alpha_and_its_own_cap() -> None:
    one = session()
    admit(one, new("a"), new("b", stopper_alpha=0.5), new("c", stopper="audit"))
    found = {name: one.watched(name) for name in "abc"}
    assert found["a"] is not None and found["b"] is not None and found["c"] is not None
    assert found["a"].level == np.float32(0.9)
    assert found["b"].level == StopPolicy(WORST, "crc", 0.9).threshold(0.5)
    assert (found["a"].stops, found["c"].stops) == (True, False)
    free = session(HAND_PICKED)
    admit(free, new("d", diffusion_max_steps=5), new("e", diffusion_max_steps=500))
    assert [free.watched(name).steps for name in "de"] == [5, STEPS]  # type: ignore[union-attr]


def test_a_stopped_request_is_recorded_canvas_by_canvas(tmp_path: Path) -> None:
    one = session(path=tmp_path / "d.jsonl")
    admit(one, new("r", prompt=5))
    for at, score in enumerate((0.1, 0.5, 0.95)):
        step(one, "r", at, score)
    step(one, "r", 3, 0.0, commit=True)
    step(one, "r", 0, -np.inf)
    assert only(one)["running"]
    step(one, "r", 0, 0.0, commit=True)
    admit(one, finished=("r",))
    told = json.loads((tmp_path / "d.jsonl").read_text())
    assert told == only(one)
    assert told | {"score": None, "threshold": None, "top_score": None, "canvases": None} == {
        "request_id": "r",
        "decision": "stopped",
        "reason": "score_above_threshold",
        "canvas": 0,
        "step": 2,
        "score": None,
        "threshold": None,
        "alpha": 0.1,
        "steps": 4,
        "steps_saved": 5,
        "top_score": None,
        "canvases": None,
        "prompt_tokens": 5,
        "artifact": "abc",
        "running": False,
    }
    assert told["score"] == told["top_score"] == np.float32(0.95)
    assert told["canvases"] == [[3, 2, told["score"]], [1, None, None]]
    assert one.counters()["decisions"] == {"stopped": 1}
    one.close()


def test_an_audit_is_marked_and_says_what_a_halt_would_have_spared() -> None:
    one = session()
    admit(one, new("r", stopper="audit"))
    for at in range(6):
        step(one, "r", at, 0.95 if at in (2, 4) else 0.0)
    step(one, "r", 6, 0.0, commit=True)
    found = only(one)
    assert (found["decision"], found["step"]) == ("marked", 2)
    assert (found["steps"], found["steps_saved"]) == (6, 3)


def test_a_halt_at_the_last_step_is_none() -> None:
    one = session()
    admit(one, new("r"))
    step(one, "r", STEPS - 1, 0.95)
    found = only(one)
    assert (found["decision"], found["steps_saved"]) == ("not_stopped", 0)
    assert found["canvases"] == [[STEPS, None, None]]


def test_a_hand_picked_rule_says_that_it_promises_nothing() -> None:
    one = session(HAND_PICKED)
    admit(one, new("r"))
    assert only(one)["reason"] == "no_step"
    step(one, "r", 0, -0.5)
    assert only(one)["reason"] == "score_below_threshold_without_promise"
    step(one, "r", 1, 0.5)
    assert only(one)["reason"] == "score_above_threshold_without_promise"
    assert only(one)["alpha"] is None


def test_a_preempted_canvas_begins_again() -> None:
    one = session()
    admit(one, new("r"))
    for at in range(4):
        step(one, "r", at, 0.0)
    admit(one, new("r"))  # back, with the prompt it had
    step(one, "r", 0, 0.0)
    assert only(one)["canvases"] == [[1, None, None]]


def test_an_id_given_anew_is_another_request() -> None:
    one = session()
    admit(one, new("r"))
    first = one.watched("r")
    step(one, "r", 0, 0.95)
    admit(one, new("r", prompt=9), finished=("r",))
    assert one.watched("r") is not first
    step(one, "r", 0, 0.0)
    finished, running = one.decisions(10)
    assert [finished["prompt_tokens"], running["prompt_tokens"]] == [3, 9]
    assert running["canvases"] == [[1, None, None]]


def test_margins_that_are_no_numbers_are_counted() -> None:
    one = session()
    admit(one, new("r"))
    step(one, "r", 0, np.nan)
    admit(one, finished=("r",))
    assert one.counters()["fail_open"] == {"score_not_finite": 1}


def test_a_record_is_found_by_the_response_s_id() -> None:
    one = session()
    admit(one, new("chatcmpl-7-0123abcd"))
    assert one.decision("chatcmpl-7")["running"]  # type: ignore[index]
    admit(one, finished=("chatcmpl-7-0123abcd",))
    assert not one.decision("chatcmpl-7")["running"]  # type: ignore[index]
    assert one.decision("other") is None


def test_thinking_cannot_be_stopped_where_there_is_none() -> None:
    one = session()
    admit(one, new("r"))
    assert one.stop_thinking("r").outcome == "not_watched"
    assert one.stop_thinking("x").outcome == "unknown"


def test_a_request_that_breaks_admission_runs_on_unwatched() -> None:
    one = session()
    admit(one, new("r", diffusion_max_steps="many"), new("s"))
    assert one.watched("r") is None
    assert one.watched("s") is not None
    assert one.counters()["fail_open"] == {"admit": 1}
    assert one.decisions(10)[0]["decision"] == "failed_open"


def test_a_rank_that_does_not_report_keeps_nothing() -> None:
    one = DiffusionSession(PROMISED, max_steps=STEPS, artifact="abc", journal=None)
    admit(one, new("r"))
    step(one, "r", 0, 0.95)
    assert one.decisions(10) == []
    assert one.decision("r") is None
    assert one.counters() == {}


def test_what_is_open_at_shutdown_is_written_down(tmp_path: Path) -> None:
    one = session(path=tmp_path / "d.jsonl")
    admit(one, new("r"))
    one.close()
    assert json.loads((tmp_path / "d.jsonl").read_text())["request_id"] == "r"


class Vllm:
    """The sampler behind ours: notes the caps it is called with, and may fail."""

    def __init__(self, fails: bool = False) -> None:
        self.diffusion_states = SimpleNamespace(
            device=torch.device("cpu"),
            max_steps=torch.full((2,), STEPS, dtype=torch.int32),
            canvas=torch.zeros(2, 4, dtype=torch.int64),
            argmax_canvas=torch.zeros(2, 4, dtype=torch.int64),
            step=torch.zeros(2, dtype=torch.int32),
            is_encoder_phase=torch.zeros(2, dtype=torch.bool),
        )
        self.fails = fails
        self.caps: list[list[int]] = []

    def __call__(self, logits: Any, batch: Any, draft_logits: Any) -> str:
        self.caps.append(self.diffusion_states.max_steps.tolist())
        if self.fails:
            raise RuntimeError("out of memory")
        return "output"


def batch(*ids: str, drafts: int = 4) -> SimpleNamespace:
    return SimpleNamespace(
        num_reqs=len(ids),
        num_draft_tokens=drafts,
        req_ids=list(ids),
        idx_mapping_np=np.arange(len(ids), dtype=np.int32),
        cu_num_logits_np=np.arange(len(ids) + 1) * 4,
    )


SURE = torch.eye(8)[:4] * 20


def test_the_cap_is_lowered_for_one_call_even_if_vllm_fails_in_it() -> None:
    for fails in (False, True):
        one, vllm = session(HAND_PICKED), Vllm(fails)
        admit(one, new("r"))
        halting = HaltingSampler(vllm, HaltingRule(), one)
        if fails:
            with pytest.raises(RuntimeError, match="out of memory"):
                halting(SURE, batch("r"))
        else:
            assert halting(SURE, batch("r")) == "output"
        assert vllm.caps == [[1, STEPS]]
        assert vllm.diffusion_states.max_steps.tolist() == [STEPS] * 2
        assert only(one)["step"] == 0


def test_steps_without_watched_requests_or_canvases_go_straight_through() -> None:
    one, vllm = session(HAND_PICKED), Vllm()
    halting = HaltingSampler(vllm, HaltingRule(), one)
    admit(one, new("r", stopper=0))
    halting(SURE, batch("r"))
    admit(one, new("s"))
    halting(SURE[:0], batch("s", drafts=0))
    halting(SURE, batch("_warmup_0"))
    assert vllm.caps == [[STEPS] * 2] * 3
    assert halting.caps is vllm.caps  # attributes are the original's


def test_a_fault_of_ours_is_counted_and_vllm_samples_on() -> None:
    one, vllm = session(HAND_PICKED), Vllm()
    admit(one, new("r"))
    halting = HaltingSampler(vllm, HaltingRule(), one)
    assert halting(SURE.to(torch.int64), batch("r")) == "output"
    assert vllm.caps == [[STEPS] * 2]
    assert one.counters()["fail_open"] == {"step": 1}
