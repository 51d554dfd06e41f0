"""LangChain: a retriever's documents, reduced to the sentences that the question needs.

    python examples/rag_langchain.py [--scorer encoder|overlap] [--alpha 0.05]

Needs `pip install 'stopper[rag,langchain]'`. The chain ends in a prompt; put your
chat model behind it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import Runnable, RunnableLambda, RunnablePassthrough

from adapters.langchain import METADATA, SentenceCompressor
from stopper.context.filters import make_filter

sys.path.insert(0, str(Path(__file__).parent))
from rag_documents import QUESTION, ranked


class SharedWords(BaseRetriever):
    """Stands for your vector store."""

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun
    ) -> list[Document]:
        return [Document(text, metadata={"title": title}) for title, text, _ in ranked(query)]


def chain(compressor: SentenceCompressor) -> Runnable[str, Any]:
    """Make question -> documents -> sentences -> prompt."""
    retriever = SharedWords()

    def context(question: str) -> str:
        kept = compressor.compress_documents(retriever.invoke(question), question)
        return "\n\n".join(f"{one.metadata['title']}: {one.page_content}" for one in kept)

    prompt = ChatPromptTemplate.from_messages(
        [("system", "Answer from these texts.\n\n{context}"), ("human", "{question}")]
    )
    return {"context": RunnableLambda(context), "question": RunnablePassthrough()} | prompt


def main(arguments: list[str] | None = None) -> None:
    """Show what is kept, and the prompt that a chat model would be given."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scorer", choices=("encoder", "overlap"), default="encoder")
    parser.add_argument("--alpha", type=float)
    asked = parser.parse_args(arguments)
    compressor = SentenceCompressor(filter=make_filter(asked.scorer), alpha=asked.alpha, floor=1)
    for one in compressor.compress_documents(SharedWords().invoke(QUESTION), QUESTION):
        note = one.metadata[METADATA]
        print(f"{one.metadata['title']}: {note['tokens_in']} -> {note['tokens_out']} tokens")
        for kept in note["kept"]:
            print(f"  characters {kept['start']} to {kept['end']}, score {kept['score']:.2f}")
    print()
    for message in chain(compressor).invoke(QUESTION).to_messages():
        print(f"[{message.type}] {message.content}")


if __name__ == "__main__":
    main()
