"""Follows every request's trace on the accelerator: no synchronisation, no branch on data.

The twin of `host_tracker` for GPUs, where reading a token on the host would stall the engine's
asynchronous scheduling. The recurrence is the same: all that is known of a trace after position p
is computed from what was known after p - 1 and written to slot `p mod RING` of a ring, so that
rejected drafts and discarded tokens undo themselves when the position is written again.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from adapters.vllm.stop_thinking import Asked, judge
from probes.torch_network import TorchProbe, shape_scores
from stopper.cues import NEUTRAL_CLASS, CueAutomaton, interval_fires

RING = 64
_NEVER = torch.iinfo(torch.int64).max // 2


@dataclass(frozen=True, slots=True)
class TraceSummary:
    """What the device knows of one trace; positions are absolute, None = never."""

    cues: int
    non_finite: int
    stop_position: int | None
    stop_score: float
    asked: bool
    top_score: float


class DeviceTracker:
    """State of all traces in tensors of [slots + 1, RING]; the last slot swallows unwatched rows.

    Parameters
    ----------
    automaton, probe
        Compiled cues; the probe on `device`.
    rise_weight
        0 for raw scores (`probes.shaping`).
    force_ids
        Token ids that close the thinking and open the answer.
    slots
        Requests watched at once; `grow` adds more.
    device
        Where the engine's tensors live.

    """

    def __init__(
        self,
        automaton: CueAutomaton,
        probe: TorchProbe,
        *,
        rise_weight: float,
        force_ids: tuple[int, ...],
        slots: int,
        device: torch.device,
    ) -> None:
        def table(array: object, dtype: torch.dtype) -> torch.Tensor:
            return torch.as_tensor(array).to(device=device, dtype=dtype)

        self.device = device
        self.trash = slots
        self._probe = probe
        self._weight = rise_weight
        self._class = table(automaton.token_class, torch.int64)
        self._classes = int(automaton.transitions.shape[1])
        self._next = table(automaton.transitions, torch.int64).reshape(-1)
        self._fires = table(automaton.fires > 0, torch.bool).reshape(-1)
        self._inside = table(automaton.inside, torch.bool)
        self._interval = automaton.interval
        self._force = torch.tensor(force_ids, dtype=torch.int64, device=device)

        def ring(fill: float, dtype: torch.dtype) -> torch.Tensor:
            return torch.full((slots + 1, RING), fill, dtype=dtype, device=device)

        self._state = ring(0, torch.int64)
        self._floor = ring(torch.inf, torch.float32)
        self._stop = ring(_NEVER, torch.int64)
        self._stop_score = ring(torch.nan, torch.float32)
        self._asked = ring(False, torch.bool)
        self._top = ring(-torch.inf, torch.float32)
        self._cues = ring(0, torch.int64)
        self._bad = ring(0, torch.int64)
        # `_last` is the newest row; `_certain` the newest that no rejected draft can take back.
        self._last = torch.zeros(slots + 1, dtype=torch.int64, device=device)
        self._certain = torch.zeros(slots + 1, dtype=torch.int64, device=device)
        self._prompt_len = torch.full((slots + 1,), _NEVER, dtype=torch.int64, device=device)
        self._threshold = torch.full((slots + 1,), torch.inf, device=device)
        self._forces = torch.zeros(slots + 1, dtype=torch.bool, device=device)
        self._ends = torch.zeros(slots + 1, dtype=torch.bool, device=device)

    def start(
        self, slot: int, prompt_len: int, state: int, threshold: float, *, forces: bool
    ) -> None:
        """Give a slot to a new request; `state` is the automaton's where the output begins."""
        self._state[slot] = state
        self._floor[slot] = torch.inf
        self._stop[slot] = _NEVER
        self._stop_score[slot] = torch.nan
        self._asked[slot] = False
        self._top[slot] = -torch.inf
        self._cues[slot] = 0
        self._bad[slot] = 0
        self._last[slot] = prompt_len - 1
        self._certain[slot] = prompt_len - 1
        self._prompt_len[slot] = prompt_len
        self._threshold[slot] = threshold
        self._forces[slot] = forces
        self._ends[slot] = False

    def release(self, slot: int) -> None:
        """Stop watching a slot; its rows, if any still come, do nothing."""
        self._threshold[slot] = torch.inf
        self._forces[slot] = False
        self._ends[slot] = False
        self._asked[slot] = False

    def stop_thinking(self, slot: int) -> Asked:
        """See `Watch`; reads the state, and so waits for the steps under way."""
        at = self._certain[slot] % RING
        stop, forced, inside, ends, certain = torch.stack(
            [
                self._stop[slot, at],
                (self._forces[slot] | self._asked[slot, at]).long(),
                self._inside[self._state[slot, at]].long(),
                self._ends[slot].long(),
                self._certain[slot],
            ]
        ).tolist()
        found = judge(
            asked=bool(ends),
            inside=bool(inside),
            since_stop=certain - stop if forced and stop != _NEVER else None,
            closing=self._force.shape[0],
        )
        if found.stays:
            self._ends[slot] = True
        return found

    def grow(self) -> None:
        """Double the number of slots."""
        added = self.trash
        for name, fill in (
            ("_state", 0),
            ("_floor", torch.inf),
            ("_stop", _NEVER),
            ("_stop_score", torch.nan),
            ("_asked", False),
            ("_top", -torch.inf),
            ("_cues", 0),
            ("_bad", 0),
            ("_last", 0),
            ("_certain", 0),
            ("_prompt_len", _NEVER),
            ("_threshold", torch.inf),
            ("_forces", False),
            ("_ends", False),
        ):
            old = getattr(self, name)
            more = torch.full((added, *old.shape[1:]), fill, dtype=old.dtype, device=self.device)
            setattr(self, name, torch.cat([old[:-1], more, old[-1:]]))
        self.trash += added

    def step(
        self,
        slots: torch.Tensor,
        tokens: torch.Tensor,
        positions: torch.Tensor,
        hidden: torch.Tensor,
        *,
        certain: bool = True,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Advance one row of each of several requests.

        Parameters
        ----------
        slots
            int64 [n], distinct but for `trash`; rows not to be watched carry `trash`.
        tokens, positions
            int64 [n]: the token fed and its absolute position.
        hidden
            [n, input_dim]: hidden states at that token.
        certain
            False where the tokens are drafts, which may be rejected yet.

        Returns
        -------
        mask bool [n], tokens int64 [n]
            Where to force, and what.

        """
        before = (positions - 1) % RING
        known = tokens < self._class.shape[0]
        column = torch.where(known, self._class[torch.where(known, tokens, 0)], NEUTRAL_CLASS)
        old = self._state[slots, before]
        entry = old * self._classes + column
        cue = self._fires[entry]
        produced = positions - self._prompt_len[slots] + 1
        output = produced > 0  # the prompt has its say in `start`
        state = torch.where(output, self._next[entry], old)
        if self._interval:
            cue = cue | interval_fires(self._interval, produced, self._inside[state])
        stop = self._stop[slots, before]
        asked = self._asked[slots, before]
        going, forces = stop == _NEVER, self._forces[slots] | asked
        # A marked audit thinks on, and its later cues are part of the profile.
        free = going | ~forces
        ends = self._ends[slots] & self._inside[state] & free  # asked: no look, and no mark stays
        cue = cue & output & free & ~ends

        level = self._probe(hidden)
        low = self._floor[slots, before]
        score, lowered = shape_scores(level, low, self._weight)
        passes = cue & going & (score > self._threshold[slots])  # NaN passes nothing
        stop = torch.where(passes | ends, positions, stop)
        asked, forces = asked | ends, forces | ends
        stop_score = torch.where(passes, score, self._stop_score[slots, before])
        top = self._top[slots, before]
        finite = cue & torch.isfinite(score)

        after = positions % RING
        self._state[slots, after] = state
        self._floor[slots, after] = torch.where(cue, lowered, low)
        self._stop[slots, after] = stop
        self._stop_score[slots, after] = torch.where(ends, torch.nan, stop_score)
        self._asked[slots, after] = asked
        self._top[slots, after] = torch.where(finite, torch.maximum(top, score), top)
        self._cues[slots, after] = self._cues[slots, before] + cue
        self._bad[slots, after] = self._bad[slots, before] + (cue & ~finite)
        self._last[slots] = positions
        if certain:
            self._certain[slots] = positions

        offset = positions - stop
        mask = forces & (offset >= 0) & (offset < self._force.shape[0])
        return mask, self._force[offset.clamp(0, self._force.shape[0] - 1)]

    def pack(self, slot: int) -> torch.Tensor:
        """Return one trace's summary as float64 [6] on the device, to be copied off the step."""
        at = self._last[slot] % RING
        return torch.stack(
            [
                self._cues[slot, at].double(),
                self._bad[slot, at].double(),
                self._stop[slot, at].double(),
                self._stop_score[slot, at].double(),
                self._asked[slot, at].double(),
                self._top[slot, at].double(),
            ]
        )

    @staticmethod
    def unpack(packed: torch.Tensor) -> TraceSummary:
        """Read a summary that has arrived on the host."""
        cues, bad, stop, score, asked, top = packed.tolist()
        return TraceSummary(
            cues=int(cues),
            non_finite=int(bad),
            stop_position=int(stop) if stop < _NEVER / 2 else None,
            stop_score=score,
            asked=bool(asked),
            top_score=top if top > -torch.inf else float("nan"),
        )
