"""Bytes of hidden states become the numbers that they are."""

from __future__ import annotations

import decision_makers as dm
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stopper.service.decisions.hidden import FEW, SIZES, Dtype, Widener, widen_one

every_dtype = pytest.mark.parametrize("dtype", list(SIZES))
shared = Widener()
EVERY = np.arange(1 << 16, dtype="<u2")


def same(found: np.ndarray, wanted: np.ndarray) -> bool:
    """Compare to the bit, but for what NaN holds."""
    finite = np.isfinite(wanted)
    return np.array_equal(
        found[finite].view(np.uint64), wanted[finite].astype("f8").view(np.uint64)
    ) and np.array_equal(found[~finite], wanted[~finite], equal_nan=True)


@pytest.mark.parametrize("width", [1, 64, 1 << 14, 1 << 16])
def test_every_float16_is_widened_exactly(width: int) -> None:
    rows = EVERY.reshape(-1, width)
    wide = Widener().widen([row.tobytes() for row in rows], "float16")
    assert same(wide, rows.view("<f2"))


def test_every_finite_float16_is_widened_exactly_where_there_are_many() -> None:
    finite = EVERY[np.isfinite(EVERY.view("<f2"))]
    assert len(finite) > FEW
    rows = finite.reshape(2, -1)
    assert same(Widener().widen([row.tobytes() for row in rows], "float16"), rows.view("<f2"))


def test_every_bfloat16_is_widened_exactly() -> None:
    values = (EVERY.astype("<u4") << 16).view("<f4").reshape(-1, 64)
    wide = Widener().widen([row.tobytes() for row in EVERY.reshape(-1, 64)], "bfloat16")
    with np.errstate(invalid="ignore"):
        assert same(wide, values)


@every_dtype
@settings(deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(1, 5),
    width=st.integers(1, 40) | st.just(FEW // 2),
    odd=st.sampled_from([None, np.nan, np.inf, -np.inf]),
)
def test_rows_come_in_order_whatever_was_widened_before(
    dtype: Dtype, seed: int, rows: int, width: int, odd: float | None
) -> None:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(rows, width)).astype(np.float32)
    if odd is not None:
        values[rng.integers(rows), rng.integers(width)] = odd
    parts = [dm.packed(row, dtype) for row in values]
    wide = shared.widen(parts, dtype)
    assert np.array_equal(wide, dm.as_sent(values, dtype), equal_nan=True)
    for row, part in zip(wide, parts, strict=True):
        assert np.array_equal(widen_one(part, dtype), row, equal_nan=True)


@every_dtype
def test_memory_grows_with_what_is_asked(dtype: Dtype) -> None:
    values = np.random.default_rng(0).normal(size=(2, 60_000)).astype(np.float32)
    wide = Widener().widen([dm.packed(row, dtype) for row in values], dtype)
    assert np.array_equal(wide, dm.as_sent(values, dtype))
    wide = Widener().widen([dm.packed(values.reshape(-1), dtype)], dtype)
    assert np.array_equal(wide[0], dm.as_sent(values.reshape(-1), dtype))
