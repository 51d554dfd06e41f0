"""A LangChain document compressor that keeps the sentences a question may need."""

from __future__ import annotations

from collections.abc import Sequence

from langchain_core.callbacks import Callbacks
from langchain_core.documents import BaseDocumentCompressor, Document
from pydantic import ConfigDict, Field

from adapters.notes import notes
from stopper.context import Document as Text
from stopper.context.filters import SentenceFilter

METADATA = "stopper"
"""Key of a compressed document's metadata under which stands what was kept of it."""


class SentenceCompressor(BaseDocumentCompressor):
    """Drops sentences of retrieved documents; a document of which nothing is left is dropped.

    What comes back are copies. Their metadata have, under `METADATA`, ``kept`` (a ``start``, an
    ``end`` and a ``score`` for each sentence that was kept; characters of the text that came in),
    ``tokens_in`` and ``tokens_out`` (estimates, of this document), and the ``threshold``.

    Attributes
    ----------
    filter
        Of :func:`stopper.context.filters.make_filter`, or made of any scorer.
    alpha, threshold
        Instead of the filter's own; at most one of them.
    floor
        So many sentences are kept at least, over all documents.
    title
        Key of the metadata that holds a document's title.

    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    filter: SentenceFilter
    alpha: float | None = None
    threshold: float | None = None
    floor: int = Field(default=0, ge=0)
    title: str = "title"

    def compress_documents(
        self,
        documents: Sequence[Document],
        query: str,
        callbacks: Callbacks | None = None,
    ) -> Sequence[Document]:
        """Compress documents; asynchronously by `acompress_documents`, in a thread.

        Raises
        ------
        StopperError
            If an argument is wrong, or the scorer fails.

        """
        texts = [
            Text(str(one.metadata.get(self.title) or ""), one.page_content, one.id)
            for one in documents
        ]
        done = self.filter.compress(query, texts, self.threshold, self.alpha, self.floor)
        found = []
        for one, text, note in zip(documents, done.documents, notes(texts, done), strict=True):
            if text.strip():
                metadata = {**one.metadata, METADATA: note}
                found.append(one.model_copy(update={"page_content": text, "metadata": metadata}))
        return found
