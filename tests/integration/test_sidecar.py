"""Real vLLM, a real Redis and two replicas of the sidecar, spoken to with the OpenAI client."""

from __future__ import annotations

import base64
import json
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass

import httpx
import openai
import pytest
from runs import ARTIFACT, TEST_PROMPTS
from served import Program, sidecar, vllm_server

from tests.servers import RedisServer, redis_server, until

MESSAGES = [json.loads(line)["messages"] for line in TEST_PROMPTS.read_text().splitlines()[:40]]

NOUGHT = {"data": base64.b64encode(bytes(4 * 128 * 4)).decode(), "dtype": "float32", "shape": [512]}


@dataclass
class Stack:
    """What runs; `first` audits nothing, `second` every request that goes through it."""

    engine: Program
    redis: RedisServer
    first: Program
    second: Program


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stack")
    with ExitStack() as held:
        engine = held.enter_context(vllm_server(folder, alpha=0.05))
        redis = held.enter_context(redis_server(persistent=True))
        options = (
            "--artifact", f"reasoner={ARTIFACT}", "--upstream", engine.url, "--redis", redis.url,
        )  # fmt: skip
        first, second = (
            held.enter_context(sidecar(folder, *options, STOPPER_AUDITS__SHARE=share))
            for share in ("0", "1")
        )
        yield Stack(engine, redis, first, second)


@pytest.fixture(scope="module")
def client(stack):
    with openai.OpenAI(base_url=f"{stack.first.url}/v1", api_key="none", max_retries=0) as made:
        yield made


@pytest.fixture(scope="module")
def direct(stack):
    with openai.OpenAI(base_url=f"{stack.engine.url}/v1", api_key="none", max_retries=0) as made:
        yield made


def ask(client, number, **options):
    return client.chat.completions.create(
        model="reasoner", messages=MESSAGES[number], max_tokens=380, seed=number, **options
    )


def said(client, number, **options):
    """Reasoning and content of a stream, and the `stopper` object of its last chunk."""
    reasoning, content, report, chunks = "", "", None, 0
    for chunk in ask(client, number, stream=True, **options):
        chunks += 1
        assert report is None, "the report is in the last chunk"
        for choice in chunk.choices:
            reasoning += getattr(choice.delta, "reasoning", None) or ""
            content += choice.delta.content or ""
        report = (chunk.model_extra or {}).get("stopper")
    assert chunks > 5
    return reasoning, content, report


@pytest.fixture(scope="module")
def stopped(client):
    """The first request that is stopped, and its response."""
    for number in range(len(MESSAGES)):
        response = ask(client, number)
        if response.model_extra["stopper"]["decision"] == "stopped":
            return number, response
    pytest.fail("none of 40 requests was stopped at alpha 0.05")


def status(program):
    return httpx.get(f"{program.url}/v1/status").json()


def metric(program, name):
    """Sum of a metric over its labels, by the value of its last label."""
    found = {}
    for line in httpx.get(f"{program.url}/metrics").text.splitlines():
        match = re.fullmatch(rf"{name}\{{(.*)\}} (\S+)", line)
        if match:
            label = match[1].rpartition("=")[2].strip('"')
            found[label] = found.get(label, 0.0) + float(match[2])
    return found


def test_a_response_through_the_front_is_the_engine_s_and_tells_what_was_decided(
    stack, direct, stopped
):
    number, response = stopped
    same = ask(direct, number)
    assert response.choices[0].message.reasoning == same.choices[0].message.reasoning
    assert response.choices[0].message.content == same.choices[0].message.content
    assert response.usage == same.usage
    found = response.model_extra["stopper"]
    record = httpx.get(f"{stack.engine.url}/stopper/decisions/{response.id}").json()
    assert (found["decision"], found["reason"]) == ("stopped", "score_above_threshold")
    for field in ("position", "score", "threshold", "alpha", "artifact"):
        assert found[field] == record[field], field
    assert found["alpha"] == 0.05
    assert found["tokens_saved_estimate"] > 0
    assert found["artifact"] == status(stack.first)["artifacts"][0]["card"]["version"]


def test_a_stream_says_the_same_and_reports_in_its_last_chunk(client, stopped):
    number, response = stopped
    reasoning, content, report = said(client, number)
    assert reasoning == response.choices[0].message.reasoning
    assert content == response.choices[0].message.content
    assert report == response.model_extra["stopper"]


def test_streams_are_the_engine_s_byte_for_byte_but_for_the_report(stack, stopped):
    body = {
        "model": "reasoner", "messages": MESSAGES[stopped[0]], "max_tokens": 380, "seed": 1,
        "stream": True, "stream_options": {"include_usage": True},
    }  # fmt: skip

    def bytes_of(program, **more):
        path, headers = f"{program.url}/v1/chat/completions", {"X-Request-Id": "twin"}
        raw = httpx.post(path, json={**body, **more}, headers=headers, timeout=60).content
        return re.sub(rb'"created":\d+', b'"created":0', raw)

    def alike(program, **more):
        """Ask both until they cut alike: a busy vLLM puts several tokens into one event."""
        for _ in range(30):
            here, there = bytes_of(program), bytes_of(stack.engine, **more)
            if without_report(here) == there:
                break
        assert without_report(here) == there
        assert there.rstrip().endswith(b"data: [DONE]")
        return here

    assert b'"stopper":{"decision":"stopped"' in alike(stack.first)
    # An audited stream brings token ids from the engine, which its client has not asked for.
    assert b'"stopper":{"decision":"audited"' in alike(stack.second, vllm_xargs={"stopper": 0})


def without_report(stream):
    report = re.search(rb',"stopper":\{[^{}]*\}', stream)
    assert report is not None
    return stream.replace(report[0], b"", 1)


def test_a_request_chooses_its_alpha_or_none_at_all(client, stopped):
    number, response = stopped
    off = ask(client, number, extra_body={"stopper": {"enabled": False}})
    assert off.model_extra["stopper"]["decision"] == "off"
    assert len(off.choices[0].message.reasoning) > len(response.choices[0].message.reasoning)
    tight = ask(client, number, extra_body={"stopper": {"alpha": 0.02}}).model_extra["stopper"]
    assert tight["alpha"] == 0.02
    with pytest.raises(openai.BadRequestError, match="alpha"):
        ask(client, number, extra_body={"stopper": {"alpha": 2}})
    few = ask(client, number, extra_body={"stopper": {"alpha": 1e-6}}).model_extra["stopper"]
    assert (few["decision"], few["reason"]) == ("not_applied", "too_few_calibration_traces")


def test_the_other_routes_report_as_well(client):
    assert [model.id for model in client.models.list()] == ["reasoner"]
    plain = client.completions.create(model="reasoner", prompt="2 + 3 =", max_tokens=8)
    assert plain.model_extra["stopper"]["decision"] in ("not_stopped", "stopped")
    response = client.responses.create(model="reasoner", input="2+3?", max_output_tokens=300)
    assert response.model_extra["stopper"]["decision"] in ("not_stopped", "stopped")
    events = list(
        client.responses.create(model="reasoner", input="2+3?", max_output_tokens=300, stream=True)
    )
    assert events[-1].type in ("response.completed", "response.incomplete")
    assert events[-1].response.model_extra["stopper"]["decision"] in ("not_stopped", "stopped")


class Wish(threading.Thread):
    """Asks a request to stop thinking until it is heard."""

    def __init__(self, program, request_id):
        super().__init__(daemon=True)
        self._url = f"{program.url}/v1/requests/{request_id}/stop-thinking"
        self._over = threading.Event()
        self.heard = False

    def run(self):
        with httpx.Client() as client:
            while not self._over.is_set() and not self.heard:
                self.heard = client.post(self._url).status_code == 200

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *problem):
        self._over.set()
        self.join(30)


def test_a_running_request_is_told_to_stop_thinking(stack, client, stopped):
    number, _ = stopped
    full = ask(client, number, extra_body={"stopper": {"enabled": False}}).choices[0].message
    for attempt in range(10):  # on a busy machine the wish may come too late
        name = f"wish-{attempt}"
        with Wish(stack.second, f"chatcmpl-{name}") as wish:  # any replica finds the request
            reasoning, _, report = said(
                client, number, extra_headers={"X-Request-Id": name},
                extra_body={"stopper": {"alpha": 0.004}},
            )  # fmt: skip
        if wish.heard:
            break
    assert (report["decision"], report["reason"]) == ("stopped", "asked_to_stop")
    assert full.reasoning.startswith(reasoning.rstrip())
    assert len(reasoning) < len(full.reasoning)
    unknown = httpx.post(f"{stack.first.url}/v1/requests/nobody/stop-thinking")
    assert unknown.status_code == 404
    assert unknown.headers["content-type"] == "application/problem+json"


def test_audits_think_to_their_end_and_are_counted_on_all_replicas(stack, direct, stopped):
    number, _ = stopped
    url = f"{stack.second.url}/v1"
    with openai.OpenAI(base_url=url, api_key="none", max_retries=0) as audited:
        before = metric(stack.second, "stopper_audits_total")
        response = ask(audited, number)
        report = response.model_extra["stopper"]
        assert report["decision"] == "audited"
        assert report["position"] is not None
        full = ask(direct, number, extra_body={"vllm_xargs": {"stopper": 0}})
        assert response.choices[0].message.content == full.choices[0].message.content
        assert response.model_extra["prompt_token_ids"] is None  # not asked for
        assert response.choices[0].model_extra["token_ids"] is None
        with ThreadPoolExecutor(4) as pool:
            others = [n for n in range(13) if n != number][:12]  # a repeated prompt counts once
            list(pool.map(lambda n: ask(audited, n), others))
    until(lambda: sum(metric(stack.second, "stopper_audits_total").values())
          >= sum(before.values()) + 13, "13 audits", 60)  # fmt: skip
    outcomes = metric(stack.second, "stopper_audits_total")
    assert set(outcomes) <= {"good", "bad", "no_mark", "ok", "unmarked"}, outcomes
    until(lambda: _audits(stack.first) == _audits(stack.second) >= 13,
          "one count of the audits on both replicas", 60)  # fmt: skip


def _audits(program):
    standing = status(program)["artifacts"][0]["standing"]
    return standing["audits"] if standing else 0


def test_the_kill_switch_holds_on_all_replicas(stack, client, stopped):
    body = {"on": True, "why": "a test"}
    assert httpx.post(f"{stack.second.url}/v1/kill-switch", json=body).status_code == 200
    time.sleep(1)
    report = ask(client, stopped[0]).model_extra["stopper"]
    assert (report["decision"], report["reason"]) == ("off", "kill_switch")
    assert httpx.get(f"{stack.first.url}/readyz").status_code == 200
    body["on"] = False
    assert httpx.post(f"{stack.first.url}/v1/kill-switch", json=body).status_code == 200
    time.sleep(1)
    assert ask(client, stopped[0]).model_extra["stopper"]["decision"] == "stopped"


class Load:
    """Requests without a pause from a few threads, with what came of them."""

    def __init__(self, client, threads=3):
        self._client = client
        self._over = threading.Event()
        self.answers: list[str] = []
        self.errors: list[Exception] = []
        self._threads = [
            threading.Thread(target=self._run, args=(start,), daemon=True)
            for start in range(threads)
        ]

    def _run(self, number):
        while not self._over.is_set():
            number = (number + 1) % len(MESSAGES)
            try:
                _, content, _ = said(self._client, number)
                self.answers.append(content)
            except openai.APIError as error:
                self.errors.append(error)
            except httpx.TransportError as error:  # in the middle of a stream
                self.errors.append(error)

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def more(self, number=4):
        """Wait for so many more answers."""
        wanted = len(self.answers) + number
        until(lambda: len(self.answers) >= wanted or bool(self.errors), "answers", 120)

    def __exit__(self, *problem):
        self._over.set()
        for thread in self._threads:
            thread.join(120)
            assert not thread.is_alive()


def test_redis_killed_and_restarted_under_load_fails_no_generation(stack, client):
    with Load(client) as load:
        load.more()
        stack.redis.kill()
        load.more(8)
        event = {"request_id": "r", "model": "reasoner", "position": 1, "hidden_state": NOUGHT}
        decided = httpx.post(f"{stack.first.url}/v1/stop-decisions", json=event).json()
        assert (decided["stop"], decided["reason"]) == (False, "store_unavailable")
        assert metric(stack.first, "stopper_fail_open_total")["store_unavailable"] > 0
        assert not status(stack.first)["store"]["reachable"]
        stack.redis.start()
        load.more()
    assert not load.errors
    assert all("\\boxed{" in answer for answer in load.answers)
    until(lambda: status(stack.first)["store"]["reachable"], "the store")


def test_a_killed_sidecar_is_nothing_to_the_engine(stack, direct):
    url = f"{stack.second.url}/v1"
    with openai.OpenAI(base_url=url, api_key="none", max_retries=0) as fronted, \
            Load(direct, 2) as load, Load(fronted, 1) as broken:  # fmt: skip
        load.more()
        stack.second.kill()
        load.more(8)
        until(lambda: bool(broken.errors), "the killed sidecar's client to notice")
        stack.second.start(60)
        load.more()
        broken.errors.clear()
        broken.more()
    assert not load.errors
    counters = httpx.get(f"{stack.engine.url}/stopper/counters").json()
    assert not counters["fail_open"]


def test_a_drained_sidecar_ends_what_it_has_begun(stack):
    with httpx.Client(base_url=stack.second.url, timeout=60) as other:
        body = {
            "model": "reasoner", "messages": MESSAGES[0], "max_tokens": 380, "stream": True,
            "ignore_eos": True, "vllm_xargs": {"stopper": 0},
        }  # fmt: skip
        with other.stream("POST", "/v1/chat/completions", json=body) as response:
            lines = response.iter_lines()
            next(lines)
            stack.second.process.terminate()
            rest = [line for line in lines if line]
    assert rest[-1] == "data: [DONE]"
    assert '"stopper":{' in rest[-2]
    assert stack.second.process.wait(60) == 0
    stack.second.start(60)


def test_a_killed_engine_is_told_of_and_found_again(stack, client):
    """The last test: it takes the engine."""
    with Load(client, 3) as load:
        load.more()
        stack.engine.kill()
        until(lambda: len(load.errors) >= 6, "errors")
    for error in load.errors:
        if isinstance(error, openai.APIStatusError):
            assert error.status_code in (502, 503, 504), error
            assert error.response.headers["content-type"] == "application/problem+json"
    assert all("\\boxed{" in answer for answer in load.answers)
    assert httpx.get(f"{stack.first.url}/livez").status_code == 200
    assert status(stack.first)["counters"]["front.stopped.score_above_threshold"] > 10
