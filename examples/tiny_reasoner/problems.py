"""Seeded word problems about two people and their piles, in four splits that never overlap.

``python -m examples.tiny_reasoner.problems --split test --n 400 --seed 1 --out FILE.jsonl``
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from examples.tiny_reasoner import words

State = tuple[int, int]
"""What the two people have: (first named, second named), each 0 to 9."""

# Share of the hash space, in percent, that ends each split.
SPLITS = {"train": 79, "collect": 86, "calibrate": 93, "test": 100}
LEVELS = range(2, 10)
_KIND_WEIGHTS = {
    "plus": 22, "minus": 22, "double": 9, "give": 9, "swap": 9, "even": 7, "odd": 7, "nothing": 12,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Step:
    """One labelled step: its kind, who acts (0 or 1) and a digit, 2 to 9 (0 where unused)."""

    kind: str
    who: int
    digit: int

    def apply(self, state: State) -> State:
        """Return the state after this step."""
        mine, other = state[self.who], state[1 - self.who]
        if self.kind == "plus":
            mine += self.digit
        elif self.kind == "minus":
            mine -= self.digit
        elif self.kind == "double":
            mine *= 2
        elif self.kind == "give":
            mine, other = mine - self.digit, other + self.digit
        elif self.kind == "swap":
            mine, other = other, mine
        elif self.kind in ("even", "odd") and self.applies(state):
            mine += self.digit
        pair = (mine % 10, other % 10)
        return pair if self.who == 0 else (pair[1], pair[0])

    def applies(self, state: State) -> bool:
        """Whether the condition of an ``even`` or ``odd`` step holds."""
        return (state[self.who] % 2 == 0) == (self.kind == "even")


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem: its meaning (start, steps, whose pile is asked for) and its wording."""

    start: State
    steps: tuple[Step, ...]
    asked: int
    names: tuple[str, str]
    text: str

    @property
    def level(self) -> int:
        """Difficulty: the number of labelled steps."""
        return len(self.steps)

    @property
    def answer(self) -> int:
        """The right answer, 0 to 9."""
        state = self.start
        for step in self.steps:
            state = step.apply(state)
        return state[self.asked]

    @property
    def group(self) -> str:
        """Hash of the meaning, blind to names and wording: equal problems share a group."""
        parts = [f"{self.start}", *(f"{s.kind}{s.who}{s.digit}" for s in self.steps)]
        return hashlib.sha256(f"{'|'.join(parts)}?{self.asked}".encode()).hexdigest()[:16]

    @property
    def split(self) -> str:
        """The only split this problem may appear in."""
        bucket = int(self.group, 16) % 100
        return next(name for name, end in SPLITS.items() if bucket < end)


def draw_problem(rng: random.Random, level: int) -> Problem:
    """Draw one problem with ``level`` steps, from any split."""
    names = tuple(rng.choice(row) for row in words.NAMES)
    things = rng.choice(words.OBJECTS)
    start = (rng.randrange(10), rng.randrange(10))
    kinds = rng.choices(list(_KIND_WEIGHTS), weights=list(_KIND_WEIGHTS.values()), k=level)
    steps = tuple(_draw_step(rng, kind) for kind in kinds)
    asked = rng.randrange(2)
    slots: dict[str, str | int] = {"P": names[0], "Q": names[1], "O": things}
    lines = [rng.choice(words.INTROS).format(**slots, x=start[0], y=start[1])]
    lines.append(rng.choice(words.RULES))
    if rng.random() < 0.3:
        lines.insert(rng.randrange(3), rng.choice(words.ASIDES))
    for label, step in zip(words.LABELS, steps, strict=False):
        actors = {"P": names[step.who], "Q": names[1 - step.who]}
        # A digit of no consequence is drawn here, so that it stays out of the meaning.
        digit = step.digit or rng.randrange(2, 10)
        phrase = rng.choice(words.STEPS[step.kind])
        phrase = phrase.removesuffix(".") + f" {label}."
        lines.append(phrase.format(**actors, O=things, d=digit))
    lines.append(rng.choice(words.QUESTIONS).format(O=things, R=names[asked]))
    return Problem(start, steps, asked, (names[0], names[1]), " ".join(lines))


def _draw_step(rng: random.Random, kind: str) -> Step:
    who = rng.randrange(2)
    if kind in ("double", "nothing"):
        return Step(kind, who, 0)
    if kind == "swap":
        return Step(kind, 0, 0)
    return Step(kind, who, rng.randrange(2, 10))


def stream(split: str, seed: int, levels: range = LEVELS) -> Iterator[Problem]:
    """Yield endless problems of one split, levels drawn uniformly."""
    rng = random.Random(f"{split}-{seed}")
    while True:
        problem = draw_problem(rng, rng.choice(levels))
        if problem.split == split:
            yield problem


def sample(split: str, n: int, seed: int) -> list[Problem]:
    """Draw ``n`` problems of one split, no meaning twice."""
    chosen: dict[str, Problem] = {}
    for problem in stream(split, seed):
        chosen.setdefault(problem.group, problem)
        if len(chosen) == n:
            break
    return list(chosen.values())


def record(problem: Problem, name: str) -> dict[str, object]:
    """Return the JSON line of a problem."""
    return {
        "id": name,
        "group": problem.group,
        "messages": [{"role": "user", "content": problem.text}],
        "answer": str(problem.answer),
        "level": problem.level,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Write problems of one split as JSON lines.")
    parser.add_argument("--split", choices=list(SPLITS), default="test")
    parser.add_argument("--n", type=int, default=400)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    lines = [
        json.dumps(record(problem, f"{args.split}-{args.seed}-{i:05d}"))
        for i, problem in enumerate(sample(args.split, args.n, args.seed))
    ]
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{len(lines)} problems -> {args.out}")


if __name__ == "__main__":
    main()
