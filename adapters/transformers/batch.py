"""The rows being decoded together: they come, advance and leave, each for itself."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch

from adapters.transformers.model import DiffusionLM
from adapters.transformers.requests import Decoded
from adapters.transformers.sampler import Sampler, share
from stopper.halting import progress_at


@dataclass(frozen=True, slots=True)
class Block:
    """A block of one row that has something to fill in.

    Attributes
    ----------
    number
        Among all blocks of the canvas.
    start, end
        Its positions in the canvas.
    masks, planned
        Masks at its start, and the steps they are to take.

    """

    number: int
    start: int
    end: int
    masks: int
    planned: int


@dataclass(slots=True)
class Row:
    """Where one request stands. `step` counts from 0 within the block at hand.

    Parameters
    ----------
    index
        Of the request.
    prompt
        Its tokens.
    canvas
        Its canvas as it starts out.
    sampler, mask
        The setting, and the mask token.

    """

    index: int
    prompt: Sequence[int]
    canvas: Sequence[int]
    sampler: Sampler
    mask: int
    step: int = 0
    blocks: list[Block] = field(init=False)
    _done: list[tuple[Block, int, bool, float]] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        self.blocks = []
        for number, (start, end) in enumerate(self.sampler.blocks()):
            masks = sum(token == self.mask for token in self.canvas[start:end])
            if masks:
                self.blocks.append(Block(number, start, end, masks, self.sampler.planned(masks)))

    @property
    def finished(self) -> bool:
        """Whether all blocks are filled in."""
        return len(self._done) == len(self.blocks)

    @property
    def block(self) -> Block:
        """The block at hand."""
        return self.blocks[len(self._done)]

    @property
    def progress(self) -> float:
        """At this step, in the sampler's scope."""
        if self.sampler.progress == "block":
            return progress_at(self.step, self.block.planned)
        before = sum(block.planned for block in self.blocks[: len(self._done)])
        return progress_at(before + self.step, sum(block.planned for block in self.blocks))

    @property
    def share(self) -> int:
        """How many masks this step fills in."""
        return share(self.block.masks, self.block.planned, self.step)

    def advance(self, filled: bool, halted: bool, score: float) -> None:
        """Count a pass, and go on to the next block where this one has no mask left."""
        self.step += 1
        if filled:
            self._done.append((self.block, self.step, halted, score))
            self.step = 0

    def result(self, canvas: Iterable[int]) -> Decoded:
        """Tell what became of a finished row."""
        count = len(self.sampler.blocks())
        steps, planned = [0] * count, [0] * count
        halts, scores = [False] * count, [float("nan")] * count
        for block, used, halted, score in self._done:
            steps[block.number], planned[block.number] = used, block.planned
            halts[block.number], scores[block.number] = halted, score
        return Decoded(tuple(canvas), tuple(steps), tuple(planned), tuple(halts), tuple(scores))


class Batch:
    """The tokens of the rows at hand, on the device; prompts are padded on the left.

    Attributes
    ----------
    rows
        In the order of the tensors' first dimension.
    tokens, valid
        int64 and bool [rows, width], width being the longest prompt and the canvas.
    memory
        Tensors [rows, ...] that a step leaves to the next one; a new row's are zeros.

    """

    def __init__(self, model: DiffusionLM, sampler: Sampler) -> None:
        self.model = model
        self.length = sampler.canvas_length
        self.width = sampler.width
        self.rows: list[Row] = []
        self.tokens = torch.zeros((0, self.length), dtype=torch.long, device=model.device)
        self.valid = torch.ones((0, self.length), dtype=torch.bool, device=model.device)
        self.memory: dict[str, torch.Tensor] = {}

    @property
    def canvas(self) -> torch.Tensor:
        """The canvases, int64 [rows, canvas_length]; a view."""
        return self.tokens[:, self.tokens.shape[1] - self.length :]

    def admit(self, rows: Sequence[Row]) -> None:
        """Let rows in behind the others."""
        if not rows:
            return
        lengths = [len(row.prompt) for row in [*self.rows, *rows]]
        self._fit(max(lengths))
        width, mask = self.tokens.shape[1], self.model.mask_token_id
        pads = [width - self.length - len(row.prompt) for row in rows]
        tokens = [
            [*([mask] * pad), *row.prompt, *row.canvas] for pad, row in zip(pads, rows, strict=True)
        ]
        device = self.model.device
        new = torch.tensor(tokens, dtype=torch.long, device=device)
        padding = torch.tensor(pads, device=device)
        valid = torch.arange(width, device=device) >= padding[:, None]
        self.tokens = torch.cat([self.tokens, new])
        self.valid = torch.cat([self.valid, valid])
        self.memory = {
            name: torch.cat([kept, kept.new_zeros((len(rows), *kept.shape[1:]))])
            for name, kept in self.memory.items()
        }
        self.rows.extend(rows)

    def release(self) -> list[tuple[Row, Decoded]]:
        """Let finished rows out, and return them with their results."""
        out = [place for place, row in enumerate(self.rows) if row.finished]
        if not out:
            return []
        canvases = self.canvas[out].tolist()
        done = [(self.rows[place], canvas) for place, canvas in zip(out, canvases, strict=True)]
        stay = [place for place, row in enumerate(self.rows) if not row.finished]
        self.rows = [self.rows[place] for place in stay]
        self.tokens, self.valid = self.tokens[stay], self.valid[stay]
        self.memory = {name: kept[stay] for name, kept in self.memory.items()}
        self._fit(max((len(row.prompt) for row in self.rows), default=0))
        return [(row, row.result(canvas)) for row, canvas in done]

    def _fit(self, longest: int) -> None:
        """Cut or add padding on the left, so that the longest prompt just fits."""
        missing = longest + self.length - self.tokens.shape[1]
        if missing > 0:
            shape = (len(self.tokens), missing)
            mask = self.model.mask_token_id
            self.tokens = torch.cat([self.tokens.new_full(shape, mask), self.tokens], dim=1)
            self.valid = torch.cat([self.valid.new_zeros(shape), self.valid], dim=1)
        elif missing < 0:
            self.tokens, self.valid = self.tokens[:, -missing:], self.valid[:, -missing:]
