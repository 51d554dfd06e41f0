"""Generates with an offline engine: full traces with their cues, and answers forced at them."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from probes.provenance import Closing

if TYPE_CHECKING:
    from vllm import LLM


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a model is sampled; one seed a request, derived from its name and `seed`."""

    temperature: float
    top_p: float
    top_k: int
    max_tokens: int
    seed: int

    def params(self, name: str, mode: int | str, **changes: Any) -> Any:
        """Return vLLM's `SamplingParams` for the request of this name.

        Requests need different seeds: with one for all, their noise would be identical.
        """
        from vllm import SamplingParams

        digest = hashlib.sha256(f"{self.seed}/{name}".encode()).digest()
        fields = {
            "temperature": self.temperature,
            "top_p": self.top_p,
            "top_k": self.top_k,
            "max_tokens": self.max_tokens,
            "seed": int.from_bytes(digest[:4], "big"),
            "skip_special_tokens": False,
            "extra_args": {"stopper": mode},
        }
        return SamplingParams(**{**fields, **changes})


@dataclass(frozen=True, slots=True)
class SeenCue:
    """A cue in a generated trace: output tokens up to and including it, and what was read there."""

    position: int
    label: int
    score: float
    hidden: npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Forced:
    """An answer forced at a cue, and the mean log-probability of its tokens where known."""

    token_ids: list[int]
    logprob: float | None


@dataclass(frozen=True, slots=True)
class Generated:
    """One finished request.

    `cues` is filled where the engine keeps hidden states; `logprob`, the mean over the output
    tokens, where it was asked for.
    """

    request_id: str
    prompt_ids: list[int]
    output_ids: list[int]
    text: str
    finish_reason: str
    thinking_tokens: int
    cues: tuple[SeenCue, ...] = ()
    logprob: float | None = None


def thinking_tokens(output_ids: Sequence[int], end_ids: Sequence[int]) -> int:
    """Count output tokens before the end of thinking; all of them if it never ends."""
    first, width = end_ids[0], len(end_ids)
    for at, token in enumerate(output_ids):
        if token == first and list(output_ids[at : at + width]) == list(end_ids):
            return at
    return len(output_ids)


def progress_bar(title: str) -> Callable[..., Any]:
    """Make vLLM's bar of finished requests bear this title.

    vLLM asks for a bar twice: while it reads the prompts, which is short, and while it generates.
    """
    from tqdm import tqdm

    def bar(*args: Any, desc: str = "", **options: Any) -> Any:
        reading = not desc.startswith("Processed")
        return tqdm(*args, desc=title, leave=False, disable=reading, **options)

    return bar


def generate(
    llm: LLM, prompts: Sequence[list[int]], params: Sequence[Any], end_ids: Sequence[int],
    title: str | None = None,
) -> list[Generated]:  # fmt: skip
    """Run requests and gather their outputs with the cues that the engine saw, in order.

    With a title, a progress bar counts the finished ones on a terminal.
    """
    inputs: Any = [{"prompt_token_ids": ids} for ids in prompts]
    # vLLM divides by the time that a bar measured: one that is switched off would break it.
    shown = progress_bar(title) if title is not None and sys.stderr.isatty() else False
    outputs = llm.generate(inputs, list(params), use_tqdm=shown)
    seen = _collected(llm)
    results = []
    for output in outputs:
        completion = output.outputs[0]
        prompt_ids = list(output.prompt_token_ids or ())
        output_ids = list(completion.token_ids)
        total = completion.cumulative_logprob
        results.append(
            Generated(
                request_id=output.request_id,
                prompt_ids=prompt_ids,
                output_ids=output_ids,
                text=completion.text,
                finish_reason=str(completion.finish_reason),
                thinking_tokens=thinking_tokens(output_ids, end_ids),
                logprob=None if total is None or not output_ids else total / len(output_ids),
                cues=tuple(
                    SeenCue(position - len(prompt_ids) + 1, label, score, hidden)
                    for position, label, score, hidden in seen.get(output.request_id, ())
                    # A cue on the very last token was sampled but never fed: none is seen there.
                ),
            )
        )
    return results


_Row = tuple[int, int, float, npt.NDArray[np.float32]]


def _collected(llm: LLM) -> dict[str, list[_Row]]:
    found: dict[str, list[_Row]] = {}
    for rank in llm.collective_rpc("stopper_collected"):
        for request_id, positions, labels, scores, hidden in rank:
            rows = np.frombuffer(hidden, dtype=np.float32)
            rows = rows.reshape(len(positions), -1) if positions else rows.reshape(0, 1)
            found[outer_id(request_id)] = list(zip(positions, labels, scores, rows, strict=True))
    return found


def outer_id(request_id: str) -> str:
    """Return the id that the caller knows: the engine appends a dash and eight characters."""
    return request_id.rsplit("-", 1)[0]


def force_answers(
    llm: LLM, traces: Sequence[Generated], closing: Closing, sampling: Sampling
) -> list[list[Forced]]:
    """Close every trace at each of its cues and let the model answer.

    Token ids are spliced, never decoded and encoded again. The cues of a trace go in order of
    position: each prompt extends what the prefix cache holds already.

    Returns
    -------
    Per trace, per cue: what was generated after the closing.

    """
    tail = [*closing.end_ids, *closing.answer_prompt_ids]
    prompts, params = [], []
    for number, trace in enumerate(traces):
        for cue in trace.cues:
            prompts.append([*trace.prompt_ids, *trace.output_ids[: cue.position], *tail])
            name = f"forced/{number}/{cue.position}"
            longest = closing.max_answer_tokens
            changes = {"temperature": 0.0, "max_tokens": longest, "logprobs": 0}
            params.append(sampling.params(name, 0, **changes))
    answered = iter(generate(llm, prompts, params, closing.end_ids) if prompts else ())
    found = []
    for trace in traces:
        answers = (next(answered) for _ in trace.cues)
        found.append([Forced(answer.output_ids, answer.logprob) for answer in answers])
    return found
