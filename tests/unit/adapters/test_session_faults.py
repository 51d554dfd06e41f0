"""Whatever breaks in stopper, the engine goes on, the request is unstopped, and it is counted."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from engine_simulator import automaton, host_watch, judge
from session_makers import PROMPT, SO, WAIT, admit, feed, request, session

from adapters.vllm.watch import HostWatch
from stopper.errors import InputError


class Faulty:
    """A watch of which one method breaks, for one request or for all."""

    def __init__(self, method: str, only: str | None = None) -> None:
        self._inner: HostWatch = host_watch(automaton(), judge())
        self._method, self._only = method, only

    def __len__(self) -> int:
        return len(self._inner)

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._inner, name)
        if name != self._method:
            return real

        def broken(*args: Any, **kwargs: Any) -> Any:
            if self._only in (None, *args[:1]):
                raise RuntimeError(f"no {name} today")
            return real(*args, **kwargs)

        return broken


def test_a_step_that_breaks_forces_nothing(caplog: pytest.LogCaptureFixture) -> None:
    one = session(Faulty("step"))
    admit(one, request("a"))
    assert feed(one, "a", WAIT) == []
    assert one.counters()["fail_open"] == {"step": 2}
    assert "nothing is forced" in caplog.text


def test_rows_that_cannot_be_read_force_nothing() -> None:
    one = session()
    admit(one, request("a"))

    def unreadable() -> Any:
        raise AttributeError("vLLM renamed it")

    assert one.step(unreadable) is None
    assert one.counters()["fail_open"] == {"step": 1}


@pytest.mark.parametrize("method", ["start", "knows"])
def test_a_request_that_cannot_be_admitted_is_reported_and_the_others_go_on(method: str) -> None:
    one = session(Faulty(method, only="a"))
    for _ in range(2):  # admitted, then preempted and back: it is not watched halfway
        admit(one, request("a"), request("b"))
    assert feed(one, "b", WAIT) == [1]
    assert feed(one, "a", WAIT) == []
    admit(one, finished=("a", "b"))
    records = {record["request_id"]: record for record in one.decisions(10)}
    assert (records["a"]["decision"], records["a"]["reason"]) == ("failed_open", "admit")
    assert records["a"]["prompt_tokens"] == len(PROMPT)
    assert records["b"]["decision"] == "stopped"
    assert one.counters()["fail_open"]["admit"] >= 1
    assert one.counters()["decisions"] == {"failed_open": 1, "stopped": 1}


@pytest.mark.parametrize("method", ["finish", "outcomes", "running"])
def test_a_report_that_breaks_is_counted(method: str) -> None:
    one = session(Faulty(method))
    admit(one, request("a"))
    feed(one, "a", SO)
    admit(one, finished=("a",))
    if method == "running":
        with pytest.raises(RuntimeError):  # a remote call may fail; a step may not
            one.decisions(10)
    else:
        one.decisions(10)
        assert sum(one.counters()["fail_open"].values()) >= 1
    one.close()  # the worker must still shut down


def test_a_wish_to_stop_that_breaks_is_counted_and_said() -> None:
    one = session(Faulty("stop_thinking"))
    admit(one, request("a"))
    assert feed(one, "a", SO) == []
    found = one.stop_thinking("a")
    assert (found.outcome, found.reason) == ("not_watched", "fault")
    assert one.counters()["fail_open"] == {"stop_thinking": 1}


def test_a_probe_that_breaks_for_one_request(monkeypatch: pytest.MonkeyPatch) -> None:
    one = session()
    admit(one, request("a"), request("b"))
    real = one._watch._tracker._probe

    class Moody:
        def score(self, hidden: Any) -> Any:
            raise FloatingPointError("for a only")

    monkeypatch.setattr(one._watch._tracker, "_probe", Moody())
    assert feed(one, "a", WAIT, SO) == []
    monkeypatch.setattr(one._watch._tracker, "_probe", real)
    assert feed(one, "a", WAIT, start=1) == []  # stays unwatched
    assert feed(one, "b", WAIT) == [1]
    admit(one, finished=("a", "b"))
    records = {record["request_id"]: record for record in one.decisions(10)}
    assert (records["a"]["decision"], records["a"]["reason"]) == (
        "failed_open",
        "FloatingPointError",
    )
    assert records["b"]["decision"] == "stopped"
    assert one.counters()["fail_open"] == {"FloatingPointError": 1}


def test_a_full_disk_costs_the_file_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    one = session(decisions=Path("/dev/full"))
    for name in ("a", "b"):
        admit(one, request(name))
        assert feed(one, name, WAIT) == [1]
        admit(one, finished=(name,))
    assert [record["decision"] for record in one.decisions(10)] == ["stopped", "stopped"]
    assert one.counters()["fail_open"] == {"decisions_file": 1}
    assert "decisions stay in memory only" in caplog.text
    one.close()


@pytest.mark.parametrize("made", ["folder", "file/decisions.jsonl"])
def test_a_file_that_cannot_be_opened_is_named_at_start(tmp_path: Path, made: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=rf"{made}.*'decisions' of --additional-config"):
        session(decisions=tmp_path / made)


def test_a_scheduler_message_without_its_fields_is_survived() -> None:
    one = session()
    new = SimpleNamespace(req_id="a", prompt_token_ids=[1], sampling_params=SimpleNamespace())
    admit(one, new, request("b"))
    assert one.counters()["fail_open"] == {"admit": 1}
    assert feed(one, "b", WAIT) == [1]
