"""The text of every token, for each way in which vocabularies spell it."""

from __future__ import annotations

import pytest
from cue_tokenizers import (
    metaspace_tokenizer,
    r1_tokenizer,
    word_tokenizer,
    wordpiece_tokenizer,
)
from tokenizers import Tokenizer, models, normalizers
from transformers import PreTrainedTokenizerFast

from stopper.cue_pieces import token_pieces

TEXT = "Hmm, wait \u2014 café \U0001f914 等等.\n\nAlternatively\t3"


@pytest.mark.parametrize("make", [r1_tokenizer, metaspace_tokenizer])
def test_pieces_add_up_to_the_text(make: object) -> None:
    tokenizer = make()  # type: ignore[operator]
    pieces = token_pieces(tokenizer)
    ids = tokenizer.encode(TEXT, add_special_tokens=False).ids
    text = b"".join(pieces[index] or b"" for index in ids).decode()
    assert text.removeprefix(" ") == TEXT  # sentencepiece puts a blank before the first word


def test_control_tokens_and_holes_have_no_text() -> None:
    tokenizer = r1_tokenizer()
    pieces = token_pieces(tokenizer)
    assert (
        pieces[
            tokenizer.token_to_id("<\N{FULLWIDTH VERTICAL LINE}User\N{FULLWIDTH VERTICAL LINE}>")
        ]
        is None
    )
    assert pieces[tokenizer.token_to_id("<think>")] == b"<think>"  # added, but not special
    assert pieces[100_000] is None  # not in the excerpt
    assert len(pieces) == 151_665


def test_a_transformers_tokenizer_has_the_same_pieces() -> None:
    wrapped = PreTrainedTokenizerFast(tokenizer_object=r1_tokenizer())
    assert token_pieces(wrapped) == token_pieces(r1_tokenizer())


def test_word_vocabularies() -> None:
    assert token_pieces(word_tokenizer())[2] == b" wait"
    assert token_pieces(wordpiece_tokenizer())[2:4] == [b" wait", b"ing"]


def test_suffix_vocabularies_and_metaspace_from_the_normalizer() -> None:
    from tokenizers import decoders

    tokenizer = Tokenizer(models.BPE({"wait</w>": 0, "wa": 1}, []))
    tokenizer.decoder = decoders.BPEDecoder()
    assert token_pieces(tokenizer) == [b"wait ", b"wa"]
    tokenizer = Tokenizer(models.BPE({"\N{LOWER ONE EIGHTH BLOCK}wait": 0, "<0x0A>": 1}, []))
    tokenizer.normalizer = normalizers.Replace(" ", "\N{LOWER ONE EIGHTH BLOCK}")
    assert token_pieces(tokenizer) == [b" wait", b"\n"]


def test_an_empty_vocabulary_has_no_pieces() -> None:
    assert token_pieces(Tokenizer(models.BPE())) == []
