"""Bytes of hidden states become float32 rows; numpy only, no copy where none is needed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Dtype = Literal["float16", "bfloat16", "float32"]
Buffer = bytes | bytearray | memoryview
Rows = npt.NDArray[np.float32]

SIZES: dict[Dtype, int] = {"float16": 2, "bfloat16": 2, "float32": 4}
"""Bytes of one number."""

# All bits of the exponent set: infinity or NaN.
_EXPONENT: dict[Dtype, Any] = {
    "float16": np.uint16(0x7C00),
    "bfloat16": np.uint16(0x7F80),
    "float32": np.uint32(0x7F800000),
}

# float16 by integer arithmetic, several times as fast as numpy's own cast, which goes number by
# number. Sign, exponent and fraction move to their places in a float32; the factor makes good for
# the other bias of the exponent, exactly, and brings subnormal numbers along.
_PLACES = np.int32(-0x70002000)  # 0x8FFFE000
_BIAS = np.float32(2.0**112)


def rows(parts: Sequence[Buffer], dtype: Dtype) -> tuple[Rows, npt.NDArray[np.bool_] | None]:
    """Widen buffers of little-endian numbers.

    Parameters
    ----------
    parts
        n buffers of d numbers each.
    dtype
        Of the numbers.

    Returns
    -------
    float32 [n, d]
        Undefined in rows that are not finite.
    bool [n] or None
        Which rows hold neither NaN nor infinity; None where all are like that.

    """
    data = parts[0] if len(parts) == 1 else b"".join(parts)
    bits = np.frombuffer(data, f"<u{SIZES[dtype]}")
    infinite = _EXPONENT[dtype]
    exponents = np.bitwise_and(bits, infinite)
    finite: npt.NDArray[np.bool_] | None = None
    if exponents.max(initial=0) == infinite:
        finite = (exponents != infinite).reshape(len(parts), -1).all(axis=1)
    if dtype == "float32":
        found = bits.view(np.float32)
    elif dtype == "bfloat16":
        found = np.left_shift(bits, 16, dtype=np.uint32).view(np.float32)
    else:
        placed = bits.view("<i2").astype(np.int32)
        np.left_shift(placed, 13, out=placed)
        np.bitwise_and(placed, _PLACES, out=placed)
        found = placed.view(np.float32)
        np.multiply(found, _BIAS, out=found)
    return found.reshape(len(parts), -1), finite
