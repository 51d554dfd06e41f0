"""The plugin in vLLM's V2 runner, the default on GPUs, here through Triton's interpreter.

Few and short requests: the interpreter takes a good part of a second for a step.
"""

from __future__ import annotations

import pytest
from runs import GREEDY, NGRAM, check_decisions, run_engine

SMALL = {"v2": True, "limit": 12, "alpha": 0.3}

CASES = {
    "async_scheduling": {"engine": {"async_scheduling": True}},
    "chunked_prefill": {
        "engine": {"enable_chunked_prefill": True, "max_num_batched_tokens": 48},
    },
    "preemption": {
        "max_model_len": 256,
        "engine": {"num_gpu_blocks_override": 12},
    },
    "ngram": {"sampling": GREEDY, "engine": NGRAM},
    "two_ranks": {"tensor_parallel_size": 2},
}


@pytest.mark.parametrize("tracker", ["device", "host"])
@pytest.mark.parametrize("case", list(CASES))
def test_decisions_are_the_offline_rule_s(tmp_path, case, tracker):
    run = run_engine(tmp_path, tracker=tracker, **{**SMALL, **CASES[case]})
    assert run.result["runner"] == "v2"
    counted = check_decisions(run, SMALL["alpha"])
    assert counted["stopped"] >= 3
    if case == "async_scheduling":
        assert run.result["async_scheduling"]
    if case == "preemption":
        assert run.result["metrics"]["vllm:num_preemptions"] > 0
    if case == "ngram":
        assert run.result["metrics"]["vllm:spec_decode_num_accepted_tokens"] > 20
