"""`POST /v1/context/compress`: what it answers, refuses and counts."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from typing import Any

import httpx
import pytest
from sidecars import MODEL, replica, settings

from stopper.client import AsyncStopperClient, ContextDocument, NotFoundError
from stopper.errors import InputError
from stopper.service.app import create_app
from stopper.service.auth import KeyRing
from stopper.service.compression.compressor import MOST_WAITING, Compressor, CompressorFault
from stopper.service.key_file import new_key
from stopper.service.metrics import Metrics
from stopper.service.settings import ContextSettings, ServeSettings

PATH = "/v1/context/compress"
QUERY = "What is the capital of Australia?"
TEXT = "It is a city. Canberra is the capital of Australia. It has lakes."
ASKED: dict[str, Any] = {"query": QUERY, "documents": [{"title": "C", "text": TEXT, "id": "c"}]}
ON = {"enabled": True, "scorer": "overlap"}


def send(*bodies: Any, context: dict[str, Any] = ON, **changes: Any) -> list[httpx.Response]:
    async def run() -> list[httpx.Response]:
        async with replica(settings(context=context, **changes)) as (client, _):
            return [
                await (client.post(PATH, content=body, headers={"Content-Type": "application/json"})
                       if isinstance(body, bytes) else client.post(PATH, json=body))
                for body in bodies
            ]  # fmt: skip

    return asyncio.run(run())


def test_it_keeps_what_the_question_needs_and_tells_where_it_stood() -> None:
    twice = {**ASKED, "documents": ASKED["documents"] * 2}
    empty = {**ASKED, "query": " "}
    nothing = {"query": QUERY, "documents": []}
    first, again, unasked, none, least = (
        answer.json() for answer in send(ASKED, twice, empty, nothing, {**ASKED, "floor": 2})
    )
    (kept,) = first["documents"][0]["kept"]
    assert TEXT[kept["start"] : kept["end"]] == "Canberra is the capital of Australia."
    assert first == {
        "documents": [{"id": "c", "text": TEXT[14:51], "kept": [kept], "duplicate_of": None}],
        "tokens_in": 17, "tokens_out": 8, "tokens_by": "estimate:words-and-marks",
        "artifact": None, "threshold": 1.0, "reason": "compressed",
    }  # fmt: skip
    assert [one["text"] for one in again["documents"]] == [TEXT[14:51], ""]
    assert again["documents"][1]["duplicate_of"] == 0
    assert unasked["reason"] == "empty_query"
    assert unasked["documents"][0]["text"] == TEXT
    assert unasked["documents"][0]["kept"][0]["score"] is None
    assert (none["documents"], none["reason"]) == ([], "no_sentences")
    assert len(least["documents"][0]["kept"]) == 2


@pytest.mark.parametrize(
    ("body", "status", "named"),
    [
        (b"{", 400, "body"),
        (b"[]", 400, "Expected `object`"),
        ({"query": QUERY}, 400, "`documents`"),
        ({**ASKED, "more": 1}, 400, "unknown field `more`"),
        ({**ASKED, "documents": [{"title": "t"}]}, 400, "`text`"),
        ({**ASKED, "alpha": 1.5}, 400, "$.alpha"),
        ({**ASKED, "floor": -1}, 400, "$.floor"),
        ({**ASKED, "alpha": 0.1}, 422, "overlap scorer keeps no promise"),
        ({**ASKED, "alpha": 0.1, "threshold": 1.0}, 422, "not both"),
        ({**ASKED, "documents": [{"text": "a"}] * 4}, 422, "context.most_documents"),
        ({**ASKED, "query": "q" * 20_001}, 422, "the query has 20001"),
        (b'{"query": "q", "documents": [{"text": "\\ud800"}]}', 400, "truncated"),
    ],
    ids=lambda part: None,
)
def test_wrong_bodies_are_problems(body: Any, status: int, named: str) -> None:
    (answer,) = send(body, context={**ON, "most_documents": 3})
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert named in answer.json()["detail"]


def test_it_is_off_unless_asked_for_and_needs_a_key_and_json() -> None:
    (answer,) = send(ASKED, context={})
    assert answer.status_code == 404
    assert "--context" in answer.json()["detail"]

    async def run() -> None:
        async with replica(settings(context=ON)) as (client, runtime):
            assert (await client.post(PATH, content="x")).status_code == 415
            text, key = new_key("reader", ["read"])
            runtime.keys = KeyRing((key,))
            assert (await client.post(PATH, json=ASKED)).status_code == 401
            headers = {"Authorization": f"Bearer {text}"}
            assert (await client.post(PATH, json=ASKED, headers=headers)).status_code == 403

    asyncio.run(run())


def test_nothing_of_it_is_loaded_while_it_is_off() -> None:
    code = (
        "import sys; from stopper.service.app import create_app; "
        "from stopper.service.settings import ServeSettings; "
        "create_app(ServeSettings.read(upstreams=['http://127.0.0.1:1'])); "
        "print([n for n in ('spacy', 'pysbd', 'torch', 'transformers') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_client_asks_it() -> None:
    documents = [ContextDocument(TEXT, "C", "c")]

    async def run(context: dict[str, Any]) -> Any:
        app = create_app(settings(context=context))
        client = AsyncStopperClient("http://sidecar", transport=httpx.ASGITransport(app))
        async with client:
            with pytest.raises(InputError, match="threshold: inf"):
                await client.compress(QUERY, documents, threshold=float("inf"))
            with pytest.raises(InputError, match="valid Unicode"):
                await client.compress("\ud800", documents)
            return await client.compress(QUERY, documents, floor=1)

    found = asyncio.run(run(ON))
    assert found.documents[0].text == TEXT[14:51]
    assert found.documents[0].kept[0].start == 14
    with pytest.raises(NotFoundError, match="--context"):
        asyncio.run(run({}))


class Slow:
    """Scores when it is let."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.identity = {"scorer": "slow"}

    def score(self, query: str, passages: Any) -> Any:
        self.go.wait(30)
        raise RuntimeError("the words of a document")


def test_what_takes_too_long_or_fails_is_given_up_and_counted() -> None:
    async def run() -> None:
        chosen = settings(context={**ON, "timeout_s": 0.2})
        async with replica(chosen) as (client, runtime):
            compressor = client._transport.app.state.compressor
            slow = Slow()
            object.__setattr__(compressor.filter, "scorer", slow)
            late = await client.post(PATH, json=ASKED)
            assert late.status_code == 503
            assert "context.timeout_s" in late.json()["detail"]
            # The thread is not free: what waits is given up as well, without having begun.
            assert (await client.post(PATH, json=ASKED)).status_code == 503
            many = [client.post(PATH, json=ASKED) for _ in range(MOST_WAITING + 3)]
            answers = await asyncio.gather(*many)
            busy = [one for one in answers if "wait already" in one.json()["detail"]]
            assert busy
            assert busy[0].headers["retry-after"] == "1"
            # Decisions do not wait for it.
            event = {"request_id": "r", "model": MODEL, "position": 1, "score": 1.0}
            assert (await client.post("/v1/stop-decisions", json=event)).status_code == 200
            slow.go.set()
            while compressor._waiting:
                await asyncio.sleep(0.01)
            failed = await client.post(PATH, json=ASKED)
            assert failed.status_code == 500
            assert "document" not in failed.json()["detail"]
            sample = runtime.metrics.registry.get_sample_value
            name = "stopper_context_faults_total"
            assert sample(name, {"source": "endpoint", "cause": "fault"}) == 1.0
            assert sample(name, {"source": "endpoint", "cause": "busy"}) == len(busy)

    asyncio.run(run())


def test_compressions_are_counted() -> None:
    async def run() -> None:
        async with replica(settings(context=ON)) as (client, _):
            await client.post(PATH, json=ASKED)
            await client.post(PATH, json={**ASKED, "query": ""})
            text = (await client.get("/metrics")).text
            ready = (await client.get("/readyz")).json()
        assert (
            'stopper_context_compressions_total{reason="compressed",source="endpoint"} 1.0' in text
        )
        assert 'reason="empty_query"' in text
        assert "stopper_context_tokens_in_total 34.0" in text
        assert "stopper_context_tokens_out_total 25.0" in text
        assert "stopper_context_seconds_count 2.0" in text
        assert ready["parts"]["context"] == {"artifact": None}

    asyncio.run(run())


def test_settings_that_do_not_go_together_end_the_start() -> None:
    with pytest.raises(InputError, match="no promise"):
        Compressor(ContextSettings(enabled=True, scorer="overlap", alpha=0.1), Metrics())
    assert ServeSettings.read(context={"enabled": True}).context.timeout_s == 10.0
    assert CompressorFault("busy", "x").fault == "busy"
