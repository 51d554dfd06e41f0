"""ThinkBrake (arXiv 2510.00546): stop where the end of thinking is nearly the likeliest token."""

from __future__ import annotations

import math
from collections.abc import Mapping, Set
from dataclasses import asdict, dataclass

from adapters.vllm.baselines.policy import Plan, Silent, Stop
from adapters.vllm.baselines.vocabulary import Vocabulary

ALTERNATIVES = 20


@dataclass(frozen=True, slots=True)
class Parameters:
    """In nats; as in the authors' example."""

    margin: float = 1.0


class ThinkBrake(Silent):
    """After a sentence or a line: stop if log p(top) - log p(end of thinking) <= margin.

    An end that is not among the reported alternatives is further away than any of them.
    """

    def __init__(self, sentence_ends: Set[int], end_token: int, parameters: Parameters) -> None:
        self._ends = sentence_ends
        self._end = end_token
        self._parameters = parameters
        self._seen = 0
        self._look = False

    def on_token(self, token: int, alternatives: Mapping[int, float]) -> Stop | None:
        """Read the margin off the token that follows a sentence's end."""
        look, before = self._look, self._seen
        self._seen += 1
        self._look = token in self._ends
        if not look or not alternatives:
            return None
        end = alternatives.get(self._end, -math.inf)
        return Stop(before) if max(alternatives.values()) - end <= self._parameters.margin else None


def plan(vocabulary: Vocabulary, end_token: int, parameters: Parameters) -> Plan:
    """Run it on the main request's own log-probabilities: no trial is needed."""
    return Plan(
        name="thinkbrake",
        title="ThinkBrake",
        guarantee="none",
        parameters={**asdict(parameters), "at": "sentence and line ends"},
        policy=lambda prompt: ThinkBrake(vocabulary.sentence_ends, end_token, parameters),
        changes={"logprobs": ALTERNATIVES},
    )
