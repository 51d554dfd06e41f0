"""LlamaIndex: a retriever's nodes, reduced to the sentences that the question needs.

    python examples/rag_llama_index.py [--scorer encoder|overlap] [--alpha 0.05]

Needs `pip install 'stopper[rag,llama-index]'`. The query engine has LlamaIndex's
MockLLM, which gives its prompt back; put your model in its place.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from llama_index.core.llms import MockLLM
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.response_synthesizers import get_response_synthesizer
from llama_index.core.retrievers import BaseRetriever
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode

from adapters.llama_index import METADATA, SentencePostprocessor
from stopper.context.filters import make_filter

sys.path.insert(0, str(Path(__file__).parent))
from rag_documents import QUESTION, ranked


class SharedWords(BaseRetriever):
    """Stands for your index."""

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return [
            NodeWithScore(node=TextNode(text=text, metadata={"title": title}), score=score)
            for title, text, score in ranked(query_bundle.query_str)
        ]


def engine(postprocessor: SentencePostprocessor) -> RetrieverQueryEngine:
    """Make question -> nodes -> sentences -> answer."""
    return RetrieverQueryEngine(
        SharedWords(),
        response_synthesizer=get_response_synthesizer(llm=MockLLM(), response_mode="compact"),
        node_postprocessors=[postprocessor],
    )


def main(arguments: list[str] | None = None) -> None:
    """Show what is kept, and the prompt that the model is given."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scorer", choices=("encoder", "overlap"), default="encoder")
    parser.add_argument("--alpha", type=float)
    asked = parser.parse_args(arguments)
    postprocessor = SentencePostprocessor(
        filter=make_filter(asked.scorer), alpha=asked.alpha, floor=1
    )
    answer = engine(postprocessor).query(QUESTION)
    for node in answer.source_nodes:
        note = node.metadata[METADATA]
        print(f"{node.metadata['title']}: {note['tokens_in']} -> {note['tokens_out']} tokens")
        for kept in note["kept"]:
            print(f"  characters {kept['start']} to {kept['end']}, score {kept['score']:.2f}")
    print()
    print(answer)


if __name__ == "__main__":
    main()
