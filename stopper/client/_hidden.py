"""A numpy array becomes a hidden state that travels."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from stopper.errors import InputError
from stopper.wire import HiddenState

DType = Literal["float16", "bfloat16", "float32"]
_LITTLE = {"float16": "<f2", "float32": "<f4", "bfloat16": "<u2"}


def hidden_state(array: Any, dtype: Literal["bfloat16"] | None = None) -> HiddenState:
    """Pack the hidden state at a cue's last token.

    Parameters
    ----------
    array
        [d] or [1, d], the probe's layers side by side: float16, float32, bfloat16 (of ml_dtypes),
        or uint16 that are the bits of bfloat16. Of a torch tensor ``t`` in bfloat16:
        ``t.cpu().view(torch.uint16).numpy()``.
    dtype
        "bfloat16" where `array` is uint16.

    Raises
    ------
    InputError
        If it is of another type or shape. Nothing is converted: the engine's own numbers are what
        the artifact was calibrated on.

    Examples
    --------
    >>> hidden_state(np.zeros(4, np.float16))
    HiddenState(data=b'\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00', dtype='float16', shape=(4,))

    """
    try:
        found = np.asarray(array)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"hidden state: cannot be read as a numpy array: {error}") from None
    name = _name(found, dtype)
    if found.ndim not in (1, 2) or found.size == 0 or (found.ndim == 2 and len(found) != 1):
        raise InputError(f"hidden state: shape {found.shape}; give [d] or [1, d], of one token")
    if name == "bfloat16":
        found = found.view(np.uint16)
    data = found.astype(_LITTLE[name], copy=False).tobytes()
    return HiddenState(data, name, tuple(found.shape))


def _name(array: np.ndarray[Any, Any], dtype: str | None) -> DType:
    held = array.dtype.name
    if held == "uint16":
        if dtype == "bfloat16":
            return "bfloat16"
        raise InputError(
            'hidden state: uint16; if they are the bits of bfloat16, say dtype="bfloat16"'
        )
    if dtype not in (None, held):
        raise InputError(f"hidden state: dtype={dtype!r}, but the array is {held}")
    for known in ("float16", "bfloat16", "float32"):
        if held == known:
            return known
    raise InputError(
        f"hidden state: {held}; give the engine's own float16, bfloat16 or float32 numbers"
    )
