"""What one request asks of stopper, read from its `vllm_xargs`."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from stopper.errors import InputError

Mode = Literal["off", "stop", "audit"]

_MODES: dict[object, Mode] = {0: "off", 1: "stop", "0": "off", "1": "stop", "audit": "audit"}
_KNOWN = ("stopper", "stopper_alpha")


@dataclass(frozen=True, slots=True)
class RequestOptions:
    """`mode`: off, stop, or audit (scored and marked, never stopped); `alpha`: None = server's."""

    mode: Mode = "stop"
    alpha: float | None = None

    @classmethod
    def from_extra_args(cls, extra_args: Mapping[str, Any] | None) -> RequestOptions:
        """Read `SamplingParams.extra_args`; keys of other plugins are left alone.

        Raises
        ------
        InputError
            An unknown `stopper*` key, a mode that is not 0, 1 or "audit", or an alpha outside
            (0, 1). The server answers it with HTTP 400.

        """
        args = {} if extra_args is None else extra_args
        if not isinstance(args, Mapping):
            raise InputError(f"vllm_xargs: must be an object, is {type(args).__name__}")
        for key in args:
            if isinstance(key, str) and key.startswith("stopper") and key not in _KNOWN:
                raise InputError(f"vllm_xargs: unknown key {key!r}; known are {', '.join(_KNOWN)}")
        asked = args.get("stopper", 1)
        # bool is an int to Python, so True and False land on 1 and 0 as a user means them.
        try:
            mode = _MODES[asked]
        except (KeyError, TypeError):
            raise InputError(
                f"vllm_xargs: stopper={asked!r}; use 1 (on), 0 (off) or 'audit'"
            ) from None
        return cls(mode, _alpha(args.get("stopper_alpha")))


def _alpha(value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, str):
        with contextlib.suppress(ValueError):  # what is no number is refused below
            value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InputError(f"vllm_xargs: stopper_alpha={value!r} is no number between 0 and 1")
    if not 0.0 < value < 1.0:
        raise InputError(f"vllm_xargs: stopper_alpha={value!r} lies outside (0, 1)")
    return float(value)
