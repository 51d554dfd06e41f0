"""Records of context compression: documents in, the sentences that may be needed out."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

FilterReason = Literal["compressed", "all_kept", "none_kept", "empty_query", "no_sentences"]
"""As `stopper.context.Reason`."""

ContextFault = Literal["timeout", "busy", "too_large", "fault"]
"""Why documents went on as they came."""

Alpha = Annotated[float, msgspec.Meta(gt=0.0, lt=1.0)]
Floor = Annotated[int, msgspec.Meta(ge=0, le=1_000_000)]


class ContextDocument(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A retrieved text; it is data, whatever it says.

    Attributes
    ----------
    id
        Comes back with what is left of it.

    """

    text: str
    title: str = ""
    id: str | None = None


class CompressRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What `POST /v1/context/compress` takes.

    Attributes
    ----------
    query
        The question. An empty one drops nothing.
    alpha
        Share of queries that may lose a sentence they need; answered by the artifact.
    threshold
        In its place: a sentence is dropped iff float32(-score) > float32(threshold).
    floor
        At least so many sentences are kept.

    """

    query: str
    documents: list[ContextDocument]
    threshold: float | None = None
    alpha: Alpha | None = None
    floor: Floor | None = None


class KeptSentence(msgspec.Struct, frozen=True):
    """Where a kept sentence lies in the document's text.

    Attributes
    ----------
    start, end
        Code points, `end` excluded (JavaScript counts UTF-16 units instead).
    score
        Logit of being needed; None where nothing was scored.

    """

    start: int
    end: int
    score: float | None


class KeptText(msgspec.Struct, frozen=True):
    """What is left of a document.

    Attributes
    ----------
    duplicate_of
        Index of the earlier document with the same title and text; this one is then empty.

    """

    id: str | None
    text: str
    kept: list[KeptSentence]
    duplicate_of: int | None = None


class Compression(msgspec.Struct, frozen=True):
    """What `POST /v1/context/compress` answers.

    Attributes
    ----------
    documents
        In their order; empty texts where nothing is left.
    tokens_in, tokens_out
        By the counter that `tokens_by` names: an estimate.
    artifact
        First 16 digits of the SHA-256 of its manifest; None for the overlap scorer.
    threshold
        That was applied; None for infinity, which drops nothing.
    reason
        Why the outcome is what it is.

    """

    documents: list[KeptText]
    tokens_in: int
    tokens_out: int
    tokens_by: str
    artifact: str | None
    threshold: float | None
    reason: FilterReason


class ContextReport(msgspec.Struct, frozen=True):
    """What the front did with a request's documents; the member `context` of its report.

    Attributes
    ----------
    tokens_in, tokens_out
        Of the documents, estimated.
    documents
        How many there were.
    kept, dropped
        Sentences.
    reason
        Why, as in `Compression`, or what went wrong.
    failed_open
        The documents went on as they came.
    artifact, threshold
        As in `Compression`.

    """

    tokens_in: int
    tokens_out: int
    documents: int
    kept: int
    dropped: int
    reason: FilterReason | ContextFault
    failed_open: bool = False
    artifact: str | None = None
    threshold: float | None = None
