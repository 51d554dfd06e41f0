"""`stopper demo`: the same prompts unstopped and stopped by a real engine, side by side."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from adapters.vllm.engine import EngineOptions, running_engine
from adapters.vllm.generation import Generated, Sampling, force_answers, generate, outer_id
from adapters.vllm.labelling import answer_of, record
from adapters.vllm.prompts import Prompt
from adapters.vllm.settings import PluginSettings
from calibration.comparers import AUTO, Comparer, get_comparer
from calibration.evaluate import clopper_pearson
from calibration.report import PLOT_ALPHAS, Evaluation, Evaluator
from calibration.table import CueTable
from probes.shaping import shape
from stopper.artifact import Artifact
from stopper.calibrating import rule_of
from stopper.errors import ArtifactError

if TYPE_CHECKING:
    from vllm import LLM


@dataclass(frozen=True, slots=True)
class Served:
    """One pass over the prompts: what was generated, the answers, and the wall-clock seconds.

    `comparer` tells right answers.
    """

    traces: list[Generated]
    answers: list[str | None]
    wall_s: float
    comparer: Comparer = AUTO

    @property
    def tokens(self) -> float:
        """Mean thinking tokens."""
        return float(np.mean([trace.thinking_tokens for trace in self.traces]))

    def accuracy(self, prompts: Sequence[Prompt]) -> float | None:
        """Share of right answers; None if a gold answer is missing."""
        if any(prompt.answer is None for prompt in prompts):
            return None
        same, pairs = self.comparer.same, zip(self.answers, prompts, strict=True)
        return float(np.mean([same(answer, prompt.answer) for answer, prompt in pairs]))


@dataclass(frozen=True, slots=True)
class Comparison:
    """What the demo measured.

    `stops` holds, per prompt, the output tokens at which the engine stopped, or None; `offline`
    the same from replaying the hidden states of the full traces outside the engine.
    """

    prompts: list[Prompt]
    full: Served
    stopped: Served
    stops: list[int | None]
    offline: list[int | None]
    evaluation: Evaluation
    curve: list[Evaluation]

    @property
    def bad(self) -> list[bool]:
        """Per prompt: stopped, and badly in the sense of the artifact's loss."""
        found = []
        same = self.full.comparer.same
        for number, prompt in enumerate(self.prompts):
            full, short = self.full.answers[number], self.stopped.answers[number]
            wrong = not same(short, prompt.answer)
            bad = {
                "disagree": not same(short, full),
                "wrong": wrong,
                "harm": wrong and same(full, prompt.answer),
            }[self.evaluation.loss]
            found.append(self.stops[number] is not None and bad)
        return found

    def to_json(self) -> dict[str, Any]:
        """Give the figures as plain JSON; tokens are means per prompt."""
        bad, n = sum(self.bad), len(self.prompts)

        def row(served: Served) -> dict[str, Any]:
            return {
                "accuracy": served.accuracy(self.prompts),
                "tokens": served.tokens,
                "wall_s": served.wall_s,
            }

        agreed = sum(a == b for a, b in zip(self.stops, self.offline, strict=True))
        return {
            "alpha": self.evaluation.alpha,
            "confidence": self.evaluation.confidence,
            "method": self.evaluation.method,
            "loss": self.evaluation.loss,
            "n_test": n,
            "full": row(self.full),
            "stopped": row(self.stopped),
            "stopped_early": sum(stop is not None for stop in self.stops),
            "bad_stops": bad,
            "bad_stop_share": bad / n,
            "bad_stop_interval": list(clopper_pearson(bad, n)),
            "oracle_tokens": self.evaluation.oracle.tokens,
            "engine_offline_agreement": agreed / n,
        }


def compare(
    options: EngineOptions, artifact_dir: Path, alpha: float | None, prompts: list[Prompt],
    sampling: Sampling, batch: int,
) -> Comparison:  # fmt: skip
    """Serve the prompts unstopped and stopped with one engine.

    All passes use the same seeds, and the untimed one, in which every cue is kept, goes first: each
    prompt is in the prefix cache before either of the others is timed.
    """
    from transformers import AutoTokenizer

    artifact = Artifact.load(artifact_dir)
    if artifact.manifest.calibration is None:
        raise ArtifactError(f"{artifact_dir}: not calibrated; run `stopper calibrate` on it")
    alpha = artifact.manifest.calibration.alpha if alpha is None else alpha
    settings = PluginSettings(artifact=artifact_dir, alpha=alpha, keep_hidden=True)
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    with running_engine(options, settings) as llm:
        server = _Server(llm, artifact, tokenizer, sampling, prompts)
        audited = server.serve("audit", "1/4 every cue read")
        full = server.serve(0, "2/4 unstopped")
        stopped = server.serve(1, "3/4 stopped")
        stops = server.stop_positions(stopped)
        table, offline = server.replay(audited.traces, alpha, batch, "4/4 answer at every cue")
    rule = rule_of(artifact)
    evaluator = Evaluator(table, rule)
    curve = [evaluator.at(a) for a in sorted({alpha, *PLOT_ALPHAS}) if rule.carries(a)]
    return Comparison(prompts, full, stopped, stops, offline, evaluator.at(alpha), curve)


@dataclass(frozen=True, slots=True)
class _Server:
    llm: LLM
    artifact: Artifact
    tokenizer: Any
    sampling: Sampling
    prompts: list[Prompt]

    def serve(self, mode: int | str, title: str) -> Served:
        closing = self.artifact.manifest.closing
        assert closing is not None
        ids = [prompt.token_ids(self.tokenizer) for prompt in self.prompts]
        params = [self.sampling.params(prompt.id, mode) for prompt in self.prompts]
        start = time.perf_counter()
        traces = generate(self.llm, ids, params, closing.end_ids, title)
        wall = time.perf_counter() - start
        answers = [
            answer_of(trace, self.tokenizer, self.comparer, closing.end_ids) for trace in traces
        ]
        return Served(traces, answers, wall, self.comparer)

    @property
    def comparer(self) -> Comparer:
        """How the artifact's labels were made."""
        return get_comparer(self.artifact.manifest.comparer or AUTO.name)

    def stop_positions(self, served: Served) -> list[int | None]:
        """Read from the engine's own decisions where each request was stopped."""
        found: dict[str, int | None] = {}
        for rank in self.llm.collective_rpc("stopper_decisions", args=(1_000_000,)):
            for decision in rank:
                stopped = decision["decision"] == "stopped"
                found[outer_id(decision["request_id"])] = decision["position"] if stopped else None
        return [found[trace.request_id] for trace in served.traces]

    def replay(
        self, audited: Sequence[Generated], alpha: float, batch: int, title: str
    ) -> tuple[CueTable, list[int | None]]:
        """Force an answer at every cue of the full traces, and decide outside the engine."""
        artifact = self.artifact
        closing, probe, cues = artifact.manifest.closing, artifact.probe, artifact.cues
        assert closing is not None
        assert probe is not None
        assert cues is not None
        limit = np.float32(rule_of(artifact).threshold(alpha))
        rows, offline = [], []
        for start in tqdm(range(0, len(audited), batch), title, leave=False, disable=None):
            part = audited[start : start + batch]
            forced = force_answers(self.llm, part, closing, self.sampling)
            for offset, (trace, answers) in enumerate(zip(part, forced, strict=True)):
                prompt = self.prompts[start + offset]
                made = record(
                    prompt.id, prompt, trace, answers, closing, cues.labels, self.tokenizer,
                    probe.spec.input_dim, self.comparer,
                )  # fmt: skip
                scores = shape(probe.score(made.hidden), probe.spec)
                rows.append(made.scored(scores, self.comparer))
                passing = (c.position for c, s in zip(made.cues, scores, strict=True) if s > limit)
                offline.append(next(passing, None))
        return CueTable.from_traces(rows), offline
