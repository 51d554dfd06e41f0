"""What is asked of an engine after an audited request: the answer at the mark, and texts of ids."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import httpx
import msgspec

from stopper.service.proxy.finished import FinishedRequest

HEALTH_S = 3.0


class FollowUpFailed(Exception):  # noqa: N818 - reads as a sentence where it is raised
    """The engine did not answer as it should.

    Attributes
    ----------
    final
        It has refused these ids for good: they exceed its longest context, for example.
    busy
        It was too slow, or wants nothing from us now: that says nothing of these ids.

    """

    def __init__(self, why: str, *, final: bool = False, busy: bool = False) -> None:
        super().__init__(why)
        self.final = final
        self.busy = busy


class _Choice(msgspec.Struct):
    text: str


class _Completion(msgspec.Struct):
    choices: list[_Choice]


class _Text(msgspec.Struct):
    prompt: str


Answer = TypeVar("Answer", bound=msgspec.Struct)

_FINAL = frozenset({400, 413, 422})
_BUSY = frozenset({401, 403, 404, 408, 429, 502, 503, 504})


class FollowUps:
    """Asks engines.

    Parameters
    ----------
    client
        Connections to them, with timeouts.

    """

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def answer(self, request: FinishedRequest, prompt: list[int], most: int) -> str:
        """Return what the model says after these ids, greedily, in at most `most` tokens.

        Raises
        ------
        FollowUpFailed
            Otherwise.

        """
        asked = {
            "model": request.model,
            "prompt": prompt,
            "max_tokens": most,
            "temperature": 0,
            "vllm_xargs": {"stopper": 0},
        }
        found = await self._ask(request, "/v1/completions", asked, _Completion)
        if len(found.choices) != 1:
            raise FollowUpFailed(f"{len(found.choices)} choices in the completion")
        return found.choices[0].text

    async def text(self, request: FinishedRequest, ids: list[int]) -> str:
        """Return the text of ids.

        Raises
        ------
        FollowUpFailed
            Otherwise.

        """
        if not ids:
            return ""
        asked = {"model": request.model, "tokens": ids}
        found = await self._ask(request, "/detokenize", asked, _Text)
        return found.prompt

    async def healthy(self, request: FinishedRequest) -> bool:
        """Tell whether the request's engine takes requests at all."""
        try:
            found = await self._client.get(
                f"{request.upstream}/health", headers=_headers(request), timeout=HEALTH_S
            )
        except httpx.HTTPError:
            return False
        return found.status_code == 200

    async def _ask(
        self, request: FinishedRequest, path: str, body: Mapping[str, Any], kind: type[Answer]
    ) -> Answer:
        headers = {**_headers(request), "content-type": "application/json"}
        try:
            response = await self._client.post(
                request.upstream + path, content=msgspec.json.encode(body), headers=headers
            )
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            busy = isinstance(error, httpx.TimeoutException)
            raise FollowUpFailed(f"{path}: {type(error).__name__}", busy=busy) from None
        status = response.status_code
        if status != 200:
            raise FollowUpFailed(
                f"{path}: status {status}", final=status in _FINAL, busy=status in _BUSY
            )
        try:
            return msgspec.json.decode(response.content, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise FollowUpFailed(f"{path}: {error}") from None


def _headers(request: FinishedRequest) -> dict[str, str]:
    return dict(request.upstream_headers)
