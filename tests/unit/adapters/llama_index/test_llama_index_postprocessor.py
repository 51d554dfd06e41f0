"""The node postprocessor within the real LlamaIndex."""

from __future__ import annotations

import asyncio
import json

import pytest
from llama_index.core.llms import MockLLM
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.response_synthesizers import get_response_synthesizer
from llama_index.core.retrievers import BaseRetriever
from llama_index.core.schema import ImageNode, MetadataMode, NodeWithScore, QueryBundle, TextNode
from pydantic import ValidationError

from adapters.llama_index import METADATA, SentencePostprocessor
from stopper.context.filters import make_filter
from stopper.errors import InputError

QUERY = "When was the mill on the Otter built?"
MILL = "The mill stands on the Otter. Ducks live there. The mill was built in 1849."


def nodes():
    return [
        NodeWithScore(
            node=TextNode(text=MILL, id_="a", metadata={"title": "Mill", "page": 3}), score=0.7
        ),
        NodeWithScore(node=TextNode(text="Bread is made of flour.", id_="b"), score=0.2),
        NodeWithScore(node=TextNode(text="", id_="c")),
    ]


class Fixed(BaseRetriever):
    def _retrieve(self, query_bundle):
        return nodes()


@pytest.fixture(scope="module")
def postprocessor():
    return SentencePostprocessor(filter=make_filter("overlap"))


def test_a_query_engine_reads_only_what_is_kept(postprocessor):
    engine = RetrieverQueryEngine(
        Fixed(),
        response_synthesizer=get_response_synthesizer(llm=MockLLM(), response_mode="compact"),
        node_postprocessors=[postprocessor],
    )
    answer = engine.query(QUERY)
    assert "The mill stands on the Otter. The mill was built in 1849." in str(answer)
    assert "Ducks" not in str(answer)
    assert "flour" not in str(answer)
    assert "threshold" not in str(answer)  # the note is not for the reader
    (found,) = answer.source_nodes
    assert (found.node_id, found.score, found.metadata["page"]) == ("a", 0.7, 3)
    note = found.metadata[METADATA]
    kept = [MILL[one["start"] : one["end"]] for one in note["kept"]]
    assert kept == ["The mill stands on the Otter.", "The mill was built in 1849."]
    assert json.loads(json.dumps(note)) == note
    for mode in (MetadataMode.LLM, MetadataMode.EMBED):
        assert METADATA not in found.get_content(mode)


def test_asynchronously_it_gives_the_same_and_leaves_its_input_alone(postprocessor):
    given = nodes()
    found = asyncio.run(postprocessor.apostprocess_nodes(given, query_str=QUERY))
    assert found == postprocessor.postprocess_nodes(nodes(), QueryBundle(QUERY))
    assert given == nodes()


def test_other_nodes_pass_and_no_question_keeps_all():
    strict = SentencePostprocessor(filter=make_filter("overlap"), threshold=-50.0)
    picture = NodeWithScore(node=ImageNode(image_path="x.png", id_="d"), score=0.1)
    assert strict.postprocess_nodes([*nodes(), picture], query_str=QUERY) == [picture]
    kept = strict.postprocess_nodes(nodes())
    assert [one.get_content() for one in kept] == [MILL, "Bread is made of flour."]
    floor = SentencePostprocessor(filter=make_filter("overlap"), threshold=-50.0, floor=1)
    assert len(floor.postprocess_nodes(nodes(), query_str=QUERY)) == 1
    assert strict.postprocess_nodes([], query_str=QUERY) == []


def test_what_is_wrong_is_named():
    promise = SentencePostprocessor(filter=make_filter("overlap"), alpha=0.1)
    with pytest.raises(InputError, match="keeps no promise"):
        promise.postprocess_nodes(nodes(), query_str=QUERY)
    with pytest.raises(ValidationError, match="floor"):
        SentencePostprocessor(filter=make_filter("overlap"), floor=-1)
