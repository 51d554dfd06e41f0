"""Requests are found by the response's id, as vLLM makes the one from the other."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.vllm.request_ids import RequestIds

RANDOM = "-0a1b2c3d"


def holding(*ids: str) -> RequestIds:
    made = RequestIds()
    for engine_id in ids:
        made.add(engine_id)
    return made


def first(ids: RequestIds, name: str) -> str | None:
    found = ids.first(name)
    return None if found is None else found[1]


@pytest.mark.parametrize(
    ("response", "engine"),
    [
        ("chatcmpl-77", "chatcmpl-77"),  # VLLM_DISABLE_REQUEST_ID_RANDOMIZATION
        ("chatcmpl-77", "chatcmpl-77" + RANDOM),
        ("chatcmpl-77", "0_chatcmpl-77" + RANDOM),  # n above 1
        ("chatcmpl-77", "0_chatcmpl-77_0" + RANDOM),  # several prompts in one call
        ("cmpl-77", "cmpl-77-0" + RANDOM),
        ("cmpl-77", "0_cmpl-77-0" + RANDOM),
        ("cmpl-77", "cmpl-77-0"),
        ("resp_77", "resp_77_0" + RANDOM),
        ("my own", "my own_0" + RANDOM),  # the client named its response
        ("0", "0" + RANDOM),  # offline
        ("chatcmpl-a/b\nc", "chatcmpl-a/b\nc" + RANDOM),  # X-Request-Id
    ],
)
def test_a_response_finds_its_request(response: str, engine: str) -> None:
    ids = holding("chatcmpl-7" + RANDOM, engine, "chatcmpl-777" + RANDOM)
    assert first(ids, response) == engine
    assert first(ids, engine) == engine


@pytest.mark.parametrize(
    ("response", "engine"),
    [
        ("chatcmpl-77", "chatcmpl-77-1" + RANDOM),  # a response that was named chatcmpl-77-1
        ("cmpl-77", "cmpl-77-1-0" + RANDOM),
        ("cmpl-77", "cmpl-77_0" + RANDOM),
        ("chatcmpl-77", "chatcmpl-77-0a1b2c3"),
        ("chatcmpl-77", "chatcmpl-77-0A1B2C3D"),
        ("77", "chatcmpl-77" + RANDOM),
        ("", RANDOM),
    ],
)
def test_another_response_is_not_taken_for_it(response: str, engine: str) -> None:
    assert first(holding(engine), response) is None


def test_the_first_choice_is_found_and_all_are_listed() -> None:
    choices = [f"{number}_chatcmpl-7{RANDOM}" for number in (10, 2, 0, 1)]
    ids = holding("2_chatcmpl-8" + RANDOM, *choices)
    assert first(ids, "chatcmpl-7") == "0_chatcmpl-7" + RANDOM
    assert ids.all("chatcmpl-7") == choices
    assert ids.all("10_chatcmpl-7" + RANDOM) == choices[:1]
    assert ids.all("chatcmpl-9") == []


def test_prompts_come_before_choices() -> None:
    ids = holding("0_cmpl-7-1-aaaaaaaa", "1_cmpl-7-0-bbbbbbbb", "0_cmpl-7-0-bbbbbbbb")
    assert first(ids, "cmpl-7") == "0_cmpl-7-0-bbbbbbbb"
    assert first(ids, "cmpl-7-1") == "0_cmpl-7-1-aaaaaaaa"
    assert len(ids.all("cmpl-7")) == 3


def test_the_name_that_takes_less_away_wins() -> None:
    named, turn = "resp_7_0" + RANDOM, "resp_7_0_0" + RANDOM
    ids = holding(named, turn)  # of resp_7, and of resp_7_0
    assert first(ids, "resp_7") == named
    assert first(ids, "resp_7_0") == named  # cannot be told apart: the more direct
    ids.discard(named)
    assert first(ids, "resp_7_0") == turn
    assert ids.all("resp_7_0") == [turn]


def test_of_an_id_used_again_the_newest_is_found() -> None:
    ids = holding("chatcmpl-7-aaaaaaaa", "chatcmpl-7-bbbbbbbb")
    assert first(ids, "chatcmpl-7") == "chatcmpl-7-bbbbbbbb"
    ids.add("chatcmpl-7-aaaaaaaa")
    assert first(ids, "chatcmpl-7") == "chatcmpl-7-aaaaaaaa"
    ids.discard("chatcmpl-7-aaaaaaaa")
    assert first(ids, "chatcmpl-7") == "chatcmpl-7-bbbbbbbb"


@given(st.lists(st.from_regex(r"(\d_)?(cmpl-|x)?\d{0,2}([-_]\d)?(-[0-9a-f]{8})?", fullmatch=True)))
def test_what_is_discarded_leaves_nothing_behind(engine_ids: list[str]) -> None:
    ids = holding(*engine_ids)
    for engine_id in engine_ids:
        assert first(ids, engine_id) == engine_id
        assert ids.all(engine_id) == [engine_id]
    for engine_id in engine_ids:
        ids.discard(engine_id)
        ids.discard(engine_id)
    assert ids._ranks == {}
