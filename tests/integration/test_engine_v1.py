"""The plugin in vLLM's V1 runner, which CPU engines run: decisions equal the offline rule's."""

from __future__ import annotations

import numpy as np
import pytest
from runs import (
    ALPHA,
    ARTIFACT,
    GREEDY,
    NGRAM,
    SAMPLED,
    check_decisions,
    run_engine,
    true_hidden,
)

from stopper.artifact import Artifact


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """200 prompts, audited and then stopped, with the same seeds, compiled."""
    folder = tmp_path_factory.mktemp("v1")
    return run_engine(
        folder,
        limit=200,
        passes=["audit", 1, 0],
        keep_hidden=True,
        enforce_eager=False,
        max_num_seqs=128,
    )


def test_every_decision_is_the_offline_decision(plain):
    assert plain.result["runner"] == "v1"
    counted = check_decisions(plain, ALPHA)
    assert counted["stopped"] >= 50
    assert counted["not_stopped"] >= 5


def test_an_audit_marks_where_it_would_stop_and_changes_nothing(plain):
    counted = check_decisions(plain, ALPHA, "audit")
    assert counted["marked"] >= 50
    audited, off = plain.result["passes"]["audit"], plain.result["passes"]["0"]
    assert [t["output_ids"] for t in audited] == [t["output_ids"] for t in off]


def test_the_stopped_trace_is_the_full_trace_up_to_the_stop(plain):
    for full, short in zip(*(plain.result["passes"][m] for m in ("audit", "1")), strict=True):
        end = short["decision"]["position"]
        assert full["decision"]["position"] == end
        assert short["output_ids"][:end] == full["output_ids"][:end]


def test_hidden_states_are_those_of_transformers(plain):
    artifact = Artifact.load(ARTIFACT)
    for number, trace in enumerate(plain.result["passes"]["audit"][:60]):
        seen = artifact.cues.events(trace["prompt_ids"], trace["output_ids"][:-1])
        if seen:
            truth = true_hidden(trace, artifact, [index for index, _ in seen])
            kept = plain.hidden("audit", number)
            np.testing.assert_allclose(kept, truth, rtol=1e-4, atol=2e-3)


def test_prompts_in_the_prefix_cache_are_decided_alike(plain):
    assert plain.result["metrics"]["vllm:prefix_cache_hits"] > 1000


def test_every_request_is_reported_once(plain):
    lines = (plain.folder / "decisions.jsonl").read_text().splitlines()
    assert len(lines) == 3 * 200


def test_off_is_off(plain):
    for trace in plain.result["passes"]["0"]:
        assert trace["decision"]["decision"] == "off"


def test_chunked_prefill(tmp_path):
    # Unseeded: seeds and chunked prompts do not go together on V1 CPU engines (upstream).
    run = run_engine(
        tmp_path,
        limit=16,
        seeded=False,
        engine={"enable_chunked_prefill": True, "max_num_batched_tokens": 32},
    )
    assert check_decisions(run, ALPHA)["stopped"] >= 5


def test_preemption(tmp_path):
    run = run_engine(
        tmp_path,
        limit=16,
        max_model_len=384,
        engine={"num_gpu_blocks_override": 20},
    )
    assert run.result["metrics"]["vllm:num_preemptions"] > 0
    assert check_decisions(run, ALPHA)["stopped"] >= 5


@pytest.mark.parametrize("tracker", ["host", "device"])
def test_ngram_speculative_decoding(tmp_path, tracker):
    # Greedy: V1 CPU engines draw garbage from drafts at a temperature (upstream).
    run = run_engine(tmp_path, limit=16, sampling=GREEDY, tracker=tracker, engine=NGRAM)
    assert run.result["metrics"]["vllm:spec_decode_num_accepted_tokens"] > 100
    assert check_decisions(run, ALPHA)["stopped"] >= 5


def test_two_tensor_parallel_ranks(tmp_path):
    short = {**SAMPLED, "max_tokens": 160}
    run = run_engine(tmp_path, limit=16, sampling=short, tensor_parallel_size=2, tracker="device")
    assert check_decisions(run, ALPHA)["stopped"] >= 5
