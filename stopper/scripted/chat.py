"""`/v1/chat/completions`: field for field as vLLM 0.32 with a reasoning parser writes it."""

from __future__ import annotations

import time
from typing import Any

from stopper.scripted.formats import DONE, event, usage
from stopper.scripted.requests import ChatRequest
from stopper.scripted.run import Run, Token


class ChatFormat:
    """See `Format`."""

    def __init__(self, run: Run, request: ChatRequest, model: str) -> None:
        self.run = run
        self._request = request
        self._base = {
            "id": run.response_id,
            "object": "chat.completion.chunk",
            "created": int(time.time()),
            "model": model,
        }
        self._text = {"reasoning": "", "content": ""}
        # Whoever hides the reasoning hides its tokens.
        self._ids = bool(request.return_token_ids) and request.include_reasoning

    def begin(self) -> list[bytes]:
        """Return the chunk with the role."""
        choice = {
            "index": 0,
            "delta": {"role": "assistant", "content": ""},
            "logprobs": None,
            "finish_reason": None,
        }
        ids = self.run.prompt_ids if self._request.return_token_ids else None
        return [self._chunk([choice], prompt_token_ids=ids, prompt_text=None)]

    def token(self, token: Token) -> list[bytes]:
        """Return the token's chunk; a mark has none of its own unless ids are asked for."""
        delta = self._delta(token)
        finish = self.run.finish_reason
        if delta is None and finish is None and not self._ids:
            return []
        choice: dict[str, Any] = {
            "index": 0,
            "delta": delta or {},
            "logprobs": None,
            "finish_reason": finish,
        }
        if finish is not None:
            choice["stop_reason"] = None
        choice["token_ids"] = [token.id] if self._ids else None
        return [self._chunk([choice])]

    def _delta(self, token: Token) -> dict[str, str] | None:
        name = {"thinking": "reasoning", "answer": "content"}.get(token.part)
        if name is None or (name == "reasoning" and not self._request.include_reasoning):
            return None
        self._text[name] += token.text
        return {name: token.text}

    def end(self) -> list[bytes]:
        """Return the chunk with the usage, where it is asked for."""
        if not self._request.usage.include_usage:
            return []
        return [event({**self._base, "choices": [], "usage": usage(self.run, reasoning=True)})]

    def last(self) -> list[bytes]:
        """Return the mark of the end."""
        return [DONE]

    def _chunk(self, choices: list[dict[str, Any]], **more: Any) -> bytes:
        options = self._request.usage
        if options.include_usage and options.continuous_usage_stats:
            more = {"usage": usage(self.run, reasoning=True), **more}
        return event({**self._base, "choices": choices, **more})

    def document(self) -> dict[str, Any]:
        """Return the whole response."""
        ids = self._request.return_token_ids
        message = {
            "role": "assistant",
            "content": self._text["content"] or None,
            "refusal": None,
            "annotations": None,
            "audio": None,
            "function_call": None,
            "reasoning": self._text["reasoning"] or None,
        }
        choice = {
            "index": 0,
            "message": message,
            "logprobs": None,
            "finish_reason": self.run.finish_reason,
            "stop_reason": None,
            "token_ids": self.run.output_ids if self._ids else None,
            "routed_experts": None,
        }
        return {
            **self._base,
            "object": "chat.completion",
            "choices": [choice],
            "service_tier": None,
            "system_fingerprint": None,
            "usage": {**usage(self.run, reasoning=True), "prompt_tokens_details": None},
            "prompt_logprobs": None,
            "prompt_token_ids": self.run.prompt_ids if ids else None,
            "prompt_text": None,
            "kv_transfer_params": None,
            "ec_transfer_params": None,
            "metrics": None,
        }
