from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from adapters.transformers import DiffusionLM, Request, Sampler, Stability, Threshold, decode
from adapters.transformers.generation import Pass
from stopper.errors import InputError
from stopper.halting import PRESETS, HaltingRule
from stopper.schedule import Schedule
from tests.unit.adapters.diffusion_makers import (
    END,
    MASK,
    MODELS,
    VOCAB,
    TableModel,
    dream_like,
    llada_like,
    mixed_requests,
    slow_decode,
)

SAMPLERS = {
    "one block": Sampler(9),
    "several positions a step": Sampler(9, steps=4),
    "blocks that divide": Sampler(9, 3, order="entropy"),
    "blocks that do not divide": Sampler(9, 4, 3, order="margin"),
    "progress over the canvas": Sampler(9, 4, progress="canvas"),
    "one token": Sampler(1),
    "blocks of one token": Sampler(3, 1),
}
RULES = {
    "none": None,
    "mean": HaltingRule(Schedule("linear", 2.0, 0.5)),
    "lowest, gated": HaltingRule(Schedule("cosine", 2.0, 0.0), "min", stable_argmax=True),
    "median of the span": HaltingRule(Schedule("exponential", 4.0, 1.5, 4.0), "median", "span"),
}


def constant(rows: list[list[float]]) -> TableModel:
    """Make a network whose canvas always has these logits, whatever is filled in."""
    wanted = torch.tensor(rows)
    return TableModel(
        wanted.shape[1],
        lambda tokens: torch.cat([torch.zeros(len(tokens) - len(rows), wanted.shape[1]), wanted]),
    )


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("setting", SAMPLERS)
@pytest.mark.parametrize("kind", MODELS)
def test_a_batch_decodes_as_the_slow_reference_does(kind: str, setting: str, rule: str) -> None:
    model, sampler, asked = MODELS[kind](), SAMPLERS[setting], mixed_requests(4)
    found = decode(model, asked, sampler, rule=RULES[rule], batch_size=3)
    for request, result in zip(asked, found, strict=True):
        canvas, used = slow_decode(model, request, sampler, RULES[rule])
        assert list(result.tokens) == canvas
        assert list(result.steps) == used


@pytest.mark.parametrize("parallel", [None, Threshold(0.5), Stability(0.3, 0.5, 1)])
def test_who_else_is_in_the_batch_changes_nothing(parallel: Threshold | Stability | None) -> None:
    model, asked = llada_like(), mixed_requests(8)
    sampler = Sampler(8, 5, parallel=parallel)
    alone = [decode(model, [one], sampler, rule=RULES["mean"])[0] for one in asked]
    for size in (3, 8):
        together = decode(model, asked, sampler, rule=RULES["mean"], batch_size=size)
        assert [(one.tokens, one.steps) for one in together] == [
            (one.tokens, one.steps) for one in alone
        ]
    again = decode(model, asked[::-1], sampler, rule=RULES["mean"], batch_size=5)
    assert [one.tokens for one in again[::-1]] == [one.tokens for one in alone]


def test_the_rule_halts_some_rows_early_and_others_not() -> None:
    found = decode(llada_like(), mixed_requests(12), Sampler(8), rule=RULES["mean"])
    steps = {one.passes for one in found}
    assert len(steps) > 2
    for one in found:
        assert one.halted == (one.passes < 8,)
        assert one.passes == 8 or one.scores[0] > 0


def test_finished_rows_leave_the_batch_and_waiting_ones_take_their_place() -> None:
    # The first canvas token of a prompt says how sure the model is from the start.
    def logits(tokens: torch.Tensor) -> torch.Tensor:
        found = torch.zeros(len(tokens), 4)
        found[:, 1] = 9.0 if tokens[0] == 2 else 1.0
        return found

    network = TableModel(4, logits)
    model = DiffusionLM(network, mask_token_id=3)
    asked = [Request((token,)) for token in (1, 2, 2, 1, 2)]
    rule = HaltingRule(Schedule("linear", 5.0, 5.0))
    found = decode(model, asked, Sampler(4), rule=rule, batch_size=3)
    assert [one.passes for one in found] == [4, 1, 1, 4, 1]
    # Rows 0, 1, 2 at first; then 0, 3, 4; then 0 and 3; then 3 alone, one step behind.
    assert network.rows == [3, 3, 2, 2, 1]


def test_a_level_shifts_the_rule_of_one_request_alone() -> None:
    model, asked = llada_like(), [mixed_requests(4)[3]] * 3
    found = decode(model, asked, Sampler(8), rule=RULES["mean"], level=[-9.0, 0.0, np.inf])
    assert found[0].passes == 1
    assert found[1] == decode(model, asked[:1], Sampler(8), rule=RULES["mean"])[0]
    assert found[2].passes == 8
    assert not found[2].halted[0]


def test_a_halting_row_fills_its_block_with_the_argmax_of_that_pass() -> None:
    seen: list[Pass] = []
    rule = HaltingRule(Schedule("linear", -9.0, -9.0))
    [found] = decode(llada_like(), [Request((1, 2))], Sampler(6, 4), rule=rule, watch=seen.append)
    assert found.steps == (1, 1)
    assert found.tokens[:4] == tuple(seen[0].filled[0].tolist())
    assert found.tokens[4:] == tuple(seen[1].filled[0, :2].tolist())
    assert seen[0].canvas[0, 4:].tolist() == [MASK, MASK]


def test_what_is_given_in_the_canvas_stays() -> None:
    canvas = (5, MASK, 6, MASK, MASK, 7, 8)
    model = llada_like()
    [found] = decode(model, [Request((1,), canvas)], Sampler(7, 3))
    assert [found.tokens[at] for at in (0, 2, 5, 6)] == [5, 6, 7, 8]
    assert found.steps == (1, 2, 0)
    assert found.planned == (1, 2, 0)
    assert np.isnan(found.scores).all()
    [halted] = decode(model, [Request((1,), canvas)], Sampler(7, 3), rule=RULES["mean"])
    assert (
        list(halted.tokens)
        == slow_decode(model, Request((1,), canvas), Sampler(7, 3), RULES["mean"])[0]
    )


def test_a_canvas_without_masks_is_returned_after_no_pass() -> None:
    asked = [Request((1,), (4, 5)), Request((2,)), Request((), (6, 7))]
    found = decode(llada_like(), asked, Sampler(2), batch_size=1)
    assert found[0].tokens == (4, 5)
    assert found[2].tokens == (6, 7)
    assert [one.passes for one in found] == [0, 2, 0]


def test_no_request_gives_no_result() -> None:
    assert decode(llada_like(), [], Sampler(2)) == []


def test_an_empty_prompt_is_decoded_by_both_kinds() -> None:
    request = Request((), (5, MASK, 6, MASK, MASK))
    for model in (llada_like(), dream_like()):
        [found] = decode(model, [request], Sampler(5))
        assert list(found.tokens) == slow_decode(model, request, Sampler(5))[0]


def test_nan_logits_never_halt_and_are_filled_in_last() -> None:
    nan = float("nan")
    model = DiffusionLM(
        constant([[nan, 1.0, 0.0, 0.0], [0.0, 9.0, 0.0, 0.0], [0.0, 0.0, 8.0, 0.0]]),
        mask_token_id=3,
    )
    seen: list[Pass] = []
    rule = HaltingRule(Schedule("linear", -9.0, -9.0))
    [found] = decode(model, [Request((1,))], Sampler(3), rule=rule, watch=seen.append)
    assert found.passes == 3
    assert not found.halted[0]
    assert found.tokens[1:] == (1, 2)
    assert 0 <= found.tokens[0] < 3
    assert [one.canvas[0, 0].item() for one in seen[:2]] == [3, 3]
    assert np.isnan(seen[0].signals[0]).all()


def test_one_token_beside_the_mask_is_decoded_in_full_since_nothing_competes() -> None:
    model = DiffusionLM(constant([[1.0, 0.0]] * 3), mask_token_id=1)
    [found] = decode(model, [Request(())], Sampler(3), rule=PRESETS["prophet"])
    assert found.tokens == (0, 0, 0)
    assert found.passes == 3


def test_a_vocabulary_of_the_mask_alone_is_refused() -> None:
    with pytest.raises(InputError, match="nothing to predict"):
        DiffusionLM(TableModel(1, torch.zeros_like), mask_token_id=0)


def test_tokens_of_the_model_must_be_in_its_vocabulary() -> None:
    network = TableModel(4, torch.zeros_like)
    with pytest.raises(InputError, match="token 4 is outside the vocabulary of 4"):
        DiffusionLM(network, mask_token_id=4)
    with pytest.raises(InputError, match="token -1 is outside"):
        DiffusionLM(network, mask_token_id=3, end_ids=[-1])


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        pytest.param(Request((MASK,)), "prompt holds the mask token 23", id="mask in prompt"),
        pytest.param(Request((VOCAB,)), "token 24 is outside the vocabulary", id="big token"),
        pytest.param(Request((-1,)), "token -1 is outside", id="negative token"),
        pytest.param(Request((1,), (MASK,)), "canvas has 1 tokens", id="short canvas"),
        pytest.param(Request((1,) * 62), "more than the 64 positions", id="too long"),
    ],
)
def test_a_request_that_does_not_fit_is_named(request_: Request, message: str) -> None:
    with pytest.raises(InputError, match=f"request 'mine': .*{message}"):
        decode(llada_like(), [Request((1,)), replace(request_, name="mine")], Sampler(3))


def test_batches_without_rows_and_levels_that_are_none_are_refused() -> None:
    model, asked = llada_like(), [Request((1,))]
    with pytest.raises(InputError, match="batch_size must be at least 1"):
        decode(model, asked, Sampler(3), batch_size=0)
    with pytest.raises(InputError, match="a level is NaN"):
        decode(model, asked, Sampler(3), rule=RULES["mean"], level=float("nan"))
    with pytest.raises(InputError, match="2 levels for 1 requests"):
        decode(model, asked, Sampler(3), rule=RULES["mean"], level=[0.0, 1.0])


def test_a_threshold_fills_in_all_that_are_sure_and_at_least_one() -> None:
    # Probabilities of the argmax: about 0.97, 0.91, 0.87 and 0.38.
    rows = [[0.0, 4.2, 0.0, 0.0], [3.0, 0.0, 0.0, 0.0], [0.0, 0.0, 2.6, 0.0], [0.1, 0.0, 0.2, 0.0]]
    model = DiffusionLM(constant(rows), mask_token_id=3)
    seen: list[Pass] = []
    sampler = Sampler(4, parallel=Threshold(0.9))
    [found] = decode(model, [Request((1,))], sampler, watch=seen.append)
    assert [one.canvas[0].tolist() for one in seen] == [
        [1, 0, 3, 3],
        [1, 0, 2, 3],
        [1, 0, 2, 2],
    ]
    assert found.steps == (3,)
    assert found.planned == (4,)


def test_stability_waits_for_its_history_and_then_fills_in_what_stood_still() -> None:
    model = DiffusionLM(
        constant([[0.0, 5.0, 0.0, 0.0], [0.0, 5.0, 0.0, 0.0], [0.0, 5.1, 0.0, 0.0]] * 2),
        mask_token_id=3,
    )
    sampler = Sampler(6, parallel=Stability(probability=0.9, divergence=0.01, history=2))
    [found] = decode(model, [Request((1,))], sampler)
    assert found.steps == (3,)  # one position at steps 0 and 1, then all that is left
    blocks = decode(model, [Request((1,))], replace(sampler, block_length=3))
    assert blocks[0].steps == (3, 3)  # each block starts its history anew


def test_the_mask_itself_is_never_predicted() -> None:
    for kind in MODELS.values():
        for one in decode(kind(), mixed_requests(6), Sampler(7, 3)):
            assert MASK not in one.tokens
    assert END < MASK
