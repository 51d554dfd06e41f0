"""`vllm serve` with stopper, spoken to with the OpenAI client, streaming and not."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import openai
import pytest
from runs import ARTIFACT, MODEL, TEST_PROMPTS, environment

MESSAGES = [json.loads(line)["messages"] for line in TEST_PROMPTS.read_text().splitlines()[:30]]


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("server")
    port = free_port()
    config = {
        "stopper": {
            "artifact": str(ARTIFACT),
            "alpha": 0.05,
            "decisions": str(folder / "decisions.jsonl"),
        }
    }
    command = [
        str(Path(sys.executable).with_name("vllm")), "serve", str(MODEL),
        "--served-model-name", "reasoner", "--dtype", "float32", "--enforce-eager",
        "--host", "127.0.0.1", "--port", str(port), "--reasoning-parser", "deepseek_r1",
        "--additional-config", json.dumps(config),
    ]  # fmt: skip
    # Engine and worker in processes of their own, as on GPUs.
    env = {**environment(), "VLLM_PLUGINS": "stopper", "VLLM_ENABLE_V1_MULTIPROCESSING": "1"}
    log = (folder / "log").open("w+")
    with subprocess.Popen(command, env=env, stdout=log, stderr=log) as process:
        base = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 400
        while True:
            assert process.poll() is None, (folder / "log").read_text()[-6000:]
            assert time.monotonic() < deadline, (folder / "log").read_text()[-6000:]
            try:
                if httpx.get(f"{base}/health", timeout=2).status_code == 200:
                    break
            except httpx.TransportError:
                time.sleep(0.5)
        yield base, folder
        process.terminate()
        process.wait(60)
    log.close()


@pytest.fixture(scope="module")
def client(server):
    with openai.OpenAI(base_url=f"{server[0]}/v1", api_key="none", max_retries=0) as made:
        yield made


def ask(client, number, **xargs):
    return client.chat.completions.create(
        model="reasoner",
        messages=MESSAGES[number],
        max_tokens=380,
        seed=number,
        extra_body={"vllm_xargs": xargs} if xargs else {},
    )


def decision(server, response):
    found = httpx.get(f"{server[0]}/stopper/decisions/{response.id}")
    assert found.status_code == 200, found.text
    return found.json()


@pytest.fixture(scope="module")
def stopped(server, client):
    """The first request that is stopped, its number and its decision."""
    for number in range(len(MESSAGES)):
        response = ask(client, number)
        found = decision(server, response)
        if found["decision"] == "stopped":
            return number, response, found
    pytest.fail("none of 30 requests was stopped at alpha 0.05")


def test_the_reasoning_parser_splits_a_stopped_output(stopped):
    _, response, found = stopped
    message = response.choices[0].message
    assert message.reasoning
    assert "\\boxed{" in message.content
    assert "</think>" not in message.content
    assert found["score"] > found["threshold"]
    assert found["alpha"] == 0.05
    assert message.reasoning.rstrip().lower().endswith(found["cue"])


def test_streaming_gives_the_same(client, stopped):
    number, response, _ = stopped
    reasoning, content = "", ""
    chunks = client.chat.completions.create(
        model="reasoner", messages=MESSAGES[number], max_tokens=380, seed=number, stream=True
    )
    for chunk in chunks:
        for choice in chunk.choices:
            reasoning += getattr(choice.delta, "reasoning", None) or ""
            content += choice.delta.content or ""
    assert reasoning == response.choices[0].message.reasoning
    assert content == response.choices[0].message.content


def test_a_request_can_turn_it_off(server, client, stopped):
    number, response, _ = stopped
    full = ask(client, number, stopper=0)
    assert len(full.choices[0].message.reasoning) > len(response.choices[0].message.reasoning)
    assert decision(server, full)["decision"] == "off"


def test_a_request_can_tighten_alpha(server, client, stopped):
    number, _, loose = stopped
    found = decision(server, ask(client, number, stopper_alpha=0.02))
    assert found["alpha"] == 0.02
    assert found["threshold"] > loose["threshold"]


def test_an_alpha_beyond_the_calibration_is_not_applied_and_says_so(server, client):
    found = decision(server, ask(client, 0, stopper_alpha=1e-6))
    assert found["decision"] == "not_applied"
    assert found["reason"] == "too_few_calibration_traces"


@pytest.mark.parametrize(
    "xargs", [{"stopper_alpha": 1.5}, {"stopper_alpha": "low"}, {"stopper": 7}, {"stopper_x": 1}]
)
def test_bad_options_are_answered_with_400(client, xargs):
    with pytest.raises(openai.BadRequestError, match="vllm_xargs"):
        ask(client, 0, **xargs)


def test_the_endpoint_and_the_file_tell_the_same(server, client):
    # A worker hears of a finished request with the next step: one more brings the last ones home.
    ask(client, 1)
    ask(client, 2)
    counted = httpx.get(f"{server[0]}/stopper/counters").json()
    assert counted["fail_open"] == {}
    assert counted["not_applied"].get("too_few_calibration_traces", 0) >= 1
    listed = httpx.get(f"{server[0]}/stopper/decisions", params={"limit": 1000}).json()
    finished = [record for record in listed["decisions"] if not record["running"]]
    lines = (server[1] / "decisions.jsonl").read_text().splitlines()
    assert [json.loads(line)["request_id"] for line in lines] == [
        record["request_id"] for record in finished
    ]


def test_an_unknown_request_is_404(server):
    assert httpx.get(f"{server[0]}/stopper/decisions/nobody").status_code == 404


@pytest.fixture(scope="module")
def operator(server):
    """A connection that is open already: what it asks must come while a request runs."""
    with httpx.Client(base_url=server[0]) as made:
        assert made.get("/stopper/counters").status_code == 200
        yield made


def stop_thinking(operator, response_id):
    found = operator.post(f"/stopper/requests/{response_id}/stop-thinking")
    return found.status_code, found.json()


def stream_and_stop(client, operator, number, expected, **extra):
    """Stream a request and ask it, at its first sign of thinking, to stop.

    On a busy machine the wish may come when all is over: then once more.
    """
    for _ in range(5):
        reasoning, content, said = "", "", []
        chunks = client.chat.completions.create(
            model="reasoner",
            messages=MESSAGES[number],
            max_tokens=380,
            seed=number,
            stream=True,
            extra_body=extra,
        )
        for chunk in chunks:
            for choice in chunk.choices:
                reasoning += getattr(choice.delta, "reasoning", None) or ""
                content += choice.delta.content or ""
            if reasoning and len(said) < 3:
                said.append(stop_thinking(operator, chunk.id))
        if said[0][0] == expected:
            return chunk, reasoning, content, said
    pytest.fail(f"came too late five times: {said}")


@pytest.mark.parametrize("mode", ["audit", 1])
def test_a_running_request_is_told_to_stop_thinking_and_answers(
    server, client, operator, stopped, mode
):
    number, _, _ = stopped
    full = ask(client, number, stopper=0).choices[0].message
    # At this alpha it is watched and goes on for longer than the wish takes to arrive.
    xargs = {"stopper": mode, "stopper_alpha": 0.004}
    last, reasoning, content, said = stream_and_stop(
        client, operator, number, 200, vllm_xargs=xargs
    )
    answer = said[0][1]
    assert answer["outcome"] == "stopping"
    # The other two come while it closes, answers, or is over.
    assert {said[at][1]["outcome"] for at in (1, 2)} <= {
        "already_stopping",
        "not_thinking",
        "unknown",
    }
    assert len(reasoning) < len(full.reasoning)
    assert full.reasoning.startswith(reasoning.rstrip())
    assert "\\boxed{" in content
    assert "</think>" not in content
    found = decision(server, last)
    assert found["request_id"] in answer["request_ids"]
    assert (found["decision"], found["reason"]) == ("stopped", "asked_to_stop")
    assert found["position"] > 0
    assert (found["score"], found["threshold"], found["alpha"]) == (None, None, 0.004)
    assert stop_thinking(operator, last.id)[0] == 404


def test_who_is_not_watched_or_does_not_run_is_told_so(client, operator, stopped):
    *_, said = stream_and_stop(
        client, operator, stopped[0], 409, ignore_eos=True, vllm_xargs={"stopper": 0}
    )
    assert (said[0][1]["outcome"], said[0][1]["reason"]) == ("not_watched", "asked_off")
    status, answer = stop_thinking(operator, "nobody")
    assert (status, answer["outcome"]) == (404, "unknown")


def test_who_answers_already_is_told_so(client, operator, stopped):
    """It answers on and on, so that there is time to ask; on a busy machine perhaps not at once."""
    for _ in range(5):
        with client.chat.completions.create(
            model="reasoner", messages=MESSAGES[stopped[0]], max_tokens=380, seed=stopped[0],
            stream=True, extra_body={"ignore_eos": True},
        ) as chunks:  # fmt: skip
            answering = (c for c in chunks if any(choice.delta.content for choice in c.choices))
            status, answer = stop_thinking(operator, next(answering).id)
        if status == 409:
            break
    assert (status, answer["outcome"]) == (409, "not_thinking")


def test_every_kind_of_response_finds_its_decision(server, client):
    several = client.chat.completions.create(
        model="reasoner", messages=MESSAGES[0], max_tokens=8, n=2
    )
    assert decision(server, several)["request_id"].startswith(f"0_{several.id}-")
    plain = client.completions.create(model="reasoner", prompt=["So", "Then"], max_tokens=4)
    assert decision(server, plain)["request_id"].startswith(f"{plain.id}-0")
    response = client.responses.create(model="reasoner", input="2+3?", max_output_tokens=8)
    assert decision(server, response)["request_id"].startswith(f"{response.id}_0")
