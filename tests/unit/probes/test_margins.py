"""Margins and their aggregates against a slow reference, in numpy and in torch."""

from __future__ import annotations

import math
import struct
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode

from probes import margins, torch_margins
from probes.errors import InputError
from probes.margins import SIGNALS, Aggregate

# Any float16, from its bits: floats(width=16) throws most of its draws away.
logits_of = st.integers(0, 2**16 - 1).map(
    lambda bits: struct.unpack("<e", struct.pack("<H", bits))[0]
)
# Multiples of 1/1024: sums are exact in any order, so that results must agree to the last bit.
exact_margins = st.integers(0, 40 * 1024).map(lambda number: number / 1024)


def slow_margin(row: list[float]) -> float:
    if any(math.isnan(value) for value in row):
        return math.nan
    if len(row) == 1:
        return math.inf
    best, second = sorted(row, reverse=True)[:2]
    return math.nan if math.isinf(best) and best == second else best - second


def slow_aggregate(row: list[float], region: list[bool], how: Aggregate) -> float:
    inside = sorted(Fraction(value) for value, here in zip(row, region, strict=True) if here)
    if not inside:
        return math.inf
    if how == "mean":
        return float(np.float32(float(sum(inside) / len(inside))))
    if how == "min":
        return float(inside[0])
    rank = (len(inside) - 1) * {"median": Fraction(1, 2), "quantile": Fraction(1, 5)}[how]
    low = math.floor(rank)
    high = min(low + 1, len(inside) - 1)
    return float(np.float32(float(inside[low] + (inside[high] - inside[low]) * (rank - low))))


@st.composite
def regions(draw: st.DrawFn) -> tuple[list[list[float]], list[list[bool]]]:
    rows, positions = draw(st.integers(0, 4)), draw(st.integers(1, 12))
    values = st.lists(exact_margins, min_size=positions, max_size=positions)
    inside = st.lists(st.booleans(), min_size=positions, max_size=positions)
    several = {"min_size": rows, "max_size": rows}
    return draw(st.lists(values, **several)), draw(st.lists(inside, **several))


def both(
    values: npt.NDArray[np.float32], region: npt.NDArray[np.bool_], how: Aggregate
) -> npt.NDArray[np.float32]:
    """Aggregate by numpy, having seen that torch agrees to the last bit."""
    found = margins.aggregate(values, region, how)
    theirs = torch_margins.aggregate(torch.from_numpy(values), torch.from_numpy(region), how)
    assert found.dtype == np.float32
    assert theirs.dtype == torch.float32
    np.testing.assert_array_equal(found, theirs.numpy())
    return found


@settings(deadline=None, max_examples=50)
@given(
    st.integers(1, 9).flatmap(
        lambda size: st.lists(st.lists(logits_of, min_size=size, max_size=size), min_size=1)
    )
)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_a_margin_is_the_largest_less_the_second(
    dtype: torch.dtype, rows: list[list[float]]
) -> None:
    logits = torch.tensor(rows, dtype=dtype)
    wide = logits.to(torch.float32)
    want = np.array([slow_margin(row) for row in wide.tolist()], dtype=np.float32)
    found = torch_margins.top2_margins(logits)
    assert found.dtype == torch.float32
    np.testing.assert_array_equal(found.numpy(), want)
    given_ = wide if dtype == torch.bfloat16 else logits  # numpy knows no bfloat16
    np.testing.assert_array_equal(margins.top2_margins(given_.numpy()), want)


@pytest.mark.parametrize("size", [4095, 4096, 4097, 4351, 4352, 5000])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_a_large_vocabulary_gives_the_same_margins(dtype: torch.dtype, size: int) -> None:
    """The pass over blocks: leaders in one block, in two, and in what no block covers."""
    draw = torch.Generator().manual_seed(size)
    logits = torch.randn(3, 12, size, generator=draw).to(dtype)
    for row, places in enumerate(
        [(0, 1), (0, 256), (255, 256), (4094, 7), (-1, 0), (-1, -2), (-1, -257), (4090, -1)]
    ):
        logits[0, row, list(places)] = torch.tensor([9.0, 8.5], dtype=dtype)
        logits[1, row, list(places)] = 9.0  # a tie
    logits[2, 0, 5], logits[2, 1, -1], logits[2, 2, 300] = math.nan, math.nan, math.inf
    logits[2, 3, [3, 900]], logits[2, 4] = math.inf, -math.inf
    logits[2, 5, 1:] = -math.inf
    before = logits.clone()
    want = margins.top2_margins(logits.to(torch.float32).numpy())
    found = torch_margins.top2_margins(logits)
    np.testing.assert_array_equal(found.numpy(), want)
    assert (found[0, :8] == 0.5).all()
    assert (found[1, :8] == 0.0).all()
    assert found[2, :6].isnan().tolist() == [True, True, False, True, True, False]
    assert found[2, [2, 5]].tolist() == [math.inf, math.inf]
    assert torch.equal(logits.nan_to_num(7), before.nan_to_num(7))  # read only


def test_a_slice_of_the_canvas_is_read_where_it_lies() -> None:
    logits = torch.randn(2, 9, 4500)[:, 4:]
    np.testing.assert_array_equal(
        torch_margins.top2_margins(logits).numpy(), margins.top2_margins(logits.numpy())
    )


def test_half_precision_is_subtracted_in_float32() -> None:
    logits = np.array([[65504.0, -65504.0], [1.0, 1.0 - 2**-11]], dtype=np.float16)
    want = [131008.0, 2**-11]
    assert margins.top2_margins(logits).tolist() == want
    assert torch_margins.top2_margins(torch.from_numpy(logits)).tolist() == want


@pytest.mark.parametrize(
    "logits",
    [np.zeros((3, 0), np.float32), np.zeros((3, 4), np.int64), np.float32(1.0)],
    ids=["no_vocabulary", "integers", "scalar"],
)
def test_what_are_no_logits_is_refused(logits: Any) -> None:
    with pytest.raises(InputError, match="vocabulary"):
        margins.top2_margins(logits)
    with pytest.raises(InputError, match="vocabulary"):
        torch_margins.top2_margins(torch.as_tensor(logits))


@settings(deadline=None, max_examples=50)
@given(regions())
@pytest.mark.parametrize("how", SIGNALS)
def test_an_aggregate_looks_at_its_region_alone(
    how: Aggregate, drawn: tuple[list[list[float]], list[list[bool]]]
) -> None:
    rows, inside = drawn
    width = len(rows[0]) if rows else 3
    values = np.array(rows, dtype=np.float32).reshape(-1, width)
    region = np.array(inside, dtype=np.bool_).reshape(-1, width)
    want = [slow_aggregate(row, here, how) for row, here in zip(rows, inside, strict=True)]
    assert both(values, region, how).tolist() == want
    # What lies outside may be anything; not even NaN there is seen.
    assert both(np.where(region, values, np.float32(np.nan)), region, how).tolist() == want


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(0, 50, width=32), min_size=1, max_size=64))
@pytest.mark.parametrize("how", SIGNALS)
def test_numpy_and_torch_agree_on_any_margins(how: Aggregate, values: list[float]) -> None:
    row = np.array([values], dtype=np.float32)
    region = np.ones_like(row, dtype=np.bool_)
    ours = margins.aggregate(row, region, how)
    theirs = torch_margins.aggregate(torch.from_numpy(row), torch.from_numpy(region), how)
    # A float64 sum in another order may round to the neighbouring float32, once in some 2**29.
    np.testing.assert_array_max_ulp(ours, theirs.numpy(), maxulp=1)


@pytest.mark.parametrize("how", SIGNALS)
def test_a_row_with_nan_in_its_region_is_nan_and_no_other(how: Aggregate) -> None:
    values = np.array([[1, np.nan, 3], [1, np.nan, 3], [2, 2, 2]], dtype=np.float32)
    region = np.array([[1, 1, 1], [1, 0, 1], [0, 0, 1]], dtype=np.bool_)
    found = both(values, region, how)
    assert np.isnan(found).tolist() == [True, False, False]
    assert found[2] == 2.0


@pytest.mark.parametrize("how", SIGNALS)
def test_nothing_masked_leaves_nothing_to_decide(how: Aggregate) -> None:
    values, region = np.ones((2, 3), dtype=np.float32), np.zeros((2, 3), dtype=np.bool_)
    assert both(values, region, how).tolist() == [math.inf, math.inf]
    assert both(values[:, :0], region[:, :0], how).tolist() == [math.inf, math.inf]
    assert both(values[:0], region[:0], how).tolist() == []


@pytest.mark.parametrize("how", SIGNALS)
def test_a_span_of_one_token_is_its_margin(how: Aggregate) -> None:
    one = np.array([[1.7]], dtype=np.float32)
    assert both(one, np.ones((1, 1), dtype=np.bool_), how) == one[0]


def test_a_banned_position_makes_the_mean_infinite_but_not_the_lower_ranks() -> None:
    values = np.array([[1, 2, np.inf, np.inf, np.inf]], dtype=np.float32)
    region = np.ones_like(values, dtype=np.bool_)
    found = {how: float(both(values, region, how)[0]) for how in SIGNALS}
    assert found == {
        "mean": math.inf,
        "median": math.inf,
        "quantile": pytest.approx(1.8),
        "min": 1.0,
    }


def test_shapes_that_do_not_belong_together_are_refused() -> None:
    values, region = np.ones((2, 3), dtype=np.float32), np.ones((2, 4), dtype=np.bool_)
    with pytest.raises(InputError, match=r"\[2, 3\] and the region \[2, 4\]"):
        margins.aggregate(values, region, "mean")
    with pytest.raises(InputError, match=r"\[2, 3\] and the region \[2, 4\]"):
        torch_margins.aggregate(torch.from_numpy(values), torch.from_numpy(region), "mean")
    with pytest.raises(InputError, match="aggregate 'mode' is unknown"):
        margins.aggregate(values, values > 0, "mode")  # type: ignore[arg-type]


def test_an_argmax_that_moves_counts_where_it_is_masked() -> None:
    before = np.array([[1, 2, 3], [1, 2, 3], [1, 2, 3], [1, 2, 3]])
    now = np.array([[1, 2, 3], [9, 2, 3], [9, 2, 3], [1, 2, 9]])
    masked = np.array([[1, 1, 1], [1, 0, 0], [0, 1, 1], [0, 0, 0]], dtype=np.bool_)
    want = [False, True, False, False]
    assert margins.argmax_changed(now, before, masked).tolist() == want
    assert margins.argmax_changed(now, None, masked).tolist() == [True] * 4
    tensors = [torch.from_numpy(array) for array in (now, before, masked)]
    assert torch_margins.argmax_changed(*tensors).tolist() == want
    assert torch_margins.argmax_changed(tensors[0], None, tensors[2]).tolist() == [True] * 4


def test_no_function_of_the_device_looks_at_data() -> None:
    """A fake tensor has no data: whatever would wait for the device raises."""
    with FakeTensorMode():
        masked = torch.ones(3, 5, dtype=torch.bool)
        for size in (1, 40, 32_768):
            found = torch_margins.top2_margins(torch.empty(3, 5, size, dtype=torch.bfloat16))
            assert (found.shape, found.dtype) == ((3, 5), torch.float32)
        for how in SIGNALS:
            signal = torch_margins.aggregate(found, masked, how)
            assert (signal.shape, signal.dtype) == ((3,), torch.float32)
        tokens = torch.zeros(3, 5, dtype=torch.int64)
        changed = torch_margins.argmax_changed(tokens, tokens, masked)
        scores = torch_margins.halting_scores(signal, torch.empty(3), changed)
    assert (scores.shape, scores.dtype) == ((3,), torch.float32)
