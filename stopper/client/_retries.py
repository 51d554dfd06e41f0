"""How often and when a call is tried again: pure."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from stopper.client._calls import Call
from stopper.client._errors import (
    ClientError,
    NoAnswerError,
    SidecarError,
    TooManyRequestsError,
)
from stopper.errors import InputError

_LONGEST_WAIT_S = 5.0


@dataclass(slots=True)
class Retries:
    """The rule.

    Parameters
    ----------
    most
        Further tries.
    first_wait_s
        Before the second try; doubled for each one after, of which a random part is waited.

    """

    most: int
    first_wait_s: float = 0.1
    draw: Callable[[], float] = field(default=random.random)

    def __post_init__(self) -> None:
        if self.most < 0:
            raise InputError(f"retries: must not be negative, got {self.most}")

    def wait_s(self, call: Call[Any], error: ClientError, tried: int) -> float | None:
        """Return the seconds to wait before trying again; None: give up.

        Tried again is only what may be sent twice, where there was no answer, or one of 429, 500,
        502, 503 and 504.
        """
        passing = isinstance(error, NoAnswerError | SidecarError | TooManyRequestsError)
        if not (passing and call.repeatable and tried <= self.most):
            return None
        if error.retry_after is not None:
            return error.retry_after if error.retry_after <= _LONGEST_WAIT_S else None
        longest = min(_LONGEST_WAIT_S, self.first_wait_s * 2.0 ** min(tried - 1, 16))
        return longest * (0.5 + 0.5 * self.draw())
