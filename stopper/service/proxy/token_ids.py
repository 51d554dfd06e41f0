"""Takes the token ids, which only an audit asked for, out of a response again.

vLLM writes compact JSON with every field it was given, `"token_ids":null` where nobody asked: so
the client's bytes are as without. In a stream it also sends events that hold nothing but ids.
"""

from __future__ import annotations

import re

import msgspec

from stopper.service.proxy.events import data_of

# Inside a JSON string the closing quote would have a backslash before it.
_IDS = re.compile(rb'(?<=[{,])("(?:prompt_)?token_ids":)\[[0-9,\s]*\]')


class _Delta(msgspec.Struct):
    delta: dict[str, msgspec.Raw] | None = None
    token_ids: list[int] | None = None
    prompt_token_ids: list[int] | None = None
    finish_reason: str | None = None
    logprobs: msgspec.Raw = msgspec.Raw(b"null")


class _Body(msgspec.Struct):
    choices: list[_Delta] = []
    prompt_token_ids: list[int] | None = None


_decode = msgspec.json.Decoder(_Body).decode


class TokenIds:
    """Collects the ids of one response with one choice.

    Parameters
    ----------
    strip
        Whether to take them out; False where the client asked for them as well.

    Attributes
    ----------
    prompt, output
        What has come so far; `prompt` is None until it has come.
    complete
        Whether every piece of the output came with its ids.

    """

    def __init__(self, *, strip: bool = True) -> None:
        self._strip = strip
        self.prompt: tuple[int, ...] | None = None
        self.output: list[int] = []
        self.complete = True

    def take_from_event(self, event: bytes) -> bytes:
        """Return the event as the client would have got it; empty if it would not have."""
        data = data_of(event)
        body = None if data is None or data == b"[DONE]" else self._read(data)
        if body is None or not self._strip:
            return event
        only_ids = any(
            choice.token_ids is not None
            and choice.delta == {}
            and choice.finish_reason is None
            and bytes(choice.logprobs) == b"null"
            for choice in body.choices
        )
        return b"" if only_ids else _IDS.sub(rb"\1null", event)

    def take_from_object(self, text: bytes) -> bytes:
        """Return a whole response as the client would have got it."""
        body = self._read(text)
        return text if body is None or not self._strip else _IDS.sub(rb"\1null", text)

    def _read(self, data: bytes) -> _Body | None:
        try:
            body = _decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError):
            self.complete = False
            return None
        prompt = body.prompt_token_ids
        for choice in body.choices:
            prompt = choice.prompt_token_ids if prompt is None else prompt
            if choice.token_ids is not None:
                self.output += choice.token_ids
            elif choice.delta is None or "role" not in choice.delta:
                self.complete = False  # a chat's first event has a role and no ids
        if prompt is not None:
            self.prompt = tuple(prompt)
        return body
