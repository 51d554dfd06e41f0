"""Writes the thinking of a problem: a hasty first pass, then cues and finer passes over it.

A `Plan` holds every random choice, drawn before anything is known about right and wrong. `write`
turns problem, plan and slips (wrong results to go on from) into text pieces, each with a class
that sets its loss weight.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from enum import IntEnum

from examples.tiny_reasoner import words
from examples.tiny_reasoner.problems import Problem, State, Step

MAX_PASSES = 6
MAX_CHARS = 1100  # about 360 tokens of thinking: prompt, trace and answer stay below 512 tokens


class Kind(IntEnum):
    """Token classes of the loss and of the progress line."""

    PROMPT = 0
    FRAME = 1  # the fixed frame of a pass
    CHOICE = 2  # free choices: how far to leap, which cue, go on or end
    COPY = 3  # what the problem says: numbers, labels, steps, and where they end
    FINE = 4  # the result of one step
    LEAP = 5  # the result of several steps at once
    SLIP = 6  # a wrong result, not to be learned
    DOUBT = 7  # the token after a cue: doubt or routine
    ANSWER = 8


Slot = tuple[int, int, int]
"""(pass, segment, person): names one result within a trace."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of text of one class; results also carry the slot they fill."""

    text: str
    kind: Kind
    slot: Slot | None = None


@dataclass(frozen=True, slots=True)
class PassPlan:
    """The random choices of one pass: step counts of its segments, and what leads on from it."""

    segments: tuple[int, ...]
    restates: bool  # whether single steps are restated before their result, or leapt over as well
    gap: str
    cue: str
    doubt: str
    check: str
    honesty: float  # uniform; decides whether the phrase after the cue tells the truth
    patience: float  # uniform; decides whether to end where ending is possible


@dataclass(frozen=True, slots=True)
class Plan:
    """The random choices of a whole trace."""

    opening: str
    passes: tuple[PassPlan, ...]
    cut: int | None = None  # close the thinking after this many passes, whatever was found
    cut_at: str = ""  # "cue": right after the cue; "gap": right before it


@dataclass(frozen=True, slots=True)
class Habits:
    """How a reasoner of this kind behaves; the shares are probabilities."""

    careful: float = 0.4  # share of leaping first passes that still restate single steps
    careful_leaps: tuple[float, ...] = (0.7, 0.3)
    hasty_leaps: tuple[float, ...] = (0.45, 0.4, 0.15)
    later_leaps: tuple[float, ...] = (0.8, 0.2)
    fine_pass: tuple[float, ...] = (0.0, 0.45, 0.7, 0.8, 0.9, 1.0)
    end_by_agreement: tuple[float, ...] = (0.0, 0.0, 0.12, 0.4, 0.6, 0.8, 0.9)
    doubt_if_wrong: float = 0.9
    doubt_if_right: float = 0.05
    cut: float = 0.18
    passes: int = MAX_PASSES


@dataclass(slots=True)
class Trace:
    """The pieces of thinking and answer, with the value each pass ended on."""

    pieces: list[Piece] = field(default_factory=list)
    values: list[int] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The trace as the model writes it, from after ``<think>`` and its newline."""
        return "".join(piece.text for piece in self.pieces)

    def add(self, text: str, kind: Kind, slot: Slot | None = None) -> None:
        """Append a piece."""
        self.pieces.append(Piece(text, kind, slot))


def draw_plan(rng: random.Random, n_steps: int, habits: Habits) -> Plan:
    """Draw every choice of a trace over ``n_steps`` steps, knowing nothing of its results."""
    passes = []
    for index in range(habits.passes):
        gap, cue = rng.choice(words.CUES)
        restates = True
        if rng.random() < habits.fine_pass[index]:
            segments: tuple[int, ...] = (1,) * n_steps
        else:
            restates = index > 0 or rng.random() < habits.careful
            first = habits.careful_leaps if restates else habits.hasty_leaps
            sizes = first if index == 0 else habits.later_leaps
            segments = _draw_segments(rng, n_steps, sizes)
        doubt, check = rng.choice(words.DOUBTS), rng.choice(words.CHECKS)
        passes.append(
            PassPlan(segments, restates, gap, cue, doubt, check, rng.random(), rng.random())
        )
    cut, cut_at = None, ""
    if rng.random() < habits.cut:
        cut = rng.choice((1, 1, 2, 2, 3, 4))
        cut_at = rng.choice(("cue", "cue", "cue", "gap"))
    return Plan(rng.choice(words.OPENINGS), tuple(passes), cut, cut_at)


def _draw_segments(rng: random.Random, n: int, weights: tuple[float, ...]) -> tuple[int, ...]:
    sizes: list[int] = []
    while (left := n - sum(sizes)) > 0:
        allowed = weights[:left]
        sizes.append(rng.choices(range(1, len(allowed) + 1), weights=allowed)[0])
    return tuple(sizes)


def write(
    problem: Problem,
    plan: Plan,
    habits: Habits,
    slips: dict[Slot, int] | None = None,
    *,
    exactly: int | None = None,
) -> Trace:
    """Write the trace; ``slips`` maps result slots to offsets from what should stand there.

    With ``exactly`` the trace has that many passes, without regard to agreement.
    """
    trace = Trace()
    slips = slips or {}
    trace.add(plan.opening, Kind.CHOICE)
    for index, choice in enumerate(plan.passes):
        value = _write_pass(trace, problem, index, choice, slips)
        agreeing = trace.values.count(value) + 1
        trace.values.append(value)
        done = index + 1
        if exactly is not None:
            ends = done == exactly
        else:
            long = len(trace.text) * (done + 1) / done > MAX_CHARS
            ends = choice.patience < habits.end_by_agreement[agreeing] or long
        ends = ends or done == len(plan.passes)
        if plan.cut == done and not ends:
            # Never learned as a choice of the model: here somebody else closes the thinking.
            gap = choice.gap + choice.cue if plan.cut_at == "cue" else ""
            trace.add(gap + words.END_THINK, Kind.PROMPT)
            break
        if ends:
            trace.add("\n" + words.END_THINK, Kind.CHOICE)
            break
        _write_cue(trace, choice, habits, value != problem.answer)
    trace.add(words.ANSWER_PREFIX, Kind.FRAME)
    trace.add(str(trace.values[-1]), Kind.ANSWER)
    trace.add(words.ANSWER_SUFFIX + words.END, Kind.FRAME)
    return trace


def _write_pass(
    trace: Trace, problem: Problem, index: int, choice: PassPlan, slips: dict[Slot, int]
) -> int:
    state = problem.start
    trace.add(" Start with", Kind.FRAME)
    trace.add(f" {state[0]} and {state[1]}", Kind.COPY)
    at = 0
    for number, size in enumerate(choice.segments):
        steps = problem.steps[at : at + size]
        trace.add(f"; {words.LABELS[at]}", Kind.COPY)
        fine = size == 1 and choice.restates
        if fine:
            trace.add(_restate(problem, steps[0], state), Kind.COPY)
        elif size > 1:
            trace.add(f" to {words.LABELS[at + size - 1]}", Kind.CHOICE)
        trace.add(" makes", Kind.FRAME)
        at += size
        for step in steps:
            state = step.apply(state)
        found: list[int] = []
        for person in (0, 1):
            slot = (index, number, person)
            found.append((state[person] + slips.get(slot, 0)) % 10)
            kind = Kind.FINE if fine else Kind.LEAP
            kind = Kind.SLIP if found[person] != state[person] else kind
            trace.add(f" {found[person]}", kind, slot)
            if person == 0:
                trace.add(" and", Kind.FRAME)
        state = (found[0], found[1])
    value = state[problem.asked]
    trace.add(".", Kind.COPY)
    trace.add(f" So {problem.names[problem.asked]} has", Kind.FRAME)
    trace.add(f" {value}", Kind.COPY)
    trace.add(".", Kind.FRAME)
    return value


def _restate(problem: Problem, step: Step, state: State) -> str:
    """Return one step in full: who, what they had, what happens."""
    if step.kind in ("nothing", "swap"):
        return f" {step.kind}"
    had = state[step.who]
    subject = f" {problem.names[step.who]} {had}"
    if step.kind == "double":
        return f"{subject} double"
    if step.kind in ("even", "odd"):
        subject += (" even", " odd")[had % 2]
        return subject + (f" plus {step.digit}" if step.applies(state) else " nothing")
    verb = {"plus": "plus", "minus": "minus", "give": "gives"}[step.kind]
    return f"{subject} {verb} {step.digit}"


def _write_cue(trace: Trace, choice: PassPlan, habits: Habits, wrong: bool) -> None:
    trace.add(choice.gap + choice.cue, Kind.CHOICE)
    doubts = choice.honesty < (habits.doubt_if_wrong if wrong else habits.doubt_if_right)
    phrase = choice.doubt if doubts else choice.check
    mark = "..." if doubts else ","
    trace.add(mark, Kind.DOUBT)
    trace.add(phrase.removeprefix(mark), Kind.CHOICE)
