"""What the client of a vLLM server makes of answers that are none; the real one is served apart."""

from __future__ import annotations

import json

import httpx
import pytest

from adapters.openai import ServerError, ServerReader
from probes.causal_prompts import Prompt

CARD = {"id": "m", "root": "/m", "max_model_len": 100}
PROMPTS = [Prompt((1, 2), (3,)), Prompt((1, 2), (4,)), Prompt((9,), (4,))]


def row(yes: float, no: float) -> dict:
    return {"top_logprobs": [{"token_id:5": yes, "token_id:6": no}]}


class Server:
    """Answers as it is told and remembers what it was asked."""

    def __init__(self, answer, cards=(CARD,)):
        self.asked: list[list[list[int]]] = []
        self.answer, self.cards = answer, cards

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v1/models":
            return httpx.Response(200, json={"data": list(self.cards)})
        self.asked.append(json.loads(request.content)["prompt"])
        return self.answer(self.asked[-1])


def good(prompts):
    choices = [
        {"index": at, "logprobs": row(-float(ids[-1]), -10.0)} for at, ids in enumerate(prompts)
    ]
    return httpx.Response(200, json={"choices": choices[::-1]})


def reader(answer, cards=(CARD,)):
    server = Server(answer, cards)
    client = httpx.Client(transport=httpx.MockTransport(server), base_url="http://x")
    return ServerReader("http://x", "m", client=client), server


def test_one_prompt_of_each_document_goes_first_and_answers_come_back_in_order():
    made, server = reader(good)
    assert made.read(PROMPTS, 5, 6).tolist() == [[-3.0, -10.0], [-4.0, -10.0], [-4.0, -10.0]]
    assert server.asked == [[[1, 2, 3], [9, 4]], [[1, 2, 4]]]
    assert made.max_tokens == 99
    assert made.identity == {"served": "m", "root": "/m"}


def test_an_adapter_is_as_long_as_its_base():
    adapter = {"id": "m", "root": "/a", "parent": "base", "max_model_len": None}
    made, _ = reader(good, (adapter, {"id": "base", "max_model_len": 50}))
    assert made.max_tokens == 49
    with pytest.raises(ServerError, match="does not tell max_model_len"):
        reader(good, (adapter,))


def lost(prompts):
    raise httpx.ConnectError("refused")


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (lost, r"no answer \(refused\); is the vLLM server running"),
        (lambda _: httpx.Response(503, text="busy"), "answers 503: busy"),
        (lambda _: httpx.Response(200, text="<html>"), "answers no JSON object"),
        (lambda _: httpx.Response(200, json=[1]), "answers no JSON object"),
        (lambda _: httpx.Response(200, json={"choices": []}), "has not answered every prompt"),
        (
            lambda _: httpx.Response(200, json={"choices": [{"index": 0, "logprobs": None}]}),
            "lacks the log-probabilities of tokens 5 and 6",
        ),
    ],
    ids=["lost", "busy", "text", "list", "missing", "no logprobs"],
)
def test_an_answer_that_is_none_is_named(answer, why):
    made, _ = reader(answer)
    with pytest.raises(ServerError, match=why):
        made.read(PROMPTS, 5, 6)
