"""What the OpenAPI document says of the forwarded routes: bodies are the engine's, plus a field."""

from __future__ import annotations

from typing import Any, get_args

from stopper.wire import ContextFault, FilterReason

_REPORT: dict[str, Any] = {
    "type": "object",
    "description": "What was decided about the request, and why (docs/sidecar.md).",
    "required": ["decision"],
    "properties": {
        "decision": {
            "enum": [
                "stopped", "not_stopped", "audited", "off", "not_applied", "failed_open", "unknown",
            ],
        },
        "reason": {"type": ["string", "null"]},
        "position": {"type": ["integer", "null"]},
        "score": {"type": ["number", "null"]},
        "threshold": {"type": ["number", "null"]},
        "alpha": {"type": ["number", "null"]},
        "tokens_saved_estimate": {"type": ["number", "null"]},
        "artifact": {"type": ["string", "null"]},
        "context": {
            "type": "object",
            "description": "What was done with the request's documents (docs/context.md).",
            "required": ["tokens_in", "tokens_out", "reason", "failed_open"],
            "properties": {
                "tokens_in": {"type": "integer"},
                "tokens_out": {"type": "integer"},
                "documents": {"type": "integer"},
                "kept": {"type": "integer"},
                "dropped": {"type": "integer"},
                "reason": {"enum": [*get_args(FilterReason), *get_args(ContextFault)]},
                "failed_open": {"type": "boolean"},
                "artifact": {"type": ["string", "null"]},
                "threshold": {"type": ["number", "null"]},
            },
        },
    },
}  # fmt: skip

_ASKED: dict[str, Any] = {
    "type": ["object", "null"],
    "description": "Taken out of the body and given to the engine as `vllm_xargs`.",
    "additionalProperties": False,
    "properties": {
        "alpha": {
            "type": ["number", "null"],
            "exclusiveMinimum": 0,
            "exclusiveMaximum": 1,
            "description": "Tolerated share of bad stops.",
        },
        "enabled": {"type": ["boolean", "null"], "description": "False: never stop this request."},
    },
}

_ASKED_OF_CHAT: dict[str, Any] = {
    **_ASKED,
    "properties": {
        **_ASKED["properties"],
        "documents": {
            "type": ["array", "null"],
            "description": "Compressed and put into the last user message (docs/context.md).",
            "items": {
                "type": "object",
                "required": ["text"],
                "additionalProperties": False,
                "properties": {
                    "text": {"type": "string"},
                    "title": {"type": "string"},
                    "id": {"type": ["string", "null"]},
                },
            },
        },
        "query": {
            "type": ["string", "null"],
            "description": "In place of the last user message, for choosing sentences.",
        },
        "context": {
            "type": ["object", "null"],
            "description": "How documents are compressed.",
            "additionalProperties": False,
            "properties": {
                "enabled": {"type": "boolean"},
                "alpha": {
                    "type": ["number", "null"], "exclusiveMinimum": 0, "exclusiveMaximum": 1,
                },
                "threshold": {"type": ["number", "null"]},
                "floor": {"type": ["integer", "null"], "minimum": 0, "maximum": 1000000},
            },
        },
    },
}  # fmt: skip

_EXAMPLE_REPORT = {
    "decision": "stopped", "reason": "score_above_threshold", "position": 412, "score": 3.1,
    "threshold": 1.8, "alpha": 0.05, "tokens_saved_estimate": 655.2, "artifact": "0123456789abcdef",
}  # fmt: skip


def _document(
    summary: str,
    example: dict[str, Any],
    answer: dict[str, Any],
    streams: str,
    asked: dict[str, Any] = _ASKED,
) -> dict[str, Any]:
    whole = {
        "type": "object",
        "description": "The engine's response and the field `stopper`.",
        "properties": {"stopper": _REPORT},
    }
    return {
        "summary": summary,
        "responses": {
            200: {
                "description": f"The engine's response with a report. {streams}",
                "content": {
                    "application/json": {
                        "schema": whole,
                        "example": {**answer, "stopper": _EXAMPLE_REPORT},
                    },
                    "text/event-stream": {"schema": {"type": "string"}},
                },
            },
            "default": {"description": "The engine's own errors pass unchanged."},
        },
        "openapi_extra": {
            "requestBody": {
                "required": True,
                "content": {
                    "application/json": {
                        "schema": {
                            "type": "object",
                            "description": "The engine's request and the field `stopper`.",
                            "properties": {"model": {"type": "string"}, "stopper": asked},
                        },
                        "example": {**example, "stopper": {"alpha": 0.05}},
                    }
                },
            }
        },
    }


_LAST = "A stream is passed on byte for byte; its last event with data carries the report."
_QUESTION = "How many primes are below 100?"

CHAT = _document(
    "Chat completions",
    {"model": "tiny", "messages": [{"role": "user", "content": _QUESTION}], "stream": False},
    {"id": "chatcmpl-1", "object": "chat.completion", "choices": []},
    _LAST,
    _ASKED_OF_CHAT,
)
COMPLETIONS = _document(
    "Completions",
    {"model": "tiny", "prompt": _QUESTION, "max_tokens": 4096},
    {"id": "cmpl-1", "object": "text_completion", "choices": []},
    _LAST,
)
RESPONSES = _document(
    "Responses",
    {"model": "tiny", "input": _QUESTION},
    {"id": "resp_1", "object": "response", "output": []},
    "In a stream the `response` of the event `response.completed` carries the report.",
)
MODELS: dict[str, Any] = {
    "summary": "The models of all engines",
    "responses": {
        200: {
            "description": "One list; of two models of one name the first engine's counts.",
            "content": {
                "application/json": {
                    "schema": {
                        "type": "object",
                        "required": ["object", "data"],
                        "properties": {
                            "object": {"const": "list"},
                            "data": {"type": "array", "items": {"type": "object"}},
                        },
                    },
                    "example": {
                        "object": "list",
                        "data": [{"id": "tiny", "object": "model", "owned_by": "vllm"}],
                    },
                }
            },
        }
    },
}
