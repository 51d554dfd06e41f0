"""Compresses the documents of a chat request before it goes upstream; fails open."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from stopper.context import Compressed, Document, estimate_tokens
from stopper.errors import InputError
from stopper.service.compression import Compressor, CompressorFault
from stopper.service.compression.route import finite
from stopper.service.problems import refuse
from stopper.service.proxy import carried
from stopper.wire import ContextFault, ContextReport


async def compressed(body: bytes, compressor: Compressor) -> tuple[bytes, ContextReport | None]:
    """Return the body as it goes on, and what was done; None where it carries no documents.

    Raises
    ------
    ProblemError
        400 where the request asks for what is not there.

    """
    if carried.MAY_CARRY(body) is None:
        return body, None
    found = carried.read(body)
    if found is None:
        return body, None
    documents, options = found.documents, found.options
    if not options.enabled or not documents:
        return found.body(None), None
    try:
        compressor.filter.threshold(options.threshold, options.alpha)
    except InputError as error:
        refuse("bad-request", f"stopper.context: {error}")
    try:
        done = await compressor.compress(
            "front", found.query, documents, options.threshold, options.alpha, options.floor
        )
    except CompressorFault as error:
        return found.body(None), await _failed_open(documents, error.fault)
    except InputError:  # such as a question that has no word in it
        compressor.unusable("front")
        return found.body(None), await _failed_open(documents, "fault")
    return found.body(done.documents), _report(done, compressor.filter.artifact)


def _report(done: Compressed, artifact: str | None) -> ContextReport:
    return ContextReport(
        done.tokens_in,
        done.tokens_out,
        len(done.documents),
        len(done.kept),
        len(done.sentences) - len(done.kept),
        done.reason,
        artifact=artifact,
        threshold=finite(done.threshold),
    )


async def _failed_open(documents: Sequence[Document], fault: ContextFault) -> ContextReport:
    def count() -> int:
        return sum(estimate_tokens(document.text) for document in documents)

    tokens = await asyncio.to_thread(count)
    return ContextReport(tokens, tokens, len(documents), 0, 0, fault, failed_open=True)
