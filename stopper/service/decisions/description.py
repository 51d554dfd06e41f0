"""What the OpenAPI document says of the stop-decision endpoint."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from stopper.service.schemas import reference
from stopper.wire import Decision, DecisionBatch, DecisionEvent, Decisions

SUMMARY = "Decide whether to stop, at one cue or at a batch of them"

TEXT = """
A body with `events` is a batch, answered in its order; any other is one event. An event that cannot
be decided on is the HTTP problem itself; in a batch it is a decision with reason `refused` and the
problem, and the others are decided.

A trace is known by its `request_id`; its positions ascend. The same position again is answered as
it was then, so that a request may be repeated after a timeout.

Answers are JSON, or MessagePack where `Accept` says `application/msgpack`.
"""

_HIDDEN = {"data": "ADwAPAA8ADwAPAA8", "dtype": "float16", "shape": [6]}
_EVENT = {"request_id": "chat-17", "model": "my-model", "position": 412}

_EXAMPLES = {
    "hidden_state": {
        "summary": "A hidden state (here of 6 numbers), scored by the artifact's probe",
        "value": {**_EVENT, "hidden_state": _HIDDEN, "alpha": 0.1},
    },
    "score": {
        "summary": "A raw score, for example of an artifact that was made from your own scores",
        "value": {**_EVENT, "score": 1.25},
    },
    "margins": {
        "summary": "Logit margins of a diffusion model's denoising step, by a schedule",
        "value": {**_EVENT, "position": 3, "logit_margins": [8.0, 6.5, 9.25], "progress": 0.2},
    },
    "halting": {
        "summary": "The same, by the halting rule of an artifact",
        "value": {
            **_EVENT,
            "position": 3,
            "logit_margins": [8.0, 6.5, 9.25],
            "progress": 0.2,
            "argmax_changed": False,
            "alpha": 0.05,
        },
    },
    "batch": {
        "summary": "Two events at once",
        "value": {
            "events": [
                {**_EVENT, "score": 1.25},
                {"request_id": "chat-18", "model": "my-model", "position": 96, "score": -0.5},
            ]
        },
    },
}

_ANSWER = {
    "request_id": "chat-17",
    "position": 412,
    "stop": True,
    "reason": "score_above_threshold",
    "score": 1.25,
    "threshold": 0.75,
    "alpha": 0.1,
    "artifact": "0123456789abcdef",
}
_ANSWERS = {
    "one": {"summary": "To one event", "value": _ANSWER},
    "batch": {"summary": "To a batch", "value": {"decisions": [_ANSWER]}},
}

_MSGPACK = """
MessagePack of the same fields; `hidden_state.data` is bin rather than base64 text.
"""

_SAFETENSORS = """
A safetensors file with one tensor, `hidden_states` [n, d] of F16, BF16 or F32. Its metadata holds
either `events`, a JSON array of n objects with the fields `request_id`, `model`, `position` and,
where wanted, `alpha` and `audit`, row i being the hidden state of the i-th; or `event`, one such
object, with n = 1.
"""


def request_body(app: FastAPI) -> dict[str, Any]:
    """Return what the document says of the request's body."""
    schema = {"anyOf": [reference(app, DecisionEvent), reference(app, DecisionBatch)]}
    return {
        "required": True,
        "content": {
            "application/json": {"schema": schema, "examples": _EXAMPLES},
            "application/msgpack": _binary(_MSGPACK),
            "application/vnd.safetensors": _binary(_SAFETENSORS),
        },
    }


def answer(app: FastAPI) -> dict[str, Any]:
    """Return what the document says of the answer that comes with status 200."""
    schema = {"anyOf": [reference(app, Decision), reference(app, Decisions)]}
    return {
        "description": "The decision, or the decisions in the batch's order.",
        "content": {
            "application/json": {"schema": schema, "examples": _ANSWERS},
            "application/msgpack": _binary("MessagePack of the same fields."),
        },
    }


def _binary(text: str) -> dict[str, Any]:
    return {"schema": {"type": "string", "format": "binary", "description": text.strip()}}
