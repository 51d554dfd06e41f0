"""When two canvases give the same answer, and when an answer is right."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Protocol

from adapters.transformers.requests import answer
from calibration.comparers import Comparer


class Judge(Protocol):
    """Compares canvases; must be deterministic and hold a canvas to be the same as itself."""

    def same(self, tokens: Sequence[int], full: Sequence[int]) -> bool:
        """Tell whether a halted canvas gives the answer of the full decode."""

    def right(self, tokens: Sequence[int], gold: str) -> bool | None:
        """Tell whether a canvas gives the right answer; None if that cannot be told."""


class TokenJudge:
    """Answers are the tokens before the first end token, and must be equal one by one.

    Parameters
    ----------
    end_ids
        Of the model.

    """

    def __init__(self, end_ids: Collection[int]) -> None:
        self.end_ids = frozenset(end_ids)

    def same(self, tokens: Sequence[int], full: Sequence[int]) -> bool:
        """Compare token by token."""
        return answer(tokens, self.end_ids) == answer(full, self.end_ids)

    def right(self, tokens: Sequence[int], gold: str) -> bool | None:
        """Tell nothing: without a tokenizer a text cannot be compared."""
        return None


class TextJudge(TokenJudge):
    """Answers are texts, read and compared by a comparer.

    Parameters
    ----------
    tokenizer
        Of the model.
    comparer
        See :func:`calibration.comparers.get_comparer`.
    end_ids
        Of the model.

    """

    def __init__(self, tokenizer: Any, comparer: Comparer, end_ids: Collection[int]) -> None:
        super().__init__(end_ids)
        self.tokenizer = tokenizer
        self.comparer = comparer

    def text(self, tokens: Sequence[int]) -> str:
        """Return what a user reads: the canvas up to its end, without special tokens."""
        kept = list(answer(tokens, self.end_ids))
        return str(self.tokenizer.decode(kept, skip_special_tokens=True))

    def same(self, tokens: Sequence[int], full: Sequence[int]) -> bool:
        """Compare the answers; equal tokens are the same even if they hold none."""
        if super().same(tokens, full):
            return True
        extract = self.comparer.extract
        return self.comparer.same(extract(self.text(tokens)), extract(self.text(full)))

    def right(self, tokens: Sequence[int], gold: str) -> bool | None:
        """Compare the answer with the right one."""
        return self.comparer.same(self.comparer.extract(self.text(tokens)), gold)
