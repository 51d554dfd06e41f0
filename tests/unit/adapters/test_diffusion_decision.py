"""The device's decision on a step of DiffusionGemma against the rule in numpy."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from adapters.vllm.diffusion.batch import Batches, Watched
from adapters.vllm.diffusion.decision import CanvasState, decide
from adapters.vllm.diffusion.sampler import lowered_caps
from probes.margins import REGIONS, SIGNALS, aggregate, argmax_changed, top2_margins
from stopper.halting import HaltingRule, progress_at
from stopper.schedule import Schedule

WIDTH, VOCABULARY, SLOTS, CAP = 6, 11, 9, 8
RULES = {
    f"{region}.{how}{'.gated' if gate else ''}": HaltingRule(
        Schedule("exponential", 2.0, 0.2, 3.0), how, region, gate
    )
    for how, region, gate in itertools.product(SIGNALS, REGIONS, (False, True))
}


class Step:
    """A random step: one request reads its prompt, two are unwatched, one canvas is short."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.ids = [f"r{n}" for n in range(7)]
        self.slots = rng.permutation(SLOTS)[:7].astype(np.int32)
        self.counts = np.array([WIDTH, 0, WIDTH, WIDTH, 4, WIDTH, WIDTH])
        shape = (int(self.counts.sum()), VOCABULARY)
        self.logits = rng.normal(scale=2.0, size=shape).astype(np.float32)
        self.watched = {
            name: Watched(name, int(rng.integers(1, CAP + 1)), np.float32(rng.normal()), n % 2 == 0)
            for n, name in enumerate(self.ids)
            if n not in (2, 5)
        }
        canvas = rng.integers(0, VOCABULARY, (SLOTS, WIDTH))
        before = rng.integers(0, VOCABULARY, (SLOTS, WIDTH))
        step = np.zeros(SLOTS, dtype=np.int32)
        for n, name in enumerate(self.ids):
            slot, rows = self.slots[n], self.rows(n)
            if name in self.watched:
                step[slot] = rng.integers(0, self.watched[name].steps)
            if rng.random() < 0.6:  # its argmaxes stay as they were
                before[slot, : len(rows)] = rows.argmax(axis=-1)
            if rng.random() < 0.5:  # and some canvases hold them already
                canvas[slot, : len(rows)] = rows.argmax(axis=-1)
        committing = rng.random(SLOTS) < 0.2
        self.state = CanvasState(*map(torch.from_numpy, (canvas, before, step, committing)))

    def rows(self, n: int) -> np.ndarray:
        end = int(self.counts[: n + 1].sum())
        return self.logits[end - self.counts[n] : end]

    def expected(self, n: int, rule: HaltingRule) -> np.float32:
        """The rule's own score, asked about one request."""
        logits, slot = self.rows(n), self.slots[n]
        best = logits.argmax(axis=-1)[np.newaxis]
        whole = np.ones_like(best, dtype=bool)
        undecided = self.state.canvas[slot, : len(logits)].numpy() != best
        masked = undecided if undecided.any() else whole
        region = masked if rule.region == "masked" else whole
        signal = aggregate(top2_margins(logits)[np.newaxis], region, rule.aggregate)[0]
        at, steps = int(self.state.step[slot]), self.watched[self.ids[n]].steps
        before = self.state.argmax_canvas[slot, : len(logits)].numpy()[np.newaxis]
        changed = bool(argmax_changed(best, before if at else None, whole)[0])
        return rule.score(signal, progress_at(at, steps), changed)


@pytest.mark.parametrize("name", RULES)
def test_every_request_is_decided_as_the_rule_decides_it_alone(name: str) -> None:
    rule = RULES[name]
    seen = set()
    for seed in range(25):
        step = Step(seed)
        found = Batches(rule, torch.device("cpu")).rows(
            step.ids, step.slots, step.counts, step.watched.get
        )
        assert found is not None
        watched, rows = found
        assert [one.request_id for one in watched] == ["r0", "r3", "r4", "r6"]
        decision = decide(rule, torch.from_numpy(step.logits), rows, step.state)
        caps = torch.full((SLOTS,), CAP, dtype=torch.int32)
        lowered = lowered_caps(caps, rows, decision)
        assert caps.tolist() == [CAP] * SLOTS
        for at, one in enumerate(watched):
            n = step.ids.index(one.request_id)
            slot, score = step.slots[n], step.expected(n, rule)
            committing = bool(step.state.committing[slot])
            halts = bool(score > one.level) and not committing
            assert decision.score[at].item() == score
            assert decision.halts[at].item() == halts
            assert decision.committing[at].item() == committing
            reached = int(step.state.step[slot]) + 1
            assert lowered[slot].item() == (reached if halts and one.stops else CAP)
            seen.add((halts, one.stops))
        others = np.setdiff1d(np.arange(SLOTS), step.slots[[0, 3, 4, 6]])
        assert lowered[others].tolist() == [CAP] * len(others)
    assert len(seen) == 4


def test_a_margin_that_is_no_number_halts_nothing_and_is_told() -> None:
    step = Step(0)
    step.logits[0, 3] = np.nan
    rule = RULES["span.mean"]
    found = Batches(rule, torch.device("cpu")).rows(
        ["r0"],
        step.slots[:1],
        step.counts[:1],
        {"r0": Watched("r0", CAP, np.float32(-100), stops=True)}.get,
    )
    assert found is not None
    step.state.committing[:] = False
    decision = decide(rule, torch.from_numpy(step.logits[:WIDTH]), found[1], step.state)
    assert decision.score.tolist() == [-np.inf]
    assert decision.halts.tolist() == [False]
    assert decision.broken.tolist() == [True]


def test_watched_rows_that_lie_together_are_read_as_one_piece() -> None:
    watched = {name: Watched(name, CAP, np.float32(0), stops=True) for name in "abd"}
    ids, slots, counts = list("abcd"), np.arange(4), np.array([3, 2, 4, 3])
    batches = Batches(RULES["span.mean"], torch.device("cpu"))
    found = batches.rows(ids, slots, counts, watched.get)
    assert found is not None
    assert found[1].runs == (slice(0, 5), slice(9, 12))
    assert found[1].valid.sum(dim=1).tolist() == [3, 2, 3]
    assert batches.rows(ids, slots, counts, watched.get) is found


def test_a_batch_that_changes_is_looked_at_anew() -> None:
    first, second = (Watched("a", CAP, np.float32(n), stops=True) for n in range(2))
    batches = Batches(RULES["span.mean"], torch.device("cpu"))
    slots, counts = np.arange(1), np.array([WIDTH])
    before = batches.rows(["a"], slots, counts, {"a": first}.get)
    after = batches.rows(["a"], slots, counts, {"a": second}.get)
    assert before is not None
    assert after is not None
    assert (before[1].levels.item(), after[1].levels.item()) == (0.0, 1.0)
    moved = batches.rows(["a"], slots + 3, counts, {"a": second}.get)
    assert moved is not None
    assert moved[1].slots.tolist() == [3]
    assert batches.rows(["a"], slots, counts * 0, {"a": second}.get) is None
    assert batches.rows(["b"], slots, counts, {"a": second}.get) is None
