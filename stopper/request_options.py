"""What one request asks of stopper, read from its `vllm_xargs`."""

from __future__ import annotations

import contextlib
import math
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from stopper.errors import InputError

Mode = Literal["off", "stop", "audit", "fixed"]

_MODES: dict[object, Mode] = {
    0: "off", 1: "stop", "0": "off", "1": "stop", "audit": "audit", "fixed": "fixed",
}  # fmt: skip
_KNOWN = ("stopper", "stopper_alpha")


@dataclass(frozen=True, slots=True)
class RequestOptions:
    """What a request asks for.

    Attributes
    ----------
    mode
        off, stop, audit (scored and marked, never stopped), or fixed (stopped by the server's fixed
        threshold, without promise).
    alpha
        None takes the server's.

    """

    mode: Mode = "stop"
    alpha: float | None = None

    @classmethod
    def from_extra_args(cls, extra_args: Mapping[str, Any] | None) -> RequestOptions:
        """Read `SamplingParams.extra_args`; keys of other plugins are left alone.

        Raises
        ------
        InputError
            An unknown `stopper*` key, a mode that is not 0, 1, "audit" or "fixed", an alpha outside
            (0, 1), or one beside "fixed". The server answers it with HTTP 400.

        """
        args = {} if extra_args is None else extra_args
        if not isinstance(args, Mapping):
            raise InputError(f"vllm_xargs: must be an object, is {type(args).__name__}")
        for key in args:
            if isinstance(key, str) and key.startswith("stopper") and key not in _KNOWN:
                raise InputError(
                    f"vllm_xargs: unknown key {_shown(key)}; known are {', '.join(_KNOWN)}"
                )
        asked = args.get("stopper", 1)
        # bool is an int to Python, so True and False land on 1 and 0 as a user means them.
        try:
            mode = _MODES[asked]
        except (KeyError, TypeError):
            raise InputError(
                f"vllm_xargs: stopper={_shown(asked)}; use 1 (on), 0 (off) or 'audit'"
            ) from None
        alpha = _alpha(args.get("stopper_alpha"))
        if mode == "fixed" and alpha is not None:
            raise InputError(
                "vllm_xargs: stopper='fixed' goes by a fixed threshold, which keeps no alpha; "
                "leave stopper_alpha out"
            )
        return cls(mode, alpha)


def _alpha(value: object) -> float | None:
    if value is None:
        return None
    number = math.nan
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        with contextlib.suppress(ValueError, OverflowError):  # no number, or beyond any float
            number = float(value)
    if not 0.0 < number < 1.0:  # NaN lies nowhere
        raise InputError(
            f"vllm_xargs: stopper_alpha={_shown(value)} is no number between 0 and 1, both excluded"
        )
    return number


def _shown(value: object) -> str:
    try:
        return reprlib.repr(value)
    except ValueError:  # Python prints no integer of more than 4300 digits
        return type(value).__name__
