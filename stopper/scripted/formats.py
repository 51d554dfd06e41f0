"""What the three ways of answering have in common."""

from __future__ import annotations

from typing import Any, Protocol

import msgspec

from stopper.scripted.run import Run, Token


class Format(Protocol):
    """Writes a run as one of vLLM's responses, in events or whole.

    `token` is called with every token in order, whichever way; `run.finish_reason` is set with the
    last one.
    """

    run: Run

    def begin(self) -> list[bytes]:
        """Return the events before the first token."""

    def token(self, token: Token) -> list[bytes]:
        """Take a token in and return its events."""

    def end(self) -> list[bytes]:
        """Return the events after the last token, but for `last`."""

    def last(self) -> list[bytes]:
        """Return the event that tells the client that the stream is whole."""

    def document(self) -> dict[str, Any]:
        """Return the whole response."""


def event(data: dict[str, Any], kind: str | None = None) -> bytes:
    """Write a server-sent event."""
    head = b"" if kind is None else b"event: " + kind.encode() + b"\n"
    return head + b"data: " + msgspec.json.encode(data) + b"\n\n"


DONE = b"data: [DONE]\n\n"


def usage(run: Run, *, reasoning: bool) -> dict[str, Any]:
    """Count tokens so far, as chat and completions tell them."""
    prompt, output = len(run.prompt_ids), len(run.output_ids)
    found: dict[str, Any] = {
        "prompt_tokens": prompt,
        "total_tokens": prompt + output,
        "completion_tokens": output,
    }
    if reasoning:
        found["completion_tokens_details"] = {"reasoning_tokens": run.thinking_tokens}
    return found
