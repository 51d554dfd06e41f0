"""Measures the tiny diffusion LM: ``python -m examples.tiny_diffusion.measure``.

Full decodes of test problems: how often they are right, how often a halt after so many passes
would have given another answer, and how the margins rise.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from adapters.transformers.checkpoints import load
from adapters.transformers.identity import load_tokenizer
from adapters.transformers.judges import TextJudge
from adapters.transformers.recording import record
from adapters.transformers.requests import Request
from adapters.transformers.sampler import Sampler
from calibration.comparers import get_comparer
from calibration.denoising_table import DenoisingTable
from examples.tiny_diffusion.problems import Problem, sample
from examples.tiny_diffusion.recipe import CANVAS
from examples.tiny_diffusion.tokens import MODEL_DIR

SHARES = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.35, 0.5, 0.75)


@dataclass(slots=True)
class Replay:
    """What every pass of one full decode would have given, arrays over passes."""

    problem: Problem
    right: bool
    agrees: NDArray[np.bool_]
    mean_margin: NDArray[np.float32]
    least_margin: NDArray[np.float32]

    @property
    def settled(self) -> int:
        """The first pass from which every halt gives the full decode's answer."""
        wrong = np.flatnonzero(~self.agrees)
        return int(wrong[-1]) + 1 if len(wrong) else 0


def full_decodes(folder: Path, problems: list[Problem], progress: bool = True) -> DenoisingTable:
    """Decode problems one cell a pass, recording every pass."""
    model, tokenizer = load(folder), load_tokenizer(folder)
    requests = [
        Request(tuple(tokenizer.encode(p.prompt)), name=p.group, gold=p.answer) for p in problems
    ]
    judge = TextJudge(tokenizer, get_comparer("text"), model.end_ids)
    return record(model, requests, Sampler(CANVAS), judge, batch_size=32, progress=progress)


def replays(problems: list[Problem], table: DenoisingTable) -> list[Replay]:
    """Cut a table into one replay for each problem."""
    mean, least = (table.signals.index(f"masked.{how}") for how in ("mean", "min"))
    shape = (len(problems), CANVAS)
    correct, agrees = table.correct.reshape(shape), table.agree.reshape(shape)
    values = table.values.reshape(*shape, -1)
    return [
        Replay(
            problem, bool(correct[i, -1] == 1), agrees[i], values[i, :, mean], values[i, :, least]
        )
        for i, problem in enumerate(problems)
    ]


def row(name: str, cells: list[str]) -> str:
    """Return one line of a Markdown table."""
    return f"| {name} | " + " | ".join(cells) + " |"


def print_accuracy(found: list[Replay]) -> None:
    print("| task | problems | accuracy | other answer at pass 0 | settled at pass (mean) | 95 % |")
    print("|---|---|---|---|---|---|")
    for task in [*sorted({r.problem.task for r in found}), "all"]:
        chosen = [r for r in found if task in (r.problem.task, "all")]
        settled = [r.settled for r in chosen]
        cells = [str(len(chosen)), f"{np.mean([r.right for r in chosen]):.3f}"]
        cells += [f"{np.mean([not r.agrees[0] for r in chosen]):.3f}"]
        cells += [f"{np.mean(settled):.1f}", f"{np.quantile(settled, 0.95):.0f}"]
        print(row(task, cells))
    passes = 1 + np.mean([r.settled for r in found])
    print(f"\noracle: {passes:.1f} of {CANVAS} passes, {CANVAS / passes:.1f} times fewer\n")


def print_levels(found: list[Replay]) -> None:
    print("| level | problems | accuracy | other answer at pass 0 | settled at pass (mean) |")
    print("|---|---|---|---|---|")
    for level in sorted({r.problem.level for r in found}):
        chosen = [r for r in found if r.problem.level == level]
        cells = [str(len(chosen)), f"{np.mean([r.right for r in chosen]):.3f}"]
        cells += [f"{np.mean([not r.agrees[0] for r in chosen]):.3f}"]
        print(row(str(level), [*cells, f"{np.mean([r.settled for r in chosen]):.1f}"]))
    print()


def print_progress(found: list[Replay]) -> None:
    print("| progress | pass | other answer if halted | mean margin | least margin |", end="")
    print(" least, where settled | least, where not |")
    print("|---|---|---|---|---|---|---|")
    for share in SHARES:
        at = round(share * (CANVAS - 1))
        wrong = np.array([not r.agrees[at] for r in found])
        least = np.array([r.least_margin[at] for r in found])
        cells = [str(at), f"{wrong.mean():.3f}"]
        cells += [f"{np.mean([r.mean_margin[at] for r in found]):.2f}", f"{least.mean():.2f}"]
        cells += [f"{v.mean():.2f}" if len(v) else "" for v in (least[~wrong], least[wrong])]
        print(row(f"{share:.0%}", cells))


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the tiny diffusion LM.")
    parser.add_argument("--model", type=Path, default=MODEL_DIR)
    parser.add_argument("--n", type=int, default=400)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    problems = sample("test", args.n, seed=1)
    found = replays(problems, full_decodes(args.model, problems))
    print_accuracy(found)
    print_levels(found)
    print_progress(found)


if __name__ == "__main__":
    main()
