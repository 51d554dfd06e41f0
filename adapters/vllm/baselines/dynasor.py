"""Dynasor-CoT (arXiv 2412.20993): try an answer every so many tokens, stop when it stays."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

from adapters.vllm.baselines.policy import Plan, Stop, Trial, Tried

# As in the authors' code: a trial that hesitates does not count.
HESITATIONS = ("wait", "hold", "but", "okay", "no", "hmm")

Same = Callable[[str | None, str | None], bool]


@dataclass(frozen=True, slots=True)
class Parameters:
    """A trial every `interval` tokens; the last `window` answers must be equal."""

    interval: int = 32
    window: int = 3
    max_tokens: int = 20


class Dynasor:
    """Stop when the last trials' answers are equal, and none of the trials hesitates."""

    def __init__(self, same: Same, parameters: Parameters) -> None:
        self._same = same
        self._parameters = parameters
        self._answers: deque[str | None] = deque(maxlen=parameters.window)
        self._seen = 0

    def on_token(self, token: int, alternatives: Mapping[int, float]) -> Trial | None:
        """Count."""
        self._seen += 1
        due = self._seen % self._parameters.interval == 0
        return Trial(self._seen, self._parameters.max_tokens) if due else None

    def on_trial(self, tried: Tried) -> Stop | None:
        """Stop where the answer has stayed."""
        said = "".join(tried.texts).lower()
        firm = not any(word in said for word in HESITATIONS)
        self._answers.append(tried.answer if firm else None)
        if len(self._answers) < self._parameters.window:
            return None
        first = self._answers[0]
        stays = all(self._same(first, answer) for answer in self._answers)
        return Stop(tried.position) if stays else None


def plan(same: Same, parameters: Parameters) -> Plan:
    """Run it; `same` compares two answers."""
    return Plan(
        name="dynasor",
        title="Dynasor-CoT",
        guarantee="none",
        parameters=asdict(parameters),
        policy=lambda prompt: Dynasor(same, parameters),
    )
