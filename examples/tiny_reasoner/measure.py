"""Measures the tiny reasoner: ``python -m examples.tiny_reasoner.measure``.

Traces of three splits are sampled: a linear probe is fitted on ``collect``, its threshold set on
``calibrate``, and everything reported on ``test``.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from pathlib import Path
from statistics import mean, median

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import binom
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from transformers import AutoTokenizer, LlamaForCausalLM

from examples.tiny_reasoner import words
from examples.tiny_reasoner.problems import sample
from examples.tiny_reasoner.recipe import TEMPERATURE, TOP_P
from examples.tiny_reasoner.rollouts import Roller, Rollout
from examples.tiny_reasoner.tokens import MODEL_DIR

Vector = NDArray[np.float64]
ALPHAS = (0.02, 0.05, 0.10)
EPS = 0.10


def agrees(rollouts: list[Rollout]) -> Vector:
    """Return, per cue, whether the forced answer is the full trace's [cues]."""
    return np.array([float(c.forced == r.answer) for r in rollouts for c in r.cues])


def features(rollouts: list[Rollout]) -> NDArray[np.float32]:
    """Return the hidden states of all cues [cues, layers * width]."""
    return np.concatenate([r.hidden for r in rollouts if r.hidden is not None])


def ltt_threshold(worst: list[float], alpha: float) -> float:
    """Return the lowest threshold that bounds the share of badly stopped traces.

    ``worst`` holds each trace's highest score among its bad cues, -inf where it has none.
    """
    n = len(worst)
    allowed = [k for k in range(n) if binom.cdf(k, n, alpha) <= EPS]
    return sorted(worst, reverse=True)[max(allowed)] if allowed else float("inf")


def per_trace(rollouts: list[Rollout], scores: Vector) -> list[tuple[Rollout, Vector]]:
    """Split scores over all cues into one vector per trace."""
    ends = np.cumsum([len(r.cues) for r in rollouts])[:-1]
    return list(zip(rollouts, np.split(scores, ends), strict=True))


def worst_scores(rollouts: list[Rollout], scores: Vector) -> list[float]:
    """Return each trace's highest score among cues whose forced answer differs from the full."""
    return [
        max((s for c, s in zip(r.cues, own, strict=True) if c.forced != r.answer), default=-np.inf)
        for r, own in per_trace(rollouts, scores)
    ]


def replay(rollouts: list[Rollout], scores: Vector, threshold: float) -> dict[str, float]:
    """Stop every trace at its first cue above the threshold; return shares."""
    used = bad = right = stopped = 0
    for rollout, own in per_trace(rollouts, scores):
        at = next((i for i, score in enumerate(own) if score > threshold), None)
        answer = rollout.answer if at is None else rollout.cues[at].forced
        used += rollout.thinking if at is None else rollout.cues[at].at + 1
        stopped += at is not None
        bad += answer != rollout.answer
        right += answer == rollout.problem.answer
    n = len(rollouts)
    saved = 1 - used / sum(r.thinking for r in rollouts)
    return {"saved": saved, "bad": bad / n, "accuracy": right / n, "stopped": stopped / n}


def line(*cells: object) -> None:
    print("| " + " | ".join(f"{c:.3f}" if isinstance(c, float) else str(c) for c in cells) + " |")


def report_levels(rollouts: list[Rollout]) -> None:
    line("level", "traces", "accuracy", "median thinking", "cues", "first cue right")
    by_level = defaultdict(list)
    for rollout in rollouts:
        by_level[rollout.problem.level].append(rollout)
    for level, rows in [*sorted(by_level.items()), ("all", rollouts)]:
        first = [float(r.cues[0].forced == r.problem.answer) for r in rows if r.cues]
        line(
            level,
            len(rows),
            mean(float(r.answer == r.problem.answer) for r in rows),
            median(r.thinking for r in rows),
            mean(float(len(r.cues)) for r in rows),
            mean(first) if first else float("nan"),
        )


def report_cues(rollouts: list[Rollout]) -> None:
    line("cue", "traces", "forced right", "forced agrees")
    for k in range(6):
        rows = [(r, r.cues[k]) for r in rollouts if len(r.cues) > k]
        if len(rows) < 20:
            break
        right = mean(float(c.forced == r.problem.answer) for r, c in rows)
        line(k + 1, len(rows), right, mean(float(c.forced == r.answer) for r, c in rows))


def report_leaks(collect: list[Rollout], test: list[Rollout]) -> None:
    """Print what a probe blind to the hidden state could know."""

    def plain(rollouts: list[Rollout], what: str) -> Vector:
        cues = [(r, i, c) for r in rollouts for i, c in enumerate(r.cues)]
        if what == "cue word":
            return np.array([[c.word == w for w in ("wait", "hmm")] for _, _, c in cues], float)
        if what == "position in tokens":
            return np.array([[c.at] for _, _, c in cues], float)
        if what == "number of the cue":
            return np.array([[i] for _, i, _ in cues], float)
        return np.array([[i, c.at, r.problem.level, len(r.prompt)] for r, i, c in cues], float)

    first = np.array([i == 0 for r in test for i in range(len(r.cues))])
    line("known at the cue", "AUROC agrees, all cues", "first cues only")
    for what in ("cue word", "position in tokens", "number of the cue", "all these and the level"):
        fit = make_pipeline(StandardScaler(), LogisticRegression()).fit(
            plain(collect, what), agrees(collect)
        )
        scores = fit.decision_function(plain(test, what))
        truth = agrees(test)
        line(what, *(float(roc_auc_score(truth[m], scores[m])) for m in (first | True, first)))


def report_probe(collect: list[Rollout], calibrate: list[Rollout], test: list[Rollout]) -> None:
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=2000))
    probe.fit(features(collect), agrees(collect))
    scores = probe.decision_function(features(test))
    held = probe.decision_function(features(calibrate))
    truth = agrees(test)
    first = np.array([i == 0 for r in test for i in range(len(r.cues))])
    right = np.array([float(c.forced == r.problem.answer) for r in test for c in r.cues])
    line("linear probe", "all cues", "first cues only")
    line(
        "AUROC agrees", *(float(roc_auc_score(truth[m], scores[m])) for m in (first | True, first))
    )
    line("AUROC right", *(float(roc_auc_score(right[m], scores[m])) for m in (first | True, first)))
    oracle = replay(test, np.where(truth > 0, 1.0, -1.0), 0.0)
    line("rule, loss disagree", "saved", "stopped badly", "stopped", "accuracy")
    for alpha in ALPHAS:
        threshold = ltt_threshold(worst_scores(calibrate, held), alpha)
        got = replay(test, scores, threshold)
        line(f"LTT {alpha}", got["saved"], got["bad"], got["stopped"], got["accuracy"])
    line("oracle", oracle["saved"], oracle["bad"], oracle["stopped"], oracle["accuracy"])
    always = replay(test, np.ones_like(scores), 0.0)
    line("first cue", always["saved"], always["bad"], always["stopped"], always["accuracy"])


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the tiny reasoner.")
    parser.add_argument("--model", type=Path, default=MODEL_DIR)
    parser.add_argument("--n", type=int, default=800, help="problems per split")
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--rows", type=int, default=200, help="traces sampled at a time")
    parser.add_argument("--temperature", type=float, default=TEMPERATURE)
    parser.add_argument("--top-p", type=float, default=TOP_P)
    parser.add_argument("--show", type=int, default=0, help="print so many traces")
    parser.add_argument("--quick", action="store_true", help="the test split alone, no probe")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    roller = Roller(LlamaForCausalLM.from_pretrained(args.model), tokenizer)
    rolled: dict[str, list[Rollout]] = {}
    started = time.monotonic()
    for split in ("test",) if args.quick else ("collect", "calibrate", "test"):
        rolled[split] = roller.roll(
            sample(split, args.n, args.seed),
            temperature=args.temperature,
            top_p=args.top_p,
            seed=args.seed,
            rows=args.rows,
        )
    test = rolled["test"]
    for rollout in test[: args.show]:
        print(rollout.problem.text, "->", rollout.problem.answer)
        print(tokenizer.decode(rollout.output), [c.forced for c in rollout.cues], "\n")
    end = tokenizer.convert_tokens_to_ids(words.END)
    closed = mean(float(r.output[-1] == end) for r in test)
    print(f"temperature {args.temperature}, top-p {args.top_p}, {args.n} problems per split")
    print(f"{time.monotonic() - started:.0f} s; ended by the model itself: {closed:.3f}")
    report_levels(test)
    report_cues(test)
    if not args.quick:
        report_leaks(rolled["collect"], test)
        report_probe(rolled["collect"], rolled["calibrate"], test)


if __name__ == "__main__":
    main()
