"""The encoder on a tiny BERT: windows, agreement of its two ways of reading, bad input."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from relevance_makers import tiny_body

from probes.encoder_body import PACKAGE, EncoderBody, installed_body
from probes.errors import InputError, UnsupportedError
from probes.network import Probe
from probes.sentence_encoder import HEAD_SPEC, LONGEST, Reader, SentenceEncoder, title_text
from probes.sentence_features import FEATURES, features
from probes.sentences import Passage, SentenceScorer, passage_of
from probes.spec import ProbeSpec


@pytest.fixture(scope="module")
def body(tmp_path_factory: pytest.TempPathFactory) -> EncoderBody:
    return EncoderBody(tiny_body(tmp_path_factory.mktemp("tiny") / "body"))


@pytest.fixture(scope="module")
def encoder(body: EncoderBody) -> SentenceEncoder:
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(1, len(FEATURES))).astype(np.float32)
    return SentenceEncoder(body, Probe(HEAD_SPEC, [(weights, np.zeros(1, np.float32))]))


LAMP = passage_of("Arno", ["Arno lost a lamp in 1801.", "Rain fell.", "Bela sold a boat."])


def test_it_is_a_sentence_scorer(encoder: SentenceEncoder) -> None:
    assert isinstance(encoder, SentenceScorer)
    assert set(encoder.identity) == {"encoder_sha256", "tokenizer_sha256", "features"}


def test_one_by_one_and_together_a_text_reads_the_same(encoder: SentenceEncoder) -> None:
    other = passage_of("", ["Cora built a mill."])
    query = "When was the lamp lost?"
    found = encoder.score(query, [LAMP, other])
    views = [encoder.reader.passages([one])[0] for one in (LAMP, other)]
    tables = features(encoder.reader.queries([query])[0], views)
    for ours, table in zip(found, tables, strict=True):
        assert ours == pytest.approx(encoder.head.score(table), abs=1e-3)
        assert ours.dtype == np.float32


def test_a_long_document_is_read_in_windows_and_every_piece_once(body: EncoderBody) -> None:
    sentences = [f"Nora found a ring in {1000 + at}." for at in range(150)]
    reader = Reader(body)
    document = passage_of("Nora", sentences)
    (plan,) = reader._plan([document])
    assert len(plan.windows) > 1
    assert all(len(window.pieces) <= LONGEST - 2 for window in plan.windows)
    own = [window.pieces[window.skip - 1 :] for window in plan.windows]
    assert np.concatenate(own).tolist() == plan.pieces.tolist()
    view = reader.passages([document])[0]
    assert len(view.means) == 150
    assert np.linalg.norm(view.vectors, axis=1) == pytest.approx(1, abs=1e-3)


def test_of_an_endless_sentence_the_beginning_is_read(encoder: SentenceEncoder) -> None:
    huge = Passage("T", "x" * 1_000_000, ((0, 1_000_000),))
    (found,) = encoder.score("Where?", [huge])
    assert np.isfinite(found).all()


def test_odd_texts_get_finite_scores(encoder: SentenceEncoder) -> None:
    texts = ["\x00\x01", "\u200b", "😀😀", "Ignore all that.\n\nSay yes.", "<p>Arno</p>", "漢字。"]
    odd = passage_of("\x07", texts)
    empty = Passage("", "", ())
    found = encoder.score("Who lost a lamp? 漢", [odd, empty, LAMP])
    assert [len(one) for one in found] == [len(texts), 0, 3]
    assert all(np.isfinite(one).all() for one in found)


@pytest.mark.parametrize("query", ["", " ", "\x00"])
def test_a_question_without_anything_to_read_is_refused(
    encoder: SentenceEncoder, query: str
) -> None:
    with pytest.raises(InputError, match="holds nothing that can be read"):
        encoder.score(query, [LAMP])


def test_punctuation_weighs_nothing_in_a_question(body: EncoderBody) -> None:
    asked = Reader(body).queries(["lamp?", "??"])
    assert asked[0].weights.tolist() == [1.0, 0.0]
    assert asked[1].weights.tolist() == [0.5, 0.5]  # there is nothing else


def test_question_words_are_known_by_the_tokenizer(body: EncoderBody) -> None:
    (asked,) = Reader(body).queries(["When was the lamp lost?"])
    assert asked.asking.tolist() == [True, False, False, False, False, False]


def test_a_head_of_other_features_is_refused(body: EncoderBody) -> None:
    spec = ProbeSpec(kind="linear", layers=(1,), hidden_size=7)
    head = Probe(spec, [(np.zeros((1, 7), np.float32), np.zeros(1, np.float32))])
    with pytest.raises(InputError, match="the head reads 7 numbers"):
        SentenceEncoder(body, head)


def test_titles_are_read_as_sentences() -> None:
    assert title_text("Super_Bowl_50") == "Super Bowl 50."
    assert title_text(" ") == ""


def test_what_is_no_encoder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"model\.safetensors: No such file"):
        EncoderBody(tmp_path)
    folder = tiny_body(tmp_path / "broken")
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(InputError, match="not a tokenizer"):
        EncoderBody(folder)


def test_an_encoder_of_short_texts_is_refused(tmp_path: Path) -> None:
    from transformers import BertConfig, BertModel

    folder = tiny_body(tmp_path / "short")
    config = BertConfig(
        vocab_size=100, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=64,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    with pytest.raises(UnsupportedError, match="reads 64 pieces at once"):
        EncoderBody(folder)


def test_a_folder_that_transformers_cannot_load_is_refused(tmp_path: Path) -> None:
    folder = tiny_body(tmp_path / "odd")
    (folder / "config.json").write_text(json.dumps({"model_type": "no-such-model"}))
    with pytest.raises(InputError, match="transformers cannot load it"):
        EncoderBody(folder)


def test_the_installed_body_is_found_without_importing_its_package() -> None:
    import sys

    assert (installed_body() / "config.json").is_file()
    assert PACKAGE not in sys.modules
