"""A LlamaIndex node postprocessor that keeps the sentences a question may need."""

from __future__ import annotations

from typing import Any

from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import (
    BaseNode,
    ImageNode,
    MetadataMode,
    NodeWithScore,
    QueryBundle,
    TextNode,
)
from pydantic import ConfigDict, Field

from adapters.notes import notes
from stopper.context import Document as Text
from stopper.context.filters import SentenceFilter

METADATA = "stopper"
"""Key of a compressed node's metadata under which stands what was kept of it."""


class SentencePostprocessor(BaseNodePostprocessor):
    """Drops sentences of retrieved nodes; a node of which nothing is left is dropped.

    What comes back are copies, with the retriever's scores. Their metadata have, under `METADATA`,
    ``kept`` (a ``start``, an ``end`` and a ``score`` for each sentence that was kept; characters of
    the text that came in), ``tokens_in`` and ``tokens_out`` (estimates, of this node), and the
    ``threshold``; neither reader nor embedding sees that. Nodes that are no text pass untouched.

    Attributes
    ----------
    filter
        Of :func:`stopper.context.filters.make_filter`, or made of any scorer.
    alpha, threshold
        Instead of the filter's own; at most one of them.
    floor
        So many sentences are kept at least, over all nodes.
    title
        Key of the metadata that holds a node's title.

    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    filter: SentenceFilter = Field(exclude=True)
    alpha: float | None = None
    threshold: float | None = None
    floor: int = Field(default=0, ge=0)
    title: str = "title"

    @classmethod
    def class_name(cls) -> str:
        """Name it in LlamaIndex's records."""
        return "SentencePostprocessor"

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        readable = [at for at, node in enumerate(nodes) if _is_text(node.node)]
        texts = [
            Text(
                str(nodes[at].metadata.get(self.title) or ""),
                nodes[at].get_content(MetadataMode.NONE),
                nodes[at].node_id,
            )
            for at in readable
        ]
        query = "" if query_bundle is None else query_bundle.query_str
        done = self.filter.compress(query, texts, self.threshold, self.alpha, self.floor)
        outcome = zip(done.documents, notes(texts, done), strict=True)
        found = dict(zip(readable, outcome, strict=True))
        kept = []
        for at, node in enumerate(nodes):
            if at not in found:
                kept.append(node)
                continue
            text, note = found[at]
            if text.strip():
                kept.append(_with(node, text, note))
        return kept


def _is_text(node: BaseNode) -> bool:
    return isinstance(node, TextNode) and not isinstance(node, ImageNode)


def _with(node: NodeWithScore, text: str, note: dict[str, Any]) -> NodeWithScore:
    """Copy a node, its text replaced."""
    inner = node.node.model_copy(deep=True)
    inner.set_content(text)
    inner.metadata[METADATA] = note
    inner.excluded_llm_metadata_keys = [*inner.excluded_llm_metadata_keys, METADATA]
    inner.excluded_embed_metadata_keys = [*inner.excluded_embed_metadata_keys, METADATA]
    return NodeWithScore(node=inner, score=node.score)
