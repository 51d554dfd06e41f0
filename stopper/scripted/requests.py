"""What clients send: the fields of vLLM's requests that a script can follow."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

TokenId = Annotated[int, Field(strict=True, ge=0)]


class StreamOptions(BaseModel):
    """`stream_options`."""

    include_usage: bool = False
    continuous_usage_stats: bool = False


class Generate(BaseModel):
    """Common to all three routes.

    vLLM's other fields are let through: sampling cannot change a script. What would change the
    response and is not played (several choices, log-probabilities, echo, stop strings) is refused.
    """

    model_config = ConfigDict(extra="allow")

    model: str | None = None
    stream: bool = False
    vllm_xargs: dict[str, Any] | None = None
    include_reasoning: bool = True

    @model_validator(mode="after")
    def _playable(self) -> Generate:
        given = self.model_extra or {}
        if given.get("n") not in (None, 1) or given.get("best_of") not in (None, 1):
            raise ValueError("n: the scripted engine has one choice")
        for name in ("logprobs", "prompt_logprobs", "echo", "stop", "use_beam_search"):
            if given.get(name) not in (None, False, [], ""):
                raise ValueError(f"{name}: the scripted engine does not play this")
        return self


class Streamed(Generate):
    """Common to chat and completions."""

    stream_options: StreamOptions | None = None
    return_token_ids: bool | None = None
    max_tokens: int | None = None

    @model_validator(mode="after")
    def _streams(self) -> Streamed:
        if self.stream_options is not None and not self.stream:
            raise ValueError("Stream options can only be defined when `stream=True`.")
        return self

    @property
    def usage(self) -> StreamOptions:
        """The stream's options, with their defaults."""
        return self.stream_options or StreamOptions()


class ChatRequest(Streamed):
    """`POST /v1/chat/completions`."""

    messages: Annotated[list[dict[str, Any]], Field(min_length=1)]
    max_completion_tokens: int | None = None


class CompletionRequest(Streamed):
    """`POST /v1/completions`; one prompt."""

    prompt: str | list[TokenId] | list[str] | list[list[TokenId]]
    max_tokens: int | None = 16

    @model_validator(mode="after")
    def _one_prompt(self) -> CompletionRequest:
        if not self.prompt:
            raise ValueError("prompt: must not be empty")
        if isinstance(self.prompt[0], str | list) and not isinstance(self.prompt, str):
            if len(self.prompt) > 1:
                raise ValueError("prompt: the scripted engine takes one prompt a request")
            if not self.prompt[0]:
                raise ValueError("prompt: must not be empty")
        return self

    @property
    def one(self) -> str | list[int]:
        """The prompt, out of its list."""
        first: Any = self.prompt if isinstance(self.prompt[0], int) else None
        if first is None:
            first = self.prompt if isinstance(self.prompt, str) else self.prompt[0]
        found: str | list[int] = first
        return found


class ResponsesRequest(Generate):
    """`POST /v1/responses`."""

    input: str | list[dict[str, Any]]
    instructions: str | None = None
    max_output_tokens: int | None = None
    request_id: str | None = None
    metadata: dict[str, str] | None = None

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The input as a chat."""
        asked = [{"role": "user", "content": self.input}] if isinstance(self.input, str) else [
            item for item in self.input if item.get("type", "message") == "message"
        ]  # fmt: skip
        first = [{"role": "system", "content": self.instructions}] if self.instructions else []
        return first + asked


class TokenizeRequest(BaseModel):
    """`POST /tokenize`, of a text or a chat."""

    model_config = ConfigDict(extra="allow")

    model: str | None = None
    prompt: str | None = None
    messages: list[dict[str, Any]] | None = None
    return_token_strs: bool = False

    @model_validator(mode="after")
    def _one(self) -> TokenizeRequest:
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("give either prompt or messages")
        return self


class DetokenizeRequest(BaseModel):
    """`POST /detokenize`."""

    model_config = ConfigDict(extra="allow")

    model: str | None = None
    tokens: list[TokenId]
