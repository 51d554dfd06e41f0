"""Whatever is wrong with a body of the stop-decision endpoint is said, and hurts nothing else."""

from __future__ import annotations

import base64
import copy
from collections.abc import Iterator
from typing import Any

import decision_makers as dm
import makers
import msgspec
import numpy as np
import pytest
from decision_makers import Sidecar, encoded, event, safetensors, sidecar, state, written
from halting_makers import halting_artifact
from hypothesis import given, settings
from hypothesis import strategies as st

from stopper.service.key_file import new_key, write_keys
from stopper.wire import MAX_BATCH, MAX_POSITION, MAX_REQUEST_ID, Problem

ROW = np.linspace(-1, 1, dm.WIDTH, dtype=np.float32)
GOOD = event(1, hidden_state=state(ROW))
PLAIN = event(1, score=0.5)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    with sidecar(written(tmp_path_factory.mktemp("faulty") / "artifact")) as made:
        yield made


def problem(response: Any, status: int) -> Problem:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    found = msgspec.json.decode(response.content, type=Problem)
    assert found.status == status
    return found


def with_state(**changes: Any) -> dict[str, Any]:
    return event(1, hidden_state=state(ROW) | changes)


def spoilt(value: float, dtype: str) -> dict[str, Any]:
    row = ROW.copy()
    row[5] = value
    return event(1, hidden_state=state(row, dtype))


UNREADABLE = {
    "no request_id": ({"model": dm.MODEL, "position": 1, "score": 0.5}, "request_id"),
    "an empty request_id": (PLAIN | {"request_id": ""}, "request_id"),
    "a long request_id": (PLAIN | {"request_id": "x" * (MAX_REQUEST_ID + 1)}, "request_id"),
    "a position as text": (PLAIN | {"position": "1"}, "position"),
    "a position below 0": (PLAIN | {"position": -1}, "position"),
    "a huge position": (PLAIN | {"position": MAX_POSITION + 1}, "position"),
    "a fraction of a position": (PLAIN | {"position": 1.5}, "position"),
    "an unknown field": (PLAIN | {"prompt": "?"}, "prompt"),
    "an unknown dtype": (with_state(dtype="int8"), "dtype"),
    "an unknown field of the state": (with_state(order="C"), "order"),
    "a shape that is none": (with_state(shape="18"), "shape"),
    "a score as text": (PLAIN | {"score": "1"}, "score"),
    "no margins": (event(1, logit_margins=[], progress=0.5), "logit_margins"),
    "audit as a number": (PLAIN | {"audit": 1}, "audit"),
}  # fmt: skip

WRONG = {
    "another shape": (with_state(shape=[dm.WIDTH - 1]), 422, "probe reads [18]"),
    "two rows": (with_state(shape=[2, dm.WIDTH]), 422, "probe reads [18]"),
    "a negative shape": (with_state(shape=[-dm.WIDTH]), 422, "probe reads [18]"),
    "too few bytes": (with_state(data=ROW.tobytes()[:-1]), 422, "71 bytes"),
    "bytes of another dtype": (with_state(dtype="float16"), 422, "take 36"),
    "NaN in float16": (spoilt(np.nan, "float16"), 422, "NaN or infinity"),
    "infinity in bfloat16": (spoilt(np.inf, "bfloat16"), 422, "NaN or infinity"),
    "infinity in float32": (spoilt(-np.inf, "float32"), 422, "NaN or infinity"),
    "no signal": (event(1), 422, "exactly one"),
    "two signals": (GOOD | {"score": 1.0}, 422, "there are 2"),
    "alpha 0": (PLAIN | {"alpha": 0.0}, 422, "alpha"),
    "alpha 1": (PLAIN | {"alpha": 1}, 422, "alpha"),
    "progress beside a score": (PLAIN | {"progress": 0.5}, 422, "leave them out"),
    "margins without a schedule": (event(1, logit_margins=[1], progress=0), 422, "`schedule`"),
    "an unknown model": (PLAIN | {"model": "huge"}, 404, f"served are: {dm.MODEL}"),
}  # fmt: skip

MARGINS = {
    "no progress": ({}, "progress"),
    "progress above 1": ({"progress": 1.01}, "progress"),
    "progress below 0": ({"progress": -0.01}, "progress"),
    "an alpha": ({"progress": 0.5, "alpha": 0.1}, "alpha"),
}


@pytest.mark.parametrize("form", ["json", "msgpack"])
@pytest.mark.parametrize(("value", "says"), UNREADABLE.values(), ids=UNREADABLE)
def test_what_cannot_be_read_is_refused_by_name(
    served: Sidecar, form: str, value: dict[str, Any], says: str
) -> None:
    found = problem(served.post(encoded(value, form), form), 400)
    assert says in found.detail


@pytest.mark.parametrize("form", ["json", "msgpack"])
@pytest.mark.parametrize(("value", "status", "says"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_decided_is_refused_with_the_remedy(
    served: Sidecar, form: str, value: dict[str, Any], status: int, says: str
) -> None:
    found = problem(served.post(encoded(value, form), form), status)
    assert says in found.detail
    assert found.instance == "trace"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_score_that_is_no_number_is_refused(served: Sidecar, value: float) -> None:
    body = encoded(event(1, score=value), "msgpack")
    assert "finite" in problem(served.post(body, "msgpack"), 422).detail


@pytest.mark.parametrize("value", [float("nan"), 0.0, 1.0, -3.0, 2.0])
def test_an_alpha_outside_is_refused(served: Sidecar, value: float) -> None:
    body = encoded(PLAIN | {"alpha": value}, "msgpack")
    assert "between 0 and 1" in problem(served.post(body, "msgpack"), 422).detail


def test_margins_are_checked_before_the_schedule_sees_them() -> None:
    with sidecar(None, schedule={}) as made:
        for fields, says in MARGINS.values():
            body = encoded(event(1, logit_margins=[1.0], **fields))
            assert says in problem(made.post(body), 422).detail
        body = encoded(event(1, logit_margins=[1.0, float("nan")], progress=0.5), "msgpack")
        assert "finite" in problem(made.post(body, "msgpack"), 422).detail
        assert "served are: none" in problem(made.post(encoded(PLAIN)), 404).detail


@pytest.mark.parametrize(
    "text",
    ["!" * 96, "AAAA" * 24 + "A", "AAAA" * 23 + "A===", "é" * 96, " " + "AAAA" * 24],
    ids=["other letters", "no padding", "too much padding", "not ASCII", "a space"],
)
def test_base64_must_be_base64(served: Sidecar, text: str) -> None:
    value = msgspec.json.encode(with_state(data=text))
    assert "base64" in problem(served.post(value), 400).detail


def test_base64_of_the_right_bytes_is_taken(served: Sidecar) -> None:
    text = base64.b64encode(ROW.tobytes()).decode()
    response = served.post(msgspec.json.encode(with_state(data=text) | {"request_id": "good"}))
    assert response.status_code == 200


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "truncated"),
        (b"{", "truncated"),
        (b"[]", "object"),
        (b"nonsense", "malformed"),
        (b'{"request_id": "\xff\xfe"}', "utf-8"),
        (b'{"request_id": "\\ud800", "model": "m", "position": 1}', "malformed"),
        (b'{"events": ' + b"[" * 100_000, "deeply"),
        (b'{"events": []}', "events"),
        (b'{"events": {}}', "events"),
        (b'{"events": [{}], "other": 1}', "other"),
    ],
)
def test_a_body_that_is_no_such_json_is_refused(served: Sidecar, body: bytes, says: str) -> None:
    assert says in problem(served.post(body), 400).detail.lower()  # msgspec words it differently


def test_a_batch_may_be_as_long_as_the_contract_says(served: Sidecar) -> None:
    events = [event(1, f"long {k}", score=0.0) for k in range(MAX_BATCH + 1)]
    assert len(served.ask(*events[:-1])) == MAX_BATCH
    for form in ("json", "msgpack"):
        found = problem(served.post(encoded({"events": events}, form), form), 400)
        assert str(MAX_BATCH) in found.detail


@pytest.mark.parametrize("kind", ["text/plain", "", "multipart/form-data", "application/jsonp"])
def test_another_content_type_is_refused(served: Sidecar, kind: str) -> None:
    assert "application/json" in problem(served.post(encoded(PLAIN), kind), 415).detail


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "Application/JSON"])
def test_a_content_type_may_be_spelled_otherwise(served: Sidecar, kind: str) -> None:
    value = PLAIN | {"request_id": kind}
    assert served.post(encoded(value), kind).status_code == 200


@pytest.mark.parametrize("form", ["json", "msgpack"])
def test_in_a_batch_only_what_is_wrong_is_refused(served: Sidecar, form: str) -> None:
    wrong = [value for value, _ in UNREADABLE.values() if "request_id" in value]
    wrong = [value for value in wrong if value["position"] == 1]
    wrong = [value for value in wrong if 0 < len(value["request_id"]) <= MAX_REQUEST_ID]
    assert len(wrong) == 7
    wrong += [value for value, _, _ in WRONG.values()]
    events = [copy.deepcopy(value) for value in wrong]
    for at, value in enumerate(events):
        value["request_id"] = f"{form} {at}"
    goods = [event(1, f"{form} good {at}", score=9.0) for at in range(len(events))]
    mixed = [one for pair in zip(goods, events, strict=True) for one in pair]
    answers = served.ask(*mixed, form=form)
    for good, bad, value in zip(answers[::2], answers[1::2], events, strict=True):
        assert good["stop"]
        assert (bad["stop"], bad["reason"]) == (False, "refused")
        assert (bad["request_id"], bad["position"]) == (value["request_id"], 1)
        assert bad["problem"]["status"] in (400, 404, 422)
        assert bad["problem"]["instance"] == value["request_id"]


@pytest.mark.parametrize("form", ["json", "msgpack"])
def test_an_event_that_could_not_be_answered_refuses_its_batch(served: Sidecar, form: str) -> None:
    events = [event(1, "whole", score=9.0), {"position": 1}]
    found = problem(served.post(encoded({"events": events}, form), form), 400)
    assert found.detail.startswith("events[1]: ")
    # Nothing of it was decided: the trace has no past.
    assert served.ask(event(0, "whole", score=9.0))[0]["stop"]


TEXT = msgspec.json.encode([event(1, "tensors")]).decode()
DATA = ROW.tobytes()
SHAPE = [1, dm.WIDTH]


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (b"", 400, "safetensors"),
        (b"\xff" * 64, 400, "safetensors"),
        (safetensors({"events": TEXT}, "F32", SHAPE, DATA)[:-1], 400, "safetensors"),
        (safetensors({"events": TEXT}, "F32", SHAPE, DATA, "other"), 400, "hidden_states"),
        (safetensors({"events": TEXT}, "F64", [1, 9], DATA), 400, "F16, BF16 or F32"),
        (safetensors({"events": TEXT}, "F32", [2, 9], DATA), 400, "[1, d]"),
        (safetensors({"events": TEXT}, "F32", [18], DATA), 400, "[1, d]"),
        (safetensors({"events": TEXT}, "F16", [1, 36], DATA), 422, "probe reads [18]"),
        (safetensors({}, "F32", SHAPE, DATA), 400, "events"),
        (safetensors({"events": TEXT, "event": "{}"}, "F32", SHAPE, DATA), 400, "either"),
        (safetensors({"events": TEXT, "more": ""}, "F32", SHAPE, DATA), 400, "more"),
        (safetensors({"events": "[]"}, "F32", SHAPE, DATA), 400, "length"),
        (safetensors({"events": "{"}, "F32", SHAPE, DATA), 400, "metadata"),
        (safetensors({"event": "[" * 100_000}, "F32", SHAPE, DATA), 400, "metadata"),
        (safetensors({"event": '{"score": 1}'}, "F32", SHAPE, DATA), 400, "score"),
    ],
)
def test_a_safetensors_body_is_checked(
    served: Sidecar, body: bytes, status: int, says: str
) -> None:
    response = served.post(body, "safetensors")
    if status == 422:  # a batch of one
        (found,) = response.json()["decisions"]
        assert says in found["problem"]["detail"]
    else:
        assert says in problem(response, status).detail


@settings(max_examples=150, deadline=None)
@given(body=st.binary(max_size=300), form=st.sampled_from(dm.FORMS))
def test_random_bytes_are_refused_and_never_a_fault(
    served: Sidecar, body: bytes, form: str
) -> None:
    assert served.post(body, form).status_code == 400


@settings(max_examples=150, deadline=None)
@given(
    form=st.sampled_from(dm.FORMS),
    cut=st.integers(0, 250),
    put=st.binary(max_size=6),
    size=st.integers(0, 6),
)
def test_a_damaged_body_is_never_a_fault(
    served: Sidecar, form: str, cut: int, put: bytes, size: int
) -> None:
    good = encoded({"events": [GOOD, event(2, hidden_state=state(ROW))]}, form)
    body = good[:cut] + put + good[cut + size :]
    response = served.post(body, form)
    assert response.status_code in (200, 400, 404)
    if response.status_code != 200:
        problem(response, response.status_code)


whole = st.integers(-(2**63), 2**63)
scalars = st.none() | st.booleans() | whole | st.floats() | st.text(max_size=4)
FIELDS = [
    "request_id", "model", "position", "hidden_state", "score", "logit_margins", "progress",
    "argmax_changed",
    "alpha", "audit", "events", "other",
]  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(
    changes=st.dictionaries(
        st.sampled_from(FIELDS),
        st.recursive(scalars, lambda inner: st.lists(inner, max_size=2), max_leaves=3),
        max_size=3,
    ),
    batch=st.booleans(),
)
def test_fields_of_any_kind_are_never_a_fault(
    served: Sidecar, changes: dict[str, Any], batch: bool
) -> None:
    value = PLAIN | changes
    body = msgspec.msgpack.encode({"events": [value]} if batch else value)
    assert served.post(body, "msgpack").status_code in (200, 400, 404, 409, 422)


def test_keys_are_asked_for(tmp_path: Any) -> None:
    folder = written(tmp_path / "a")
    decide, kept = new_key("engine", ["decide"])
    read, kept_too = new_key("page", ["read"])
    write_keys(tmp_path / "keys", [kept, kept_too])
    with sidecar(folder, keys_file=tmp_path / "keys") as made:
        problem(made.post(encoded(PLAIN)), 401)
        problem(made.post(encoded(PLAIN), authorization=f"Bearer {read}"), 403)
        response = made.post(encoded(PLAIN), authorization=f"Bearer {decide}")
        assert response.status_code == 200


def test_the_examples_of_the_openapi_document_are_answered(tmp_path: Any) -> None:
    small = makers.artifact(probe=makers.spec(layers=(1,)))
    halts = written(tmp_path / "b", halting_artifact())
    with (
        sidecar(written(tmp_path / "a", small), model="my-model", schedule={}) as made,
        sidecar(halts, model="my-model") as halting,
    ):
        document = made.app.openapi()
        operation = document["paths"][dm.ROUTE]["post"]
        for name, example in operation["requestBody"]["content"]["application/json"][
            "examples"
        ].items():
            body = msgspec.json.encode(copy.deepcopy(example["value"]))
            response = (halting if name == "halting" else made).post(body)
            assert response.status_code == 200, name
        schemas = document["components"]["schemas"]
        assert {"DecisionEvent", "DecisionBatch", "Decision", "Decisions"} <= set(schemas)
        for status in (400, 401, 403, 404, 408, 409, 413, 415, 422, 429):
            assert "application/problem+json" in operation["responses"][str(status)]["content"]
