"""The sender against sidecars that are well, dead, silent, slow, or talk nonsense."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
import pytest
from remote_sidecars import (
    VERSION,
    Handler,
    Sidecar,
    cut_off,
    decide,
    events,
    good,
    http,
    mute,
    nobody,
    packed,
    saying,
    sidecar,
    silent,
    slow,
    trickling,
    wait_for,
)

from adapters.vllm.remote.breaker import Breaker
from adapters.vllm.remote.connection import MOST_BYTES, Connection
from adapters.vllm.remote.sender import Question, Sender
from stopper.wire import DecisionEvent, Problem

SHORT = 0.2  # seconds, a deadline that is meant to pass


def event(position: int = 7, name: str = "trace") -> DecisionEvent:
    return DecisionEvent(name, "model", position, score=1.0, alpha=0.1, audit=False)


def question(position: int = 7, deadline: float = SHORT) -> Question:
    return Question(event(position), time.monotonic() + deadline)


@contextmanager
def sender(
    url: str, *, failures: int = 3, pause: float = 30.0, key: str | None = None, capacity: int = 512
) -> Iterator[Sender]:
    made = Sender(
        Connection(url, key),
        capacity=capacity,
        version=VERSION,
        breaker=Breaker(failures=failures, first_s=pause),
    )
    try:
        yield made
    finally:
        made.close()


def outcome(url: str, deadline: float) -> tuple[str | None, float]:
    """Ask once; return the cause and the seconds it took."""
    with sender(url) as one:
        before = time.monotonic()
        assert one.offer(question(deadline=deadline)) is None
        wait_for(lambda: bool(one.answers))
        return one.answers[0].cause, time.monotonic() - before


def test_decisions_come_back_over_one_connection_and_in_order() -> None:
    with sidecar(good) as server, sender(server.url, key="secret") as one:
        for position in range(20):
            assert one.offer(question(position, 5)) is None
            wait_for(lambda: len(one.answers) > position)  # noqa: B023
        assert [answer.position for answer in one.answers] == list(range(20))
        assert all(answer.cause is None and answer.decision for answer in one.answers)
        assert one.answers[0].decision == decide(event(0), stop=True)
        assert server.connections == 1
        assert b"Authorization: Bearer secret" in server.heads[0]
        assert b"POST /v1/stop-decisions HTTP/1.1" in server.heads[0]


def test_what_waits_while_an_answer_is_under_way_goes_as_one_batch() -> None:
    with sidecar(slow(0.1)) as server, sender(server.url) as one:
        for position in range(10):
            one.offer(question(position, 5))
            if not position:
                wait_for(lambda: bool(server.bodies))
        wait_for(lambda: len(one.answers) == 10)
        assert [len(events(body)) for body in server.bodies] == [1, 9]
        assert [answer.position for answer in one.answers] == list(range(10))


@pytest.mark.parametrize(
    ("handler", "cause"),
    [
        (silent, "remote_late"),
        (slow(0.3), "remote_late"),
        (trickling, "remote_late"),
        (cut_off, "remote_broken_off"),
        (mute, "remote_unreachable"),
        (saying(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"), "remote_garbage"),
        (saying(b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n"), "remote_garbage"),
        (saying(http(b"\xc1")), "remote_garbage"),
        (saying(http(b"{}", kind="application/json")), "remote_garbage"),
        (saying(http(b"", 204)), "remote_http_204"),
        (saying(http(b"not a problem", 503)), "remote_http_503"),
        (saying(http(packed())), "remote_garbage"),
        (saying(http(packed(decide(event(8))))), "remote_garbage"),
        (saying(http(packed(decide(event(name="other"))))), "remote_garbage"),
        (saying(http(packed(decide(event()), decide(event())))), "remote_garbage"),
        (saying(http(b"x" * (MOST_BYTES + 1))), "remote_garbage"),
        (saying(http(packed(decide(event(), artifact="another")))), "remote_artifact"),
    ],
    ids=[
        "silent",
        "slow",
        "trickling",
        "cut_off",
        "mute",
        "no_http",
        "negative_length",
        "bad_packing",
        "json",
        "no_content",
        "overloaded",
        "no_decision",
        "other_position",
        "other_request",
        "two_decisions",
        "too_long",
        "other_artifact",
    ],
)
def test_whatever_a_sidecar_does_the_event_is_settled_in_time(handler: Handler, cause: str) -> None:
    deadline = SHORT if cause == "remote_late" else 5.0
    with sidecar(handler) as server:
        found, seconds = outcome(server.url, deadline)
    assert found == cause
    assert seconds < 2.0


def test_a_port_that_nobody_listens_on_is_unreachable_at_once() -> None:
    cause, seconds = outcome(nobody(), 5.0)
    assert cause == "remote_unreachable"
    assert seconds < 2.0


def test_a_name_that_does_not_resolve_is_unreachable() -> None:
    assert outcome("http://sidecar.invalid:1", 5)[0] == "remote_unreachable"


def test_a_problem_document_is_told_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    problem = Problem("urn:x", "An API key is needed", 401, "Give one.")
    raw = http(msgspec.json.encode(problem), 401, "application/problem+json")
    with sidecar(saying(raw, keep=True)) as server, sender(server.url, failures=1) as one:
        with caplog.at_level(logging.WARNING):
            one.offer(question(deadline=5))
            wait_for(lambda: not one.open)
        assert one.answers[0].cause == "remote_http_401"
    (record,) = caplog.records
    assert "HTTP 401: An API key is needed. Give one" in record.getMessage()


def test_a_kept_connection_that_has_died_is_opened_anew() -> None:
    with sidecar(good) as server, sender(server.url) as one:
        one.offer(question(1, 5))
        wait_for(lambda: len(one.answers) == 1)
        # The next request on this connection is read and never answered, as by a killed process.
        calls: list[int] = []

        def once(connection: object, body: bytes) -> bool:
            calls.append(1)
            return False if len(calls) == 1 else good(connection, body)  # type: ignore[arg-type]

        server.handler = once
        one.offer(question(2, 5))
        wait_for(lambda: len(one.answers) == 2)
        assert [answer.cause for answer in one.answers] == [None, None]
        assert server.connections == 2


def test_an_answer_behind_a_slow_one_is_late_although_it_comes() -> None:
    with sidecar(slow(0.4)) as server, sender(server.url) as one:
        one.offer(question(1, 5))
        wait_for(lambda: bool(server.bodies))
        one.offer(question(2, 0.1))  # waits behind the first and expires unsent
        one.offer(question(3, 0.6))  # sent with the next, and answered too late
        one.offer(question(4, 5))
        wait_for(lambda: len(one.answers) == 4)
        found = {answer.position: answer for answer in one.answers}
        assert [found[n].cause for n in (1, 2, 3, 4)] == [None, "remote_late", "remote_late", None]
        assert found[2].decision is None
        assert found[3].decision is not None
        assert [len(events(body)) for body in server.bodies] == [1, 2]


def test_a_full_queue_refuses_and_says_so() -> None:
    with sidecar(silent) as server, sender(server.url, capacity=4) as one:
        one.offer(question())
        wait_for(lambda: bool(server.bodies))
        causes = [one.offer(question(n)) for n in range(6)]
        assert causes == [None] * 4 + ["remote_queue_full"] * 2


def test_while_the_breaker_is_open_nothing_is_queued_sent_or_started(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with sidecar(mute) as server, sender(server.url) as one:
        for n in range(3):
            assert one.offer(question(n, 5)) is None
            wait_for(lambda: len(one.answers) > n)  # noqa: B023
        wait_for(lambda: not one.open)
        asked, threads = len(server.bodies), threading.active_count()
        assert {one.offer(question(n)) for n in range(1000)} == {"remote_breaker_open"}
        time.sleep(0.05)
        assert len(server.bodies) == asked
        assert threading.active_count() == threads
        assert len(one.answers) == 3
    assert sum("no decisions from the sidecar" in r.getMessage() for r in caplog.records) == 1


def test_what_waits_when_the_breaker_opens_is_given_up() -> None:
    with sidecar(silent) as server, sender(server.url, failures=1) as one:
        one.offer(question(0))
        wait_for(lambda: bool(server.bodies))
        for n in range(1, 4):
            one.offer(question(n, 5))
        wait_for(lambda: len(one.answers) == 4)
        causes = [answer.cause for answer in one.answers]
        assert causes == ["remote_late", *["remote_breaker_open"] * 3]


def test_a_sidecar_that_is_back_is_asked_again(caplog: pytest.LogCaptureFixture) -> None:
    with sidecar(good) as server:
        port = server.port
    with sender(f"http://127.0.0.1:{port}", failures=1, pause=0.05) as one:
        one.offer(question(deadline=5))
        wait_for(lambda: not one.open)
        server = Sidecar(good, port)
        try:
            wait_for(lambda: one.open)
            one.offer(question(8, 5))
            wait_for(lambda: len(one.answers) == 2)
        finally:
            server.close()
        assert [answer.cause for answer in one.answers] == ["remote_unreachable", None]
    assert "the sidecar answers again" in caplog.text


def test_a_fault_of_ours_in_the_thread_is_counted_and_survived(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with sidecar(good) as server, sender(server.url) as one:
        with monkeypatch.context() as broken:
            broken.setattr("adapters.vllm.remote.sender.read_answers", None)
            one.offer(question(1, 5))
            wait_for(lambda: len(one.answers) == 1)
        one.offer(question(2, 5))
        wait_for(lambda: len(one.answers) == 2)
        assert [answer.cause for answer in one.answers] == ["remote_fault", None]


def test_closing_ends_the_thread() -> None:
    with sidecar(good) as server:
        before = threading.active_count()
        with sender(server.url) as one:
            one.offer(question(deadline=5))
            wait_for(lambda: bool(one.answers))
            assert threading.active_count() > before
        wait_for(lambda: not any(t.name == "stopper-remote" for t in threading.enumerate()))


def test_a_large_batch_is_split() -> None:
    with sidecar(slow(0.05)) as server, sender(server.url, capacity=3000) as one:
        for n in range(2500):
            one.offer(question(n, 5))
        wait_for(lambda: len(one.answers) == 2500)
        sizes = [len(events(body)) for body in server.bodies]
        assert sum(sizes) == 2500
        assert max(sizes) == 1024
        assert [answer.position for answer in one.answers] == list(range(2500))
