"""The row map of both runners, read from objects shaped like vLLM's."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from adapters.vllm.rows import StepRows, pick_sources, v1_rows, v2_rows

# Three requests of 2, 1 and 3 tokens: a prompt's chunk, a decode step, and one with two drafts.
TOKENS = torch.tensor([10, 11, 20, 30, 31, 32, 0, 0])
POSITIONS = torch.tensor([0, 1, 7, 4, 5, 6, 0, 0])
FINAL = torch.arange(8.0).reshape(8, 1).repeat(1, 2)
AUX = [FINAL + 100, FINAL + 200]
NAMES = ["a", "b", "c"]


def buffers(**fields: Any) -> SimpleNamespace:
    return SimpleNamespace(hidden_states=FINAL, aux_hidden_states=AUX, **fields)


def v1(discarded: list[bool], drafts: Any = None) -> StepRows:
    runner = SimpleNamespace(
        input_batch=SimpleNamespace(num_reqs=3, req_ids=NAMES),
        query_start_loc=SimpleNamespace(gpu=torch.tensor([0, 2, 3, 6, 6, 6])),
        discard_request_mask=SimpleNamespace(np=np.array([*discarded, True, True])),
        input_ids=SimpleNamespace(gpu=TOKENS),
        positions=POSITIONS,
    )
    return v1_rows(runner, buffers(spec_decode_metadata=drafts), (2, 3, 4), 4)


def v2(computed: list[int], prefill: list[int], drafts: int, index: list[int]) -> StepRows:
    batch = SimpleNamespace(
        num_reqs=3,
        req_ids=NAMES,
        num_computed_tokens_np=np.array([*computed, 99]),
        num_scheduled_tokens=np.array([2, 1, 3]),
        prefill_len_np=np.array(prefill),
        logits_indices=torch.tensor(index),
        num_draft_tokens=drafts,
        cu_num_logits_np=np.array([0, 1, 2, 5]) if drafts else np.array([0, 1, 2, 3]),
        input_ids=TOKENS,
        positions=POSITIONS,
    )
    return v2_rows(buffers(input_batch=batch), (2, 3, 4), 4)


def test_v1_without_drafts_takes_each_requests_last_token() -> None:
    rows = v1([False, False, False])
    assert (rows.counts, rows.live, list(rows.request_ids)) == (None, None, NAMES)
    assert rows.tokens.tolist() == [11, 20, 32]
    assert rows.positions.tolist() == [1, 7, 6]


def test_v1_says_which_rows_are_thrown_away() -> None:
    rows = v1([True, False, False])
    assert rows.live is not None
    assert rows.live.tolist() == [False, True, True]


def test_v1_with_drafts_takes_a_row_per_draft() -> None:
    drafts = SimpleNamespace(
        num_draft_tokens=[0, 0, 2], logits_indices=torch.tensor([1, 2, 3, 4, 5])
    )
    rows = v1([True, False, False], drafts)
    assert rows.counts == [1, 1, 3]
    assert rows.tokens.tolist() == [11, 20, 30, 31, 32]
    assert rows.positions.tolist() == [1, 7, 4, 5, 6]


def test_v2_alike() -> None:
    rows = v2([0, 7, 4], [9, 3, 7], 0, [1, 2, 5])
    assert rows.counts is None
    assert rows.live is not None
    assert rows.live.tolist() == [False, True, True]  # 2 of 9, 8 of 3, 7 of 7
    assert rows.tokens.tolist() == [11, 20, 32]
    rows = v2([0, 7, 4], [2, 3, 7], 2, [1, 2, 3, 4, 5])
    assert (rows.counts, rows.live) == ([1, 1, 3], None)
    assert rows.positions.tolist() == [1, 7, 4, 5, 6]


def test_hidden_states_come_in_the_order_of_the_layers() -> None:
    rows = v1([False, False, False])
    assert rows.hidden_row(1).tolist() == [102, 102, 202, 202, 2, 2]
    assert rows.hidden_row(1).dtype == np.float32
    assert rows.hidden_rows(None)[1].tolist() == rows.hidden_row(1).tolist()
    assert rows.hidden_rows(torch.tensor([2, 0]))[0].tolist() == rows.hidden_row(2).tolist()
    assert pick_sources((4,), 4, FINAL, None) == [FINAL]
    assert pick_sources((1, 3), 4, FINAL, AUX) == AUX


def test_a_row_is_a_copy_in_float32_whatever_the_engines_dtype() -> None:
    source = torch.full((2, 3), 1.5, dtype=torch.bfloat16)
    for sources in ([source], [source.float()], [source, source]):
        rows = StepRows(["a"], None, None, TOKENS[:1], POSITIONS[:1], sources, torch.tensor([1]))
        row = rows.hidden_row(0)
        assert row.dtype == np.float32
        sources[0][1] = -1.0  # the engine reuses its buffers
        assert (row == 1.5).all()
        sources[0][1] = 1.5
