"""Seeded small tasks with short answers, in splits that never overlap.

``python -m examples.tiny_diffusion.problems --split test --n 400 --seed 1 --out FILE.jsonl``
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import random
import string
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from examples.tiny_diffusion.tokens import NODES

# Share of the hash space, in percent, that ends each split.
SPLITS = {"train": 79, "select": 86, "calibrate": 93, "test": 100}
WALK = 10
FULL = 8
"""The size that allows every task its longest problems."""
_LETTERS = string.ascii_lowercase


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem: its task, difficulty, prompt, answer and what its meaning is."""

    task: str
    level: int
    prompt: str
    answer: str
    meaning: str

    @property
    def group(self) -> str:
        """Hash of the meaning: problems that ask the same share a group."""
        return hashlib.sha256(f"{self.task}|{self.meaning}".encode()).hexdigest()[:16]

    @property
    def split(self) -> str:
        """The only split this problem may appear in."""
        bucket = int(self.group, 16) % 100
        return next(name for name, end in SPLITS.items() if bucket < end)


def _copy(rng: random.Random, size: int) -> Problem:
    letters = rng.sample(_LETTERS, rng.randint(3, size))
    text = " ".join(letters)
    return Problem("copy", len(letters), f"copy {text} :", text, text)


def _reverse(rng: random.Random, size: int) -> Problem:
    letters = rng.sample(_LETTERS, rng.randint(3, size))
    text = " ".join(letters)
    return Problem("reverse", len(letters), f"reverse {text} :", " ".join(letters[::-1]), text)


def _sort(rng: random.Random, size: int) -> Problem:
    letters = rng.sample(_LETTERS, rng.randint(3, size))
    answer = " ".join(sorted(letters))
    return Problem("sort", len(letters), f"sort {' '.join(letters)} :", answer, answer)


def _follow(rng: random.Random, size: int) -> Problem:
    longest = min(size, len(NODES) - 2)
    level = rng.randint(2, longest)
    nodes = rng.sample(NODES, level + 1 + rng.randint(0, longest - level))
    path, others = nodes[: level + 1], nodes[level + 1 :]
    arrows = [*itertools.pairwise(path)]
    arrows += [(a, rng.choice([b for b in nodes if b != a])) for a in others]
    rng.shuffle(arrows)
    text = " ".join(f"{a}>{b}" for a, b in arrows)
    meaning = " ".join(f"{a}>{b}" for a, b in sorted(arrows)) + path[0]
    return Problem("follow", level, f"follow : {text} from {path[0]}", " ".join(path[1:]), meaning)


def _walk(rng: random.Random, size: int) -> Problem:
    level = rng.randint(2, size)
    start, place, places = rng.randrange(10), 0, []
    signs = rng.choices("+-=", (4, 4, 1), k=level)
    place = start
    for sign in signs:
        place = (place + {"+": 1, "-": -1, "=": 0}[sign]) % 10
        places.append(str(place))
    text = " ".join([*signs, *"." * (WALK - level)])
    return Problem("walk", level, f"walk {text} from {start} :", " ".join(places), f"{start}{text}")


MAKERS: dict[str, Callable[[random.Random, int], Problem]] = {
    "copy": _copy,
    "reverse": _reverse,
    "sort": _sort,
    "follow": _follow,
    "walk": _walk,
}


SHARES = {"copy": 2, "reverse": 2, "sort": 3, "follow": 3, "walk": 2}
"""How often each task is drawn, relative to the others."""


def stream(
    split: str, seed: int, size: int = FULL, shares: Mapping[str, int] = SHARES
) -> Iterator[Problem]:
    """Yield endless problems of one split; ``size`` caps their length."""
    tasks, weights = list(shares), list(shares.values())
    rng = random.Random(f"{split}-{seed}")
    while True:
        problem = MAKERS[rng.choices(tasks, weights)[0]](rng, size)
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
        "prompt": problem.prompt,
        "answer": problem.answer,
        "category": problem.task,
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
