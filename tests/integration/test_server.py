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
    env = {**environment(), "VLLM_PLUGINS": "stopper"}
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
