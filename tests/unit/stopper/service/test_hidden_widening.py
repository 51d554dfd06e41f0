"""Bytes of hidden states become the numbers that they are."""

from __future__ import annotations

import decision_makers as dm
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stopper.service.decisions.hidden import SIZES, Dtype, Widener

every_dtype = pytest.mark.parametrize("dtype", list(SIZES))
shared = Widener()


def test_every_float16_is_widened_exactly_and_told_from_infinity_and_nan() -> None:
    bits = np.arange(1 << 16, dtype="<u2")
    values = bits.view("<f2").astype(np.float64)
    wide, good = Widener().widen([row.tobytes() for row in bits.reshape(-1, 1)], "float16")
    assert good is not None
    assert np.array_equal(good, np.isfinite(values))
    assert np.array_equal(wide[:, 0].view(np.uint64), values[good].view(np.uint64))


def test_every_bfloat16_is_widened_exactly() -> None:
    bits = np.arange(1 << 16, dtype="<u2")
    values = (bits.astype("<u4") << 16).view("<f4")
    wide, good = Widener().widen([row.tobytes() for row in bits.reshape(-1, 1)], "bfloat16")
    assert good is not None
    assert np.array_equal(good, np.isfinite(values))
    assert np.array_equal(wide[:, 0], values[good])


@every_dtype
@settings(deadline=None)
@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(1, 5), width=st.integers(1, 40))
def test_rows_come_in_order_whatever_was_widened_before(
    dtype: Dtype, seed: int, rows: int, width: int
) -> None:
    values = np.random.default_rng(seed).normal(size=(rows, width)).astype(np.float32)
    wide, good = shared.widen([dm.packed(row, dtype) for row in values], dtype)
    assert good is None
    assert np.array_equal(wide, dm.as_sent(values, dtype))


@every_dtype
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_row_that_is_not_finite_is_told_and_spoils_no_other(dtype: Dtype, value: float) -> None:
    values = np.ones((3, 7), np.float32)
    values[1, 4] = value
    wide, good = shared.widen([dm.packed(row, dtype) for row in values], dtype)
    assert good is not None
    assert good.tolist() == [True, False, True]
    assert wide.shape == (2, 7)
    assert (wide == 1.0).all()


def test_memory_grows_with_what_is_asked() -> None:
    values = np.arange(60_000, dtype=np.float32).reshape(2, -1)
    wide, good = Widener().widen([row.tobytes() for row in values], "float32")
    assert good is None
    assert np.array_equal(wide, values)


@every_dtype
def test_no_row_may_be_left(dtype: Dtype) -> None:
    part = dm.packed(np.full(4, np.nan, np.float32), dtype)
    wide, good = shared.widen([part, part], dtype)
    assert len(wide) == 0
    assert good is not None
    assert not good.any()
