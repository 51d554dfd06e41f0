"""`vllm_xargs`: whatever is sent, it is understood or refused by name."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from adapters.vllm.request_options import RequestOptions
from stopper.errors import InputError

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()
ANYTHING = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(SCALARS, inner))
KEYS = st.sampled_from(["stopper", "stopper_alpha", "stopper_", "other"]) | SCALARS


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (None, RequestOptions("stop", None)),
        ({}, RequestOptions("stop", None)),
        ({"stopper": 1}, RequestOptions("stop", None)),
        ({"stopper": "1"}, RequestOptions("stop", None)),
        ({"stopper": True}, RequestOptions("stop", None)),
        ({"stopper": 0}, RequestOptions("off", None)),
        ({"stopper": "0"}, RequestOptions("off", None)),
        ({"stopper": 0.0}, RequestOptions("off", None)),
        ({"stopper": "audit"}, RequestOptions("audit", None)),
        ({"stopper": "fixed"}, RequestOptions("fixed", None)),
        ({"stopper_alpha": 0.02}, RequestOptions("stop", 0.02)),
        ({"stopper_alpha": "0.02", "stopper": "audit"}, RequestOptions("audit", 0.02)),
        ({"stopper_alpha": None}, RequestOptions("stop", None)),
        ({"early_stop": "whatever", 5: 6}, RequestOptions("stop", None)),
    ],
)
def test_what_is_understood(args: Any, expected: RequestOptions) -> None:
    assert RequestOptions.from_extra_args(args) == expected


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({"stopper": 2}, "stopper=2; use 1"),
        ({"stopper": "on"}, "stopper='on'; use 1"),
        ({"stopper": None}, "stopper=None; use 1"),
        ({"stopper": [1]}, r"stopper=\[1\]; use 1"),
        ({"stopper_aplha": 0.1}, "unknown key 'stopper_aplha'; known are stopper, stopper_alpha"),
        ({"stopper_alpha": 0}, "stopper_alpha=0 is no number between 0 and 1"),
        ({"stopper_alpha": 1}, "stopper_alpha=1 is no"),
        ({"stopper_alpha": -0.1}, "stopper_alpha=-0.1 is no"),
        ({"stopper_alpha": True}, "stopper_alpha=True is no"),
        ({"stopper_alpha": "nan"}, "stopper_alpha='nan' is no"),
        ({"stopper_alpha": float("inf")}, "stopper_alpha=inf is no"),
        ({"stopper_alpha": [0.1]}, r"stopper_alpha=\[0.1\] is no"),
        ({"stopper_alpha": 10**400}, r"stopper_alpha=1000.*\.\.\..* is no"),
        ({"stopper_alpha": 10**5000}, "stopper_alpha=.* is no"),  # Python refuses to print it
        ({"stopper": "fixed", "stopper_alpha": 0.1}, "keeps no alpha; leave stopper_alpha out"),
        ([("stopper", 0)], "vllm_xargs: must be an object, is list"),
    ],
)
def test_what_is_refused(args: Any, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        RequestOptions.from_extra_args(args)
    assert str(caught.value).startswith("vllm_xargs: ")
    assert len(str(caught.value)) < 200


@settings(deadline=None)
@given(st.dictionaries(KEYS, ANYTHING) | ANYTHING)
@example({"stopper_alpha": "1_0e-3"})
@example({"stopper_alpha": 10**400})
def test_anything_is_understood_or_refused(args: Any) -> None:
    try:
        options = RequestOptions.from_extra_args(args)
    except InputError:
        return
    assert options.mode in ("off", "stop", "audit", "fixed")
    assert options.alpha is None or 0.0 < options.alpha < 1.0
    assert options.alpha is None or type(options.alpha) is float
