"""Prompts out of a running server's traffic: logged bodies of OpenAI-compatible requests.

Three forms of a line are read: a bare body (``{"messages": ...}`` or ``{"prompt": ...}``); a body
under ``body`` (OpenAI's batch format, which ``vllm run-batch`` takes) or ``request``; and a line of
vLLM's own log, ``... Request ID JSON body: {...}``, which ``vllm serve --enable-log-requests``
writes at log level DEBUG. What collection could not replay as it was served is skipped, and counted
by its reason.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from adapters.vllm.prompts import Prompt

LOGGED = " JSON body: "
"""What stands before a body in vLLM's log."""

_WRAPPERS = ("body", "request")
_SHAPES_THE_PROMPT = (
    "chat_template", "chat_template_kwargs", "continue_final_message", "documents",
    "add_generation_prompt", "truncate_prompt_tokens", "suffix", "echo", "reasoning_effort",
    "include_reasoning",
)  # fmt: skip
_SHAPES_THE_OUTPUT = (
    "response_format", "structured_outputs", "guided_json", "guided_regex", "guided_choice",
    "guided_grammar", "logit_bias", "bad_words", "allowed_token_ids",
)  # fmt: skip
_TOOLS = ("tools", "functions")
_TURN = ("role", "content", "name")


class _SkippedError(Exception):
    """One request that cannot be replayed; the message is the reason."""


@dataclass(slots=True)
class Traffic:
    """What a log held.

    Attributes
    ----------
    prompts
        In order of their first appearance; ids are made from the prompt itself, so that they stay
        the same when the log grows.
    requests
        How many there were, skipped and repeated ones included.
    repeated
        Requests whose prompt had come before.
    models
        How often each model was asked.
    skipped
        Requests that were left out, by the reason.
    other_lines
        Lines of a server's log that are no request.

    """

    prompts: list[Prompt] = field(default_factory=list)
    requests: int = 0
    repeated: int = 0
    models: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    other_lines: int = 0

    def notes(self, keep_repeats: bool) -> list[str]:
        """Say what was taken and what was not."""
        distinct = len({prompt.group for prompt in self.prompts})
        notes = [
            f"{self.requests} requests, of which {sum(self.skipped.values())} were skipped: "
            f"{distinct} distinct prompts"
        ]
        notes += [f"skipped {count}: {reason}" for reason, count in self.skipped.most_common()]
        if self.repeated:
            notes.append(
                f"{self.repeated} requests repeat a prompt: "
                + (
                    "kept as rollouts of one group, which counts once"
                    if keep_repeats
                    else "left out, so that the promise is over distinct prompts"
                )
            )
        if self.other_lines:
            notes.append(f"{self.other_lines} lines of the log are no requests")
        return notes


def read_requests(
    lines: Iterable[str],
    model: str | None = None,
    keep_repeats: bool = False,
    server_log: bool = False,
) -> Traffic:
    """Read logged requests.

    Parameters
    ----------
    lines
        Of the log.
    model
        Take only requests to this model; None takes all, and leaves the caller to look at
        :attr:`Traffic.models`.
    keep_repeats
        Keep requests whose prompt came before as rollouts of the same group; else leave them out.
    server_log
        Only lines with :data:`LOGGED` are requests, whatever the others begin with.

    """
    found = Traffic()
    seen: Counter[str] = Counter()
    for line in lines:
        text = line.strip()
        if is_logged(text):
            text = text.split(LOGGED, 1)[1]
        elif server_log or not text.startswith(("{", "[", '"')):
            found.other_lines += bool(text)
            continue
        found.requests += 1
        try:
            body = _body(text)
            asked = body.get("model")
            if isinstance(asked, str):
                found.models[asked] += 1
            if model is not None and asked != model:
                raise _SkippedError(f"another model ({asked!r:.80})")
            prompt = _prompt(body)
        except _SkippedError as reason:
            found.skipped[str(reason)] += 1
            continue
        seen[prompt.group] += 1
        number = seen[prompt.group]
        if number > 1:
            found.repeated += 1
            if not keep_repeats:
                continue
        name = prompt.group if number == 1 else f"{prompt.group}.{number}"
        found.prompts.append(prompt.model_copy(update={"id": name}))
    return found


def is_logged(line: str) -> bool:
    """Tell whether a line is one of vLLM's log with a request's body."""
    return LOGGED in line and not line.lstrip().startswith("{")


def looks_like_requests(line: str) -> bool:
    """Tell whether a line is a logged request, and no line of a file of prompts."""
    if is_logged(line):
        return True
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError):
        return False
    if not isinstance(fields, dict):
        return False
    if any(isinstance(fields.get(name), dict) for name in _WRAPPERS):
        return True
    ours = {"id", "group", "answer", "level", "category"} & set(fields)
    return "model" in fields and not ours and bool({"messages", "prompt"} & set(fields))


def _body(text: str) -> dict[str, Any]:
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        raise _SkippedError("not JSON, or cut off (see --max-log-len of vllm serve)") from None
    for _ in range(2):  # {"request": {"body": {...}}} occurs as well
        for name in _WRAPPERS:
            if isinstance(fields, dict) and isinstance(fields.get(name), dict):
                fields = fields[name]
    if not isinstance(fields, dict):
        raise _SkippedError("not an object")
    return fields


def _prompt(body: dict[str, Any]) -> Prompt:
    if any(body.get(name) for name in _TOOLS):
        raise _SkippedError("uses tools")
    if body.get("n") not in (None, 1) or body.get("best_of") not in (None, 1):
        raise _SkippedError("asks for n > 1 answers")
    if shaped := [name for name in _SHAPES_THE_PROMPT if _given(body, name)]:
        raise _SkippedError(f"changes the prompt by {', '.join(shaped)}")
    if shaped := [name for name in _SHAPES_THE_OUTPUT if _given(body, name)]:
        raise _SkippedError(f"constrains the output by {', '.join(shaped)}")
    messages, text = body.get("messages"), body.get("prompt")
    if messages is None and text is None:
        raise _SkippedError("no messages and no prompt (another endpoint?)")
    if messages is not None and text is not None:
        raise _SkippedError("both messages and a prompt")
    if messages is None:
        if isinstance(text, list) and len(text) == 1:
            text = text[0]
        if not isinstance(text, str) or not text:
            raise _SkippedError(
                "its prompt is no single text (token ids, several prompts, or empty)"
            )
        return Prompt(id="-", prompt=_utf8(text))
    if not isinstance(messages, list) or not messages:
        raise _SkippedError("its messages are no list, or an empty one")
    return Prompt(id="-", messages=[_turn(message) for message in messages])


def _given(body: dict[str, Any], name: str) -> bool:
    value = body.get(name)
    if name == "add_generation_prompt":
        return value is False
    if name == "response_format" and value == {"type": "text"}:
        return False
    if name == "include_reasoning":
        return value is False
    return value not in (None, False, "", [], {})


def _turn(message: Any) -> dict[str, Any]:
    if not isinstance(message, dict) or not isinstance(message.get("role"), str):
        raise _SkippedError("a message without a role")
    if message.get("tool_calls") or message["role"] in ("tool", "function"):
        raise _SkippedError("uses tools")
    if extra := sorted(
        name for name, value in message.items() if name not in _TURN and value not in (None, [], "")
    ):
        raise _SkippedError(f"a message with {', '.join(map(repr, extra))}"[:120])
    content = message.get("content")
    if isinstance(content, list):
        parts = []
        for part in content:
            if not isinstance(part, dict) or part.get("type") not in ("text", "input_text"):
                raise _SkippedError("images, audio or other parts that are no text")
            if not isinstance(part.get("text"), str):
                raise _SkippedError("a text part without text")
            parts.append(part["text"])
        content = "\n".join(parts)  # as vLLM joins them for a template that takes strings
    if not isinstance(content, str):
        raise _SkippedError("a message without text")
    turn = {"role": _utf8(message["role"]), "content": _utf8(content)}
    if isinstance(message.get("name"), str):
        turn["name"] = _utf8(message["name"])
    return turn


def _utf8(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise _SkippedError("text that is no Unicode (a lone surrogate)") from None
    return text
