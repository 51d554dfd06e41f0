"""`--rule`: what is understood, and what is refused with the choices."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.vllm.baselines import deer, eat
from adapters.vllm.baselines.choice import RULES, chosen
from stopper.errors import InputError


def test_all_rules_run_by_default_and_ours_always() -> None:
    assert [choice.name for choice in chosen(None)] == list(RULES)
    assert [choice.name for choice in chosen(["eat"])] == ["stopper", "eat"]
    assert [choice.name for choice in chosen(["oracle", "full"])] == ["stopper"]


def test_parameters_are_read_and_named() -> None:
    choices = chosen(["deer:confidence=0.9,max_tokens=5", "deer", "deer", "eat"])
    assert [choice.label for choice in choices] == [
        "stopper",
        "deer:confidence=0.9,max_tokens=5",
        "deer",
        "eat",
    ]
    assert choices[1].parameters == deer.Parameters(0.9, 5)
    assert choices[2].parameters == deer.Parameters()
    assert choices[3].parameters == eat.Parameters()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("dear", "--rule dear: not known; choose from stopper, budget, no-thinking, lynx, deer"),
        ("lynx:delta=1", "lynx has no parameters; they are of deer, dynasor, eat, thinkbrake"),
        ("deer:sure=1", "no parameter 'sure'; deer has confidence, max_tokens"),
        ("deer:max_tokens=1.5", "max_tokens='1.5' is not a whole number above 0"),
        ("deer:confidence=", "confidence='' is not a number above 0"),
        ("eat:warm_up=-1", "warm_up='-1' is not a whole number above 0"),
        ("eat:timescale=nan", "timescale='nan' is not a number above 0"),
        ("eat:timescale=inf", "timescale='inf' is not a number above 0"),
    ],
)
def test_what_is_refused(text: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        chosen([text])


@given(st.text() | st.from_regex(r"(deer|eat|dynasor):[a-z_]+=.*", fullmatch=True))
def test_anything_is_understood_or_refused(text: str) -> None:
    try:
        choices = chosen([text])
    except InputError:
        return
    assert {choice.name for choice in choices} <= set(RULES)
