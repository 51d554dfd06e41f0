"""Remote mode in a real engine, with a real sidecar that is killed under load and comes back."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections import Counter
from typing import Any

import pytest
from runs import ALPHA, ARTIFACT, MODEL, SAMPLED, TEST_PROMPTS, engine_host, offline_stop, said

from stopper.artifact import Artifact

LIMIT = 40
PHASES = ("before", "audit", "killed", "away", "after")
STOPPER = (sys.executable, "-m", "stopper")


@pytest.fixture(scope="module")
def phases(tmp_path_factory) -> dict[str, Any]:
    """All phases of one engine, some prompts each."""
    folder = tmp_path_factory.mktemp("remote")
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    keys, key = folder / "keys.toml", folder / "key"
    made = subprocess.run(
        [*STOPPER, "keys", "new", "engine", "--scope", "decide", "--file", str(keys)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    key.write_text(made.stdout.split()[-1])
    spec = {
        "model": str(MODEL),
        "artifact": str(ARTIFACT),
        "prompts": str(TEST_PROMPTS),
        "limit": LIMIT,
        "alpha": ALPHA,
        "sampling": SAMPLED,
        "sidecar": [
            *(*STOPPER, "serve", "--artifact", str(ARTIFACT), "--port", "{port}"),
            *("--keys-file", str(keys), "--log-level", "warning"),
        ],
        "api_key_file": str(key),
        "port": port,
        # Generous: the sidecar shares a core with the engine here.
        "deadline_ms": 2000,
    }
    (folder / "spec.json").write_text(json.dumps(spec))
    status = engine_host().run("remote", folder / "spec.json", folder, folder=folder)
    log = folder / "sidecar.log"
    told = log.read_text()[-2000:] if log.is_file() else ""
    assert status == 0, said(folder) + told
    return json.loads((folder / "result.json").read_text())


def records(phases: dict[str, Any], name: str) -> list[dict[str, Any]]:
    return [trace["decision"] for trace in phases[name]["traces"]]


def gained(phases: dict[str, Any], name: str, group: str) -> Counter[str]:
    """What a phase added to a group of counters."""
    at = PHASES.index(name)
    before = phases[PHASES[at - 1]]["counters"].get(group, {}) if at else {}
    return Counter(phases[name]["counters"].get(group, {})) - Counter(before)


def test_no_generation_fails_whatever_happens_to_the_sidecar(phases):
    for name in PHASES:
        traces = phases[name]["traces"]
        assert len(traces) == LIMIT
        assert {trace["finish_reason"] for trace in traces} <= {"stop", "length"}
        assert all(trace["output_ids"] for trace in traces)


@pytest.mark.parametrize("name", ["before", "after"])
def test_a_stop_rests_on_the_cue_of_the_offline_rule_and_says_how_much_later_it_came(phases, name):
    artifact = Artifact.load(ARTIFACT)
    closing = artifact.manifest.closing
    assert closing is not None
    force = [*closing.end_ids, *closing.answer_prompt_ids]
    stopped = 0
    for trace in phases[name]["traces"]:
        record = trace["decision"]
        expected = offline_stop(trace, artifact, ALPHA)
        if record["decision"] == "stopped":
            stopped += 1
            assert record["position"] == expected
            at = record["forced_position"]
            assert record["remote"]["lag_tokens"] == at - record["position"] > 0
            assert trace["output_ids"][at : at + len(force)] == force
            assert record["artifact"] == artifact_version()
        elif record["decision"] == "not_stopped" and not record["remote"]["unanswered"]:
            assert expected is None
        elif record["decision"] == "not_applied":
            assert record["reason"] in ("remote_thinking_over", "remote_request_over")
    assert stopped >= LIMIT // 4


def artifact_version() -> str:
    import hashlib

    return hashlib.sha256((ARTIFACT / "manifest.json").read_bytes()).hexdigest()[:16]


def test_an_audit_is_marked_where_it_would_stop_and_thinks_on(phases):
    artifact = Artifact.load(ARTIFACT)
    marked = 0
    for trace in phases["audit"]["traces"]:
        record = trace["decision"]
        if record["decision"] == "marked":
            marked += 1
            assert record["position"] == offline_stop(trace, artifact, ALPHA)
            assert "forced_position" not in record
    assert marked >= LIMIT // 4


def test_while_the_sidecar_is_away_nothing_stops_and_every_record_says_why(phases):
    for record in records(phases, "away"):
        if record["cues"]:
            assert record["decision"] == "failed_open"
            assert record["reason"] in ("remote_breaker_open", "remote_unreachable")
        else:
            assert record["reason"] == "no_cue"
    lost = gained(phases, "away", "fail_open")
    assert set(lost) <= {"remote_breaker_open", "remote_unreachable"}
    assert lost.total() == sum(record["cues"] for record in records(phases, "away"))


def test_the_counters_tell_the_whole_story(phases):
    before, killed = (gained(phases, name, "remote") for name in ("before", "killed"))
    assert before["answered"] >= LIMIT
    assert 0 < killed["answered"] < sum(record["cues"] for record in records(phases, "killed"))
    assert not gained(phases, "before", "fail_open")
    causes = set(gained(phases, "killed", "fail_open"))
    assert causes & {"remote_unreachable", "remote_broken_off"}
    assert "remote_breaker_open" in causes
    assert gained(phases, "after", "remote")["answered"] >= LIMIT
