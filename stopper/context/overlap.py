"""Scores sentences by the words they share with the question: a backend without a model.

It is fast, knows no meaning, and keeps no promise. It is there for trying things out, for tests,
and to compare the encoder with.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import numpy as np

from probes.sentences import Logits, Passage

_WORD = re.compile("[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\\W_]+")
_COMMON_WORDS = (
    "a about all also am an and any are as at be because been before being between both but by can "
    "could did do does doing done for from had has have he her here him his how i if in into is it "
    "its just many may me might more most much must my no not of off on one only or other our out "
    "over own please s shall she should so some such t tell than that the their them then there "
    "these they this those through to too under until up us very was we were what when where which "
    "while who whom whose why will with would you your"
)
_COMMON = frozenset(_COMMON_WORDS.split())

NEIGHBOUR = 0.25
"""Credit for a word that the sentence lacks and the title, or the sentence before, has."""


class OverlapScorer:
    """The share of the question's words that a sentence has, as a logit."""

    @property
    def identity(self) -> dict[str, str]:
        """What a threshold on these scores is tied to."""
        return {"scorer": "overlap", "version": "1"}

    def score(self, query: str, passages: Sequence[Passage]) -> list[Logits]:
        """Score every sentence; see :class:`probes.sentences.SentenceScorer`."""
        wanted = _words(query)
        return [self._score(wanted, passage) for passage in passages]

    def _score(self, wanted: frozenset[str], passage: Passage) -> Logits:
        around = _words(passage.title)
        title = around
        found = []
        for sentence in passage.sentences:
            words = _words(sentence)
            share = 0.0
            if wanted:
                shared = len(wanted & words) + NEIGHBOUR * len((wanted - words) & around)
                share = shared / len(wanted)
            likely = 0.02 + 0.96 * share
            found.append(math.log(likely / (1.0 - likely)))
            around = title | words
        return np.array(found, np.float32)


def _words(text: str) -> frozenset[str]:
    found = (word.lower() for word in _WORD.findall(text))
    return frozenset(_stem(word) for word in found if word not in _COMMON)


def _stem(word: str) -> str:
    """Cut the commonest endings of English, so that "plays" finds "played"."""
    for ending in ("ing", "ed", "es", "s"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word[: -len(ending)]
    return word
