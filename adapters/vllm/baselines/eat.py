"""EAT (arXiv 2509.26522): the entropy after a forced end of thinking; stop when it settles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from adapters.vllm.baselines.policy import Plan, Stop, Trial, Tried, entropy
from adapters.vllm.baselines.vocabulary import SentenceEnds, Vocabulary

ALTERNATIVES = 20


@dataclass(frozen=True, slots=True)
class Parameters:
    """The timescale is the published one, the others are ours.

    The authors sweep the threshold. They wait 4 / timescale = 20 looks, which few traces of the
    tiny reasoner have.
    """

    timescale: float = 0.2
    variance_below: float = 0.001
    warm_up: int = 3


class Eat:
    """At each sentence's end the entropy of the answer's first token; stop at a small variance.

    Mean and variance are exponential moving ones: m += a (x - m), then v += a ((x - m)^2 - v),
    from m = the first value and v = 0. A stop needs more looks than the warm-up.
    """

    def __init__(self, ends: SentenceEnds, parameters: Parameters) -> None:
        self._ends = ends
        self._parameters = parameters
        self._seen = self._looks = 0
        self._mean = self._variance = 0.0

    def on_token(self, token: int, alternatives: Mapping[int, float]) -> Trial | None:
        """Look at the end of a sentence."""
        self._seen += 1
        return Trial(self._seen, 1, ALTERNATIVES) if self._ends.ended(token) else None

    def on_trial(self, tried: Tried) -> Stop | None:
        """Update mean and variance."""
        value = entropy(tried.first)
        if not self._looks:
            self._mean = value
        self._looks += 1
        share = self._parameters.timescale
        self._mean += share * (value - self._mean)
        self._variance += share * ((value - self._mean) ** 2 - self._variance)
        warm = self._looks > self._parameters.warm_up
        settled = warm and self._variance < self._parameters.variance_below
        return Stop(tried.position) if settled else None


def plan(vocabulary: Vocabulary, parameters: Parameters) -> Plan:
    """Run it at the ends of sentences; the authors look at blank lines."""
    return Plan(
        name="eat",
        title="EAT",
        guarantee="none",
        parameters={**asdict(parameters), "at": "sentence ends"},
        policy=lambda prompt: Eat(SentenceEnds(vocabulary), parameters),
    )
