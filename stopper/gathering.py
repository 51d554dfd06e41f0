"""Whole traces of some prompts in memory, to fit probes on them or to compare probes by them."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from calibration.comparers import get_comparer
from calibration.table import CueTable
from calibration.traces import TraceDataset
from probes.errors import InputError
from probes.events import Trace
from probes.scorers import Scorer
from probes.shaping import shape
from probes.training_traces import TrainingTraces

Label = Literal["agrees", "correct"]

LOSS_OF: dict[Label, str] = {"agrees": "disagree", "correct": "wrong"}
"""The loss that a stop at a cue without the label has."""


@dataclass(frozen=True, eq=False)
class Gathered:
    """Whole traces, and what was passed over.

    Attributes
    ----------
    hidden
        float32 [n, width of the layers], cue by cue.
    layers
        Whose hidden states lie side by side.
    table
        The traces; its scores mean nothing.
    traces, cues
        Of the prompts asked for, before any were left out.
    without_cues
        Traces without a cue: nothing can be learnt from them.
    left_out
        Traces left out to bound memory.

    """

    hidden: npt.NDArray[np.float32]
    layers: tuple[int, ...]
    table: CueTable
    label: Label
    traces: int
    cues: int
    without_cues: int
    left_out: int

    @property
    def labels(self) -> npt.NDArray[np.int8]:
        """1 where stopping is good, 0 where it is bad, -1 unknown; int8 [n]."""
        return self.table.agrees if self.label == "agrees" else self.table.correct

    @property
    def unlabelled(self) -> int:
        """Cues kept without the label."""
        return int((self.labels < 0).sum())

    def columns(self, layers: Sequence[int]) -> npt.NDArray[np.float32]:
        """Return the hidden states of some of the layers; float32 [n, their width]."""
        if tuple(layers) == self.layers:
            return self.hidden
        width = self.hidden.shape[1] // len(self.layers)
        places = [self.layers.index(layer) * width for layer in layers]
        return np.concatenate([self.hidden[:, at : at + width] for at in places], axis=1)

    def training(self, layers: Sequence[int]) -> TrainingTraces:
        """Return the traces in the form that probes are fitted on."""
        table = self.table
        return TrainingTraces(
            hidden=self.columns(layers),
            offsets=table.offsets,
            labels=self.labels,
            costs=table.positions / table.tokens[table.rows],
            groups=np.array(list(table.groups)),
        )

    def scored(self, scorer: Scorer) -> CueTable:
        """Score the traces with a probe, shaping included, as calibration and the engine do."""
        hidden, ends = self.columns(scorer.spec.layers), self.table.offsets
        parts = [shape(scorer.score(hidden[low:high]), scorer.spec) for low, high in pairwise(ends)]
        return self.table.with_scores(np.concatenate(parts))


def gather(
    dataset: TraceDataset,
    layers: Sequence[int],
    groups: Collection[str],
    *,
    label: Label,
    seed: int,
    max_cues: int,
    what: str = "training",
) -> Gathered:
    """Read the traces of some prompts, with hidden states and labels.

    Memory holds one part of the store and at most ``max_cues`` cues; where there are more, whole
    traces are drawn at random.

    Raises
    ------
    InputError
        If there is no cue, none with the label, or not one trace fits into ``max_cues``.

    """
    columns, wanted = dataset.meta.columns(layers), frozenset(groups)
    rng, comparer = np.random.default_rng(seed), get_comparer(dataset.meta.comparer)
    # The traces with the smallest random keys stay: a max-heap on the key.
    kept: list[tuple[float, int, Trace, npt.NDArray[np.float32]]] = []
    traces = cues = held = without = 0
    bar = tqdm(dataset, total=len(dataset), desc=f"reading {what} traces", unit="trace")
    for record in bar:
        if record.group not in wanted:
            continue
        count = len(record.cues)
        traces, cues, without = traces + 1, cues + count, without + (not count)
        trace = record.scored(np.zeros(count), comparer)
        entry = (-rng.random(), traces, trace, record.hidden[:, columns])
        heapq.heappush(kept, entry)
        held += count
        while held > max_cues:
            held -= len(heapq.heappop(kept)[2].cues)
    if not cues:
        raise InputError(
            f"{dataset.folder}: no cue in any of the {traces} {what} traces. Collect with other "
            "cue words, --every or --paragraph"
        )
    if not held:
        raise InputError(
            f"--max-cues {max_cues}: not one of the {traces} {what} traces has so few cues. "
            "Raise it"
        )
    kept.sort(key=lambda entry: entry[1])
    found = Gathered(
        hidden=np.concatenate([entry[3] for entry in kept]),
        layers=tuple(layers),
        table=CueTable.from_traces(entry[2] for entry in kept),
        label=label,
        traces=traces,
        cues=cues,
        without_cues=without,
        left_out=traces - len(kept),
    )
    if found.unlabelled == found.table.n_cues:
        raise InputError(
            f"{dataset.folder}: none of the {found.table.n_cues} cues has the label {label!r}. "
            + (
                "Collect prompts with gold answers, or train with --label agrees"
                if label == "correct"
                else "Collect with forced answers"
            )
        )
    return found
