"""DEER (arXiv 2504.15895): try an answer where the model changes its mind, stop if it is sure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from adapters.vllm.baselines.policy import Plan, Stop, Trial, Tried, answer_logprobs
from adapters.vllm.baselines.vocabulary import Vocabulary
from stopper.cues import CueAutomaton


@dataclass(frozen=True, slots=True)
class Parameters:
    """As published."""

    confidence: float = 0.95
    max_tokens: int = 20


class Deer:
    """Before each cue a trial; stop if the answer's mean token probability exceeds `confidence`.

    The mean is geometric, as in the authors' code, over the tokens of the answer itself.
    """

    def __init__(
        self,
        cues: CueAutomaton,
        vocabulary: Vocabulary,
        prompt: Sequence[int],
        parameters: Parameters,
    ) -> None:
        self._cues = cues
        self._text = vocabulary.text
        self._state = cues.prompt_state(prompt)
        self._tokens: list[int] = []
        self._parameters = parameters

    def on_token(self, token: int, alternatives: Mapping[int, float]) -> Trial | None:
        """Look for a cue; the trial goes without it."""
        self._tokens.append(token)
        self._state, label = self._cues.step(self._state, token)
        if not label:
            return None
        return Trial(self._before(self._cues.labels[label - 1]), self._parameters.max_tokens)

    def _before(self, word: str) -> int:
        """Give the position before the word that has just ended; one token back where unsure."""
        spelled = ""
        for back, token in enumerate(reversed(self._tokens[-len(word) :]), start=1):
            spelled = self._text(token) + spelled
            if word.casefold() in spelled.casefold():
                return len(self._tokens) - back
        return len(self._tokens) - 1

    def on_trial(self, tried: Tried) -> Stop | None:
        """Stop where the trial was sure."""
        logprobs = answer_logprobs(tried)
        if not logprobs:
            return None
        sure = math.exp(sum(logprobs) / len(logprobs)) > self._parameters.confidence
        return Stop(tried.position) if sure else None


def plan(cues: CueAutomaton, vocabulary: Vocabulary, parameters: Parameters) -> Plan:
    """Run it at all of the artifact's cues; in the paper at "Wait"."""
    return Plan(
        name="deer",
        title="DEER",
        guarantee="none",
        parameters={**asdict(parameters), "at": list(cues.labels)},
        policy=lambda prompt: Deer(cues, vocabulary, prompt, parameters),
    )
