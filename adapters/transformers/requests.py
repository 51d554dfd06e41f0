"""What is asked of the sampler and what comes of it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from adapters.transformers.model import DiffusionLM
from adapters.transformers.sampler import Sampler
from stopper.errors import InputError


@dataclass(frozen=True, slots=True)
class Request:
    """One prompt to be answered on a canvas.

    Attributes
    ----------
    prompt
        Token ids; may be empty. No mask is ever looked for in it.
    canvas
        None for a canvas of masks. Else its tokens, with masks where something is to be filled
        in: the others stay as they are.
    name
        Unique where decodes are recorded.
    group
        The prompt's identity over splits; its name where empty.
    level
        A free label such as "sudoku/easy".
    gold
        The right answer, if known, as the judge reads it.

    """

    prompt: tuple[int, ...]
    canvas: tuple[int, ...] | None = None
    name: str = ""
    group: str = ""
    level: str = ""
    gold: str | None = None


@dataclass(frozen=True, slots=True)
class Decoded:
    """A canvas that has been filled in.

    Attributes
    ----------
    tokens
        The whole canvas, without a mask.
    steps, planned
        Forward passes of each block, run and planned; 0 where it had no mask.
    halted
        For each block, whether a halting rule ended it before its masks ran out.
    scores
        For each block, the rule's score at its last pass; NaN without a rule or without a pass.

    """

    tokens: tuple[int, ...]
    steps: tuple[int, ...]
    planned: tuple[int, ...]
    halted: tuple[bool, ...]
    scores: tuple[float, ...]

    @property
    def passes(self) -> int:
        """Forward passes of all blocks together."""
        return sum(self.steps)


def answer(tokens: Sequence[int], end_ids: Collection[int]) -> tuple[int, ...]:
    """Return a canvas up to its first end token, which is left out; all of it if there is none."""
    for place, token in enumerate(tokens):
        if token in end_ids:
            return tuple(tokens[:place])
    return tuple(tokens)


def canvas_of(request: Request, model: DiffusionLM, sampler: Sampler) -> tuple[int, ...]:
    """Return a request's canvas as it starts out.

    Raises
    ------
    InputError
        If the canvas has not the sampler's length, the prompt holds a mask, a token is outside the
        vocabulary, or prompt and canvas are longer than the model's positions.

    """
    name = f"request {request.name!r}" if request.name else "request"
    mask, length = model.mask_token_id, sampler.canvas_length
    canvas = (mask,) * length if request.canvas is None else request.canvas
    if len(canvas) != length:
        raise InputError(
            f"{name}: its canvas has {len(canvas)} tokens, the sampler's canvas_length is {length}"
        )
    if mask in request.prompt:
        raise InputError(
            f"{name}: the prompt holds the mask token {mask}; what is to be filled in belongs to "
            "the canvas"
        )
    for token in (*request.prompt, *canvas):
        if not 0 <= token < model.vocab_size:
            raise InputError(
                f"{name}: token {token} is outside the vocabulary of {model.vocab_size}; was it "
                "made by another tokenizer?"
            )
    longest = model.max_positions
    if longest is not None and len(request.prompt) + length > longest:
        raise InputError(
            f"{name}: {len(request.prompt)} prompt tokens and a canvas of {length} are more than "
            f"the {longest} positions of the model; shorten either"
        )
    return tuple(canvas)
