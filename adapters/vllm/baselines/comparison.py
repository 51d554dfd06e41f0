"""Runs all rules, one after the other, on one engine, and puts their figures together."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from adapters.vllm.baselines import (
    budget,
    deer,
    dynasor,
    eat,
    lynx,
    nowait,
    ours,
    thinkbrake,
)
from adapters.vllm.baselines.answers import Reader
from adapters.vllm.baselines.choice import Choice, chosen
from adapters.vllm.baselines.conversation import Closing, Conversation
from adapters.vllm.baselines.driver import Driver, Run
from adapters.vllm.baselines.figures import Answered, Row, is_bad, row
from adapters.vllm.baselines.oracle import oracle
from adapters.vllm.baselines.policy import Plan
from adapters.vllm.baselines.vocabulary import Vocabulary
from adapters.vllm.engine import EngineOptions, running_engine
from adapters.vllm.generation import Sampling, outer_id
from adapters.vllm.journal import KEPT
from adapters.vllm.prompts import Prompt
from adapters.vllm.settings import PluginSettings
from calibration.comparers import AUTO, get_comparer
from stopper.artifact import Artifact
from stopper.calibrating import rule_of
from stopper.errors import ArtifactError, InputError
from stopper.policy import StopPolicy

#: Carried out by the plugin: what was stopped is read from its decisions.
IN_ENGINE = ("stopper", "lynx")

Progress = Callable[[str], Callable[[], None]]


@dataclass(frozen=True, slots=True)
class Compared:
    """All rules on the same prompts.

    Attributes
    ----------
    alpha, loss
        Of the artifact's promise.
    lead
        Text put behind a trial's closing, so that it answers at once.
    full, rows, oracle
        The figures.
    records
        One per rule and prompt, plain.
    """

    alpha: float
    loss: str
    n_test: int
    concurrency: int
    lead: str
    full: Row
    rows: list[Row]
    oracle: Row
    records: list[dict[str, Any]]

    def to_json(self) -> dict[str, Any]:
        """Give the figures as plain JSON; tokens are means per prompt."""
        return {
            "alpha": self.alpha,
            "loss": self.loss,
            "n_test": self.n_test,
            "concurrency": self.concurrency,
            "trial_lead": self.lead,
            "rows": [row.to_json() for row in self.rows],
            "full": self.full.to_json(),
            "oracle": self.oracle.to_json(),
        }


def compare(
    options: EngineOptions, artifact_dir: Path, alpha: float | None, prompts: list[Prompt],
    sampling: Sampling, concurrency: int, names: Sequence[str] | None, progress: Progress,
) -> Compared:  # fmt: skip
    """Run every rule on the prompts with one engine.

    All runs use the same seeds and start from an empty prefix cache. The engine runs in this
    process, where a stop takes effect before its next step.

    Raises
    ------
    StopperError
        For an unknown rule, an artifact without promise, or an engine that stopper refuses.

    """
    from transformers import AutoTokenizer

    asked = chosen(names)
    asks_lynx = any(choice.name == "lynx" for choice in asked)
    if len(prompts) > KEPT:
        raise InputError(f"--limit: at most {KEPT}, of which the engine remembers the decisions")
    artifact = Artifact.load(artifact_dir)
    calibration, closing = artifact.manifest.calibration, artifact.manifest.closing
    if calibration is None or closing is None or artifact.cues is None:
        raise ArtifactError(f"{artifact_dir}: not calibrated; run `stopper calibrate` on it")
    alpha = calibration.alpha if alpha is None else alpha
    StopPolicy.from_artifact(artifact)
    settings = PluginSettings(
        artifact=artifact_dir,
        alpha=alpha,
        threshold=_lynx_threshold(artifact, alpha) if asks_lynx else None,
    )
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    vocabulary = Vocabulary(tokenizer)
    comparer = get_comparer(artifact.manifest.comparer or AUTO.name)
    reader = Reader(tokenizer, vocabulary, closing.answer_prompt, comparer)
    named = [(prompt.id, prompt.token_ids(tokenizer)) for prompt in prompts]
    # Read by vLLM when the engine is made; its own process would run ahead of a stop.
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    options = replace(options, extra={**options.extra, "disable_log_stats": False})
    with running_engine(options, settings) as llm:
        driver = Driver(llm, tokenizer, vocabulary, sampling, reader.forced, concurrency)
        ends = Closing(closing.end_ids, (*closing.end_ids, *closing.answer_prompt_ids))
        # The first engine steps of a process are slow: they are not timed.
        driver.run(ours.full(), named[:1], ends)
        full = driver.run(ours.full(), named, ends, progress("full"))
        answers = [reader.answer(talk) for talk in full.conversations]
        book = _Book(calibration.loss, prompts, full, answers, reader)
        ends = replace(ends, lead_ids=reader.lead(full.conversations))
        rows: list[Row] = []
        for plan in _plans(asked, artifact, alpha, settings, vocabulary, book, rows):
            run = driver.run(plan, named, ends, progress(plan.title))
            rows.append(book.enter(run, _decided(llm, run) if plan.name in IN_ENGINE else None))
        best = oracle(
            llm, full.conversations, book.cases(answers), artifact.cues, closing, sampling, reader,
            calibration.loss, comparer.same,
        )  # fmt: skip
    return Compared(
        alpha, calibration.loss, len(prompts), concurrency, tokenizer.decode(ends.lead_ids),
        book.full, rows, best, book.records,
    )  # fmt: skip


def _lynx_threshold(artifact: Artifact, delta: float) -> float:
    limit = rule_of(artifact).lynx(delta)
    if limit is None:
        raise ArtifactError(
            "--rule lynx: the artifact keeps no cue scores by class; calibrate it again"
        )
    largest = float(np.finfo(np.float32).max)  # no score passes it, and JSON can say it
    return min(max(limit, -largest), largest)


def _plans(
    asked: Sequence[Choice], artifact: Artifact, alpha: float, settings: PluginSettings,
    vocabulary: Vocabulary, book: _Book, rows: Sequence[Row],
) -> Iterator[Plan]:  # fmt: skip
    """Make the plans one by one: the budget is chosen by what stopper, run before it, took."""
    record, cues = artifact.manifest.calibration, artifact.cues
    closing = artifact.manifest.closing
    assert record is not None
    assert cues is not None
    assert closing is not None
    lengths = [talk.thinking for talk in book.run.conversations]
    makers: Mapping[str, Callable[[Any], Plan]] = {
        "stopper": lambda _: ours.stopper(alpha, record.method, record.confidence),
        "budget": lambda _: budget.plan(lengths, rows[0].tokens),
        "no-thinking": lambda _: ours.no_thinking(),
        "lynx": lambda _: lynx.plan(settings.threshold or 0.0, alpha),
        "deer": lambda given: deer.plan(cues, vocabulary, given),
        "dynasor": lambda given: dynasor.plan(book.same, given),
        "eat": lambda given: eat.plan(vocabulary, given),
        "thinkbrake": lambda given: thinkbrake.plan(vocabulary, closing.end_ids[0], given),
        "nowait": lambda _: nowait.plan(vocabulary, cues.spec.words),
    }
    for choice in asked:
        plan = makers[choice.name](choice.parameters)
        yield replace(plan, name=choice.label, title=plan.title + choice.suffix)


def _decided(llm: Any, run: Run) -> list[bool]:
    """Read from the plugin's own decisions which requests it stopped."""
    stopped: dict[str, bool] = {}
    for rank in llm.collective_rpc("stopper_decisions", args=(1_000_000,)):
        for decision in rank:
            stopped[outer_id(decision["request_id"])] = decision["decision"] == "stopped"
    return [stopped[talk.main.name] for talk in run.conversations]


class _Book:
    """Enters one run after the other, each held against the full one."""

    def __init__(
        self,
        loss: str,
        prompts: Sequence[Prompt],
        full: Run,
        answers: Sequence[str | None],
        reader: Reader,
    ) -> None:
        self.run = full
        self.records: list[dict[str, Any]] = []
        self._loss = loss
        self._prompts = prompts
        self._answers = answers
        self._reader = reader
        self.same = reader.comparer.same
        self.full = self.enter(full, [False] * len(prompts))

    def cases(self, answers: Sequence[str | None]) -> list[Answered]:
        """Put gold, full and short answers side by side."""
        rows = zip(self._prompts, self._answers, answers, strict=True)
        return [Answered(prompt.answer, full, short) for prompt, full, short in rows]

    def enter(self, run: Run, decided: Sequence[bool] | None) -> Row:
        """Sum up a run and write down its requests.

        `decided` tells which requests the plugin stopped; None for a rule outside the engine.
        """
        talks, full = run.conversations, self.run.conversations
        changed = decided
        if changed is None:
            pairs = zip(talks, full, strict=True)
            changed = [_changed(talk, whole) for talk, whole in pairs]
        cases = self.cases([self._reader.answer(talk) for talk in talks])
        for talk, case, moved in zip(talks, cases, changed, strict=True):
            self.records.append(
                {
                    "rule": run.plan.name,
                    "prompt": talk.prompt_id,
                    "changed": moved,
                    "bad": moved and is_bad(self._loss, case, self.same),
                    "thinking_tokens": talk.thinking,
                    "overrun_tokens": talk.overrun,
                    "trial_tokens": talk.trial_tokens,
                    "answer_tokens": len(talk.answer_ids),
                    "trials": len(talk.trials),
                    "late_trials": talk.late,
                    "answer": case.short,
                    "full_answer": case.full,
                    "gold": case.gold,
                    "prompt_ids": talk.main.prompt,
                    "output_ids": talk.main.token_ids,
                }
            )
        return row(
            talks, full, cases, changed, self._loss, self.same, run.wall_s, run.cpu_s, run.engine
        )


def _changed(talk: Conversation, full: Conversation) -> bool:
    if talk.plan.rewrites:
        return talk.main.token_ids != full.main.token_ids
    return talk.stop is not None
