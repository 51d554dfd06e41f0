"""Follows every request's trace on the host, token by token.

For CPU engines and for collection. Python objects and one O(1) automaton step a row: a step
without a cue costs about a microsecond a row. `device_tracker` is its twin for GPUs; both
implement one recurrence, in which everything known of a trace after position p is a function of
what was known after p - 1, so that a rejected draft or a discarded token needs no undoing: the
position is simply written again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from adapters.vllm.stop_thinking import Asked, judge
from probes.network import Probe
from stopper.cues import NEUTRAL_CLASS, CueAutomaton

# Positions that a trace can fall back: draft tokens of one step plus tokens in flight.
RING = 64
_MASK = RING - 1


@dataclass(frozen=True, slots=True)
class ScoredCue:
    """A cue seen in a trace. `position` is absolute: prompt tokens count."""

    position: int
    label: int
    level: float
    score: float
    hidden: npt.NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True)
class _Known:
    """What is known of a trace after a position, apart from the automaton's state."""

    floor: float = math.inf
    stop: ScoredCue | None = None
    asked: bool = False


_NOTHING = _Known()


@dataclass(slots=True)
class TrackedRequest:
    """One request under watch.

    `threshold` is float32; +inf watches without ever stopping. `forces` tells whether a stop is
    carried out (mode stop) or only marked (audit, collection). `ends` is set by
    `HostTracker.stop_thinking` and never taken back. `last` is the position of the newest row;
    `certain` that of the newest that no rejected draft can take back.
    """

    request_id: str
    prompt_len: int
    threshold: np.float32
    forces: bool
    states: list[int] = field(default_factory=lambda: [0] * RING)
    known: list[_Known] = field(default_factory=lambda: [_NOTHING] * RING)
    cues: list[ScoredCue] = field(default_factory=list)
    last: int = -1
    certain: int = -1
    ends: bool = False
    failure: str | None = None

    def __post_init__(self) -> None:
        self.certain = self.prompt_len - 2  # where `HostTracker.start` leaves the prompt's state

    @property
    def stop(self) -> ScoredCue | None:
        """Where the trace was, or in an audit would have been, stopped."""
        return self.known[self.last & _MASK].stop if self.last >= 0 else None

    @property
    def asked(self) -> bool:
        """Whether that stop was asked for; its score is NaN then."""
        return self.known[self.last & _MASK].asked if self.last >= 0 else False

    @property
    def top_score(self) -> float:
        """The highest finite score so far; NaN without one."""
        return max((c.score for c in self.cues if math.isfinite(c.score)), default=math.nan)


class HostTracker:
    """Advances requests by the rows of one engine step and says what to force.

    Parameters
    ----------
    automaton
        Compiled cues.
    probe
        None only when collecting: cues are recorded with their hidden states and never scored.
    rise_weight
        0 for raw scores; otherwise score = level + weight * (level - floor), with floor the
        trace's own minimum so far (`probes.shaping`).
    force_ids
        Token ids that close the thinking and open the answer.
    keep_hidden
        Keep each cue's hidden state, float32 [d]; for collection.

    """

    def __init__(
        self,
        automaton: CueAutomaton,
        probe: Probe | None,
        *,
        rise_weight: float,
        force_ids: tuple[int, ...],
        keep_hidden: bool,
    ) -> None:
        self._class = automaton.token_class.tolist()
        self._next = automaton.transitions.tolist()
        self._fires = automaton.fires.tolist()
        self._inside = automaton.inside.tolist()
        self._interval = automaton.interval
        self._interval_label = len(automaton.labels)
        self._prompt_state = automaton.prompt_state
        self._probe = probe
        self._weight = np.float32(rise_weight)
        self._force = force_ids
        self._keep_hidden = keep_hidden
        self.non_finite = 0

    def start(self, request: TrackedRequest, prompt_ids: list[int]) -> None:
        """Set the automaton by the prompt, whose last token the engine feeds first."""
        request.states[(request.prompt_len - 2) & _MASK] = self._prompt_state(prompt_ids)

    def stop_thinking(self, request: TrackedRequest) -> Asked:
        """See `Watch`."""
        if request.failure is not None:
            return Asked("not_watched", request.failure)
        at = request.certain
        known = request.known[at & _MASK]
        forced = known.stop is not None and (request.forces or known.asked)
        found = judge(
            asked=request.ends,
            inside=self._inside[request.states[at & _MASK]],
            since_stop=at - known.stop.position if known.stop is not None and forced else None,
            closing=len(self._force),
        )
        request.ends = request.ends or found.stays
        return found

    def step(
        self,
        rows: Iterable[tuple[int, TrackedRequest, int, int]],
        hidden: Callable[[int], npt.NDArray[np.float32]],
        on_failure: Callable[[TrackedRequest, Exception], None],
    ) -> list[tuple[int, int]]:
        """Advance by one step.

        Parameters
        ----------
        rows
            (row, request, token fed, its absolute position); a request's rows ascend.
        hidden
            row -> float32 [d], called at cues only.
        on_failure
            Told of a fault; the request then goes on unwatched.

        Returns
        -------
        list of (row, token)
            Logit rows whose next token is to be forced.

        """
        forced: list[tuple[int, int]] = []
        before: TrackedRequest | None = None
        for row, request, token, position in rows:
            if request.failure is not None:
                continue
            if request is not before:  # what follows of this request in this step are drafts
                request.certain, before = position, request
            try:
                state = request.states[(position - 1) & _MASK]
                produced = position - request.prompt_len + 1
                label = 0
                if produced > 0:  # the prompt has its say in `start`
                    token_class = self._class[token] if token < len(self._class) else NEUTRAL_CLASS
                    label = self._fires[state][token_class]
                    state = self._next[state][token_class]
                request.states[position & _MASK] = state
                known = request.known[(position - 1) & _MASK]
                if request.cues and request.cues[-1].position >= position:
                    self._forget(request, position)
                if self._interval and not label and self._inside[state] and produced > 0:
                    label = 0 if produced % self._interval else self._interval_label
                # A marked audit thinks on, and its later cues are part of the profile.
                if known.stop is None or not (request.forces or known.asked):
                    if request.ends and self._inside[state]:  # asked: no look, and no mark stays
                        stop = ScoredCue(position, 0, math.nan, math.nan)
                        known = _Known(known.floor, stop, asked=True)
                    elif label:
                        known = self._look(request, known, position, label, hidden(row))
                request.known[position & _MASK] = known
                request.last = position
                if known.stop is not None and (request.forces or known.asked):
                    offset = position - known.stop.position
                    if offset < len(self._force):
                        forced.append((row, self._force[offset]))
            except Exception as error:  # fail open: this request goes on as if unwatched
                request.failure = type(error).__name__
                on_failure(request, error)
        return forced

    @staticmethod
    def _forget(request: TrackedRequest, position: int) -> None:
        while request.cues and request.cues[-1].position >= position:
            request.cues.pop()

    def _look(
        self,
        request: TrackedRequest,
        known: _Known,
        position: int,
        label: int,
        hidden: npt.NDArray[np.float32],
    ) -> _Known:
        kept = hidden if self._keep_hidden else None
        if self._probe is None:
            request.cues.append(ScoredCue(position, label, math.nan, math.nan, kept))
            return known
        level = self._probe.score(hidden[None, :])[0]
        floor = np.minimum(np.float32(known.floor), level)
        score = level + self._weight * (level - floor)
        cue = ScoredCue(position, label, float(level), float(score), kept)
        request.cues.append(cue)
        if not np.isfinite(score):
            self.non_finite += 1
            return known
        passes = known.stop is None and score > request.threshold
        return _Known(float(floor), cue if passes else known.stop)
