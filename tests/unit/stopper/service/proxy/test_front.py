"""The OpenAI-compatible front before scripted engines, all under real servers."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime

import httpx
import msgspec
import openai
import pytest
from front_servers import (
    ARTIFACT,
    BODIES,
    CHAT,
    COMPLETIONS,
    MESSAGES,
    RESPONSES,
    STREAM,
    engine,
    script,
    sidecar,
    timeless,
    without_report,
)

from stopper.service.control import Alarm, Control, Switch
from stopper.service.key_file import new_key, write_keys
from stopper.service.status.records import Recent

REPORTED = {
    "decision": "stopped", "reason": "score_above_threshold", "position": 53, "score": 2.4,
    "threshold": 1.0, "alpha": 0.1, "tokens_saved_estimate": None, "artifact": "5c21970000000000",
}  # fmt: skip


@pytest.fixture(scope="module")
def one():
    with engine() as made, sidecar(made.url) as front:
        yield made, front


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS, RESPONSES])
@pytest.mark.parametrize("stream", [True, False])
def test_the_response_is_the_engines_and_the_report(one, path, stream):
    made, front = one
    body = BODIES[path] | {"stream": stream}
    headers = {"X-Request-Id": f"same-{path[-5:]}-{stream}"}
    straight = httpx.post(made.url + path, json=body, headers=headers)
    through = front.client.post(path, json=body, headers=headers)
    assert through.status_code == straight.status_code == 200
    assert through.headers["content-type"] == straight.headers["content-type"]
    clean, reports = without_report(through.content)
    assert reports == 1
    assert timeless(clean) == timeless(straight.content)
    if not stream:
        found = through.json()
        assert list(found)[-1] == "stopper"
        assert found["stopper"] == REPORTED
    elif path == RESPONSES:
        last = through.text.rstrip().rpartition("data: ")[2]
        assert json.loads(last)["response"]["stopper"] == REPORTED
    else:
        *_, last, done, end = through.text.split("\n\n")
        assert (done, end) == ("data: [DONE]", "")
        assert json.loads(last.removeprefix("data: "))["stopper"] == REPORTED


def test_the_usage_event_carries_the_report_where_it_comes_last(one):
    _, front = one
    body = STREAM | {"stream_options": {"include_usage": True}}
    *events, _, _ = front.client.post(CHAT, json=body).text.split("\n\n")
    found = [json.loads(event.removeprefix("data: ")) for event in events]
    assert ["stopper" in event for event in found] == [False] * (len(found) - 1) + [True]
    assert found[-1]["usage"]["completion_tokens"] > 0


def test_the_openai_client_is_served_unchanged(one):
    _, front = one
    with openai.OpenAI(base_url=f"{front.url}/v1", api_key="none", max_retries=0) as client:
        assert [model.id for model in client.models.list()] == ["scripted"]
        whole = client.chat.completions.create(model="scripted", messages=MESSAGES)
        reasoning = content = ""
        for chunk in client.chat.completions.create(
            model="scripted", messages=MESSAGES, stream=True
        ):
            reasoning += getattr(chunk.choices[0].delta, "reasoning", None) or ""
            content += chunk.choices[0].delta.content or ""
        assert chunk.stopper == REPORTED
        assert whole.stopper == REPORTED
        assert reasoning == whole.choices[0].message.reasoning
        assert content == whole.choices[0].message.content == "\n\n\\boxed{25}"
        text = client.completions.create(model="scripted", prompt="primes", max_tokens=300)
        assert text.choices[0].text.endswith("\\boxed{25}")
        answered = client.responses.create(model="scripted", input="primes")
        assert answered.output_text == "\n\n\\boxed{25}"
        events = list(client.responses.create(model="scripted", input="primes", stream=True))
        assert events[-1].type == "response.completed"
        assert events[-1].response.stopper == REPORTED
        full = client.chat.completions.create(
            model="scripted", messages=MESSAGES, extra_body={"stopper": {"enabled": False}}
        )
        assert full.stopper["reason"] == "asked_off"
        assert len(full.choices[0].message.reasoning) > len(reasoning)
        with pytest.raises(openai.BadRequestError, match=r"400 - stopper: .*\$\.alpha") as refused:
            client.chat.completions.create(
                model="scripted", messages=MESSAGES, extra_body={"stopper": {"alpha": 2}}
            )
        assert refused.value.response.json()["type"] == "urn:stopper:problem:bad-request"
        with pytest.raises(openai.NotFoundError, match="does not exist"):
            client.chat.completions.create(model="other", messages=MESSAGES)


def test_a_requests_alpha_reaches_the_engine(one):
    made, front = one
    body = BODIES[CHAT] | {"stopper": {"alpha": 0.02}}
    found = front.client.post(CHAT, json=body).json()["stopper"]
    assert (found["alpha"], found["threshold"]) == (0.02, 3.0)
    assert made.seen(CHAT)[-1].body["vllm_xargs"] == {"stopper_alpha": 0.02}
    body = BODIES[CHAT] | {"stopper": {"alpha": 0.001}}
    before = front.metric("stopper_not_applied_total", cause="too_few_calibration_traces")
    found = front.client.post(CHAT, json=body).json()["stopper"]
    assert (found["decision"], found["reason"]) == ("not_applied", "too_few_calibration_traces")
    after = front.metric("stopper_not_applied_total", cause="too_few_calibration_traces")
    assert after == before + 1


def test_trace_context_and_request_id_pass_and_hops_do_not(one):
    made, front = one
    sent = {
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "tracestate": "a=b", "X-Request-Id": "mine", "Authorization": "Bearer theirs",
        "Connection": "keep-alive, X-Hop", "X-Hop": "1", "X-Other": "2", "TE": "trailers",
    }  # fmt: skip
    answer = front.client.post(CHAT, json=BODIES[CHAT], headers=sent)
    got = made.seen(CHAT)[-1].headers
    for name in ("traceparent", "tracestate", "x-request-id", "authorization", "x-other"):
        assert got[name] == {k.lower(): v for k, v in sent.items()}[name]
    assert not {"x-hop", "te"} & set(got)
    assert answer.json()["id"] == "chatcmpl-mine"
    assert answer.headers["x-request-id"] == "mine"
    assert front.client.post(CHAT, json=BODIES[CHAT]).headers["x-request-id"]


def test_a_body_that_cannot_be_read_is_refused(one):
    made, front = one
    before = len(made.seen(CHAT))
    for body, headers, status in (
        (b"{", {}, 400),
        (b"\x1f\x8b", {"Content-Encoding": "gzip"}, 415),
        (b"{}", {"X-Request-Id": "x" * 300}, 400),
    ):
        answer = front.client.post(CHAT, content=body, headers=headers)
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/problem+json"
    assert len(made.seen(CHAT)) == before


def test_a_silenced_artifact_stops_nothing(one):
    made, front = one
    board = front.runtime.board
    kept = board.current
    try:
        board.current = Control(kill_switch=Switch(True, "me", "test", "now"))
        with board_frozen(board):
            killed = front.client.post(CHAT, json=BODIES[CHAT])
        assert killed.json()["stopper"]["reason"] == "kill_switch"
        assert made.seen(CHAT)[-1].body["vllm_xargs"] == {"stopper": 0}
        # The last decision has told which artifact this engine works with.
        board.current = Control(alarms={REPORTED["artifact"]: Alarm("now", "drift")})
        with board_frozen(board):
            answer = front.client.post(CHAT, json=BODIES[CHAT] | {"stopper": {"enabled": True}})
        assert answer.json()["stopper"]["reason"] == "alarm"
        assert made.seen(CHAT)[-1].body["vllm_xargs"] == {"stopper": 0}
        board.current = Control(alarms={"another": Alarm("now", "drift")})
        with board_frozen(board):
            answer = front.client.post(CHAT, json=BODIES[CHAT])
        assert answer.json()["stopper"]["decision"] == "stopped"
    finally:
        board.current = kept


class board_frozen:  # noqa: N801 - reads as a block
    """Keeps the board from reading the store meanwhile."""

    def __init__(self, board):
        self.board = board

    def __enter__(self):
        current = self.board.current
        self.take, self.board._take = self.board._take, lambda _: current

    def __exit__(self, *_):
        self.board._take = self.take


def test_the_kill_switch_is_obeyed():
    with engine() as made, sidecar(made.url) as front:
        answer = front.client.post("/v1/kill-switch", json={"on": True, "why": "test"})
        assert answer.status_code == 200, answer.text
        found = front.client.post(CHAT, json=BODIES[CHAT]).json()
        assert (found["stopper"]["decision"], found["stopper"]["reason"]) == ("off", "kill_switch")
        assert found["choices"][0]["message"]["content"].startswith("\n\nThere are 25 primes")
        front.client.post("/v1/kill-switch", json={"on": False})
        found = front.client.post(CHAT, json=BODIES[CHAT]).json()
        assert found["stopper"]["decision"] == "stopped"


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
@pytest.mark.parametrize("stream", [True, False])
def test_an_audit_shows_in_nothing_but_the_report(path, stream):
    told = []
    with engine() as made, sidecar(made.url, share=1.0) as front:
        front.runtime.finished.listen(told.append)
        body = BODIES[path] | {"stream": stream}
        headers = {"X-Request-Id": "same", "Authorization": "Bearer theirs"}
        as_audit = body | {"vllm_xargs": {"stopper": "audit"}}
        straight = httpx.post(made.url + path, json=as_audit, headers=headers)
        ids = httpx.post(
            made.url + path, json=as_audit | {"return_token_ids": True, "stream": False}
        )
        through = front.client.post(path, json=body, headers=headers)
        clean, reports = without_report(through.content)
        assert reports == 1
        assert timeless(clean) == timeless(straight.content)
        assert b'"decision":"audited"' in through.content
        for _ in range(200):
            if told:
                break
            time.sleep(0.01)
        (request,) = told
        choice = ids.json()["choices"][0]
        assert request.output_token_ids == tuple(choice["token_ids"])
        expected = ids.json().get("prompt_token_ids") or choice["prompt_token_ids"]
        assert request.prompt_token_ids == tuple(expected)
        assert (request.audited, request.request_id, request.path) == (True, "same", path)
        assert request.record["decision"] == "marked"
        assert request.response_id.endswith("cmpl-same")
        assert request.upstream == made.url
        assert request.upstream_headers == {"authorization": "Bearer theirs"}
        assert request.finish_reason == "stop"
        assert abs((datetime.now(UTC) - request.time).total_seconds()) < 30
        assert "theirs" not in repr(request)


def test_what_cannot_be_audited_is_counted():
    told = []
    with engine() as made, sidecar(made.url, share=1.0) as front:
        front.runtime.finished.listen(told.append)
        for path, more in ((RESPONSES, {}), (CHAT, {"include_reasoning": False})):
            found = front.client.post(path, json=BODIES[path] | more).json()["stopper"]
            assert found["decision"] == "stopped"
        wait_for(lambda: len(told) == 2)
        assert not any(request.audited for request in told)
        assert front.metric("stopper_audits_total", outcome="not_possible") == 2


def wait_for(holds):
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_finished_requests_are_counted_for_the_fleet():
    def fault(_):
        raise RuntimeError("a listener's fault")

    with (
        engine(script(artifact=artifact_version())) as made,
        sidecar(made.url, artifacts=f"scripted={ARTIFACT}") as front,
    ):
        front.runtime.finished.listen(fault)
        found = front.client.post(CHAT, json=BODIES[CHAT]).json()["stopper"]
        saved = found["tokens_saved_estimate"]
        assert 100 < saved < 300
        labels = {"decision": "stopped", "reason": "score_above_threshold"}
        wait_for(lambda: front.metric("stopper_decisions_total", **labels) == 1)
        assert front.metric("stopper_thinking_tokens_saved_estimate_total") == saved
        wait_for(lambda: front.metric("stopper_fail_open_total", cause="finished_listener") == 1)
        store = front.runtime.store
        wait_for(lambda: store._counts)
        assert store._counts == {
            "front.stopped.score_above_threshold": 1, "front.tokens_saved_estimate": saved,
        }  # fmt: skip
        wait_for(lambda: store._feeds)
        (item,) = store._feeds["decisions"]
        recent = msgspec.json.decode(item, type=Recent)
        assert (recent.source, recent.decision, recent.model) == ("front", "stopped", "scripted")
        assert recent.tokens_saved_estimate == saved
        alarms = {artifact_version(): Alarm("now", "drift")}
        front.runtime.board.current = Control(alarms=alarms)
        with board_frozen(front.runtime.board):
            answer = front.client.post(CHAT, json=BODIES[CHAT])
        assert answer.json()["stopper"]["reason"] == "alarm"


def test_an_alarm_counts_for_a_model_that_no_artifact_is_known_to_serve():
    with (
        engine(script(artifact=artifact_version())) as made,
        sidecar(made.url, artifacts=f"elsewhere={ARTIFACT}") as front,
    ):
        front.runtime.board.current = Control(alarms={artifact_version(): Alarm("now", "drift")})
        with board_frozen(front.runtime.board):
            answer = front.client.post(CHAT, json=BODIES[CHAT])
        assert answer.json()["stopper"]["reason"] == "alarm"
        assert made.seen(CHAT)[-1].body["vllm_xargs"] == {"stopper": 0}


def artifact_version():
    from stopper.service.catalog import Served
    from stopper.service.settings import ArtifactSource

    return Served.read(ArtifactSource(folder=ARTIFACT, model="scripted"), None).version


def test_an_engine_without_stopper_is_not_asked_each_time():
    with engine(script(stopper=False)) as made, sidecar(made.url) as front:
        for _ in range(3):
            found = front.client.post(CHAT, json=BODIES[CHAT]).json()["stopper"]
            assert (found["decision"], found["reason"]) == ("not_applied", "engine_without_stopper")
        assert len([seen for seen in made.log if seen.path.startswith("/stopper/")]) == 1
        cause = "engine_without_stopper"
        wait_for(lambda: front.metric("stopper_not_applied_total", cause=cause) == 3)
        answer = front.client.post("/v1/requests/chatcmpl-1/stop-thinking")
        assert answer.status_code == 409
        assert "engine_without_stopper" in answer.json()["detail"]


def test_each_model_goes_to_an_engine_that_serves_it():
    with engine() as a, engine(script(model="other")) as b, sidecar(a.url, b.url) as front:
        models = front.client.get("/v1/models").json()
        assert [card["id"] for card in models["data"]] == ["scripted", "other"]
        for _ in range(2):
            assert front.client.post(CHAT, json=BODIES[CHAT]).status_code == 200
            body = BODIES[CHAT] | {"model": "other"}
            assert front.client.post(CHAT, json=body).status_code == 200
        assert (len(a.seen(CHAT)), len(b.seen(CHAT))) == (2, 2)
        unknown = front.client.post(CHAT, json=BODIES[CHAT] | {"model": "nobody's"})
        assert unknown.status_code == 404
        assert unknown.json()["error"]["type"] == "NotFoundError"
        ready = front.client.get("/readyz").json()
        closed = {"breaker": "closed", "running": 0, "models": 1}
        assert ready["parts"]["upstreams"] == [closed, closed]


def test_load_is_shared_and_a_request_can_be_told_to_stop_thinking():
    slow = script(token_delay_ms=30.0)
    with engine(slow) as a, engine(slow) as b, sidecar(a.url, b.url) as front:
        front.client.get("/v1/models")
        off = STREAM | {"stopper": {"enabled": False}}
        never = STREAM | {"stopper": {"alpha": 0.02}}
        with (
            front.client.stream("POST", CHAT, json=off) as first,
            front.client.stream("POST", CHAT, json=never) as second,
        ):
            ids = []
            streams = [first.iter_lines(), second.iter_lines()]
            for lines in streams:
                ids.append(json.loads(next(lines).removeprefix("data: "))["id"])
            assert sorted((len(a.seen(CHAT)), len(b.seen(CHAT)))) == [1, 1]
            stopped = front.client.post(f"/v1/requests/{ids[1]}/stop-thinking")
            assert (stopped.status_code, stopped.json()) == (200, {"outcome": "stopping"})
            again = front.client.post(f"/v1/requests/{ids[1]}/stop-thinking")
            assert again.status_code == 409
            assert again.headers["content-type"] == "application/problem+json"
            unwatched = front.client.post(f"/v1/requests/{ids[0]}/stop-thinking")
            assert unwatched.status_code == 409
            assert "not_watched" in unwatched.json()["detail"]
            first.close()
            rest = list(streams[1])
        last = next(line for line in reversed(rest) if "finish_reason" in line)
        found = json.loads(last.removeprefix("data: "))["stopper"]
        assert found["decision"] == "stopped"
        missing = front.client.post("/v1/requests/nobody%2F..%2Fx/stop-thinking")
        assert missing.status_code == 404
        missing = front.client.post("/v1/requests/nobody/stop-thinking")
        assert (missing.status_code, missing.json()["instance"]) == (404, "nobody")


def test_keys_stay_where_they_belong(tmp_path):
    ours, upstreams = tmp_path / "keys.toml", tmp_path / "upstream"
    key, entry = new_key("app", ("decide",))
    write_keys(ours, [entry])
    upstreams.write_text("the-engines\n")
    with engine(script(api_key="the-engines")) as made:
        given = {"url": made.url, "api_key_file": str(upstreams)}
        with sidecar(given, keys_file=ours) as front:
            assert front.client.post(CHAT, json=BODIES[CHAT]).status_code == 401
            headers = {"Authorization": f"Bearer {key}"}
            assert front.client.post(CHAT, json=BODIES[CHAT], headers=headers).status_code == 200
            assert front.client.get("/v1/models", headers=headers).status_code == 200
        with sidecar(made.url, keys_file=ours) as front:
            answer = front.client.post(CHAT, json=BODIES[CHAT], headers=headers)
            assert (answer.status_code, answer.json()) == (401, {"error": "Unauthorized"})
        with sidecar(made.url) as front:
            headers = {"Authorization": "Bearer the-engines"}
            assert front.client.post(CHAT, json=BODIES[CHAT]).status_code == 401
            assert front.client.post(CHAT, json=BODIES[CHAT], headers=headers).status_code == 200
        assert not any(key in str(seen.headers) for seen in made.log)


def test_without_an_engine_the_front_is_off():
    with sidecar(artifacts=str(ARTIFACT)) as front:
        for method, path in (
            ("POST", CHAT), ("GET", "/v1/models"), ("POST", "/v1/requests/a/stop-thinking"),
        ):  # fmt: skip
            answer = front.client.request(method, path, json={} if method == "POST" else None)
            assert answer.status_code == 503
            assert "--upstream" in answer.json()["detail"]
