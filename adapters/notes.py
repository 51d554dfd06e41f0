"""What was kept of each document, as plain JSON: for those who show or log it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from stopper.context import Compressed, Document, Kept, estimate_tokens


def notes(documents: Sequence[Document], done: Compressed) -> list[dict[str, Any]]:
    """Return a note for each document.

    Returns
    -------
    list of dict
        "kept": ``{"start", "end", "score"}`` for each sentence that was kept, characters of the
        document's text, score None where it was not scored; "tokens_in" and "tokens_out":
        estimates; "threshold", None where it is infinite.

    """
    kept: list[list[Kept]] = [[] for _ in documents]
    for one in done.kept:
        kept[one.document].append(one)
    return [
        {
            "kept": [
                {"start": one.start, "end": one.end, "score": _finite(one.score)} for one in found
            ],
            "tokens_in": estimate_tokens(document.text),
            "tokens_out": estimate_tokens(text),
            "threshold": _finite(done.threshold),
        }
        for document, text, found in zip(documents, done.documents, kept, strict=True)
    ]


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None
