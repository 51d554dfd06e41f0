"""`/v1/responses`: the events of OpenAI's Responses API in vLLM 0.32's order."""

from __future__ import annotations

import secrets
import time
from typing import Any, Literal

from stopper.scripted.formats import event
from stopper.scripted.requests import ResponsesRequest
from stopper.scripted.run import Run, Token

Kind = Literal["reasoning", "message"]
_PART = {"reasoning": "reasoning_text", "message": "output_text"}
_UNUSED = dict.fromkeys(
    ("max_tool_calls", "previous_response_id", "prompt", "reasoning", "text", "top_logprobs",
     "user", "presence_penalty", "frequency_penalty", "kv_transfer_params", "ec_transfer_params",
     "input_messages", "output_messages")
)  # fmt: skip
"""Fields that vLLM writes and that are null here."""


class ResponsesFormat:
    """See `Format`."""

    def __init__(self, run: Run, request: ResponsesRequest, model: str) -> None:
        self.run = run
        self._request = request
        self._model = model
        self._created = int(time.time())
        self._number = 0
        self._items: list[dict[str, Any]] = []
        self._kind: Kind | None = None
        self._text = ""
        self._id = ""

    def begin(self) -> list[bytes]:
        """Return the two events that announce the response."""
        response = self._response("in_progress", None)
        return [
            self._event("response.created", response=response),
            self._event("response.in_progress", response=response),
        ]

    def token(self, token: Token) -> list[bytes]:
        """Return the token's events: those that open an item, then the delta."""
        kinds: dict[str, Kind] = {"thinking": "reasoning", "answer": "message"}
        kind = kinds.get(token.part)
        if kind is None or (kind == "reasoning" and not self._request.include_reasoning):
            return []
        events = []
        if kind != self._kind:
            events += self._close()
            self._kind = kind
            self._id = f"{'rs' if kind == 'reasoning' else 'msg'}_{secrets.token_hex(16)}"
            events += self._open(kind)
        self._text += token.text
        more: dict[str, Any] = {"logprobs": []} if kind == "message" else {}
        events.append(
            self._event(f"response.{_PART[kind]}.delta", **self._where, delta=token.text, **more)
        )
        return events

    @property
    def _where(self) -> dict[str, Any]:
        return {"item_id": self._id, "output_index": len(self._items), "content_index": 0}

    def _open(self, kind: Kind) -> list[bytes]:
        item = self._item(kind, "in_progress", None)
        part: dict[str, Any] = {"type": _PART[kind], "text": ""}
        if kind == "message":
            part |= {"annotations": [], "logprobs": []}
        return [
            self._event("response.output_item.added", output_index=len(self._items), item=item),
            self._event("response.content_part.added", **self._where, part=part),
        ]

    def _close(self) -> list[bytes]:
        if self._kind is None:
            return []
        name = _PART[self._kind]
        item = self._item(self._kind, "completed", self._text)
        more: dict[str, Any] = {"logprobs": []} if self._kind == "message" else {}
        events = [
            self._event(f"response.{name}.done", **self._where, text=self._text, **more),
            self._event("response.content_part.done", **self._where, part=item["content"][0]),
            self._event("response.output_item.done", output_index=len(self._items), item=item),
        ]
        self._items.append(item)
        self._kind, self._text = None, ""
        return events

    def _item(self, kind: Kind, status: str, text: str | None) -> dict[str, Any]:
        content: list[dict[str, Any]] = []
        if text is not None:
            content = [{"type": _PART[kind], "text": text}]
        if kind == "reasoning":
            return {"id": self._id, "type": "reasoning", "summary": [], "content": content,
                    "encrypted_content": None, "status": status}  # fmt: skip
        content = [{**part, "annotations": [], "logprobs": None} for part in content]
        return {"id": self._id, "type": "message", "role": "assistant", "content": content,
                "status": status, "phase": None}  # fmt: skip

    def end(self) -> list[bytes]:
        """Return the events that close the last item."""
        return self._close()

    def last(self) -> list[bytes]:
        """Return the event with the whole response."""
        return [self._event("response.completed", response=self.document())]

    def document(self) -> dict[str, Any]:
        """Return the whole response."""
        self._close()
        counted = {
            "input_tokens": len(self.run.prompt_ids),
            "input_tokens_details": {
                "cached_tokens": 0,
                "cache_write_tokens": 0,
                "input_tokens_per_turn": [],
                "cached_tokens_per_turn": [],
            },
            "output_tokens": len(self.run.output_ids),
            "output_tokens_details": {
                "reasoning_tokens": self.run.thinking_tokens,
                "tool_output_tokens": 0,
                "output_tokens_per_turn": [],
                "tool_output_tokens_per_turn": [],
            },
            "total_tokens": len(self.run.prompt_ids) + len(self.run.output_ids),
        }
        cut = self.run.finish_reason == "length"
        return self._response("incomplete" if cut else "completed", counted)

    def _response(self, status: str, counted: dict[str, Any] | None) -> dict[str, Any]:
        cut = status == "incomplete"
        return {
            **_UNUSED,
            "id": self.run.response_id,
            "created_at": self._created,
            "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
            "instructions": self._request.instructions,
            "metadata": self._request.metadata,
            "model": self._model,
            "object": "response",
            "output": list(self._items),
            "parallel_tool_calls": True,
            "temperature": 1.0,
            "tool_choice": "auto",
            "tools": [],
            "top_p": 1.0,
            "background": False,
            "max_output_tokens": self.run.max_tokens,
            "service_tier": "auto",
            "status": status,
            "truncation": "disabled",
            "usage": counted,
        }

    def _event(self, kind: str, **data: Any) -> bytes:
        number, self._number = self._number, self._number + 1
        return event({"type": kind, "sequence_number": number, **data}, kind)
