"""Drops the sentences that cannot help to answer a question, and puts the rest together again."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from probes.sentences import Passage, SentenceScorer
from stopper.context.documents import Compressed, Document, Kept, Reason, Sentence
from stopper.context.limits import Deadline, Limits
from stopper.context.splitters import Span, Splitter
from stopper.context.splitting import readable, split
from stopper.context.tokens import Counter, estimate_tokens
from stopper.errors import InputError

CHARACTERS_TOGETHER = 250_000
"""Documents up to this size in all are scored together, in relation to one another. More are scored
in groups of that size, so that memory is bounded and the clock is looked at."""

_BLANK_LINE = re.compile(r"\n[ \t\r]*\n")


def compress(
    query: str,
    documents: Sequence[Document],
    scorer: SentenceScorer,
    threshold: float,
    floor: int = 0,
    *,
    splitter: str | Splitter = "spacy",
    limits: Limits | None = None,
    counter: Counter = estimate_tokens,
    deadline: Deadline | None = None,
) -> Compressed:
    """Keep the sentences that a question may need.

    A document that repeats an earlier one (title and text) is scored once and kept once: at the
    earlier place. Without a query nothing is dropped.

    Parameters
    ----------
    query
        The question.
    documents
        What was retrieved.
    scorer
        Gives each sentence the logit of being needed.
    threshold
        A sentence is dropped iff float32(-logit) > float32(threshold), so that a larger one drops
        less; infinity drops nothing. A score that is NaN drops nothing.
    floor
        At least so many sentences are kept, over all documents: the best of those that would be
        dropped are added.
    splitter
        See :func:`stopper.context.split`.
    limits
        None takes the defaults.
    counter
        Counts tokens.
    deadline
        None takes the time it needs.

    Raises
    ------
    InputError
        If an argument is wrong or too large, or the scorer does not score every sentence.
    ContextTimeoutError
        If the deadline passes.

    """
    if math.isnan(threshold):
        raise InputError("threshold: is NaN; give a number, such as that of an artifact")
    if floor < 0:
        raise InputError(f"floor: {floor}; give the number of sentences to keep, 0 for none")
    (limits or Limits()).check(query, documents)
    duplicates = _duplicates(documents)
    spans: list[list[Span]] = []
    for index, document in enumerate(documents):
        spans.append([] if index in duplicates else split(document.text, splitter, deadline))
    sentences = [Sentence(at, *span) for at, found in enumerate(spans) for span in found]
    asked = bool(query.strip())
    if asked and sentences:
        scores = _scores(query, documents, spans, scorer, deadline)
    else:
        scores = np.full(len(sentences), np.nan, np.float32)
    with np.errstate(over="ignore"):  # beyond float32 is beyond every score
        limit = np.float32(threshold)
    keep = ~(-scores > limit)
    if int(keep.sum()) < floor:
        best = np.argsort(-scores, kind="stable")[:floor]
        keep[best] = True
    if not asked:
        duplicates = {}
    texts = _texts(documents, spans, keep, duplicates if asked else None)
    kept = [
        Kept(one.document, one.start, one.end, float(score))
        for one, score, stays in zip(sentences, scores, keep, strict=True)
        if stays
    ]
    return Compressed(
        documents=texts,
        kept=kept,
        tokens_in=sum(counter(document.text) for document in documents),
        tokens_out=sum(map(counter, texts)),
        sentences=sentences,
        scores=scores,
        reason=_reason(asked, keep, duplicates),
        duplicates=duplicates,
        threshold=threshold,
    )


def joined(text: str, spans: Sequence[Span]) -> str:
    """Put sentences of a text together.

    Neighbours keep the white space between them. Where something was dropped in between, a line
    break remains if there was one at the edge of the gap, so that lists and tables stay what they
    are, and a space otherwise.

    Parameters
    ----------
    text
        The whole text.
    spans
        The sentences, in order.

    """
    parts: list[str] = []
    last: int | None = None
    for start, end in spans:
        if last is not None:
            gap = text[last:start]
            parts.append(gap if not gap.strip() else _seam(gap))
        parts.append(text[start:end])
        last = end
    return "".join(parts)


def _seam(gap: str) -> str:
    """Return what stands for a gap in which something was dropped."""
    after = gap[len(gap.rstrip()) :]
    indent = after.rpartition("\n")[2] if "\n" in after else ""
    if _BLANK_LINE.search(gap):
        return "\n\n" + indent
    before = gap[: len(gap) - len(gap.lstrip())]
    return "\n" + indent if "\n" in before or "\n" in after else " "


def _duplicates(documents: Sequence[Document]) -> dict[int, int]:
    seen: dict[tuple[str, str], int] = {}
    found = {}
    for index, document in enumerate(documents):
        first = seen.setdefault((document.title, document.text), index)
        if first != index:
            found[index] = first
    return found


def _scores(
    query: str,
    documents: Sequence[Document],
    spans: Sequence[Sequence[Span]],
    scorer: SentenceScorer,
    deadline: Deadline | None,
) -> npt.NDArray[np.float32]:
    """Score every sentence: all documents together, or in groups where they are long."""
    passages = [
        Passage(readable(document.title), readable(document.text), tuple(found))
        for document, found in zip(documents, spans, strict=True)
        if found
    ]
    parts: list[npt.NDArray[np.float32]] = []
    for batch in _batches(passages):
        if deadline is not None:
            deadline.check()
        scored = scorer.score(readable(query), batch)
        shapes = [np.shape(one) for one in scored]
        if shapes != [(len(passage.spans),) for passage in batch]:
            raise InputError(
                "scorer: gave scores of shapes "
                f"{shapes[:4]} for documents of {[len(one.spans) for one in batch][:4]} sentences; "
                "it must score every sentence"
            )
        parts += [np.asarray(one, np.float32) for one in scored]
    return np.concatenate(parts)


def _batches(passages: Sequence[Passage]) -> Iterator[list[Passage]]:
    batch: list[Passage] = []
    size = 0
    for passage in passages:
        if batch and size + len(passage.text) > CHARACTERS_TOGETHER:
            yield batch
            batch, size = [], 0
        batch.append(passage)
        size += len(passage.text)
    if batch:
        yield batch


def _texts(
    documents: Sequence[Document],
    spans: Sequence[Sequence[Span]],
    keep: npt.NDArray[np.bool_],
    duplicates: dict[int, int] | None,
) -> list[str]:
    """Return what is left of each text; `duplicates` is None where nothing is dropped."""
    if duplicates is None:
        return [document.text for document in documents]
    texts, at = [], 0
    for index, (document, found) in enumerate(zip(documents, spans, strict=True)):
        flags = keep[at : at + len(found)]
        at += len(found)
        if index in duplicates:
            texts.append("")
        elif flags.all():
            texts.append(document.text)  # to the byte, also where it has no sentence
        else:
            chosen = [span for span, stays in zip(found, flags, strict=True) if stays]
            texts.append(joined(document.text, chosen))
    return texts


def _reason(asked: bool, keep: npt.NDArray[np.bool_], duplicates: dict[int, int]) -> Reason:
    if not len(keep):
        return "no_sentences"
    if not asked:
        return "empty_query"
    if not keep.any():
        return "none_kept"
    return "all_kept" if keep.all() and not duplicates else "compressed"
