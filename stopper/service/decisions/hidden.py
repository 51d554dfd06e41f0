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

# All bits of the exponent set: infinity or NaN.
_EXPONENT: dict[Dtype, Any] = {
    "float16": np.uint16(0x7C00),
    "bfloat16": np.uint16(0x7F80),
    "float32": np.uint32(0x7F800000),
}
_BITS: dict[int, Any] = {2: np.dtype("<u2"), 4: np.dtype("<u4")}

# float16 by integer arithmetic, several times as fast as numpy's own cast, which goes number by
# number. Sign, exponent and fraction move to their places in a float32; the factor makes good for
# the other bias of the exponent, exactly, and brings subnormal numbers along.
_PLACES = np.int32(-0x70002000)  # 0x8FFFE000
_BIAS = np.float32(2.0**112)


class Widener:
    """Widens rows of numbers, in memory that it keeps: fresh pages cost more than the arithmetic.

    Not for several threads at a time.
    """

    def __init__(self) -> None:
        self._reserve(1 << 13)

    def _reserve(self, numbers: int) -> None:
        self._bytes = memoryview(bytearray(4 * numbers))
        self._narrow = np.empty(numbers, np.uint32)
        self._wide = np.empty(numbers, np.float64)

    def widen(
        self, parts: Sequence[bytes | memoryview], dtype: Dtype
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_] | None]:
        """Widen buffers of little-endian numbers.

        Parameters
        ----------
        parts
            n buffers of d numbers each.
        dtype
            Of the numbers.

        Returns
        -------
        float64 [m, d]
            Those rows that hold neither NaN nor infinity. They hold until the next call.
        bool [n] or None
            Which rows those are; None where it is all.

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
        narrow, wide = self._narrow[:numbers], self._wide[:numbers]
        finite = self._finite(bits, dtype, len(parts))
        if finite is not None:
            left = [part for part, good in zip(parts, finite, strict=True) if good]
            return (self.widen(left, dtype)[0] if left else wide[:0].reshape(0, 1)), finite
        if dtype == "float32":
            np.copyto(wide, bits.view("<f4"))
        elif dtype == "bfloat16":
            np.copyto(narrow, bits)
            np.left_shift(narrow, 16, out=narrow)
            np.copyto(wide, narrow.view(np.float32))
        else:
            placed, value = narrow.view(np.int32), narrow.view(np.float32)
            np.copyto(placed, bits.view("<i2"))
            np.left_shift(placed, 13, out=placed)
            np.bitwise_and(placed, _PLACES, out=placed)
            np.multiply(value, _BIAS, out=value)
            np.copyto(wide, value)
        return wide.reshape(len(parts), -1), None

    def _finite(
        self, bits: npt.NDArray[np.unsignedinteger], dtype: Dtype, rows: int
    ) -> npt.NDArray[np.bool_] | None:
        infinite = _EXPONENT[dtype]
        exponents = self._narrow.view(bits.dtype)[: bits.size]
        np.bitwise_and(bits, infinite, out=exponents)
        if np.maximum.reduce(exponents) < infinite:
            return None
        finite: npt.NDArray[np.bool_] = (exponents != infinite).reshape(rows, -1).all(axis=1)
        return finite
