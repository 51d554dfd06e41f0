"""An engine without a model: batches, drafts, chunks, preemption, and trackers that watch it.

Tokens and hidden states are functions of the request and the position, so that whatever the engine
throws away and computes again comes out alike, as it does in a real one.
"""

from __future__ import annotations

import functools
import random
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from makers import HIDDEN, LAYERS, probe, spec
from tokenizers import Tokenizer

from adapters.vllm.device_tracker import DeviceTracker
from adapters.vllm.device_watch import DeviceWatch
from adapters.vllm.host_tracker import HostTracker
from adapters.vllm.rows import StepRows
from adapters.vllm.stop_thinking import Asked
from adapters.vllm.stop_thinking import judge as rule
from adapters.vllm.watch import Forced, HostWatch, Outcome, Watch
from probes.network import Probe
from probes.shaping import shape, weight_of
from probes.torch_network import TorchProbe
from stopper.cues import CueAutomaton, CueSpec

MODEL = Path(__file__).parents[3] / "examples/tiny_reasoner/model"
CPU = torch.device("cpu")


@functools.cache
def tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(MODEL / "tokenizer.json"))


def ids(text: str) -> list[int]:
    return list(tokenizer().encode(text, add_special_tokens=False).ids)


(THINK,), (END,) = ids("<think>"), ids("</think>")
BEYOND = tokenizer().get_vocab_size() + 100  # an id that the tokenizer does not know
VOCABULARY = BEYOND + 1
FORCE = (END, *ids(","), *ids("a"))


@functools.cache
def automaton(**fields: Any) -> CueAutomaton:
    kind = CueSpec(think_start_ids=(THINK,), think_end_ids=(END,), **fields)
    return CueAutomaton.build(tokenizer(), kind)


@functools.cache
def pool() -> tuple[int, ...]:
    """Tokens that a trace is made of: many cues and parts of cues, some of everything else."""
    text = "Wait wait wait\nhmm Hmm Alternatively alternatively, so, so the number is s a m . x\n\n"
    return (*ids(text) * 2, *ids("wait") * 4, THINK, END, BEYOND, *range(11, 40))


@dataclass
class Trace:
    """One request as the engine holds it."""

    name: str
    prompt: list[int]
    length: int
    threshold: float = np.inf
    forces: bool = True
    nan_rate: float = 0.0
    watched: bool = True
    asks: float = 0.0  # how likely somebody asks, before any step, that it stop thinking
    asked_from: int | None = None  # since when it has to: the position fed next after that
    certain: int | None = None  # newest position that no rejected draft takes back
    output: list[int] = field(default_factory=list)
    computed: int = 0
    away: int = 0
    salt: dict[int, int] = field(default_factory=dict)

    @property
    def tokens(self) -> list[int]:
        return self.prompt + self.output

    @property
    def done(self) -> bool:
        return len(self.output) >= self.length

    def end_from(self, position: int) -> None:
        """Note that no token from here on may be followed by more thinking."""
        before = position if self.asked_from is None else self.asked_from
        self.asked_from = min(before, position)

    def choice(self, position: int) -> int:
        """Return what the model says stands at a position."""
        key = f"{self.name}/{position}/{self.salt.get(position, 0)}"
        return random.Random(key).choice(pool())

    def hidden(self, position: int, token: int) -> np.ndarray:
        """Return float32 [layers, hidden size]."""
        rng = np.random.default_rng([zlib.crc32(self.name.encode()), position, token])
        state = rng.normal(size=(len(LAYERS), HIDDEN)).astype(np.float32)
        if rng.random() < self.nan_rate:
            state[rng.integers(len(LAYERS)), 0] = rng.choice([np.nan, np.inf])
        return state


@dataclass
class Expected:
    """The offline truth over a committed output; positions are absolute."""

    stop: int | None
    score: float
    cues: int
    non_finite: int
    scores: np.ndarray
    asked: bool = False

    @property
    def top(self) -> float:
        seen = self.scores[: self.cues]
        return float(seen[np.isfinite(seen)].max(initial=-np.inf))


def inside(trace: Trace, cues: CueAutomaton) -> dict[int, bool]:
    """Tell of each position that was fed whether the next token belongs to the thinking."""
    state, first = cues.prompt_state(trace.prompt), len(trace.prompt)
    found = {first - 1: bool(cues.inside[state])}
    for position, token in enumerate(trace.output[:-1], start=first):
        state, _ = cues.step(state, token)
        found[position] = bool(cues.inside[state])
    return found


def offline(trace: Trace, cues: CueAutomaton, judge: Probe) -> Expected:
    """Replay a finished trace as calibration does. The last token was sampled, never fed."""
    output = trace.output[:-1]
    found = [index for index, _ in cues.events(trace.prompt, output)]
    first = len(trace.prompt)
    since = np.inf if trace.asked_from is None else trace.asked_from
    thinking = [at for at, yes in inside(trace, cues).items() if yes and at >= since]
    rows = [trace.hidden(first + index, output[index]).reshape(-1) for index in found]
    states = np.stack(rows) if rows else np.zeros((0, judge.spec.input_dim), np.float32)
    scores = shape(judge.score(states), judge.spec)
    above = np.flatnonzero(scores > np.float32(trace.threshold))
    if thinking and not (trace.forces and above.size and first + found[above[0]] < thinking[0]):
        seen = sum(first + index < thinking[0] for index in found)
        bad = int((~np.isfinite(scores[:seen])).sum())
        return Expected(thinking[0], float("nan"), seen, bad, scores, asked=True)
    # A stopped trace has no later cues; an audited one thinks on after its mark.
    seen = int(above[0]) + 1 if above.size and trace.forces else len(found)
    return Expected(
        stop=first + found[above[0]] if above.size else None,
        score=float(scores[above[0]]) if above.size else float("nan"),
        cues=seen,
        non_finite=int((~np.isfinite(scores[:seen])).sum()),
        scores=scores,
    )


@dataclass
class Engine:
    """Runs traces under both trackers and holds them to the same decisions."""

    cues: CueAutomaton
    judge: Probe
    seed: int = 0
    drafts: int = 0
    chunk: int = 0
    preempt: float = 0.0
    slots: int = 1

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.host = host_watch(self.cues, self.judge)
        self.device = device_watch(self.cues, self.judge, self.slots)

    @property
    def watches(self) -> tuple[Watch, Watch]:
        return self.host, self.device

    def run(self, traces: Iterable[Trace]) -> dict[str, tuple[Outcome, Outcome]]:
        """Run to the end; return what host and device say of each watched trace."""
        waiting, running = list(traces), []
        found: dict[str, tuple[Outcome, Outcome]] = {}
        while waiting or running:
            while waiting and (not running or self.random.random() < 0.4):
                running.append(waiting.pop())
                self._start(running[-1])
            for trace in running:
                if self.random.random() < trace.asks:
                    self._ask(trace)
            batch = [trace for trace in running if self._scheduled(trace)]
            self.random.shuffle(batch)
            if batch:
                self._step(batch)
            for trace in [trace for trace in running if trace.done]:
                running.remove(trace)
                if trace.watched:
                    found[trace.name] = self._finish(trace.name)
        assert len(self.host) == len(self.device) == 0
        return found

    def _start(self, trace: Trace) -> None:
        trace.certain = len(trace.prompt) - 2
        if trace.watched:
            for watch in self.watches:
                threshold = np.float32(trace.threshold)
                watch.start(trace.name, list(trace.prompt), threshold, forces=trace.forces)

    def _ask(self, trace: Trace) -> None:
        host, device = (watch.stop_thinking(trace.name) for watch in self.watches)
        assert host == device
        if not trace.watched:
            assert host.outcome == "unknown"
            return
        if trace.certain is not None:
            assert host == self._answer(trace, trace.certain)
        if host.outcome in ("stopping", "already_stopping"):
            trace.end_from(len(trace.tokens) - 1)

    def _answer(self, trace: Trace, certain: int) -> Asked:
        """Say what was to be answered, by the tokens that were certain then."""
        first = len(trace.prompt)
        fed = replace(trace, output=trace.tokens[first : certain + 2])
        asked = trace.asked_from is not None
        if certain < first - 1:  # not a row of it was sampled yet
            starts = bool(self.cues.inside[self.cues.prompt_state(trace.prompt)])
            return rule(asked=asked, inside=starts, since_stop=None, closing=len(FORCE))
        truth = offline(fed, self.cues, self.judge)
        forced = truth.stop is not None and (trace.forces or truth.asked)
        return rule(
            asked=asked,
            inside=inside(fed, self.cues)[certain],
            since_stop=certain - truth.stop if forced and truth.stop is not None else None,
            closing=len(FORCE),
        )

    def _finish(self, name: str) -> tuple[Outcome, Outcome]:
        for watch in self.watches:
            watch.finish(name)
        (host,), (device,) = (list(watch.outcomes(wait=True)) for watch in self.watches)
        return host, device

    def _scheduled(self, trace: Trace) -> bool:
        if trace.away:
            trace.away -= 1
            return False
        if trace.output and self.random.random() < self.preempt:
            trace.away, trace.computed = self.random.randrange(1, 4), 0
            for _ in range(min(self.random.randrange(3), len(trace.output))):
                lost = len(trace.tokens) - 1  # in flight at preemption: sampled again, otherwise
                trace.output.pop()
                trace.salt[lost] = trace.salt.get(lost, 0) + 1
                if trace.asked_from is not None:
                    trace.end_from(lost - 1)
                trace.certain = None  # the trackers have not heard of it
            return False
        return self.random.random() < 0.9

    def _step(self, batch: list[Trace]) -> None:
        fed: list[list[tuple[int, int]]] = []  # per request (position, token)
        live = []
        for trace in batch:
            tokens, last = trace.tokens, len(trace.tokens) - 1
            at = trace.computed + self.random.randint(1, self.chunk) - 1 if self.chunk else last
            live.append(at >= last)
            at = min(at, last)
            trace.computed = at + 1
            rows = [(at, tokens[at])]
            if live[-1] and len(trace.output) + 1 < trace.length:  # the last step has no drafts
                rows += self._drafts(trace, last)
            if live[-1]:
                trace.certain = at
            fed.append(rows)
        forced = self._watch(batch, fed, live)
        row = 0
        for trace, rows, alive in zip(batch, fed, live, strict=True):
            if alive:
                self._commit(trace, rows, [forced.get(row + i) for i in range(len(rows))])
            row += len(rows)

    def _drafts(self, trace: Trace, last: int) -> list[tuple[int, int]]:
        count = self.random.randint(0, min(self.drafts, trace.length - len(trace.output) - 2))
        right = [(last + i, trace.choice(last + i)) for i in range(1, count + 1)]
        bad = self.random.random() < 0.6
        return [
            (at, self.random.choice(pool()) if bad and self.random.random() < 0.4 else token)
            for at, token in right
        ]

    @staticmethod
    def _commit(trace: Trace, rows: list[tuple[int, int]], forced: list[int | None]) -> None:
        for number, (position, _) in enumerate(rows):
            token = forced[number]
            token = trace.choice(position + 1) if token is None else token
            trace.output.append(token)
            trace.computed = position + 1
            accepted = number + 1 < len(rows) and rows[number + 1][1] == token
            if trace.done or not accepted:
                return

    def _watch(
        self, batch: list[Trace], fed: list[list[tuple[int, int]]], live: list[bool]
    ) -> dict[int, int]:
        rows = step_rows(batch, fed, live, self.random)
        host, device = (choices(watch.step(rows), len(rows.tokens)) for watch in self.watches)
        assert host == device
        owners = [trace for trace, rows_ in zip(batch, fed, strict=True) for _ in rows_]
        assert all(
            owners[row].watched and (owners[row].forces or owners[row].asked_from is not None)
            for row in host
        )
        return host


def step_rows(
    batch: list[Trace],
    fed: list[list[tuple[int, int]]],
    live: list[bool],
    shuffle: random.Random,
) -> StepRows:
    """Lay the rows out as a model runner does: scattered in larger tensors."""
    flat = [(t, at, token) for t, rows in zip(batch, fed, strict=True) for at, token in rows]
    index = shuffle.sample(range(2 * len(flat)), len(flat))
    sources = [torch.full((2 * len(flat), HIDDEN), 1e6) for _ in LAYERS]
    for (trace, at, token), where in zip(flat, index, strict=True):
        for source, part in zip(sources, trace.hidden(at, token), strict=True):
            source[where] = torch.from_numpy(part.copy())
    single = all(len(rows) == 1 for rows in fed)
    return StepRows(
        request_ids=[trace.name for trace in batch],
        counts=None if single else [len(rows) for rows in fed],
        live=None if all(live) else np.array(live),
        tokens=torch.tensor([token for _, _, token in flat], dtype=torch.int32),
        positions=torch.tensor([at for _, at, _ in flat]),
        sources=sources,
        index=torch.tensor(index),
    )


def choices(forced: Forced | None, rows: int) -> dict[int, int]:
    """Sample greedily from flat logits: which rows were forced, and to what."""
    logits = torch.zeros(rows, VOCABULARY)
    if forced is not None:
        forced.write(logits)
    top, token = logits.max(dim=1)
    return {row: int(token[row]) for row in range(rows) if top[row] > 0}


def host_watch(cues: CueAutomaton, judge: Probe | None, *, keep_hidden: bool = False) -> HostWatch:
    weight = weight_of(judge.spec) if judge else 0.0
    tracker = HostTracker(cues, judge, rise_weight=weight, force_ids=FORCE, keep_hidden=keep_hidden)
    return HostWatch(tracker)


def device_watch(cues: CueAutomaton, judge: Probe, slots: int) -> DeviceWatch:
    tracker = DeviceTracker(
        cues,
        TorchProbe(judge),
        rise_weight=weight_of(judge.spec),
        force_ids=FORCE,
        slots=slots,
        device=CPU,
    )
    return DeviceWatch(tracker, cues.prompt_state)


def judge(shaping: str = "rise", weight: float = 0.5) -> Probe:
    return probe(spec(shaping=shaping, rise_weight=weight))
