"""Both clients against a real sidecar, and against servers that fail."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from stopper.client import (
    AsyncStopperClient,
    Audit,
    BadAnswerError,
    BadRequestError,
    ConflictError,
    DecisionEvent,
    ForbiddenError,
    NoAnswerError,
    NotFoundError,
    StopperClient,
    TimedOutError,
    UnauthorizedError,
    UnavailableError,
    hidden_state,
)
from stopper.scripted import Piece, Script, Trace, create_app, serving
from stopper.scripted.remote import sidecar_at
from stopper.service.app import create_app as create_sidecar
from stopper.service.auth import KeyRing
from stopper.service.key_file import new_key
from stopper.service.runtime import Runtime
from stopper.service.settings import ArtifactSource, ServeSettings

ARTIFACT = Path(__file__).resolve().parents[4] / "examples" / "tiny_reasoner" / "artifact"
STATE = hidden_state(np.zeros(512, np.float32))


class Blocking:
    """An asynchronous client that is called like a synchronous one."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self._make = lambda: AsyncStopperClient(*args, **options)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        async def call(*args: Any, **options: Any) -> Any:
            async with self._make() as client:
                return await getattr(client, name)(*args, **options)

        return lambda *args, **options: asyncio.run(call(*args, **options))


@pytest.fixture(params=["sync", "async"])
def kind(request: pytest.FixtureRequest) -> Iterator[Callable[..., Any]]:
    """Makes a client of one of the two kinds."""
    with ExitStack() as opened:

        def make(*args: Any, **options: Any) -> Any:
            if request.param == "async":
                return Blocking(*args, **options)
            return opened.enter_context(StopperClient(*args, **options))

        make.__name__ = request.param
        yield make


def settings(**changes: Any) -> ServeSettings:
    return ServeSettings.read(artifacts=[ArtifactSource(folder=ARTIFACT, model="tiny")], **changes)


@pytest.fixture(scope="module")
def engine() -> Iterator[str]:
    thinking = Piece(text=f"One {'and ' * 60}last")  # nobody waits for the last
    trace = Trace(name="x", pieces=(thinking,), answer="7", early_answer="?")
    with serving(Script(traces=(trace,), token_delay_ms=60.0)) as url:
        yield url


@pytest.fixture(scope="module")
def url(engine: str) -> Iterator[str]:
    with serving(create_sidecar(settings(upstreams=[engine]))) as found:
        yield found


@pytest.mark.parametrize("encoding", ["msgpack", "json"])
def test_events_are_decided_on(url: str, kind: Any, encoding: str) -> None:
    client = kind(url, encoding=encoding)
    name = f"{kind.__name__} {encoding}"
    first = client.decide(DecisionEvent(name, "tiny", 5, hidden_state=STATE))
    assert (first.request_id, first.position, first.problem) == (name, 5, None)
    assert first.score is not None
    assert client.decide(DecisionEvent(name, "tiny", 5, hidden_state=STATE)) == first
    events = [DecisionEvent(name, "tiny", place, hidden_state=STATE) for place in (6, 2, 7)]
    found = client.decide_many([*events, DecisionEvent(name, "huge", 8, score=1.0)])
    assert [one.position for one in found] == [6, 2, 7, 8]
    assert [one.problem and one.problem.status for one in found] == [None, 409, None, 404]
    with pytest.raises(NotFoundError, match="'huge' is not served") as caught:
        client.decide(DecisionEvent(name, "huge", 1, score=1.0))
    assert caught.value.problem.type == "urn:stopper:problem:unknown-model"
    with pytest.raises(ConflictError, match="ascend"):
        client.decide(DecisionEvent(name, "tiny", 1, hidden_state=STATE))
    with pytest.raises(BadRequestError):
        client.decide(DecisionEvent("x", "tiny", 1))


def test_the_sidecar_tells_how_it_fares(url: str, kind: Any) -> None:
    client = kind(url)
    ready = client.ready()
    assert ready
    assert ready.store.kind == "memory"
    (card,) = client.artifacts()
    assert (card.model, card.folder) == ("tiny", "artifact")
    status = client.status()
    assert status.artifacts[0].card.version == card.artifact


def test_operators_switch_load_and_re_arm(url: str, kind: Any) -> None:
    client = kind(url)
    switched = client.set_kill_switch(True, "a test")
    assert (switched.on, switched.why) == (True, "a test")
    event = DecisionEvent(f"{kind.__name__} killed", "tiny", 1, hidden_state=STATE)
    assert client.decide(event).reason == "kill_switch"
    assert client.ready().kill_switch == "a test"
    assert client.set_kill_switch(False).on is False
    assert client.load_artifact(model="tiny").artifact == client.artifacts()[0].artifact
    with pytest.raises(BadRequestError, match="nowhere"):
        client.load_artifact("nowhere")
    with pytest.raises(ConflictError):
        client.rollback_artifact()
    with pytest.raises(ConflictError, match="No alarm"):
        client.re_arm_alarm(client.artifacts()[0].artifact, "because")


def test_audits_count_once(url: str, kind: Any) -> None:
    client = kind(url)
    audit = Audit(
        request_id=f"{kind.__name__} audited", time=datetime.now(UTC),
        artifact=client.artifacts()[0].artifact, alpha=0.05, loss_name="disagree", marked=True,
        loss=0, score=2.0, cues=3, tokens=100, top_score=2.5,
    )  # fmt: skip
    assert client.submit_audit(audit).counted == 1
    again = client.submit_audit([audit])
    assert again.counted == 0
    assert [one.request_id for one in again.left_out] == [audit["request_id"]]
    with pytest.raises(BadRequestError, match=r"audits\[1\]"):
        client.submit_audit([audit, {**audit, "loss": 2}])


def test_thinking_is_ended_through_the_sidecar(engine: str, url: str) -> None:
    body = {"model": "scripted", "stream": True, "messages": [{"role": "user", "content": "?"}]}
    with StopperClient(url, timeout=20) as client:
        with pytest.raises(NotFoundError, match="No engine runs"):
            client.stop_thinking("chatcmpl-mine")
        text = ""
        with httpx.stream("POST", f"{engine}/v1/chat/completions", json=body,
                          headers={"X-Request-Id": "mine"}, timeout=20) as stream:  # fmt: skip
            for piece in stream.iter_text():
                if "One" in piece:
                    client.stop_thinking("chatcmpl-mine")
                text += piece
    assert "last" not in text


def test_keys_are_asked_for_and_have_scopes(kind: Any) -> None:
    runtime = Runtime.from_settings(settings())
    key, kept = new_key("ci", ("read",))
    runtime.keys = KeyRing((kept,))
    with serving(create_sidecar(runtime=runtime)) as url:
        with pytest.raises(UnauthorizedError):
            kind(url).artifacts()
        client = kind(url, api_key=key)
        assert client.artifacts()
        with pytest.raises(ForbiddenError, match="lacks the scope 'admin'"):
            client.set_kill_switch(True)
        runtime.draining = True
        assert not client.ready()


class Failing:
    """Answers each request by the next of some (status, media type, body), then by the last."""

    def __init__(self, *answers: tuple[int, str, bytes]) -> None:
        self._answers = list(answers)
        self.asked = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        while (await receive()).get("more_body"):
            pass
        status, media, body = self._answers[min(self.asked, len(self._answers) - 1)]
        self.asked += 1
        headers = [(b"content-type", media.encode()), (b"retry-after", b"0")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


AWAY = (503, "application/problem+json", b'{"type":"urn:x","title":"Away","status":503}')
ARTIFACTS = (200, "application/json", b'{"artifacts": []}')


def test_it_tries_again_and_then_gives_up(kind: Any) -> None:
    healing = Failing(AWAY, AWAY, ARTIFACTS)
    with serving(healing, lifespan="off") as url:
        assert kind(url).artifacts() == []
    assert healing.asked == 3
    broken = Failing(AWAY)
    with serving(broken, lifespan="off") as url:
        with pytest.raises(UnavailableError, match="503 Away"):
            kind(url).artifacts()
        assert broken.asked == 3
        with pytest.raises(UnavailableError):
            kind(url).rollback_artifact()
        assert broken.asked == 4
        with pytest.raises(UnavailableError):
            kind(url, retries=0).status()
        assert broken.asked == 5


def test_what_is_no_sidecar_is_told(kind: Any) -> None:
    with (
        serving(Failing((200, "text/html", b"<html>")), lifespan="off") as url,
        pytest.raises(BadAnswerError, match="none of a sidecar"),
    ):
        kind(url).status()
    with pytest.raises(NoAnswerError, match="no answer"):
        kind(url, retries=1).status()  # it is gone now


def test_a_silent_sidecar_times_out(kind: Any) -> None:
    async def silent(scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    with serving(silent, lifespan="off") as url:
        begun = time.monotonic()
        with pytest.raises(TimedOutError, match="in time"):
            kind(url, timeout=0.1, retries=1).status()
        assert time.monotonic() - begun < 3


def asked_elsewhere(
    decider_url: str, deadline_s: float, xargs: Any, words: int
) -> tuple[Any, dict[str, Any]]:
    """Run a scripted engine that asks a sidecar, and return its decision and counters."""
    pieces = (Piece(text="Hm", cue="hm", score=9.0, forced_answer="early",
                    hidden_state=(-3.0,) * 512),
              Piece(text=" and" * words))  # fmt: skip
    trace = Trace(name="x", pieces=pieces, answer="late")
    script = Script(traces=(trace,), token_delay_ms=25.0)
    decider = sidecar_at(decider_url, "tiny", api_key=None, deadline_s=deadline_s)
    with serving(create_app(script, sidecar=decider)) as url:
        body = {"messages": [{"role": "user", "content": "?"}], "vllm_xargs": xargs}
        found = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=20).json()
        record = httpx.get(f"{url}/stopper/decisions/{found['id']}").json()
        counters = httpx.get(f"{url}/stopper/counters").json()
    return found["choices"][0]["message"]["content"], {**record, **counters}


def test_a_scripted_engine_asks_a_sidecar(url: str) -> None:
    text, record = asked_elsewhere(url, 5.0, {"stopper_alpha": 0.2}, 200)
    with StopperClient(url) as client:
        event = DecisionEvent(
            "the same", "tiny", 1, alpha=0.2, audit=False,
            hidden_state=hidden_state(np.full(512, -3.0, np.float32)),
        )  # fmt: skip
        expected = client.decide(event)
    assert record["reason"] == expected.reason
    assert record["alpha"] == expected.alpha == 0.2
    assert expected.stop
    assert text == "early"
    assert record["score"] == expected.score
    assert record["forced_position"] > record["position"]
    assert record["fail_open"] == {}


def test_a_sidecar_that_is_late_or_away_stops_nothing() -> None:
    async def silent(scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    with serving(silent, lifespan="off") as url:
        text, record = asked_elsewhere(url, 0.05, {}, 6)
    assert text == "late"
    assert (record["decision"], record["reason"]) == ("failed_open", "remote_late")
    assert record["fail_open"] == {"remote_late": 1}
    text, record = asked_elsewhere(url, 1.0, {}, 6)
    assert text == "late"
    assert record["fail_open"] == {"remote_failed": 1}
