"""What a client asks of stopper becomes vLLM's arguments; all other bytes stay."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stopper.service.problems import ProblemError
from stopper.service.proxy.options import prepare


def prepared(body, *, silence=None, chosen=False, auditable=True, alpha=None):
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return prepare(raw, silence=lambda _: silence, chosen=chosen, auditable=auditable, alpha=alpha)


def xargs(found):
    return json.loads(found.body).get("vllm_xargs")


def test_a_body_without_our_field_is_forwarded_unchanged():
    body = b' {"model" : "m",\n "messages": [],"vllm_xargs":{"other": 1e0, "stopper": 1}} '
    found = prepared(body)
    assert found.body == body
    assert (found.model, found.off, found.audited) == ("m", None, False)


@given(
    st.dictionaries(
        st.text(max_size=4).filter(lambda name: name not in ("stopper", "model")),
        st.sampled_from([b"1.50", b"123456789012345678901234567890", b'"\\u00e4"', b"[ ]"]),
    )
)
def test_a_changed_body_keeps_the_bytes_of_every_other_value(fields):
    fields = {json.dumps(name).encode(): raw for name, raw in fields.items()}
    parts = [name + b" : " + raw for name, raw in fields.items()]
    found = prepared(b"{" + b",".join([*parts, b'"stopper":{"enabled":false}']) + b"}")
    assert b'"stopper":{' not in found.body
    for raw in fields.values():
        assert raw in found.body
    assert xargs(found) == {"stopper": 0}


@pytest.mark.parametrize(
    ("stopper", "client", "expected"),
    [
        ({"enabled": True}, None, {"stopper": 1}),
        ({"enabled": False}, {}, {"stopper": 0}),
        ({"alpha": 0.1}, None, {"stopper_alpha": 0.1}),
        ({"alpha": 0.1, "enabled": True}, {"a": 2}, {"a": 2, "stopper": 1, "stopper_alpha": 0.1}),
        ({"alpha": 0.1}, {"stopper_alpha": 0.1}, {"stopper_alpha": 0.1}),
        ({"enabled": True}, {"stopper": "audit"}, {"stopper": "audit"}),
        (None, {"stopper": 0}, {"stopper": 0}),
        ({}, None, None),
    ],
)
def test_the_field_becomes_vllms_arguments(stopper, client, expected):
    body = {"model": "m", "stopper": stopper}
    found = prepared(body if client is None else body | {"vllm_xargs": client})
    assert "stopper" not in json.loads(found.body)
    assert xargs(found) == expected


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"stopper": {"alpha": 0}}, r"stopper: .*\$\.alpha"),
        ({"stopper": {"alpha": 1}}, r"stopper: .*\$\.alpha"),
        ({"stopper": {"alpha": "low"}}, "stopper:"),
        ({"stopper": {"enabled": 1}}, "stopper:"),
        ({"stopper": {"on": True}}, "stopper:"),
        ({"stopper": True}, "stopper:"),
        ({"stopper": {"enabled": True}, "vllm_xargs": {"stopper": 0}}, "contradicts"),
        ({"stopper": {"enabled": False}, "vllm_xargs": {"stopper": "audit"}}, "contradicts"),
        ({"stopper": {"alpha": 0.1}, "vllm_xargs": {"stopper_alpha": 0.2}}, "contradicts"),
        ({"vllm_xargs": {"stopper": 7}}, "vllm_xargs: stopper=7"),
        ({"vllm_xargs": {"stopper_x": 7}}, "unknown key"),
        ({"vllm_xargs": [1]}, "vllm_xargs: must be an object"),
        ({"stopper": {"alpha": 0.1}, "vllm_xargs": {"stopper": "fixed"}}, "no alpha"),
        ({"model": 3}, "model:"),
    ],
)
def test_wrong_and_contradicting_options_are_refused(fields, said):
    with pytest.raises(ProblemError, match=said) as refused:
        prepared(fields)
    assert refused.value.problem.status == 400


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"{}x", b"\xff", b'{"a":NaN}'])
def test_what_is_no_json_object_is_refused(body):
    with pytest.raises(ProblemError, match="JSON object"):
        prepared(body)


@pytest.mark.parametrize("silence", ["kill_switch", "alarm"])
@pytest.mark.parametrize(
    "asked", [{}, {"stopper": {"enabled": True}}, {"vllm_xargs": {"stopper": "fixed"}}]
)
def test_a_silenced_request_is_sent_with_the_stopper_off(silence, asked):
    found = prepared({"model": "m"} | asked, silence=silence, chosen=True, alpha=0.2)
    assert xargs(found) == {"stopper": 0}
    assert (found.off, found.audit, found.audited) == (silence, False, False)


def test_a_request_that_names_no_alpha_takes_the_operators():
    assert xargs(prepared({}, alpha=0.2)) == {"stopper_alpha": 0.2}
    assert xargs(prepared({"stopper": {"alpha": 0.1}}, alpha=0.2)) == {"stopper_alpha": 0.1}
    assert xargs(prepared({"stopper": {"enabled": False}}, alpha=0.2)) == {"stopper": 0}
    assert xargs(prepared({"vllm_xargs": {"stopper": "fixed"}}, alpha=0.2)) == {"stopper": "fixed"}


def test_a_chosen_request_becomes_an_audit():
    found = prepared({"model": "m", "return_token_ids": False}, chosen=True)
    assert xargs(found) == {"stopper": "audit"}
    assert json.loads(found.body)["return_token_ids"] is True
    assert (found.audited, found.audit, found.strip_ids, found.not_audited) == (
        True, True, True, False,
    )  # fmt: skip


def test_an_audits_ids_stay_where_the_client_asked_for_them():
    found = prepared({"return_token_ids": True}, chosen=True)
    assert (found.audited, found.strip_ids) == (True, False)


@pytest.mark.parametrize(
    "fields",
    [
        {"n": 2}, {"echo": True}, {"tools": [{}]}, {"include_reasoning": False},
        {"prompt": ["a", "b"]}, {"kv_transfer_params": {"a": 1}}, {"use_beam_search": True},
    ],
)  # fmt: skip
def test_what_cannot_be_audited_is_sent_as_it_is_and_told(fields):
    found = prepared(fields, chosen=True)
    assert json.loads(found.body) == fields
    assert (found.audited, found.not_audited) == (False, True)


def test_a_route_without_token_ids_cannot_be_audited():
    assert prepared({}, chosen=True, auditable=False).not_audited


@pytest.mark.parametrize(
    "fields", [{"n": 1, "tools": []}, {"prompt": "a"}, {"prompt": [1, 2]}, {"echo": False}]
)
def test_what_changes_nothing_is_audited(fields):
    assert prepared(fields, chosen=True).audited


def test_who_turned_it_off_or_audits_himself_is_not_audited():
    off = prepared({"stopper": {"enabled": False}}, chosen=True)
    assert (off.off, off.audited, off.not_audited) == ("asked_off", False, False)
    own = prepared({"vllm_xargs": {"stopper": "audit"}}, chosen=True)
    assert (own.audit, own.audited, own.not_audited) == (True, False, False)
