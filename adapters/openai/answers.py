"""Reads next-token probabilities of given tokens from a vLLM server.

`POST /v1/completions` takes prompts as token ids, and with `logprob_token_ids` returns the exact
log-probability of just those tokens at the one place that is generated, whatever their rank.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt

from probes.causal_prompts import Prompt
from probes.errors import StopperError

PROMPTS_PER_REQUEST = 64


class ServerError(StopperError):
    """The server cannot be reached, refuses, or answers otherwise than vLLM does."""


class ServerReader:
    """A `probes.causal_sentences.AnswerReader` over HTTP.

    The first prompt of every document is sent before the others, so that the others find the
    document in the engine's prefix cache whatever order the engine takes them in.

    Parameters
    ----------
    url
        Of the server, without ``/v1``.
    model
        A name it serves: the model's, or a LoRA adapter's.
    api_key
        Sent as a bearer token.
    timeout_s
        For one request of at most `PROMPTS_PER_REQUEST` prompts.
    client
        To be used instead of one of our own; its base URL, headers and timeout count.

    Raises
    ------
    ServerError
        If the server does not answer, or does not serve the model.

    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        api_key: str | None = None,
        timeout_s: float = 120.0,
        client: httpx.Client | None = None,
    ) -> None:
        headers = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
        self._client = client or httpx.Client(base_url=url, headers=headers, timeout=timeout_s)
        self.url, self.model = url, model
        served = self._call("GET", "/v1/models").get("data")
        listed = served if isinstance(served, list) else []
        cards = {str(card.get("id")): card for card in listed if isinstance(card, dict)}
        card = cards.get(model)
        if card is None:
            raise ServerError(
                f"{url}: serves no model {model!r}; it has {', '.join(sorted(cards))}"
            )
        # The card of a LoRA adapter leaves the length to that of its base.
        base = cards.get(str(card.get("parent")), {})
        known = card.get("max_model_len") or base.get("max_model_len")
        if not isinstance(known, int):
            raise ServerError(f"{url}: does not tell max_model_len of {model!r}; is it vLLM?")
        self.max_tokens = known - 1  # one is generated
        self._root = str(card.get("root"))

    @property
    def identity(self) -> dict[str, str]:
        """Which model it is: its name there, and where the server loaded it from."""
        return {"served": self.model, "root": self._root}

    def read(self, prompts: Sequence[Prompt], yes: int, no: int) -> npt.NDArray[np.float32]:
        """Return log-probabilities float32 [n, 2]; see `probes.causal_sentences.AnswerReader`.

        Raises
        ------
        ServerError
            If the server fails, or does not return the two tokens.

        """
        answers = np.empty((len(prompts), 2), np.float32)
        seen: set[tuple[int, ...]] = set()
        first: list[int] = []
        others: list[int] = []
        for at, prompt in enumerate(prompts):
            (others if prompt.prefix in seen else first).append(at)
            seen.add(prompt.prefix)
        for wave in (first, others):
            for start in range(0, len(wave), PROMPTS_PER_REQUEST):
                some = wave[start : start + PROMPTS_PER_REQUEST]
                answers[some] = self._ask([prompts[at].ids for at in some], yes, no)
        return answers

    def tokenize(self, text: str) -> list[int] | None:
        """Return a text's ids as the server makes them, None where it does not offer that."""
        body = {"model": self.model, "prompt": text, "add_special_tokens": False}
        try:
            found = self._client.post("/tokenize", json=body)
        except httpx.HTTPError as problem:
            raise self._unreachable(problem) from None
        if found.status_code != 200:
            return None
        ids = found.json().get("tokens")
        return ids if isinstance(ids, list) else None

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _ask(self, prompts: list[list[int]], yes: int, no: int) -> npt.NDArray[np.float32]:
        body = {
            "model": self.model,
            "prompt": prompts,
            "max_tokens": 1,
            "temperature": 0.0,
            "logprobs": 1,
            "logprob_token_ids": [yes, no],
            "return_tokens_as_token_ids": True,
        }
        answer = self._call("POST", "/v1/completions", json=body)
        found = np.full((len(prompts), 2), np.nan, np.float32)
        try:
            for choice in answer["choices"]:
                row = choice["logprobs"]["top_logprobs"][0]
                found[choice["index"]] = [row[f"token_id:{yes}"], row[f"token_id:{no}"]]
        except (KeyError, IndexError, TypeError, ValueError) as problem:
            raise ServerError(
                f"{self.url}: its answer lacks the log-probabilities of tokens {yes} and {no} "
                f"({type(problem).__name__}: {problem}); vLLM from 0.32 gives them"
            ) from None
        if np.isnan(found).any():
            raise ServerError(f"{self.url}: has not answered every prompt; see its log")
        return found

    def _call(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        try:
            answer = self._client.request(method, path, **options)
        except httpx.HTTPError as problem:
            raise self._unreachable(problem) from None
        if answer.status_code != 200:
            raise ServerError(
                f"{self.url}{path}: answers {answer.status_code}: {answer.text[:300]}"
            )
        try:
            found = answer.json()
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise ServerError(f"{self.url}{path}: answers no JSON object; is it vLLM?")
        return found

    def _unreachable(self, problem: httpx.HTTPError) -> ServerError:
        reason = str(problem) or type(problem).__name__
        return ServerError(f"{self.url}: no answer ({reason}); is the vLLM server running there?")
