"""The client's two faces are one, its errors are a tree, and it is light."""

from __future__ import annotations

import inspect
import math
import re
import subprocess
import sys
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pydantic import BaseModel

import stopper.client
from stopper.client import (
    AsyncStopperClient,
    BadAnswerError,
    BadRequestError,
    ClientError,
    DecisionEvent,
    NoAnswerError,
    NotFoundError,
    RefusedError,
    SidecarError,
    StopperClient,
    TooManyRequestsError,
    UnavailableError,
    _errors,
    _records,
    hidden_state,
)
from stopper.client._batches import MOST_BYTES, batches
from stopper.client._calls import Call, Calls, Reply
from stopper.client._retries import Retries
from stopper.errors import InputError
from stopper.service import admin, health
from stopper.wire import MAX_BATCH, Decision, Decisions, HiddenState, Problem


def methods(kind: type) -> dict[str, inspect.Signature]:
    found = {
        name: value for name, value in vars(kind).items()
        if inspect.isfunction(value) and not name.startswith("_")
    }  # fmt: skip
    return {name: inspect.signature(value) for name, value in found.items()}


def test_both_clients_have_the_same_methods() -> None:
    assert methods(StopperClient) == methods(AsyncStopperClient)
    assert len(methods(StopperClient)) == 13
    for name in methods(AsyncStopperClient):
        assert inspect.iscoroutinefunction(getattr(AsyncStopperClient, name))
    first, second = (inspect.signature(kind) for kind in (StopperClient, AsyncStopperClient))
    assert {**first.parameters, "transport": None} == {**second.parameters, "transport": None}


def test_everything_public_is_exported() -> None:
    defined = {
        name for module in (_errors, _records) for name, value in vars(module).items()
        if isinstance(value, type)
        and value.__module__ in (module.__name__, "stopper.service.audits.records")
        and issubclass(value, ClientError | msgspec.Struct | dict)
    }  # fmt: skip
    inner = {"Artifacts", "Stopping"}
    assert defined - inner <= set(stopper.client.__all__)
    assert sorted(stopper.client.__all__) == stopper.client.__all__
    for name in stopper.client.__all__:
        assert getattr(stopper.client, name) is not None


def test_the_tree_of_errors_is_as_drawn() -> None:
    drawn = re.findall(r"^([│ ├└─]*)(\w+Error)", _errors.__doc__ or "", re.MULTILINE)
    path: list[type] = []
    for branch, name in drawn:
        depth = len(branch) // 4
        kind = getattr(stopper.client, name)
        assert issubclass(kind, ClientError)
        if depth:
            assert kind.__base__ is path[depth - 1], name
        path[depth:] = [kind]
    held = {n for n, v in vars(_errors).items() if isinstance(v, type) and n.endswith("Error")}
    assert {name for _, name in drawn} == held - {"StopperError"}


def test_importing_it_loads_no_server() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", "import stopper.client"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = {line.rsplit("|", 1)[-1].strip() for line in done.stderr.splitlines()}
    assert "httpx" in found
    assert (
        found & {"fastapi", "starlette", "torch", "redis", "uvicorn", "pydantic", "scipy"} == set()
    )


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (_records.ArtifactCard, admin.ArtifactCard),
        (_records.Artifacts, admin.Artifacts),
        (_records.KillSwitchState, admin.KillSwitchState),
        (_records.Readiness, health.Readiness),
        (_records.StoreState, health.StoreState),
        (_records.ArtifactState, health.ArtifactState),
    ],
)
def test_records_are_those_of_the_sidecar(
    ours: type[msgspec.Struct], theirs: type[BaseModel]
) -> None:
    wanted = {name: str(field.annotation) for name, field in theirs.model_fields.items()}
    assert list(ours.__struct_fields__) == list(wanted)


@given(
    st.sampled_from(["<f2", "<f4", ">f2", ">f4"]).flatmap(
        lambda dtype: arrays.arrays(dtype, st.sampled_from([(5,), (1, 3)]))
    )
)
def test_hidden_states_keep_every_bit(array: np.ndarray[Any, Any]) -> None:
    state = hidden_state(array)
    assert state.shape == array.shape
    back = np.frombuffer(state.data, np.dtype(state.dtype).newbyteorder("<")).reshape(state.shape)
    np.testing.assert_array_equal(back, array)


def test_bits_of_bfloat16_are_said_to_be_so() -> None:
    bits = np.array([0x3F80, 0xC000], np.uint16)  # 1 and -2
    state = HiddenState(b"\x80\x3f\x00\xc0", "bfloat16", (2,))
    assert hidden_state(bits, dtype="bfloat16") == state
    assert hidden_state(bits[::-1][::-1], dtype="bfloat16") == state
    with pytest.raises(InputError, match='say dtype="bfloat16"'):
        hidden_state(bits)


@pytest.mark.parametrize(
    ("array", "named"),
    [
        (np.zeros(4), "float64"),
        ([1.0, 2.0], "float64"),
        (np.zeros(4, np.int32), "int32"),
        (np.zeros((2, 4), np.float32), r"shape \(2, 4\)"),
        (np.zeros(0, np.float32), r"shape \(0,\)"),
        (np.float32(1), r"shape \(\)"),
        ([[1.0], [1.0, 2.0]], "cannot be read"),
    ],
)
def test_what_is_no_hidden_state_is_refused(array: Any, named: str) -> None:
    with pytest.raises(InputError, match=named):
        hidden_state(array)


THIRD = bytes(MOST_BYTES // 3)


def event(position: int = 1, data: bytes = b"", **fields: Any) -> DecisionEvent:
    state = HiddenState(data, "float16", (len(data) // 2,)) if data else None
    return DecisionEvent("r", "tiny", position, hidden_state=state, **fields)


@given(st.lists(st.sampled_from([0, 2, len(THIRD)]), max_size=8))
def test_batches_keep_order_and_bounds(sizes: list[int]) -> None:
    events = [event(number, THIRD[:size]) for number, size in enumerate(sizes)]
    found = list(batches(events))
    assert [one for batch in found for one in batch] == events
    for batch in found:
        held = sum(len(one.hidden_state.data) for one in batch if one.hidden_state)
        assert held <= MOST_BYTES
    assert all(found)


def test_a_batch_has_no_more_events_than_a_sidecar_takes() -> None:
    assert [len(batch) for batch in batches([event()] * (MAX_BATCH + 1))] == [MAX_BATCH, 1]


def reply(body: object, status: int = 200, kind: str = "application/json", **more: str) -> Reply:
    return Reply(status, {"content-type": kind, **more}, msgspec.json.encode(body))


def test_decisions_on_other_events_are_no_answer() -> None:
    (call,) = Calls("json").decide_many([event(1), event(2)])
    decision = Decision("r", 1, False, "score_below_threshold", 0.0, 1.0, 0.1, None)
    with pytest.raises(BadAnswerError, match="not on the events that were sent"):
        call.answer(reply(Decisions([decision])))


def test_json_refuses_what_it_cannot_say() -> None:
    with pytest.raises(InputError, match="msgpack"):
        Calls("json").decide(event(score=math.nan))
    assert Calls("msgpack").decide(event(score=math.nan)).body


@given(st.integers(100, 599), st.binary(), st.sampled_from(["application/json", "text/html", ""]))
def test_any_answer_is_read_or_an_error(status: int, body: bytes, kind: str) -> None:
    for call in (Calls("msgpack").status(), Calls("json").ready(), Calls("json").decide(event())):
        answer: Call[Any] = call
        with pytest.raises(ClientError) as caught:
            answer.answer(Reply(status, {"content-type": kind}, body))
        refused = status >= 400 and not (status == 503 and kind == "application/json")
        assert isinstance(caught.value, RefusedError) == (
            refused or caught.value.problem is not None
        )


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, BadRequestError), (422, BadRequestError), (404, NotFoundError),
     (429, TooManyRequestsError), (500, SidecarError), (502, SidecarError),
     (503, UnavailableError)],
)  # fmt: skip
def test_a_problem_becomes_its_error(status: int, kind: type[RefusedError]) -> None:
    problem = Problem("urn:stopper:problem:x", "Title", status, "Detail.")
    answer = reply(problem, status, "application/problem+json", **{"retry-after": "7"})
    with pytest.raises(kind, match=f"{status} Title: Detail") as caught:
        Calls("json").status().answer(answer)
    assert type(caught.value) is kind
    assert (caught.value.problem, caught.value.retry_after) == (problem, 7.0)


def test_only_what_may_be_sent_twice_is_tried_again() -> None:
    retries = Retries(3, draw=lambda: 1.0)
    calls = Calls("json")
    again, once = calls.decide(event()), calls.rollback_artifact(None)
    lost = NoAnswerError("x")
    assert [retries.wait_s(again, lost, tried) for tried in (1, 2, 3, 4)] == [0.1, 0.2, 0.4, None]
    assert retries.wait_s(once, lost, 1) is None
    assert retries.wait_s(again, BadRequestError("x"), 1) is None
    assert retries.wait_s(again, TooManyRequestsError("x", retry_after=3.0), 1) == 3.0
    assert retries.wait_s(again, UnavailableError("x", retry_after=60.0), 1) is None
    repeatable = {
        "decide": again, "status": calls.status(), "artifacts": calls.artifacts(),
        "ready": calls.ready(), "kill": calls.set_kill_switch(True, ""),
        "audit": calls.submit_audit([]),
    }  # fmt: skip
    assert all(call.repeatable for call in repeatable.values())
    single: list[Call[Any]] = [
        once, calls.load_artifact(None, None), calls.re_arm_alarm("a", "b"),
        calls.stop_thinking("x"),
    ]  # fmt: skip
    assert not any(call.repeatable for call in single)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"base_url": "localhost:8080"}, "is no address"),
        ({"retries": -1}, "retries"),
        ({"encoding": "xml"}, "encoding"),
        ({"api_key": "ab\n"}, "api_key"),
        ({"api_key": ""}, "api_key"),
    ],
)
def test_wrong_arguments_are_refused(given: dict[str, Any], named: str) -> None:
    arguments = {"base_url": "http://127.0.0.1:1", **given}
    with pytest.raises(InputError, match=named):
        StopperClient(**arguments)
    with pytest.raises(InputError, match=named):
        AsyncStopperClient(**arguments)
