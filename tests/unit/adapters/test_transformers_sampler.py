from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from adapters.transformers.sampler import ORDERS, Sampler, Stability, Threshold, share
from adapters.transformers.unmasking import divergence, first, read
from stopper.errors import InputError

logit = st.floats(-20, 20, width=32)


@given(st.integers(1, 60), st.integers(1, 60))
def test_the_shares_of_all_steps_are_all_masks_and_even(masks: int, steps: int) -> None:
    steps = Sampler(60, steps=steps).planned(masks)
    shares = [share(masks, steps, step) for step in range(steps)]
    assert sum(shares) == masks
    assert max(shares) - min(shares) <= 1
    assert min(shares) >= 1
    assert shares == sorted(shares, reverse=True)


@given(st.integers(1, 50), st.integers(1, 50))
def test_blocks_follow_one_another_over_the_whole_canvas(canvas: int, block: int) -> None:
    blocks = Sampler(canvas, min(block, canvas)).blocks()
    assert [at for start, end in blocks for at in range(start, end)] == list(range(canvas))
    assert {end - start for start, end in blocks[:-1]} <= {min(block, canvas)}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        pytest.param({"canvas_length": 0}, "canvas_length must be at least 1", id="no canvas"),
        pytest.param({"block_length": 0}, "block_length must be at least 1", id="no block"),
        pytest.param({"steps": 0}, "steps must be at least 1; got 0", id="no step"),
        pytest.param({"steps": -3}, "steps must be at least 1; got -3", id="negative steps"),
        pytest.param({"block_length": 200}, "longer than the canvas of 128", id="long block"),
        pytest.param({"order": "random"}, "choose one of confidence, entropy", id="order"),
        pytest.param({"progress": "row"}, "choose one of block, canvas", id="progress"),
    ],
)
def test_a_sampler_that_cannot_be_says_why(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Sampler(**fields)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        pytest.param(lambda: Threshold(0.0), r"probability must lie in \(0, 1\]", id="zero"),
        pytest.param(lambda: Threshold(float("nan")), "probability", id="nan"),
        pytest.param(lambda: Stability(1.5), "probability", id="above one"),
        pytest.param(lambda: Stability(divergence=0.0), "divergence must be positive", id="still"),
        pytest.param(lambda: Stability(history=0), "history must be at least 1", id="no history"),
    ],
)
def test_parallel_decoding_that_cannot_be_says_why(make: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


@pytest.mark.parametrize("parallel", [None, Threshold(0.8), Stability(0.7, 0.01, 3)])
@pytest.mark.parametrize("progress", ["block", "canvas"])
def test_a_sampler_comes_back_from_an_artifacts_settings(parallel: Any, progress: Any) -> None:
    sampler = Sampler(20, 6, 4, "entropy", parallel, progress)
    spec = type(sampler.spec()).model_validate_json(sampler.spec().model_dump_json())
    assert Sampler.from_spec(spec, progress) == sampler
    plain = Sampler(20)
    again = Sampler.from_spec(plain.spec())
    assert (again.width, again.planned(20), again.blocks()) == (20, 20, [(0, 20)])


def test_settings_of_another_sampler_are_refused() -> None:
    spec = Sampler(20).spec()
    with pytest.raises(InputError, match="options"):
        Sampler.from_spec(spec.model_copy(update={"options": {"temperature": 1.0}}))
    with pytest.raises(InputError, match="not of this sampler"):
        Sampler.from_spec(spec.model_copy(update={"options": {"klass": {"speed": 1}}}))
    with pytest.raises(InputError, match="order"):
        Sampler.from_spec(spec.model_copy(update={"order": "left to right"}))


@given(st.lists(st.lists(logit, min_size=3, max_size=3), min_size=1, max_size=5))
def test_a_reading_is_what_the_softmax_says(rows: list[list[float]]) -> None:
    logits = torch.tensor([rows])
    odds = np.exp(np.array(rows, dtype=np.float64))
    chances = odds / odds.sum(axis=1, keepdims=True)
    ordered = np.sort(chances, axis=1)
    reading = read(logits, "confidence")
    assert reading.top[0].tolist() == np.array(rows).argmax(axis=1).tolist()
    np.testing.assert_allclose(reading.probability[0], ordered[:, -1], rtol=1e-5)
    entropy = -(chances * np.log(chances)).sum(axis=1)
    np.testing.assert_allclose(read(logits, "entropy").rank[0], entropy, rtol=1e-4, atol=1e-6)
    gap = ordered[:, -1] - ordered[:, -2]
    np.testing.assert_allclose(-read(logits, "margin").rank[0], gap, rtol=1e-4, atol=1e-6)


def test_confidences_that_float32_rounds_to_one_are_still_told_apart() -> None:
    logits = torch.tensor([[[20.0, 0.0], [25.0, 0.0], [18.0, 0.0]]])
    reading = read(logits, "confidence")
    assert reading.probability[0].tolist() == [1.0, 1.0, 1.0]
    order = first(reading.rank, torch.ones(1, 3, dtype=torch.bool), torch.tensor([1]))
    assert order[0].tolist() == [False, True, False]


@pytest.mark.parametrize("order", ORDERS)
def test_a_banned_token_counts_for_nothing_and_nan_comes_last(order: Any) -> None:
    some = torch.tensor([[[1.0, 2.0, -torch.inf], [0.0, torch.nan, 1.0], [0.0, 0.1, 0.0]]])
    reading = read(some, order)
    plain = read(some[..., :2], order)
    torch.testing.assert_close(reading.rank[0, 0], plain.rank[0, 0])
    assert reading.rank[0, 1] == torch.inf
    assert torch.isfinite(reading.rank[0, [0, 2]]).all()


@given(
    st.lists(st.tuples(st.sampled_from([0.0, 1.0, 2.0, 3.0]), st.booleans()), max_size=8),
    st.integers(0, 9),
)
def test_the_first_masks_are_chosen_and_the_leftmost_of_equals(
    row: list[tuple[float, bool]], count: int
) -> None:
    rank = torch.tensor([[value for value, _ in row]])
    masked = torch.tensor([[open_ for _, open_ in row]], dtype=torch.bool)
    chosen = first(rank.float(), masked, torch.tensor([count]))[0].tolist()
    best = sorted((value, at) for at, (value, open_) in enumerate(row) if open_)[:count]
    assert [at for at, found in enumerate(chosen) if found] == sorted(at for _, at in best)


@given(st.lists(logit, min_size=4, max_size=4), st.lists(logit, min_size=4, max_size=4))
def test_the_divergence_is_that_of_kullback_and_leibler(
    now: list[float], then: list[float]
) -> None:
    def log(values: list[float]) -> torch.Tensor:
        return torch.tensor([[[*values, -torch.inf]]]).log_softmax(-1)

    p, q = (np.exp(log(values)[0, 0, :4].double().numpy()) for values in (now, then))
    wanted = (p * (np.log(p) - np.log(q))).sum()
    found = float(divergence(log(now), log(then))[0, 0])
    assert found == pytest.approx(wanted, rel=1e-3, abs=1e-4)
    assert float(divergence(log(now), log(now))[0, 0]) == 0.0
