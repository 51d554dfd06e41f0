"""The plugin in vLLM's V2 runner, the default on GPUs, here through Triton's interpreter.

Few and short requests: the interpreter takes a good part of a second for a step.
"""

from __future__ import annotations

import pytest
from runs import ALPHA, GREEDY, NGRAM, SAMPLED, check_decisions, run_engine

# No top-p: Triton's interpreter does not run vLLM's kernel for it.
SHORT = {"top_p": 1.0, "max_tokens": 128}
SMALL = {"v2": True, "limit": 6, "alpha": ALPHA, "sampling": {**SAMPLED, **SHORT}}

CASES = {
    # Together, as on GPUs, where both are the default.
    "async_scheduling_and_chunked_prefill": {
        "keep_async": True,
        "engine": {
            "async_scheduling": True,
            "enable_chunked_prefill": True,
            "max_num_batched_tokens": 48,
        },
    },
    "preemption": {
        "max_model_len": 256,
        "engine": {"num_gpu_blocks_override": 10},
    },
    "ngram": {"sampling": {**GREEDY, **SHORT}, "engine": NGRAM},
    "two_ranks": {"tensor_parallel_size": 2, "sampling": {**SAMPLED, **SHORT, "max_tokens": 88}},
}


# Each case and each tracker, not each of each: V1 has both trackers with drafts.
@pytest.mark.parametrize(
    ("case", "tracker"),
    [
        ("async_scheduling_and_chunked_prefill", "device"),
        ("preemption", "host"),
        ("ngram", "device"),
        ("two_ranks", "device"),
    ],
)
def test_decisions_are_the_offline_rule_s(tmp_path, case, tracker):
    run = run_engine(tmp_path, tracker=tracker, **{**SMALL, **CASES[case]})
    assert run.result["runner"] == "v2"
    counted = check_decisions(run, ALPHA)
    assert counted["stopped"] >= 2
    if case.startswith("async_scheduling"):
        assert run.result["async_scheduling"]
    if case == "preemption":
        assert run.result["metrics"]["vllm:num_preemptions"] > 0
    if case == "ngram":
        assert run.result["metrics"]["vllm:spec_decode_num_accepted_tokens"] > 20
