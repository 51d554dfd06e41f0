"""NoWait (arXiv 2506.08343): the model cannot say the words with which it begins to doubt."""

from __future__ import annotations

from collections.abc import Iterable

from adapters.vllm.baselines.policy import Plan
from adapters.vllm.baselines.vocabulary import Vocabulary

BIAS = -100.0
#: The published list.
WORDS = (
    "wait", "alternatively", "hmm", "but", "however", "alternative", "another", "check",
    "double-check", "oh", "maybe", "verify", "other", "again", "now", "ah", "any",
)  # fmt: skip


def forbidden(vocabulary: Vocabulary, words: Iterable[str]) -> dict[int, float]:
    """Return the logit bias that forbids every token which spells or begins one of the words."""
    found = {token for word in words for token in vocabulary.spelling(word)}
    found |= {token for word in words for token in vocabulary.beginning(word)}
    return dict.fromkeys(sorted(found), BIAS)


def plan(vocabulary: Vocabulary, cues: Iterable[str]) -> Plan:
    """Forbid the published words and the artifact's cues."""
    words = tuple(dict.fromkeys((*cues, *WORDS)))
    bias = forbidden(vocabulary, words)
    return Plan(
        name="nowait",
        title="NoWait",
        guarantee="none",
        parameters={"words": f"{len(words)}, the published and the cues", "tokens": len(bias)},
        changes={"logit_bias": bias} if bias else {},
        rewrites=True,
    )
