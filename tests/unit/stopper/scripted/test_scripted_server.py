"""The scripted engine answers as vLLM with stopper does, the OpenAI client cannot tell."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

from stopper.scripted import Piece, Script, Trace, create_app, default_script, serving

PRIMES = [{"role": "user", "content": "How many primes are below 100?"}]
CAPITAL = [{"role": "user", "content": "What is the capital of Australia?"}]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving() as found:
        yield found


@pytest.fixture(scope="module")
def http(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url) as client:
        yield client


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as made:
        yield made


def ask(client: openai.OpenAI, messages: Any = PRIMES, **xargs: Any) -> Any:
    extra = {"vllm_xargs": xargs} if xargs else {}
    return client.chat.completions.create(model="scripted", messages=messages, extra_body=extra)


def decision(http: httpx.Client, name: str) -> dict[str, Any]:
    found = http.get(f"/stopper/decisions/{name}")
    assert found.status_code == 200, found.text
    record: dict[str, Any] = found.json()
    return record


def test_it_stops_at_the_first_cue_above_the_threshold(
    client: openai.OpenAI, http: httpx.Client
) -> None:
    response = ask(client)
    message = response.choices[0].message
    assert message.reasoning.endswith("so 25. Wait")
    assert message.content == "\n\n\\boxed{25}"
    found = decision(http, response.id)
    assert found["decision"] == "stopped"
    assert found["reason"] == "score_above_threshold"
    assert (found["score"], found["threshold"], found["alpha"]) == (2.4, 1.0, 0.1)
    assert found["position"] == response.usage.completion_tokens_details.reasoning_tokens
    assert [score for _, score in found["cue_scores"]] == [-2.5, -0.4, 2.4]
    assert found["running"] is False


@pytest.mark.parametrize(
    ("xargs", "decided", "reason", "answer"),
    [
        ({"stopper": 0}, "off", "asked_off", "There are 25"),
        ({"stopper": "audit"}, "marked", "score_above_threshold", "There are 25"),
        ({"stopper_alpha": 0.02}, "stopped", "score_above_threshold", "\\boxed{25}"),
        ({"stopper_alpha": 1e-6}, "not_applied", "too_few_calibration_traces", "There are 25"),
        ({"stopper": "fixed"}, "stopped", "score_above_threshold_without_promise", "\\boxed{25}"),
    ],
)
def test_a_request_chooses_how_it_is_treated(
    client: openai.OpenAI, http: httpx.Client, xargs: dict[str, Any],
    decided: str, reason: str, answer: str,
) -> None:  # fmt: skip
    response = ask(client, **xargs)
    assert answer in response.choices[0].message.content
    found = decision(http, response.id)
    assert (found["decision"], found["reason"]) == (decided, reason)
    if decided == "marked":
        assert found["cues"] == 4  # it thinks on, and its later cues count
        assert found["top_score"] == 3.6


@pytest.mark.parametrize(
    "xargs", [{"stopper_alpha": 1.5}, {"stopper_alpha": "low"}, {"stopper": 7}, {"stopper_x": 1}]
)
def test_bad_options_are_answered_with_400(client: openai.OpenAI, xargs: dict[str, Any]) -> None:
    with pytest.raises(openai.BadRequestError, match="vllm_xargs"):
        ask(client, **xargs)


def test_streaming_gives_the_same(client: openai.OpenAI) -> None:
    whole = ask(client)
    texts = {"reasoning": "", "content": ""}
    last = None
    for chunk in client.chat.completions.create(
        model="scripted", messages=PRIMES, stream=True, stream_options={"include_usage": True}
    ):
        for choice in chunk.choices:
            texts["reasoning"] += getattr(choice.delta, "reasoning", None) or ""
            texts["content"] += choice.delta.content or ""
        last = chunk
    assert last is not None
    assert texts["reasoning"] == whole.choices[0].message.reasoning
    assert texts["content"] == whole.choices[0].message.content
    assert last.choices == []
    assert last.usage.completion_tokens == whole.usage.completion_tokens


def test_a_stream_is_written_as_vllm_writes_it(http: httpx.Client) -> None:
    body = {"messages": CAPITAL, "stream": True, "return_token_ids": True}
    text = http.post("/v1/chat/completions", json=body).text
    events = text.split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    first, *chunks = [json.loads(part.removeprefix("data: ")) for part in events[:-2]]
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert len(first["prompt_token_ids"]) > 0
    assert list(chunks[0]) == ["id", "object", "created", "model", "choices"]
    assert chunks[0]["choices"][0]["logprobs"] is None
    ids = [number for chunk in chunks for number in chunk["choices"][0]["token_ids"]]
    assert http.post("/detokenize", json={"tokens": ids}).json()["prompt"] == (
        "The capital of Australia. Sydney comes to mind. Hmm</think>\n\nSydney."
    )
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    assert chunks[-1]["choices"][0]["delta"] == {}


def test_hidden_reasoning_hides_its_tokens(http: httpx.Client) -> None:
    body = {"messages": CAPITAL, "include_reasoning": False, "return_token_ids": True}
    choice = http.post("/v1/chat/completions", json=body).json()["choices"][0]
    assert choice["message"]["reasoning"] is None
    assert choice["token_ids"] is None
    text = http.post("/v1/chat/completions", json={**body, "stream": True}).text
    assert "Austra" not in text
    assert "Sydn" in text


def test_the_answer_forced_at_each_cue_is_had_by_token_ids(http: httpx.Client) -> None:
    body = {"messages": PRIMES, "return_token_ids": True, "vllm_xargs": {"stopper": "audit"}}
    full = http.post("/v1/chat/completions", json=body, headers={"X-Request-Id": "a/b"}).json()
    assert full["id"] == "chatcmpl-a/b"
    found = decision(http, full["id"])
    end = http.post("/tokenize", json={"prompt": "</think>"}).json()["tokens"]
    answers = []
    for position, _ in found["cue_scores"]:
        ids = full["prompt_token_ids"] + full["choices"][0]["token_ids"][:position] + end
        forced = http.post("/v1/completions", json={"prompt": ids}).json()
        answers.append(forced["choices"][0]["text"].strip())
    assert answers == ["\\boxed{4}", "\\boxed{10}", "\\boxed{25}", "\\boxed{25}"]
    strange = http.post("/v1/completions", json={"prompt": [2**50]})
    assert strange.status_code == 400
    assert "no token id" in strange.json()["error"]["message"]


def test_completions_hold_the_thinking_in_their_text(client: openai.OpenAI) -> None:
    prompt = "The capital?"
    whole = client.completions.create(model="scripted", prompt=prompt, max_tokens=500)
    assert "Hmm</think>\n\nSydney." in whole.choices[0].text
    parts = client.completions.create(
        model="scripted", prompt=prompt, max_tokens=500, stream=True,
        stream_options={"include_usage": True},
    )  # fmt: skip
    chunks = list(parts)
    assert "".join(c.choices[0].text for c in chunks if c.choices) == whole.choices[0].text
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    short = client.completions.create(model="scripted", prompt=prompt, max_tokens=3)
    assert short.choices[0].finish_reason == "length"
    assert short.usage.completion_tokens == 3


def test_responses_come_whole_and_in_events(client: openai.OpenAI, http: httpx.Client) -> None:
    whole = client.responses.create(model="scripted", input="What is the capital of Australia?")
    assert [item.type for item in whole.output] == ["reasoning", "message"]
    assert whole.output_text == "\n\nSydney."
    assert decision(http, whole.id)["decision"] == "stopped"
    events = list(
        client.responses.create(
            model="scripted", input="What is the capital of Australia?", stream=True
        )
    )
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert [event.type for event in events[:2]] == ["response.created", "response.in_progress"]
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(deltas) == "\n\nSydney."
    final = events[-1]
    assert final.type == "response.completed"
    assert final.response.output_text == "\n\nSydney."
    cut = client.responses.create(model="scripted", input="capital", max_output_tokens=5)
    assert cut.status == "incomplete"


@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
    [
        ("/v1/chat/completions", {"messages": []}, 400, "messages"),
        ("/v1/chat/completions", {"messages": PRIMES, "n": 2}, 400, "one choice"),
        ("/v1/chat/completions", {"messages": PRIMES, "logprobs": True}, 400, "logprobs"),
        ("/v1/chat/completions", {"messages": PRIMES, "max_tokens": 0}, 400, "max_tokens"),
        (
            "/v1/chat/completions",
            {"messages": PRIMES, "stream_options": {"include_usage": True}},
            400,
            "Stream options",
        ),
        ("/v1/chat/completions", {"messages": PRIMES, "model": "huge"}, 404, "`huge`"),
        ("/v1/completions", {"prompt": ["a", "b"]}, 400, "one prompt"),
        ("/v1/completions", {"prompt": ""}, 400, "empty"),
        ("/v1/completions", {"prompt": "x" * 700_000}, 400, "maximum context length"),
    ],
)
def test_what_it_cannot_play_it_refuses_as_vllm_does(
    http: httpx.Client, path: str, body: dict[str, Any], status: int, said: str
) -> None:
    found = http.post(path, json=body)
    assert found.status_code == status
    assert said in found.json()["error"]["message"]
    assert found.json()["error"]["code"] == status


def test_it_has_the_rest_of_the_surface(client: openai.OpenAI, http: httpx.Client) -> None:
    assert http.get("/health").status_code == 200
    assert [model.id for model in client.models.list()] == ["scripted"]
    told = http.post("/tokenize", json={"messages": CAPITAL, "return_token_strs": True}).json()
    assert "".join(told["token_strs"]).endswith("<assistant><think>")
    assert told["count"] == len(told["tokens"])
    assert 'vllm:num_requests_running{model_name="scripted"} 0' in http.get("/metrics").text
    assert http.get("/stopper/decisions/nobody").status_code == 404
    assert http.get("/stopper/counters").json()["decisions"]["stopped"] > 0
    assert len(http.get("/stopper/decisions", params={"limit": 2}).json()["decisions"]) == 2


def test_an_api_key_is_asked_for() -> None:
    script = default_script().model_copy(update={"api_key": "secret"})
    with serving(script) as url, httpx.Client(base_url=url) as http:
        assert http.get("/v1/models").status_code == 401
        body = {"messages": PRIMES}
        assert http.post("/v1/chat/completions", json=body).status_code == 401
        key = {"Authorization": "Bearer secret"}
        assert http.post("/v1/chat/completions", json=body, headers=key).status_code == 200


def test_an_engine_without_a_stopper_thinks_to_the_end() -> None:
    script = default_script().model_copy(update={"stopper": False})
    with serving(script) as url, httpx.Client(base_url=url) as http:
        found = http.post("/v1/chat/completions", json={"messages": PRIMES}).json()
        assert "There are 25" in found["choices"][0]["message"]["content"]
        assert http.get(f"/stopper/decisions/{found['id']}").status_code == 404


def test_thinking_is_ended_on_demand() -> None:
    trace = Trace(
        name="x", pieces=(Piece(text="One two three four five six"),), answer="7", early_answer="?"
    )
    script = Script(traces=(trace,), token_delay_ms=250.0)
    with serving(script) as url, httpx.Client(base_url=url, timeout=20) as http:
        stop = "/stopper/requests/chatcmpl-{}/stop-thinking"
        assert http.post(stop.format("mine")).json()["outcome"] == "unknown"
        body = {"messages": PRIMES, "stream": True, "vllm_xargs": {"stopper": "audit"}}
        asked = []
        with http.stream(
            "POST", "/v1/chat/completions", json=body, headers={"X-Request-Id": "mine"}
        ) as stream:
            text = ""
            for piece in stream.iter_text():
                text += piece
                if not asked and "One" in text:
                    asked = [httpx.post(url + stop.format("mine")) for _ in range(2)]
        assert [(one.status_code, one.json()["outcome"]) for one in asked] == [
            (200, "stopping"),
            (409, "already_stopping"),
        ]
        assert "three" not in text
        found = decision(http, "chatcmpl-mine")
        assert (found["decision"], found["reason"]) == ("stopped", "asked_to_stop")
        assert found["score"] is found["threshold"] is None
        assert http.post(stop.format("mine")).status_code == 404


def test_a_request_that_is_not_watched_is_not_stopped_on_demand() -> None:
    script = default_script().model_copy(update={"first_token_delay_ms": 300.0})
    app = create_app(script)
    with serving(app) as url:
        body = {"messages": PRIMES, "vllm_xargs": {"stopper": 0}}
        request = threading.Thread(
            target=httpx.post, args=(f"{url}/v1/chat/completions",),
            kwargs={"json": body, "headers": {"X-Request-Id": "off"}},
        )  # fmt: skip
        request.start()
        while not app.engine.running:
            assert request.is_alive()
        told = httpx.post(f"{url}/stopper/requests/chatcmpl-off/stop-thinking")
        request.join()
    assert told.status_code == 409
    assert (told.json()["outcome"], told.json()["reason"]) == ("not_watched", "asked_off")
