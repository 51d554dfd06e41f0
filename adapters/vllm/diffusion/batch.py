"""Finds the watched requests among a step's logit rows, and keeps that until the batch changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from adapters.vllm.diffusion.decision import Rows
from stopper.halting import HaltingRule


@dataclass(frozen=True, slots=True)
class Watched:
    """What a request under watch is judged by; `steps` is its own cap on denoising steps."""

    request_id: str
    steps: int
    level: np.float32
    stops: bool


class Batches:
    """Turns vLLM's batch into :class:`Rows`.

    Parameters
    ----------
    rule
        Of all requests; levels are their own.
    device
        Of the logits.

    """

    def __init__(self, rule: HaltingRule, device: torch.device) -> None:
        self._rule = rule
        self._device = device
        self._tables: dict[int, npt.NDArray[np.float32]] = {}
        self._key: object = None
        self._last: tuple[list[Watched], Rows] | None = None

    def rows(
        self,
        request_ids: Sequence[str],
        slots: npt.NDArray[np.integer],
        counts: npt.NDArray[np.integer],
        find: Callable[[str], Watched | None],
    ) -> tuple[list[Watched], Rows] | None:
        """Return the watched requests of this step and their rows; None if there are none.

        Parameters
        ----------
        request_ids, slots, counts
            Of the batch: each request's id, vLLM's slot and number of logit rows (0 while its
            prompt is being read).
        find
            The request of an id; None where it is not under watch.

        """
        found = [find(request_id) for request_id in request_ids]
        key = (tuple(map(id, found)), slots.tobytes(), counts.tobytes())
        if key != self._key:
            self._last = self._build(found, slots, counts)
            self._key = key
        return self._last

    def _build(
        self,
        found: list[Watched | None],
        slots: npt.NDArray[np.integer],
        counts: npt.NDArray[np.integer],
    ) -> tuple[list[Watched], Rows] | None:
        ends = np.cumsum(counts)
        chosen = [n for n, one in enumerate(found) if one is not None and counts[n] > 0]
        watched = [one for n in chosen if (one := found[n]) is not None]
        if not watched:
            return None
        runs: list[slice] = []
        for n in chosen:
            start, end = int(ends[n] - counts[n]), int(ends[n])
            if runs and runs[-1].stop == start:
                runs[-1] = slice(runs[-1].start, end)
            else:
                runs.append(slice(start, end))
        lengths = counts[chosen].astype(np.int64)
        firsts = np.cumsum(lengths) - lengths
        positions = np.arange(int(lengths.max()))
        valid = positions < lengths[:, np.newaxis]
        at = np.where(valid, firsts[:, np.newaxis] + positions, 0)
        most = max(one.steps for one in watched)
        table = np.stack([self._table(one.steps, most) for one in watched])
        return watched, Rows(
            runs=tuple(runs),
            at=self._send(at),
            valid=self._send(valid),
            slots=self._send(slots[chosen].astype(np.int64)),
            table=self._send(table),
            levels=self._send(np.array([one.level for one in watched], dtype=np.float32)),
            stops=self._send(np.array([one.stops for one in watched], dtype=np.bool_)),
        )

    def _table(self, steps: int, most: int) -> npt.NDArray[np.float32]:
        table = self._tables.get(steps)
        if table is None:
            table = self._tables[steps] = self._rule.thresholds(steps)
        return np.pad(table, (0, most - steps), mode="edge")

    def _send(self, array: npt.NDArray[np.generic]) -> torch.Tensor:
        found = torch.from_numpy(np.ascontiguousarray(array))
        if self._device.type != "cuda":
            return found.to(self._device)
        return found.pin_memory().to(self._device, non_blocking=True)
