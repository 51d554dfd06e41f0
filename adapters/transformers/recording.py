"""Full decodes, recorded step by step: the table from which a halting rule is calibrated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import transformers
from tqdm import tqdm

from adapters.transformers.generation import Pass, decode
from adapters.transformers.judges import Judge, TokenJudge
from adapters.transformers.model import DiffusionLM
from adapters.transformers.requests import Decoded, Request
from adapters.transformers.sampler import Sampler
from calibration.denoising_table import COLUMNS, NO, UNKNOWN, YES, DenoisingTable
from stopper.errors import InputError


def record(
    model: DiffusionLM,
    requests: Sequence[Request],
    sampler: Sampler,
    judge: Judge | None = None,
    *,
    batch_size: int = 16,
    progress: bool = False,
) -> DenoisingTable:
    """Decode every request to its end and tell what halting at each step would have given.

    To record many, call this for some at a time and keep the tables with
    :func:`calibration.denoising_store.append_part`; tables of one setting can be put together.

    Parameters
    ----------
    model, requests, sampler, batch_size
        See :func:`adapters.transformers.generation.decode`. Every request needs a name.
    judge
        What an answer is; None compares tokens up to the first end token. It is asked for the
        last block that had a mask: an earlier block agrees only if all its tokens are those of the
        full decode, since what follows depends on each of them.
    progress
        Whether to draw a progress bar.

    Returns
    -------
    DenoisingTable
        All eight signals. ``correct`` is known where a request has a gold answer, and, before the
        last block, only where halting agrees with the full decode.

    Raises
    ------
    InputError
        If there is no request, a name is missing or occurs twice, or a canvas has no mask.

    """
    names = [request.name for request in requests]
    if not names:
        raise InputError("no request to record; give at least one prompt")
    if len(set(names)) < len(names) or "" in names:
        raise InputError("every request to be recorded needs a name of its own")
    judge = TokenJudge(model.end_ids) if judge is None else judge
    traces = [_Trace() for _ in requests]
    with tqdm(total=len(requests), unit="prompt", disable=not progress) as bar:

        def watch(seen: Pass) -> None:
            filled = seen.filled.cpu().numpy()
            for place, index in enumerate(seen.requests):
                traces[index].add(seen, place, filled[place])

        def done(index: int, result: Decoded) -> None:
            if not traces[index].rows:
                raise InputError(f"request {names[index]!r}: its canvas has no mask to fill in")
            traces[index].close(result, requests[index], sampler, judge)
            bar.update()

        decode(model, requests, sampler, batch_size=batch_size, watch=watch, done=done)
    return _table(traces, requests, settings(model, sampler))


def settings(model: DiffusionLM, sampler: Sampler) -> dict[str, Any]:
    """Return what recorded decodes are of, as a table keeps it."""
    found: dict[str, Any] = {
        "sampler": {**sampler.spec().model_dump(mode="json"), "progress": sampler.progress},
        "engine": f"transformers {transformers.__version__}, torch {torch.__version__}",
    }
    if model.fingerprint is not None:
        found["model"] = model.fingerprint.model_dump(mode="json")
    return found


@dataclass(slots=True)
class _Row:
    """One step of one request."""

    block: int
    progress: np.float32
    signals: npt.NDArray[np.float32]
    changed: bool
    filled: npt.NDArray[np.int64]
    agree: bool = False
    correct: int = UNKNOWN


@dataclass(slots=True)
class _Trace:
    """The steps of one request, in order."""

    rows: list[_Row] = field(default_factory=list)

    def add(self, seen: Pass, place: int, filled: npt.NDArray[np.int64]) -> None:
        self.rows.append(
            _Row(
                int(seen.blocks[place]),
                seen.progress[place],
                seen.signals[place].copy(),
                bool(seen.changed[place]),
                filled.copy(),
            )
        )

    def close(self, result: Decoded, request: Request, sampler: Sampler, judge: Judge) -> None:
        """Judge every step, now that the end is known; most steps give a canvas seen before."""
        full, spans = result.tokens, sampler.blocks()
        last = self.rows[-1].block
        known: dict[tuple[int, ...], tuple[bool, int]] = {
            full: (True, _right(judge, full, request))
        }
        for row in self.rows:
            start, end = spans[row.block]
            tokens = (*full[:start], *row.filled[: end - start].tolist(), *full[end:])
            if tokens not in known and row.block == last:
                known[tokens] = (judge.same(tokens, full), _right(judge, tokens, request))
            row.agree, row.correct = known.get(tokens, (False, UNKNOWN))


def _right(judge: Judge, tokens: Sequence[int], request: Request) -> int:
    found = None if request.gold is None else judge.right(tokens, request.gold)
    return UNKNOWN if found is None else YES if found else NO


def _table(
    traces: Sequence[_Trace], requests: Sequence[Request], settings: dict[str, Any]
) -> DenoisingTable:
    rows = [row for trace in traces for row in trace.rows]
    blocks = [
        [row.block for row in trace.rows].count(number)
        for trace in traces
        for number in sorted({row.block for row in trace.rows})
    ]
    counts = [len({row.block for row in trace.rows}) for trace in traces]
    return DenoisingTable(
        signals=COLUMNS,
        values=np.stack([row.signals for row in rows]).astype(np.float32),
        progress=np.array([row.progress for row in rows], dtype=np.float32),
        changed=np.array([row.changed for row in rows], dtype=np.bool_),
        agree=np.array([row.agree for row in rows], dtype=np.bool_),
        correct=np.array([row.correct for row in rows], dtype=np.int8),
        block_offsets=np.cumsum([0, *blocks]).astype(np.int64),
        trace_offsets=np.cumsum([0, *counts]).astype(np.int64),
        trace_ids=tuple(request.name for request in requests),
        groups=tuple(request.group or request.name for request in requests),
        levels=tuple(request.level for request in requests),
        settings=settings,
    )
