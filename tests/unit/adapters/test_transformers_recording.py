from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from adapters.transformers import (
    DiffusionLM,
    Request,
    Sampler,
    Stability,
    TextJudge,
    Threshold,
    TokenJudge,
    decode,
    record,
)
from adapters.transformers.generation import Pass
from calibration.comparers import get_comparer
from calibration.denoising import replay
from calibration.denoising_store import append_part, load_store
from calibration.denoising_table import COLUMNS
from stopper.denoising_settings import setting_of
from stopper.errors import InputError
from stopper.halting import HaltingRule
from stopper.schedule import Schedule
from tests.unit.adapters.diffusion_makers import (
    END,
    MASK,
    MODELS,
    TableModel,
    llada_like,
    mixed_requests,
)

SAMPLERS = {
    "one block": Sampler(8),
    "blocks": Sampler(8, 3, order="entropy"),
    "canvas progress": Sampler(8, 3, 2, progress="canvas"),
    "threshold": Sampler(8, parallel=Threshold(0.4)),
    "stability": Sampler(8, 5, parallel=Stability(0.3, 0.5, 1)),
}
RULES = {
    "mean": HaltingRule(Schedule("linear", 2.0, 0.5)),
    "gated": HaltingRule(Schedule("cosine", 1.5, 0.0), stable_argmax=True),
    "span, lowest": HaltingRule(Schedule("exponential", 2.0, 0.0, 4.0), "min", "span"),
    "quantile": HaltingRule(Schedule("thirds", 2.0, 0.2), "quantile"),
}
TRIED = (
    ("mean", 0.0, 1),
    ("mean", -1.0, 9),
    ("gated", 0.0, 4),
    ("span, lowest", -0.5, 9),
    ("quantile", 0.25, 4),
)


@pytest.mark.parametrize("setting", SAMPLERS)
@pytest.mark.parametrize("kind", MODELS)
def test_live_halting_stops_where_the_recording_says(kind: str, setting: str) -> None:
    model, sampler, asked = MODELS[kind](), SAMPLERS[setting], mixed_requests(9)
    table = record(model, asked, sampler, batch_size=5)
    early = 0
    for name, level, size in TRIED:
        rule = RULES[name]
        scores = rule.scores(table.column(rule.signal), table.progress, table.changed)
        told = replay(scores, level, table)
        live = decode(model, asked, sampler, rule=rule, level=level, batch_size=size)
        for trace, result in enumerate(live):
            start, stop = table.trace_offsets[trace : trace + 2]
            ends = table.block_offsets[start:stop] + told.at[start:stop]
            # What follows a block that came out otherwise was not recorded.
            wrong = np.flatnonzero(~table.agree[ends])
            known = wrong[0] + 1 if wrong.size else stop - start
            assert list(result.steps[:known]) == (told.at[start:stop] + 1).tolist()[:known]
            assert result.scores[known - 1] == pytest.approx(scores[ends[known - 1]], abs=1e-4)
            early += int(told.steps[trace] < told.full_steps[trace])
    assert early


@pytest.mark.parametrize("setting", ["one block", "blocks", "threshold"])
def test_agree_says_what_halting_live_gives(setting: str) -> None:
    model, sampler, asked = llada_like(), SAMPLERS[setting], mixed_requests(8)
    table, full = record(model, asked, sampler), decode(model, asked, sampler)
    judge = TokenJudge([END])
    told = replay(table.column("masked.mean"), 1.0, table)
    rule = HaltingRule(Schedule("linear", 0.0, 0.0))
    live = decode(model, asked, sampler, rule=rule, level=1.0)
    for trace, (halted, whole) in enumerate(zip(live, full, strict=True)):
        if told.agree[trace]:
            assert judge.same(halted.tokens, whole.tokens)
            assert halted.passes == told.steps[trace]
        elif len(sampler.blocks()) == 1:
            assert not judge.same(halted.tokens, whole.tokens)
    assert told.agree.any()
    assert setting == "blocks" or not told.agree.all()


def test_a_recording_holds_the_signals_of_every_pass() -> None:
    seen: list[Pass] = []
    asked, sampler = mixed_requests(3), Sampler(6, 4)
    table = record(llada_like(), asked, sampler, batch_size=1)
    decode(llada_like(), asked, sampler, batch_size=1, watch=seen.append)
    assert table.signals == COLUMNS
    np.testing.assert_array_equal(table.values, np.concatenate([one.signals for one in seen]))
    np.testing.assert_array_equal(table.progress, np.concatenate([one.progress for one in seen]))
    np.testing.assert_array_equal(table.changed, np.concatenate([one.changed for one in seen]))
    assert table.block_offsets.tolist() == [0, 4, 6, 10, 12, 16, 18]
    assert table.trace_offsets.tolist() == [0, 2, 4, 6]
    assert table.trace_ids == ("prompt-0", "prompt-1", "prompt-2")
    assert table.correct.tolist() == [-1] * 18


def test_a_block_whose_tokens_were_given_is_not_recorded() -> None:
    asked = [Request((1,), (4, 5, MASK, MASK), name="half"), Request((2,), name="whole")]
    table = record(llada_like(), asked, Sampler(4, 2))
    assert np.diff(table.block_offsets).tolist() == [2, 2, 2]
    assert table.trace_offsets.tolist() == [0, 1, 3]


def test_recordings_in_parts_are_the_recording_in_one(tmp_path: Path) -> None:
    model, asked, sampler = llada_like(), mixed_requests(6), Sampler(5)
    whole = record(model, asked, sampler, batch_size=1)
    for start in range(0, 6, 2):
        append_part(tmp_path, record(model, asked[start : start + 2], sampler, batch_size=1))
    parts = load_store(tmp_path)
    assert parts.trace_ids == whole.trace_ids
    np.testing.assert_array_equal(parts.values, whole.values)
    np.testing.assert_array_equal(parts.agree, whole.agree)
    assert setting_of(parts)["sampler"] == sampler.spec()


def test_groups_and_levels_are_kept() -> None:
    asked = [Request((1,), name="a", group="g", level="hard"), Request((2,), name="b")]
    table = record(llada_like(), asked, Sampler(2))
    assert (table.groups, table.levels) == (("g", "b"), ("hard", ""))


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        pytest.param([], "no request to record", id="none"),
        pytest.param([Request((1,))], "needs a name", id="nameless"),
        pytest.param([Request((1,), name="a")] * 2, "a name of its own", id="twice"),
        pytest.param(
            [Request((1,), (4, 5), name="a")], "'a': its canvas has no mask", id="no mask"
        ),
    ],
)
def test_what_cannot_be_recorded_is_refused(asked: list[Request], message: str) -> None:
    with pytest.raises(InputError, match=message):
        record(llada_like(), asked, Sampler(2))


class Digits:
    """A tokenizer whose tokens are digits."""

    def decode(self, tokens: list[int], **_: Any) -> str:
        return "".join(map(str, tokens))


def leaning(tokens: torch.Tensor) -> torch.Tensor:
    """Say 1 at the first position, and 2 beside it, or 3 as long as the first is a mask."""
    found = torch.zeros(len(tokens), 6)
    found[-2, 1] = 9.0
    found[-1, 3 if tokens[-2] == 5 else 2] = 4.0
    return found


def test_answers_are_judged_by_a_comparer_and_against_gold() -> None:
    model = DiffusionLM(TableModel(6, leaning), mask_token_id=5, end_ids=[0])
    judge = TextJudge(Digits(), get_comparer("number"), model.end_ids)
    asked = [
        Request((4,), name="right", gold="12"),
        Request((4,), name="wrong", gold="13"),
        Request((4,), name="unknown"),
    ]
    table = record(model, asked, Sampler(2), judge)
    assert table.agree.tolist() == [False, True] * 3
    assert table.correct.tolist() == [0, 1, 1, 0, -1, -1]
    blocks = record(model, asked, Sampler(2, 1), judge)
    assert blocks.agree.tolist() == [True, True] * 3
    assert blocks.correct.tolist() == [1, 1, 0, 0, -1, -1]
    tokens = record(model, asked[:1], Sampler(2))
    assert tokens.correct.tolist() == [-1, -1]


def test_a_canvas_is_the_same_as_itself_even_without_an_answer() -> None:
    judge = TextJudge(Digits(), get_comparer("number"), [0])
    assert judge.same([0, 4], [0, 5])
    assert not judge.same([0, 4], [4, 0])
    assert judge.same([0, 0], [0, 0])
    assert judge.text([1, 2, 0, 3]) == "12"
