"""Documents in, fewer tokens upstream, the same stream back: under real servers."""

from __future__ import annotations

import json
import re
from typing import Any

import httpx
import pytest
from front_servers import BODIES, CHAT, COMPLETIONS, MESSAGES, engine, sidecar, timeless

from stopper.context import estimate_tokens, split

ON = {"enabled": True, "scorer": "overlap", "most_documents": 5}
QUESTION = "How many primes are below 100?"
PRIMES = "Numbers fascinate people. There are 25 primes below 100. Euclid proved much."
SHEEP = "Sheep eat grass. They sleep in fields."
BLOCKS = (
    f'Use these:\n<document title="Primes">\n{PRIMES}\n</document>\n'
    f"<document>{SHEEP}</document>\n{QUESTION}"
)


@pytest.fixture(scope="module")
def one():
    split("Load. It.")  # spaCy, outside the patience for a server's start
    with engine() as made, sidecar(made.url, context=ON) as front:
        yield made, front


def chat(content: Any, **fields: Any) -> dict[str, Any]:
    return {"model": "scripted", "messages": [{"role": "user", "content": content}], **fields}


def without_context(body: bytes) -> bytes:
    return re.sub(rb',"stopper":\{[^{}]*("context":\{[^{}]*\})?\}', b"", body)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_documents_in_fewer_tokens_upstream_and_the_same_response(one, stream):
    made, front = one
    headers = {"X-Request-Id": f"context-{stream}"}
    sent = chat(BLOCKS, stream=stream, temperature=0.5)
    through = front.client.post(CHAT, json=sent, headers=headers)
    arrived = made.seen(CHAT)[-1].body
    assert arrived == {
        **sent,
        "messages": [{"role": "user", "content": BLOCKS.replace(
            PRIMES, "There are 25 primes below 100.").replace(SHEEP, "")}],
    }  # fmt: skip
    straight = httpx.post(made.url + CHAT, json=arrived, headers=headers)
    if not stream:
        assert through.json()["usage"] == straight.json()["usage"]
        whole = httpx.post(made.url + CHAT, json=sent)
        assert through.json()["usage"]["prompt_tokens"] < whole.json()["usage"]["prompt_tokens"]
    assert timeless(without_context(through.content)) == timeless(straight.content)
    text = through.text
    (told,) = re.findall(r'"context":(\{[^{}]*\})', text)
    found = json.loads(told)
    assert found == {
        "tokens_in": estimate_tokens(PRIMES) + estimate_tokens(SHEEP),
        "tokens_out": estimate_tokens("There are 25 primes below 100."),
        "documents": 2, "kept": 1, "dropped": 4, "reason": "compressed", "failed_open": False,
        "artifact": None, "threshold": 1.0,
    }  # fmt: skip


def test_given_documents_are_put_into_the_last_user_message(one):
    made, front = one
    given = {
        "documents": [{"title": "Primes", "text": PRIMES}, {"title": "Sheep", "text": SHEEP}],
        "alpha": 0.02,
    }
    answer = front.client.post(CHAT, json=chat(QUESTION, stopper=given)).json()
    arrived = made.seen(CHAT)[-1].body
    assert arrived["messages"][0]["content"] == (
        f'<document title="Primes">\nThere are 25 primes below 100.\n</document>\n\n{QUESTION}'
    )
    assert "stopper" not in arrived
    assert arrived["vllm_xargs"] == {"stopper_alpha": 0.02}
    assert answer["stopper"]["alpha"] == 0.02
    assert answer["stopper"]["context"]["reason"] == "compressed"


def test_vllms_own_documents_are_compressed_in_place(one):
    made, front = one
    listed = [{"title": "P", "text": PRIMES}, {"title": "S", "text": SHEEP}]
    asked = {"query": "Where do sheep sleep?", "context": {"floor": 1}}
    front.client.post(CHAT, json=chat(QUESTION, documents=listed, stopper=asked))
    assert made.seen(CHAT)[-1].body["documents"] == [
        {"title": "P", "text": ""}, {"title": "S", "text": SHEEP},
    ]  # fmt: skip


def test_faults_fail_open_to_the_text_as_it_came(one):
    made, front = one
    before = front.metric("stopper_context_faults_total", source="front", cause="too_large")
    many = "".join(f"<document>{PRIMES}</document>" for _ in range(6)) + QUESTION
    answer = front.client.post(CHAT, json=chat(many)).json()
    assert made.seen(CHAT)[-1].body == chat(many)
    found = answer["stopper"]["context"]
    assert (found["failed_open"], found["reason"]) == (True, "too_large")
    assert found["tokens_in"] == found["tokens_out"] == 6 * estimate_tokens(PRIMES)
    after = front.metric("stopper_context_faults_total", source="front", cause="too_large")
    assert after == before + 1
    given = {"documents": [{"text": PRIMES}] * 6}
    front.client.post(CHAT, json=chat(QUESTION, stopper=given))
    content = made.seen(CHAT)[-1].body["messages"][0]["content"]
    assert content.count(PRIMES) == 6


def test_a_broken_scorer_and_a_late_one_fail_open(one, monkeypatch):
    made, front = one
    compressor = front.runtime.details["context"].__closure__[0].cell_contents
    scorer = compressor.filter.scorer

    class Broken:
        identity = {"scorer": "broken"}  # noqa: RUF012

        def score(self, query, passages):
            raise RuntimeError("no model")

    try:
        object.__setattr__(compressor.filter, "scorer", Broken())
        answer = front.client.post(CHAT, json=chat(BLOCKS)).json()
        assert answer["stopper"]["context"]["reason"] == "fault"
        assert made.seen(CHAT)[-1].body == chat(BLOCKS)
        object.__setattr__(compressor.filter, "scorer", scorer)
        late = compressor._settings.model_copy(update={"timeout_s": 1e-9})
        monkeypatch.setattr(compressor, "_settings", late)
        answer = front.client.post(CHAT, json=chat(BLOCKS)).json()
        assert answer["stopper"]["context"]["reason"] == "timeout"
        assert made.seen(CHAT)[-1].body == chat(BLOCKS)
    finally:
        object.__setattr__(compressor.filter, "scorer", scorer)


def test_it_can_be_turned_off_for_a_request_and_no_question_drops_nothing(one):
    made, front = one
    off = {"context": {"enabled": False}}
    answer = front.client.post(CHAT, json=chat(BLOCKS, stopper=off)).json()
    assert made.seen(CHAT)[-1].body == chat(BLOCKS)
    assert "context" not in answer["stopper"]
    alone = f"<document>{PRIMES}</document>"
    answer = front.client.post(CHAT, json=chat(alone)).json()
    assert answer["stopper"]["context"]["reason"] == "empty_query"
    assert made.seen(CHAT)[-1].body == chat(alone)


def test_requests_without_documents_are_what_they_were(one):
    made, front = one
    answer = front.client.post(CHAT, json=BODIES[CHAT]).json()
    assert made.seen(CHAT)[-1].body == BODIES[CHAT]
    assert "context" not in answer["stopper"]


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        ({"context": {"alpha": 0.1}, "documents": [{"text": "a"}]}, "keeps no promise"),
        ({"documents": [{"title": "a"}]}, "missing required field `text`"),
    ],
    ids=["alpha", "text"],
)
def test_what_cannot_be_asked_is_refused(one, asked, named):
    _, front = one
    answer = front.client.post(CHAT, json=chat(QUESTION, stopper=asked))
    assert answer.status_code == 400
    assert named in answer.json()["error"]["message"]


def test_a_sidecar_without_compression_says_so_and_touches_no_block():
    given = {"documents": [{"text": PRIMES}]}
    with engine() as made, sidecar(made.url) as front:
        answer = front.client.post(CHAT, json=chat(QUESTION, stopper=given))
        assert answer.status_code == 400
        assert "--context" in answer.json()["detail"]
        front.client.post(CHAT, json=chat(BLOCKS))
        assert made.seen(CHAT)[-1].body == chat(BLOCKS)
        body = {"model": "scripted", "prompt": "primes", "stopper": {"query": "q"}}
        assert front.client.post(COMPLETIONS, json=body).status_code == 400
    assert MESSAGES[0]["content"] == QUESTION
