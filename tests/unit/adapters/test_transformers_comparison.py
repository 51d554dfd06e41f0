from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from adapters.transformers import METHODS, Method, Sampler, Threshold, TokenJudge, compare, named
from adapters.transformers.prompts import requests_of
from adapters.vllm.prompts import Prompt
from stopper.errors import InputError
from stopper.halting import NO_GUARANTEE, PRESETS, HaltingRule
from stopper.schedule import Schedule
from tests.unit.adapters.diffusion_makers import END, llada_like, mixed_requests

OURS = Method(
    "ours", "calibrated", rule=HaltingRule(Schedule("linear", 2.0, 0.5)), promise="a promise"
)


class FirstToken(TokenJudge):
    """Holds an answer to be right if it starts with the gold token."""

    def right(self, tokens: Sequence[int], gold: str) -> bool | None:
        return tokens[0] == int(gold)


def test_figures_are_ratios_against_the_full_decode_of_the_same_run() -> None:
    sampler = Sampler(8)
    asked = [replace(one, gold="13") for one in mixed_requests(8)]
    asked[0] = replace(asked[0], gold=None)
    methods = [OURS, *named(["fast-dllm", "full"])]
    found = compare(
        llada_like(), asked, sampler, methods, FirstToken([END]), batch_size=3, repeats=2
    )
    assert [one.name for one in found] == ["full", "ours", "fast-dllm"]
    full, ours, fast = found
    assert (full.steps, full.step_speedup, full.wall_speedup) == (64, 1.0, 1.0)
    assert (full.agreement, full.disagreements) == (1.0, 0)
    assert (ours.promise, fast.promise) == ("a promise", NO_GUARANTEE)
    for one in found:
        assert one.step_speedup == 64 / one.steps
        assert one.wall_speedup == full.seconds / one.seconds
        assert one.agreement == 1 - one.disagreements / 8
        assert one.accuracy is not None
        assert full.accuracy
        quality = (one.accuracy / full.accuracy) ** 4
        assert one.step_qps == pytest.approx(one.step_speedup * quality)
        assert one.wall_qps == pytest.approx(one.wall_speedup * quality)
    assert ours.steps < 64
    assert ours.to_json()["n"] == 8


def test_without_gold_there_is_no_accuracy() -> None:
    [full] = compare(llada_like(), mixed_requests(2), Sampler(3), [])
    assert (full.name, full.accuracy, full.step_qps, full.wall_qps) == ("full", None, None, None)


def test_nothing_to_compare_is_refused() -> None:
    model, sampler = llada_like(), Sampler(3)
    with pytest.raises(InputError, match="at least one prompt"):
        compare(model, [], sampler, [])
    with pytest.raises(InputError, match="one repeat"):
        compare(model, mixed_requests(1), sampler, [], repeats=0)
    with pytest.raises(InputError, match="two methods have one name"):
        compare(model, mixed_requests(1), sampler, [OURS, replace(OURS, level=1.0)])


def test_every_published_way_is_named_and_promises_nothing() -> None:
    assert set(METHODS) == {"full", "fast-dllm", "klass", "klass-dream", *PRESETS}
    for name, method in METHODS.items():
        assert method.name == name
        assert name == "full" or method.promise == NO_GUARANTEE
    assert METHODS["prophet"].rule == PRESETS["prophet"]
    assert METHODS["fast-dllm"].over(Sampler(9)) == Sampler(9, parallel=Threshold(0.9))
    assert METHODS["prophet"].over(Sampler(9)) == Sampler(9)
    with pytest.raises(InputError, match="'slow' is unknown; choose from full"):
        named(["slow"])


class Words:
    """A tokenizer that knows words by their length."""

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        return [len(word) for word in text.split()]


def test_prompts_of_a_file_become_requests() -> None:
    prompts = [
        Prompt(id="a", prompt="one three", group="g", answer="5", level=2, category="sums"),
        Prompt(id="b", prompt="x"),
    ]
    first, second = requests_of(prompts, Words())
    assert (first.prompt, first.name, first.group) == ((3, 5), "a", "g")
    assert (first.level, first.gold, first.canvas) == ("sums/2", "5", None)
    assert (second.level, second.gold) == ("", None)
    assert second.group
