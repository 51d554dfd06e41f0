"""Greedy decoding of masked diffusion models, halted row by row.

All rows of a batch take one denoising step together and are else on their own: each has its own
block, step, progress and level. A row whose canvas is full leaves, the next request takes its
place, and the batch shrinks once none is waiting. Without a KV cache, as the methods are published.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from adapters.transformers.batch import Batch, Row
from adapters.transformers.model import DiffusionLM
from adapters.transformers.requests import Decoded, Request, canvas_of
from adapters.transformers.sampler import Sampler, Threshold
from adapters.transformers.unmasking import Reading, divergence, first, read
from calibration.denoising_table import COLUMNS
from probes import torch_margins
from probes.margins import REGIONS, SIGNALS
from stopper.errors import InputError
from stopper.halting import HaltingRule


@dataclass(frozen=True, eq=False)
class Pass:
    """One forward pass over the rows at hand, for whoever watches.

    Attributes
    ----------
    requests, blocks, steps
        int [rows]: which request, which block of its canvas, which step of the block (from 0).
    progress
        float32 [rows].
    signals
        float32 [rows, 8], in the order of :data:`calibration.denoising_table.COLUMNS`.
    changed
        bool [rows], a masked position's argmax differs from the step before.
    filled
        int64 [rows, positions], the block if it were halted here; positions beyond its end are of
        no meaning. On the device.
    ended
        bool [rows], the block has no mask left after this pass.
    canvas
        int64 [rows, canvas_length], after this pass. On the device.

    """

    requests: npt.NDArray[np.int64]
    blocks: npt.NDArray[np.int64]
    steps: npt.NDArray[np.int64]
    progress: npt.NDArray[np.float32]
    signals: npt.NDArray[np.float32]
    changed: npt.NDArray[np.bool_]
    filled: torch.Tensor
    ended: npt.NDArray[np.bool_]
    canvas: torch.Tensor


def decode(
    model: DiffusionLM,
    requests: Sequence[Request],
    sampler: Sampler,
    *,
    rule: HaltingRule | None = None,
    level: float | Sequence[float] = 0.0,
    batch_size: int = 16,
    watch: Callable[[Pass], None] | None = None,
    done: Callable[[int, Decoded], None] | None = None,
) -> list[Decoded]:
    """Fill in the canvas of every request.

    Parameters
    ----------
    model
        See :func:`adapters.transformers.checkpoints.load`.
    requests
        Prompts may differ in length; their order is that of the results.
    sampler
        How it is done.
    rule
        When a block is halted: at its first step whose score is above the level, strictly. All its
        masks are then filled in with the argmax of that very pass. None decodes to the end.
    level
        Of all requests, or one of each; 0 is the rule as it stands.
    batch_size
        Rows in a forward pass, at most.
    watch
        Called after every pass. It costs the signals, which are else computed only if the rule
        reads them.
    done
        Called with a request's index and result as soon as it has left the batch.

    Returns
    -------
    list of Decoded
        A canvas without a mask is returned as it is, after no pass.

    Raises
    ------
    InputError
        If a request does not fit (see :func:`adapters.transformers.requests.canvas_of`), the batch
        has no row, or levels are NaN or not one for each request.

    Notes
    -----
    Where logits are NaN a position is filled in last, by no token in particular, and no rule halts.

    A network's results may differ in the last bits with the size of the batch and the padding, as
    matrices are multiplied in another order. That decides only where positions, or a score and its
    level, are that close: with a canvas of masks alone and no prompt, for example, where all
    positions are alike.

    """
    if batch_size < 1:
        raise InputError(f"batch_size must be at least 1; got {batch_size}")
    levels = np.asarray(level, dtype=np.float32)
    if levels.ndim and levels.shape != (len(requests),):
        raise InputError(f"{levels.size} levels for {len(requests)} requests; give one or one each")
    if np.isnan(levels).any():
        raise InputError("a level is NaN; give a number, or infinity to halt nothing")
    levels = np.broadcast_to(levels, (len(requests),))
    waiting: deque[Row] = deque()
    results: dict[int, Decoded] = {}
    for index, request in enumerate(requests):
        canvas = canvas_of(request, model, sampler)
        waiting.append(Row(index, request.prompt, canvas, sampler, model.mask_token_id))
    batch = Batch(model, sampler)
    decoder = _Decoder(batch, sampler, rule, levels, watch)
    while waiting or batch.rows:
        room = min(batch_size - len(batch.rows), len(waiting))
        batch.admit([waiting.popleft() for _ in range(room)])
        _release(batch, results, done)  # such as came without a mask
        if batch.rows:
            decoder.step()
            _release(batch, results, done)
    return [results[index] for index in range(len(requests))]


def _release(
    batch: Batch, results: dict[int, Decoded], done: Callable[[int, Decoded], None] | None
) -> None:
    for row, result in batch.release():
        results[row.index] = result
        if done is not None:
            done(row.index, result)


class _Decoder:
    """One denoising step of a batch after the other."""

    def __init__(
        self,
        batch: Batch,
        sampler: Sampler,
        rule: HaltingRule | None,
        levels: npt.NDArray[np.float32],
        watch: Callable[[Pass], None] | None,
    ) -> None:
        self.batch = batch
        self.sampler = sampler
        self.rule = rule
        self.levels = levels
        self.watch = watch
        self.place = torch.arange(batch.width, device=batch.model.device)

    def step(self) -> None:
        """Run the model once, fill in what is due and let every row advance."""
        batch, rows = self.batch, self.batch.rows
        numbers = [(row.block.start, row.block.end, row.share, row.step) for row in rows]
        start, end, share, step = torch.tensor(numbers, device=batch.model.device).T
        inside = self.place < (end - start)[:, None]
        positions = (start[:, None] + self.place).clamp(max=batch.length - 1)
        block = batch.canvas.gather(1, positions)
        masked = inside & (block == batch.model.mask_token_id)

        offset = batch.tokens.shape[1] - batch.length
        logits = batch.model.logits(batch.tokens, batch.valid, positions + offset)
        reading = read(logits, self.sampler.order)
        filled = torch.where(masked, reading.top, block)
        chosen = self._chosen(logits, reading, masked, share, step == 0)
        left = masked.sum(1) - chosen.sum(1)
        signals, changed = self._signals(logits, reading.top, masked, inside, step == 0)
        # The one wait for the device in a step: all that the host decides from.
        seen = torch.cat([signals, torch.stack([changed, left], dim=1)], dim=1).cpu().numpy()

        progress = np.array([row.progress for row in rows], dtype=np.float32)
        scores, halts = self._halts(seen, progress)
        ended = halts | (seen[:, -1] == 0)
        whole = torch.from_numpy(ended).to(filled.device)[:, None]
        new = torch.where(chosen | whole, filled, block)
        # Beyond the end of a short block all positions are its last: they must agree on what to
        # write there.
        new = torch.where(inside, new, new.gather(1, (end - start - 1)[:, None]))
        batch.canvas.scatter_(1, positions, new)
        if self.watch is not None:
            self._tell(seen, progress, filled, ended)
        for place, row in enumerate(rows):
            halted = bool(halts[place] and seen[place, -1] > 0)
            row.advance(bool(ended[place]), halted, float(scores[place]))

    def _chosen(
        self,
        logits: torch.Tensor,
        reading: Reading,
        masked: torch.Tensor,
        share: torch.Tensor,
        fresh: torch.Tensor,
    ) -> torch.Tensor:
        """Choose what is filled in: all that are ready, and others up to the step's share."""
        ready = masked & self._ready(logits, reading, fresh)
        missing = (share - ready.sum(1)).clamp(min=0)
        return ready | first(reading.rank, masked & ~ready, missing)

    def _ready(self, logits: torch.Tensor, reading: Reading, fresh: torch.Tensor) -> torch.Tensor:
        parallel, memory = self.sampler.parallel, self.batch.memory
        if parallel is None:
            return torch.zeros_like(reading.top, dtype=torch.bool)
        if isinstance(parallel, Threshold):
            return reading.probability >= parallel.probability
        now = logits.to(torch.float32).log_softmax(-1)
        calm = torch.zeros_like(reading.top)
        if "now" in memory:
            still = divergence(now, memory["now"]) < parallel.divergence
            calm = torch.where(still & ~fresh[:, None], memory["calm"] + 1, 0)
        memory["now"], memory["calm"] = now, calm
        return (reading.probability > parallel.probability) & (calm >= parallel.history)

    def _signals(
        self,
        logits: torch.Tensor,
        top: torch.Tensor,
        masked: torch.Tensor,
        inside: torch.Tensor,
        fresh: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the signals somebody reads, float32 [rows, signals], and which rows changed."""
        if self.watch is None and self.rule is None:
            return logits.new_zeros((len(top), 0), dtype=torch.float32), torch.zeros_like(fresh)
        memory = self.batch.memory
        changed = fresh | torch_margins.argmax_changed(top, memory.get("top", top), masked)
        memory["top"] = top
        margins = torch_margins.top2_margins(logits)
        regions = {"masked": masked, "span": inside}
        if self.watch is None and self.rule is not None:
            wanted = [(self.rule.region, self.rule.aggregate)]
        else:
            wanted = [(region, how) for region in REGIONS for how in SIGNALS]
        columns = [torch_margins.aggregate(margins, regions[name], how) for name, how in wanted]
        return torch.stack(columns, dim=1), changed

    def _halts(
        self, seen: npt.NDArray[np.float32], progress: npt.NDArray[np.float32]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
        """Return each row's score, and whether it is above the row's level."""
        if self.rule is None:
            return np.full(len(seen), np.nan, np.float32), np.zeros(len(seen), np.bool_)
        column = 0 if self.watch is None else COLUMNS.index(self.rule.signal)
        scores = self.rule.scores(seen[:, column], progress, seen[:, -2] != 0)
        return scores, scores > self.levels[[row.index for row in self.batch.rows]]

    def _tell(
        self,
        seen: npt.NDArray[np.float32],
        progress: npt.NDArray[np.float32],
        filled: torch.Tensor,
        ended: npt.NDArray[np.bool_],
    ) -> None:
        rows = self.batch.rows
        assert self.watch is not None
        self.watch(
            Pass(
                requests=np.array([row.index for row in rows]),
                blocks=np.array([row.block.number for row in rows]),
                steps=np.array([row.step for row in rows]),
                progress=progress,
                signals=seen[:, :-2],
                changed=seen[:, -2] != 0,
                filled=filled,
                ended=ended,
                canvas=self.batch.canvas.clone(),
            )
        )
