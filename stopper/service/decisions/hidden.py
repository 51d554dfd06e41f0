"""Bytes of hidden states become float64 rows that a probe can score; numpy only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Dtype = Literal["float16", "bfloat16", "float32"]

SIZES: dict[Dtype, int] = {"float16": 2, "bfloat16": 2, "float32": 4}
"""Bytes of one number."""

NUMBERS = 1 << 19
"""Most numbers that are widened at a time, but for a single row that has more."""

FEW = 1 << 14
"""Up to so many numbers, numpy's own cast takes less time than several operations in its place."""

_BITS: dict[int, Any] = {2: np.dtype("<u2"), 4: np.dtype("<u4")}
_FLOAT16, _FLOAT32 = np.dtype("<f2"), np.dtype("<f4")

# float16 by integer arithmetic, several times as fast as numpy's own cast, which goes number by
# number. Sign, exponent and fraction move to their places in a float32; the factor makes good for
# the other bias of the exponent, exactly, and brings subnormal numbers along. It knows neither
# infinity nor NaN, whose exponent has all bits set.
_EXPONENT = np.uint16(0x7C00)
_PLACES = np.int32(-0x70002000)  # 0x8FFFE000
_BIAS = np.float32(2.0**112)


def widen_one(part: bytes | memoryview, dtype: Dtype) -> npt.NDArray[np.float64]:
    """Widen one buffer of little-endian numbers to float64 [d], in as few operations as can be."""
    if dtype == "float16":
        return np.frombuffer(part, _FLOAT16).astype(np.float64)
    with np.errstate(invalid="ignore"):  # a signalling NaN
        if dtype == "float32":
            return np.frombuffer(part, _FLOAT32).astype(np.float64)
        bits = np.left_shift(np.frombuffer(part, _BITS[2]), 16, dtype=np.uint32)
        return bits.view(np.float32).astype(np.float64)


class Widener:
    """Widens rows of numbers, in memory that it keeps: fresh pages cost more than the arithmetic.

    Not for several threads at a time.
    """

    def __init__(self) -> None:
        self._reserve(FEW)

    def _reserve(self, numbers: int) -> None:
        self._bytes = memoryview(bytearray(4 * numbers))
        self._narrow = np.empty(numbers, np.uint32)
        self._wide = np.empty(numbers, np.float64)

    def widen(self, parts: Sequence[bytes | memoryview], dtype: Dtype) -> npt.NDArray[np.float64]:
        """Widen buffers of little-endian numbers.

        Parameters
        ----------
        parts
            n buffers of d numbers each.
        dtype
            Of the numbers.

        Returns
        -------
        float64 [n, d]
            Holds until the next call.

        """
        size, end = SIZES[dtype], 0
        numbers = sum(map(len, parts)) // size
        if numbers > len(self._wide):
            self._reserve(numbers)
        if len(parts) == 1:
            bits = np.frombuffer(parts[0], _BITS[size])
        else:
            for part in parts:
                begin, end = end, end + len(part)
                self._bytes[begin:end] = part
            bits = np.frombuffer(self._bytes[:end], _BITS[size])
        wide, narrow = self._wide[:numbers], self._narrow[:numbers]
        if dtype == "bfloat16":
            np.left_shift(bits, 16, out=narrow, dtype=np.uint32)
            _cast(narrow.view(np.float32), wide)
        elif dtype == "float32":
            _cast(bits.view(_FLOAT32), wide)
        elif numbers <= FEW or self._not_finite(bits):
            _cast(bits.view(_FLOAT16), wide)
        else:
            placed, value = narrow.view(np.int32), narrow.view(np.float32)
            np.copyto(placed, bits.view("<i2"))
            np.left_shift(placed, 13, out=placed)
            np.bitwise_and(placed, _PLACES, out=placed)
            np.multiply(value, _BIAS, out=value)
            np.copyto(wide, value)
        return wide.reshape(len(parts), -1)

    def _not_finite(self, bits: npt.NDArray[np.uint16]) -> bool:
        exponents: npt.NDArray[np.uint16] = self._narrow.view(np.uint16)[: bits.size]
        np.bitwise_and(bits, _EXPONENT, out=exponents)
        return bool(np.maximum.reduce(exponents) == _EXPONENT)


def _cast(values: npt.NDArray[np.floating], wide: npt.NDArray[np.float64]) -> None:
    with np.errstate(invalid="ignore"):  # a signalling NaN
        np.copyto(wide, values)
