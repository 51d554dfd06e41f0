"""Reads answers out of what was generated, and finds what leads a model to its answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from adapters.vllm.baselines.conversation import Conversation
from adapters.vllm.baselines.vocabulary import Vocabulary
from calibration.comparers import AUTO, Comparer

#: Share of answers that must begin alike for their beginning to be forced in trials.
COMMON = 0.9


@dataclass(frozen=True, slots=True)
class Reader:
    """Decodes with the model's tokenizer; `answer_prompt` and `comparer` are the artifact's."""

    tokenizer: Any
    vocabulary: Vocabulary
    answer_prompt: str
    comparer: Comparer = AUTO

    def forced(self, text: str) -> str | None:
        """Read the answer that follows a forced closing."""
        return self.comparer.extract_forced(text, self.answer_prompt)

    def answer(self, talk: Conversation) -> str | None:
        """Read the final answer of a prompt; None where the thinking never ended."""
        ids = talk.said_ids
        if not ids:
            return None
        if talk.stop is None:
            return self.comparer.extract(self.tokenizer.decode(ids, skip_special_tokens=True))
        return self.forced(self.tokenizer.decode(ids, skip_special_tokens=True))

    def lead(self, full: Sequence[Conversation]) -> tuple[int, ...]:
        """Return the token ids with which nearly all full traces lead to their answer.

        The rivals' published trials are led to the answer by words such as "Final Answer:
        \\boxed{"; where the artifact's closing has none, these are the model's own. Empty where
        the answers begin too differently, or where the artifact's closing leads already.
        """
        if self.answer_prompt:
            return ()
        seen: Counter[tuple[int, ...]] = Counter()
        for talk in full:
            answer, ids = self.answer(talk), talk.said_ids
            texts = [self.vocabulary.text(token) for token in ids]
            at = -1 if answer is None else "".join(texts).rfind(answer)
            if at >= 0:
                seen[tuple(ids[: _tokens_before(texts, at)])] += 1
        if not seen:
            return ()
        common, count = seen.most_common(1)[0]
        return common if count >= COMMON * len(full) else ()


def _tokens_before(texts: Sequence[str], at: int) -> int:
    """Count the tokens that lie wholly before a character."""
    length = 0
    for index, text in enumerate(texts):
        length += len(text)
        if length > at:
            return index
    return len(texts)
