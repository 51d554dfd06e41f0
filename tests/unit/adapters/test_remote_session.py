"""What a session in remote mode takes on and reports, and which engines it refuses."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from engine_simulator import FORCE, automaton, judge
from remote_engine import InProcess, remote_watch
from session_makers import ALPHA, PROMPT, SO, WAIT, admit, feed, request
from test_compatibility import CLEAN

from adapters.vllm.compatibility import refusals, remote_refusals
from adapters.vllm.install import _Plan, _remote
from adapters.vllm.journal import Journal
from adapters.vllm.remote.session import RemoteSession
from adapters.vllm.settings import PluginSettings, RemoteSettings
from stopper.errors import InputError


class Remote(RemoteSession):
    """A session and the sidecar it asks."""

    def __init__(self, threshold: float = -100.0, **changes: Any) -> None:
        cues = automaton()
        self.sidecar = InProcess(judge())
        self.sidecar.thresholds = dict.fromkeys("abc", threshold)
        fields: dict[str, Any] = {
            "alpha": ALPHA,
            "answer_prompt": True,
            "labels": cues.labels,
            "artifact": "local",
            "journal": Journal(None),
            "keeps": False,
        } | changes
        super().__init__(remote_watch(cues, judge(), self.sidecar), self.sidecar, **fields)

    def step(self, read: Any) -> Any:
        self.sidecar.step()
        return super().step(read)


def test_a_stopped_request_is_reported_with_its_lag(tmp_path: Path) -> None:
    file = tmp_path / "decisions.jsonl"
    one = Remote(journal=Journal(file))
    admit(one, request("a", {"stopper_alpha": 0.2}))
    assert feed(one, "a", SO, WAIT, SO, *FORCE) == [3, 4, 5]
    (running,) = one.decisions(10)
    admit(one, finished=("a",))
    (record,) = one.decisions(10)
    assert running == {**record, "running": True}
    (event,) = one.sidecar.seen
    score = record["score"]
    wanted = {
        "request_id": "a",
        "decision": "stopped",
        "reason": "score_above_threshold",
        "position": 2,
        "forced_position": 3,
        "score": score,
        "threshold": -100.0,
        "alpha": 0.2,
        "cue": "wait",
        "cues": 1,
        "cue_scores": [[2, score]],
        "prompt_tokens": len(PROMPT),
        "artifact": "abc",
        "running": False,
        "remote": {
            "trace": event.request_id,
            "events": 1,
            "answered": 1,
            "late": 0,
            "lost": 0,
            "unanswered": 0,
            "causes": {},
            "lag_tokens": 1,
        },
    }
    assert {name: record[name] for name in wanted} == wanted
    assert (event.alpha, event.audit, event.position) == (0.2, False, 2)
    one.close()
    assert json.loads(file.read_text()) == record
    assert one.counters() == {
        "decisions": {"stopped": 1},
        "not_applied": {},
        "fail_open": {},
        "remote": {"events": 1, "answered": 1},
    }


def test_an_audit_is_marked_by_the_sidecar_and_never_stopped() -> None:
    one = Remote()
    admit(one, request("a", {"stopper": "audit"}))
    assert feed(one, "a", SO, WAIT, SO, WAIT, SO) == []
    admit(one, finished=("a",))
    (record,) = one.decisions(10)
    assert (record["decision"], record["reason"], record["position"]) == ("marked", "audit", 2)
    assert "forced_position" not in record
    assert [event.audit for event in one.sidecar.seen] == [True, True]


@pytest.mark.parametrize(
    ("extra", "fields", "decision", "reason"),
    [
        ({"stopper": 0}, {}, "off", "asked_off"),
        ({"stopper_alpha": 2}, {}, "not_applied", "bad_options"),
        ({"stopper": "fixed"}, {}, "not_applied", "no_fixed_threshold"),
        (None, {"lora_request": object()}, "not_applied", "lora"),
        (None, {"structured_outputs": object()}, "not_applied", "structured_outputs"),
        (None, {"prompt": None}, "not_applied", "no_prompt_token_ids"),
    ],
)
def test_what_a_local_session_turns_down_never_reaches_the_sidecar(
    extra: Any, fields: dict[str, Any], decision: str, reason: str
) -> None:
    one = Remote()
    admit(one, request("a", extra, **fields))
    assert not one.watching
    assert feed(one, "a", WAIT, SO) == []
    admit(one, finished=("a",))
    (record,) = one.decisions(10)
    assert (record["decision"], record["reason"]) == (decision, reason)
    assert "remote" not in record
    assert one.sidecar.seen == []


def test_a_fixed_threshold_is_applied_here() -> None:
    one = Remote(fixed=-100.0)
    admit(one, request("a", {"stopper": "fixed"}))
    assert feed(one, "a", SO, WAIT, *FORCE) == [2, 3, 4]
    admit(one, finished=("a",))
    (record,) = one.decisions(10)
    assert record["reason"] == "score_above_threshold_without_promise"
    assert "remote" not in record
    assert one.sidecar.seen == []


def test_requests_without_a_decision_say_why_and_are_counted() -> None:
    one = Remote()
    one.sidecar.cause = "remote_breaker_open"
    admit(one, request("a"), request("b"))
    feed(one, "a", WAIT, SO)
    feed(one, "b", SO, SO)
    admit(one, finished=("a", "b"))
    told = {record["request_id"]: record for record in one.decisions(10)}
    assert (told["a"]["decision"], told["a"]["reason"]) == ("failed_open", "remote_breaker_open")
    assert (told["b"]["decision"], told["b"]["reason"]) == ("not_stopped", "no_cue")
    assert one.counters()["fail_open"] == {"remote_breaker_open": 1}
    assert one.counters()["decisions"] == {"failed_open": 1, "not_stopped": 1}


def test_below_the_threshold_is_what_the_sidecar_says() -> None:
    one = Remote(threshold=1e6)
    admit(one, request("a"))
    assert feed(one, "a", WAIT, SO, SO) == []
    admit(one, finished=("a",))
    (record,) = one.decisions(10)
    assert (record["decision"], record["reason"]) == ("not_stopped", "score_below_threshold")
    assert record["threshold"] == 1e6
    assert record["cue_scores"][0][1] is not None


@pytest.mark.parametrize(
    ("reason", "decision", "counted"),
    [
        ("kill_switch", "not_applied", {}),
        ("alarm", "not_applied", {}),
        ("too_few_calibration_traces", "not_applied", {}),
        ("store_unavailable", "failed_open", {"remote_store_unavailable": 1}),
        ("artifact_changed", "failed_open", {"remote_artifact_changed": 1}),
        ("artifact_unavailable", "failed_open", {"remote_artifact_unavailable": 1}),
    ],
)
def test_why_the_sidecar_stops_nobody_is_why_the_request_was_not_stopped(
    reason: Any, decision: str, counted: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    import msgspec

    one = Remote(threshold=1e6)
    decide = one.sidecar.decide
    monkeypatch.setattr(
        one.sidecar, "decide", lambda event: msgspec.structs.replace(decide(event), reason=reason)
    )
    admit(one, request("a"))
    assert feed(one, "a", WAIT, SO, SO) == []
    admit(one, finished=("a",))
    (record,) = one.decisions(10)
    assert (record["decision"], record["reason"]) == (decision, reason)
    assert one.counters()["fail_open"] == counted


def test_a_fault_of_ours_is_the_reason_before_anything_remote() -> None:
    one = Remote()
    admit(one, request("a"))
    one.sidecar.offer = None  # type: ignore[assignment]
    assert feed(one, "a", WAIT, SO, SO) == []
    admit(one, finished=("a",))
    (record,) = one.decisions(10)
    assert (record["decision"], record["reason"]) == ("failed_open", "TypeError")
    assert one.counters()["fail_open"] == {"TypeError": 1}


def read(**remote: Any) -> RemoteSettings:
    found = PluginSettings.from_additional_config(
        {"stopper": {"artifact": "DIR", "remote": {"url": "http://127.0.0.1:8080", **remote}}}
    )
    assert found is not None
    assert found.remote is not None
    return found.remote


def test_the_settings_have_defaults_and_survive_their_own_dump() -> None:
    assert read() == RemoteSettings(url="http://127.0.0.1:8080")
    assert (read().deadline_ms, read().same_artifact, read().api_key()) == (100, True, None)
    assert read(url="https://sidecar.example/stopper").url == "https://sidecar.example/stopper"


@pytest.mark.parametrize(
    ("remote", "words"),
    [
        ({"url": "127.0.0.1:8080"}, "remote.url: "),
        ({"url": "http://user:secret@host"}, "remote.url: "),
        ({"url": "http://host/?key=1"}, "remote.url: "),
        ({"url": "http://host:99999"}, "remote.url: .*[Pp]ort"),
        ({"url": "http://host:http"}, "remote.url: .*[Pp]ort"),
        ({"url": "http://[::1"}, "remote.url: "),
        ({"url": "http://höst"}, "remote.url: .*ASCII"),
        ({"deadline_ms": 0}, "remote.deadline_ms: .*greater than or equal to 1"),
        ({"deadline_ms": "soon"}, "remote.deadline_ms: "),
        ({"queue": 0}, "remote.queue: "),
        ({"model": ""}, "remote.model: "),
        ({"deadline": 5}, "remote.deadline: Extra inputs"),
    ],
)
def test_bad_settings_are_refused_by_name(remote: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        read(**remote)


@pytest.mark.parametrize(
    ("stopper", "words"),
    [
        ({"tracker": "device"}, "leave 'tracker' at \"auto\""),
        ({"keep_hidden": True}, "leave 'keep_hidden' out"),
        (
            {
                "artifact": None,
                "collect": {
                    "layers": [1],
                    "cues": {"think_start_ids": [1], "think_end_ids": [2]},
                },
            },
            "nothing is decided while collecting",
        ),
    ],
)
def test_what_does_not_go_with_a_sidecar_is_refused(stopper: dict[str, Any], words: str) -> None:
    fields = {"artifact": "DIR", "remote": {"url": "http://h"}, **stopper}
    with pytest.raises(InputError, match=words):
        PluginSettings.from_additional_config({"stopper": fields})


def test_the_key_is_read_from_its_file(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("sk-abc\n")
    assert read(api_key_file=str(file)).api_key() == "sk-abc"


@pytest.mark.parametrize("content", [b"", b"\n", b"two keys", b"a\nb", b"\xff"])
def test_a_file_without_one_key_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "key"
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"remote\.api_key_file: .*key"):
        read(api_key_file=str(file)).api_key()


def test_a_missing_key_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        read(api_key_file=str(tmp_path / "none")).api_key()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"speculative_method": "ngram"}, "beside speculative decoding .ngram."),
        ({"tensor_parallel": 2}, "several ranks"),
        ({"pipeline_parallel": 2}, "several ranks"),
    ],
)
def test_engines_that_only_remote_mode_cannot_serve(changes: dict[str, Any], words: str) -> None:
    facts = replace(CLEAN, **changes)
    assert refusals(facts, (4,)) == []
    (reason,) = remote_refusals(facts)
    assert words.split(" .")[0] in reason


def test_a_plain_engine_may_be_remote() -> None:
    assert remote_refusals(CLEAN) == []


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_worker_gets_a_remote_session_and_a_warning_where_steps_will_wait(
    device: str, caplog: pytest.LogCaptureFixture
) -> None:
    plan = _Plan(automaton(), (1, 2), judge(), None, ALPHA, FORCE, True, "abc", "model")
    fields = {
        "alpha": ALPHA,
        "answer_prompt": True,
        "labels": automaton().labels,
        "artifact": "abc",
        "journal": Journal(None),
        "keeps": False,
    }
    with caplog.at_level(logging.WARNING):
        one = _remote(plan, RemoteSettings(url="http://h"), torch.device(device), fields)
    assert isinstance(one, RemoteSession)
    one.close()
    assert ("every step waits for the device" in caplog.text) == (device == "cuda")
