"""What stopper refuses to run in; pure facts, no engine."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.vllm.compatibility import EngineFacts, refusals

CLEAN = EngineFacts(
    vllm_version="0.32.0", runner="v1", device="cpu", worker_cls="auto", num_layers=4
)
LAST, INNER = (4,), (2, 4)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"vllm_version": "0.33.0.post1", "runner": "v2", "device": "cuda"},
        {"speculative_method": "ngram"},
        {"runner": "v2", "mrope": True},
    ],
)
def test_a_clean_engine_is_not_refused(changes: dict[str, Any]) -> None:
    for layers in (LAST, INNER):
        assert refusals(replace(CLEAN, **changes), layers) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"vllm_version": "0.31.9"}, "vLLM 0.31.9 is outside 0.32.0 <= version < 0.34.0"),
        ({"vllm_version": "0.34.0"}, "install one in that range"),
        ({"vllm_version": "dev"}, "vLLM dev is outside"),
        ({"device": "tpu"}, "device 'tpu': only CPU and CUDA/ROCm"),
        ({"worker_cls": "mine.Worker"}, "--worker-cls mine.Worker: .* leave it at auto"),
        ({"runner_type": "pooling"}, "a pooling model generates no thinking"),
        ({"batch_sharded_sampling": True}, "--enable-batch-sharded-sampling .* turn it off"),
        ({"prefill_context_parallel": 2}, "prefill context parallelism .* set it to 1"),
        ({"adaptive_verification": True}, "adaptive verification .* turn it off"),
        ({"watermark": True}, "watermarking sampler .* turn it off"),
        ({"microbatches": True}, "dual-batch overlap .* turn it off"),
        ({"mrope": True}, "mrope.* use the V2 runner"),
    ],
)
def test_each_reason_stands_alone_whatever_the_layers(changes: dict[str, Any], words: str) -> None:
    for layers in (LAST, INNER):
        (reason,) = refusals(replace(CLEAN, **changes), layers)
        assert re.search(words, reason)


@pytest.mark.parametrize("method", ["eagle3", "dflash", "dspark", "extract_hidden_states"])
def test_speculation_that_owns_the_inner_layers(method: str) -> None:
    facts = replace(CLEAN, speculative_method=method)
    assert refusals(facts, LAST) == []
    (reason,) = refusals(facts, INNER)
    assert f"{method!r} uses the auxiliary hidden states" in reason
    assert "layers [2]" in reason


def test_pipeline_stages_see_the_last_layer_only() -> None:
    facts = replace(CLEAN, pipeline_parallel=2)
    assert refusals(facts, LAST) == []
    (reason,) = refusals(facts, INNER)
    assert "layers [2]; train a probe on the last layer only" in reason


def test_layers_that_the_model_does_not_have() -> None:
    assert refusals(CLEAN, (2, 5, 9)) == ["the probe reads layers [5, 9], the model has 4"]


FACTS = st.builds(
    EngineFacts,
    vllm_version=st.sampled_from(["0.31.0", "0.32.0", "0.33.1", "1.0", "dev"]),
    runner=st.sampled_from(["v1", "v2"]),
    device=st.sampled_from(["cpu", "cuda", "xpu"]),
    worker_cls=st.sampled_from(["auto", "mine.Worker"]),
    num_layers=st.integers(1, 8),
    runner_type=st.sampled_from(["generate", "pooling"]),
    speculative_method=st.sampled_from([None, "ngram", "eagle3", "dflash"]),
    adaptive_verification=st.booleans(),
    pipeline_parallel=st.integers(1, 2),
    prefill_context_parallel=st.integers(1, 2),
    batch_sharded_sampling=st.booleans(),
    diffusion=st.booleans(),
    mrope=st.booleans(),
    watermark=st.booleans(),
    microbatches=st.booleans(),
)


@settings(deadline=None)
@given(FACTS)
def test_a_probe_of_the_last_layer_is_never_refused_for_inner_layers(facts: EngineFacts) -> None:
    last = refusals(facts, (facts.num_layers,))
    assert not any("layers" in reason for reason in last)
    # More layers, more reasons, never fewer; and none is said twice.
    every = refusals(facts, tuple(range(1, facts.num_layers + 1)))
    assert set(last) <= set(every)
    assert len(set(every)) == len(every)
