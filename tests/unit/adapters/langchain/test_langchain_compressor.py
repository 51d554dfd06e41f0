"""The document compressor within the real LangChain."""

from __future__ import annotations

import asyncio
import json

import pytest
from langchain_classic.retrievers import ContextualCompressionRetriever
from langchain_core.documents import BaseDocumentCompressor, Document
from langchain_core.retrievers import BaseRetriever
from pydantic import ValidationError

from adapters.langchain import METADATA, SentenceCompressor
from stopper.context.filters import make_filter
from stopper.errors import InputError

QUERY = "When was the mill on the Otter built?"
MILL = "The mill stands on the Otter. Ducks live there. The mill was built in 1849."
DOCUMENTS = [
    Document(MILL, id="a", metadata={"title": "Mill", "source": "x.html"}),
    Document("Bread is made of flour. Salt is added.", metadata={"title": "Bread"}),
    Document(MILL, id="b", metadata={"title": "Mill"}),
    Document("", metadata={}),
]


class Fixed(BaseRetriever):
    def _get_relevant_documents(self, query, *, run_manager):
        return DOCUMENTS


@pytest.fixture(scope="module")
def compressor():
    return SentenceCompressor(filter=make_filter("overlap"))


def test_a_retriever_gives_the_sentences_and_where_they_came_from(compressor):
    assert isinstance(compressor, BaseDocumentCompressor)
    retriever = ContextualCompressionRetriever(base_compressor=compressor, base_retriever=Fixed())
    (found,) = retriever.invoke(QUERY)
    assert found.page_content == "The mill stands on the Otter. The mill was built in 1849."
    assert (found.id, found.metadata["source"]) == ("a", "x.html")
    note = found.metadata[METADATA]
    kept = [MILL[one["start"] : one["end"]] for one in note["kept"]]
    assert kept == ["The mill stands on the Otter.", "The mill was built in 1849."]
    assert all(one["score"] >= -note["threshold"] for one in note["kept"])
    assert note["tokens_out"] < note["tokens_in"]
    assert json.loads(json.dumps(note)) == note
    assert METADATA not in DOCUMENTS[0].metadata
    assert DOCUMENTS[0].page_content == MILL


def test_asynchronously_it_gives_the_same(compressor):
    retriever = ContextualCompressionRetriever(base_compressor=compressor, base_retriever=Fixed())
    assert asyncio.run(retriever.ainvoke(QUERY)) == retriever.invoke(QUERY)


def test_a_floor_keeps_the_best_and_no_question_keeps_all():
    strict = SentenceCompressor(filter=make_filter("overlap"), threshold=-50.0)
    assert list(strict.compress_documents(DOCUMENTS, QUERY)) == []
    strict = SentenceCompressor(filter=make_filter("overlap"), threshold=-50.0, floor=1)
    (found,) = strict.compress_documents(DOCUMENTS, QUERY)
    assert "1849" in found.page_content or "Otter" in found.page_content
    unasked = strict.compress_documents(DOCUMENTS[:2], " ")
    assert [one.page_content for one in unasked] == [one.page_content for one in DOCUMENTS[:2]]
    assert unasked[0].metadata[METADATA]["kept"][0]["score"] is None
    assert list(strict.compress_documents([], QUERY)) == []


def test_what_is_wrong_is_named():
    with pytest.raises(InputError, match="keeps no promise"):
        SentenceCompressor(filter=make_filter("overlap"), alpha=0.1).compress_documents(
            DOCUMENTS, QUERY
        )
    with pytest.raises(ValidationError, match="floor"):
        SentenceCompressor(filter=make_filter("overlap"), floor=-1)
    with pytest.raises(ValidationError, match="treshold"):
        SentenceCompressor(filter=make_filter("overlap"), treshold=1.0)
