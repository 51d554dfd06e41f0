"""`/v1/completions`: field for field as vLLM 0.32 writes it; the thinking is part of the text."""

from __future__ import annotations

import time
from typing import Any

from stopper.scripted.formats import DONE, event, usage
from stopper.scripted.requests import CompletionRequest
from stopper.scripted.run import Run, Token


class CompletionFormat:
    """See `Format`."""

    def __init__(self, run: Run, request: CompletionRequest, model: str) -> None:
        self.run = run
        self._request = request
        self._base = {
            "id": run.response_id,
            "object": "text_completion",
            "created": int(time.time()),
            "model": model,
        }
        self._text = ""
        self._told_prompt = False

    def begin(self) -> list[bytes]:
        """Return nothing: the first chunk is the first token's."""
        return []

    def token(self, token: Token) -> list[bytes]:
        """Return the token's chunk."""
        self._text += token.text
        ids = self._request.return_token_ids
        choice = {
            "index": 0,
            "text": token.text,
            "logprobs": None,
            "finish_reason": self.run.finish_reason,
            "stop_reason": None,
            "prompt_token_ids": self.run.prompt_ids if ids and not self._told_prompt else None,
            "token_ids": [token.id] if ids else None,
        }
        self._told_prompt = True
        chunk = {**self._base, "choices": [choice]}
        options = self._request.usage
        if options.include_usage and options.continuous_usage_stats:
            chunk["usage"] = usage(self.run, reasoning=False)
        return [event(chunk)]

    def end(self) -> list[bytes]:
        """Return the chunk with the usage, where it is asked for."""
        if not self._request.usage.include_usage:
            return []
        return [event({**self._base, "choices": [], "usage": usage(self.run, reasoning=False)})]

    def last(self) -> list[bytes]:
        """Return the mark of the end."""
        return [DONE]

    def document(self) -> dict[str, Any]:
        """Return the whole response."""
        ids = self._request.return_token_ids
        choice = {
            "index": 0,
            "text": self._text,
            "logprobs": None,
            "finish_reason": self.run.finish_reason,
            "stop_reason": None,
            "token_ids": self.run.output_ids if ids else None,
            "prompt_logprobs": None,
            "prompt_token_ids": self.run.prompt_ids if ids else None,
            "routed_experts": None,
        }
        counted = usage(self.run, reasoning=False)
        return {
            **self._base,
            "choices": [choice],
            "service_tier": None,
            "system_fingerprint": None,
            "usage": {**counted, "prompt_tokens_details": None, "completion_tokens_details": None},
            "kv_transfer_params": None,
            "ec_transfer_params": None,
            "metrics": None,
        }
