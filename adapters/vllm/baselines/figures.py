"""What a rule cost and risked, over all prompts: the numbers of the table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from adapters.vllm.baselines.conversation import Conversation
from calibration.evaluate import clopper_pearson
from stopper.errors import InputError


@dataclass(frozen=True, slots=True)
class Row:
    """One rule; all tokens are means per prompt.

    Attributes
    ----------
    rule, title, guarantee, parameters
        Of the plan.
    accuracy
        None where a gold answer is missing.
    tokens
        Thinking tokens that the answer rests on.
    overrun_tokens, trial_tokens, answer_tokens
        Generated beyond the stop while a trial ran; by trials; after the thinking.
    prefill_tokens, cached_tokens
        Prompt tokens of all requests, and how many of them the prefix cache held.
    bad_stops, bad_stop_share, bad_stop_interval
        Prompts that the rule changed and badly so, by the artifact's loss; Clopper-Pearson, 95 %.
    stopped_share
        Share of prompts that the rule changed: stopped, or written otherwise.
    trials, late_trials, crowded
        Trials started; those that came too late; those without room in the engine.
    main_equal_share
        Share of prompts whose thinking is, token for token, that of the full run as far as it went.
    wall_s, cpu_s
        Seconds for all prompts, and processor seconds of the process; None for what cannot be run.
    engine
        vLLM's own counters: prompt, cached and generated tokens in all.
    """

    rule: str
    title: str
    guarantee: str
    parameters: Mapping[str, Any]
    accuracy: float | None
    tokens: float
    overrun_tokens: float
    trial_tokens: float
    answer_tokens: float
    prefill_tokens: float
    cached_tokens: float
    bad_stops: int
    bad_stop_share: float
    bad_stop_interval: tuple[float, float]
    stopped_share: float
    trials: float
    late_trials: int
    crowded: int
    main_equal_share: float
    wall_s: float | None
    cpu_s: float | None
    engine: Mapping[str, float]

    @property
    def extra_tokens(self) -> float:
        """Tokens generated for the rule's own sake: trials and overrun."""
        return self.trial_tokens + self.overrun_tokens

    @property
    def all_tokens(self) -> float:
        """All tokens generated."""
        return self.tokens + self.extra_tokens + self.answer_tokens

    @property
    def computed_prefill(self) -> float:
        """Prompt tokens that the prefix cache did not hold."""
        return self.prefill_tokens - self.cached_tokens

    def to_json(self) -> dict[str, Any]:
        """Give all fields as plain JSON."""
        fields = {name: getattr(self, name) for name in self.__slots__}
        return {
            **fields,
            "parameters": dict(self.parameters),
            "bad_stop_interval": list(self.bad_stop_interval),
            "engine": dict(self.engine),
            "extra_tokens": self.extra_tokens,
            "all_tokens": self.all_tokens,
        }


@dataclass(frozen=True, slots=True)
class Answered:
    """A prompt's gold answer and what a run answered."""

    gold: str | None
    full: str | None
    short: str | None


def is_bad(loss: str, case: Answered, same: Any) -> bool:
    """Tell whether changing this request was bad in the sense of a loss.

    Raises
    ------
    InputError
        When the loss needs a gold answer and there is none.

    """
    if loss == "disagree":
        return not same(case.short, case.full)
    if case.gold is None:
        raise InputError(
            f"loss '{loss}' needs the right answer of every prompt; give prompts with 'answer', or "
            "an artifact calibrated for loss 'disagree'"
        )
    wrong = not same(case.short, case.gold)
    return wrong and (loss == "wrong" or bool(same(case.full, case.gold)))


def row(
    talks: Sequence[Conversation],
    full: Sequence[Conversation],
    answers: Sequence[Answered],
    changed: Sequence[bool],
    loss: str,
    same: Any,
    wall_s: float,
    cpu_s: float,
    engine: Mapping[str, float],
) -> Row:
    """Sum up a run.

    Parameters
    ----------
    talks, full
        Of this rule and of the full traces, prompt by prompt.
    answers
        Prompt by prompt.
    changed
        Whether the rule stopped the request or made it write something else.
    """
    plan = talks[0].plan
    bad = sum(c and is_bad(loss, case, same) for c, case in zip(changed, answers, strict=True))
    known = all(case.gold is not None for case in answers)
    requests = [branch for talk in talks for branch in talk.branches]
    count = len(talks)

    def mean(values: list[int]) -> float:
        return float(np.sum(values)) / count

    return Row(
        rule=plan.name,
        title=plan.title,
        guarantee=plan.guarantee,
        parameters=plan.parameters,
        accuracy=mean([same(case.short, case.gold) for case in answers]) if known else None,
        tokens=mean([talk.thinking for talk in talks]),
        overrun_tokens=mean([talk.overrun for talk in talks]),
        trial_tokens=mean([talk.trial_tokens for talk in talks]),
        answer_tokens=mean([len(talk.answer_ids) for talk in talks]),
        # A request that was aborted before its first token never got to the engine's model.
        prefill_tokens=mean([len(r.prompt) for r in requests if r.cached_tokens is not None]),
        cached_tokens=mean([r.cached_tokens or 0 for r in requests]),
        bad_stops=bad,
        bad_stop_share=bad / count,
        bad_stop_interval=clopper_pearson(bad, count),
        stopped_share=mean([int(c) for c in changed]),
        trials=mean([len(talk.trials) for talk in talks]),
        late_trials=sum(talk.late for talk in talks),
        crowded=sum(talk.crowded for talk in talks),
        main_equal_share=mean([_same_start(a, b) for a, b in zip(talks, full, strict=True)]),
        wall_s=wall_s,
        cpu_s=cpu_s,
        engine=engine,
    )


def _same_start(talk: Conversation, full: Conversation) -> bool:
    """Compare the thinking with the full run's, up to the stop or to its own end."""
    if not talk.plan.thinks:
        return True
    # A plugin's closing lies behind the thinking; tokens that overran belong to the full trace.
    end = talk.thinking if talk.stop is None else len(talk.main.token_ids)
    return talk.main.token_ids[:end] == full.main.token_ids[:end]
