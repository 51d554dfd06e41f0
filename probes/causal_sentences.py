"""Scores sentences by the Yes or No of a causal language model (EXIT, arXiv 2412.12559).

    score = log P(Yes) - log P(No) = logit of P(Yes) / (P(Yes) + P(No))

What reads the two next-token probabilities is given: a model in this process
(`probes.causal_transformers`), or a server (`adapters.openai`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from probes.causal_prompts import Prompt, PromptBuilder
from probes.errors import InputError, UnsupportedError
from probes.network import MAX_SCORE
from probes.sentences import Logits, Passage

PROMPTS_AT_A_TIME = 512


class AnswerReader(Protocol):
    """Reads what a model would answer."""

    @property
    def identity(self) -> dict[str, str]:
        """Which model it is."""
        ...

    def read(self, prompts: Sequence[Prompt], yes: int, no: int) -> npt.NDArray[np.float32]:
        """Return the logits of two next tokens.

        Parameters
        ----------
        prompts
            Those with equal prefixes stand beside each other.
        yes, no
            Token ids.

        Returns
        -------
        float32 [len(prompts), 2]
            Of `yes` and `no`: logits or log-probabilities, which differ by a constant a row.

        """
        ...


class CausalSentenceScorer:
    """A `probes.sentences.SentenceScorer` that asks a causal language model.

    A sentence so long that it cannot be shown whole beside the question is not judged: it gets the
    largest score, and so is never dropped.

    Parameters
    ----------
    builder
        Makes the prompts.
    reader
        Reads the answers.

    """

    def __init__(self, builder: PromptBuilder, reader: AnswerReader) -> None:
        self.builder = builder
        self.reader = reader

    @property
    def identity(self) -> dict[str, str]:
        """What a threshold on these scores is tied to: model, tokenizer, words, length."""
        return {
            "scorer": "causal",
            **self.reader.identity,
            "tokenizer": self.builder.tokens.identity,
            "wording": self.builder.wording.identity,
            "max_tokens": str(self.builder.max_tokens),
        }

    def score(self, query: str, passages: Sequence[Passage]) -> list[Logits]:
        """Score every sentence; see :class:`probes.sentences.SentenceScorer`.

        Raises
        ------
        InputError
            If the question is empty, or too long for the model.
        UnsupportedError
            If the model gives NaN.

        """
        if not query.strip():
            raise InputError("query: the question is empty; say what the sentences are needed for")
        scores = [np.full(len(passage.spans), MAX_SCORE, np.float32) for passage in passages]
        for places, prompts in self._batches(query, passages):
            answers = self.reader.read(prompts, self.builder.yes, self.builder.no)
            for (passage, sentence), score in zip(places, relevance(answers), strict=True):
                scores[passage][sentence] = score
        return scores

    def _batches(
        self, query: str, passages: Sequence[Passage]
    ) -> Iterator[tuple[list[tuple[int, int]], list[Prompt]]]:
        places: list[tuple[int, int]] = []
        prompts: list[Prompt] = []
        for index, passage in enumerate(passages):
            if not passage.spans:
                continue
            for sentence, prompt in enumerate(self.builder.prompts(query, passage)):
                if prompt is not None:
                    places.append((index, sentence))
                    prompts.append(prompt)
                if len(prompts) == PROMPTS_AT_A_TIME:
                    yield places, prompts
                    places, prompts = [], []
        if prompts:
            yield places, prompts


def relevance(answers: npt.ArrayLike) -> Logits:
    """Turn the logits of Yes and No into the logit of relevance.

    Parameters
    ----------
    answers
        [n, 2]: of Yes, of No.

    Returns
    -------
    float32 [n]
        Their difference, taken in float64, within +-MAX_SCORE.

    Raises
    ------
    UnsupportedError
        If one is NaN, or both are infinite.

    Examples
    --------
    >>> float(relevance([[-0.25, -2.25]])[0])
    2.0

    """
    both = np.asarray(answers, dtype=np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        difference = both[:, 0] - both[:, 1]
    if np.isnan(difference).any():
        raise UnsupportedError(
            "the model gave no number for Yes or No; load it in float32 or bfloat16"
        )
    return np.clip(difference, -MAX_SCORE, MAX_SCORE).astype(np.float32)
