"""A tiny encoder with random weights, and questions in both formats, for the tests of filters."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

_PEOPLE = "Arno Bela Cora Dimo Edda Falk Gesa Hugo Inga Jona Kurt Lena Mika Nora Olaf Pia"
_GOODS = "lamp boat mill drum coat bell ring kite sled harp comb vase"
NAMES, THINGS = _PEOPLE.split(), _GOODS.split()
WORDS = "who when what where why how many did was the a in of on sold lost built found rain fell"


def tiny_body(folder: Path) -> Path:
    """Write a BERT of 16 dimensions with a tokenizer of its own."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel

    letters = "abcdefghijklmnopqrstuvwxyz0123456789.,?!"
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *letters, *(f"##{one}" for one in letters)]
    words = [*NAMES, *THINGS, *WORDS.split()]
    pieces += list(dict.fromkeys(word.lower() for word in words if len(word) > 1))
    tokenizer = Tokenizer(
        models.WordPiece({piece: at for at, piece in enumerate(pieces)}, unk_token="[UNK]")
    )
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(pieces), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=512,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    return folder


def squad_file(path: Path, articles: int = 30, seed: int = 0, first: int = 0) -> Path:
    """Write paragraphs of three sentences, two questions on each."""
    draw = random.Random(seed)
    data = []
    for article in range(first, first + articles):
        paragraphs = []
        for _ in range(3):
            people, things = draw.sample(NAMES, 3), draw.sample(THINGS, 3)
            years = [str(draw.randint(1500, 1999)) for _ in range(3)]
            triples = list(zip(people, things, years, strict=True))
            text = " ".join(f"{who} lost a {thing} in {year}." for who, thing, year in triples)
            qas: list[dict[str, Any]] = []
            for at, (who, thing, year) in enumerate(triples[:2]):
                qas.append({
                    "id": f"{article}-{len(paragraphs)}-{at}",
                    "question": f"When was the {thing} of {who} lost?",
                    "answers": [{"text": year, "answer_start": text.index(f"{thing} in {year}")
                                 + len(thing) + 4}],
                })  # fmt: skip
            paragraphs.append({"context": text, "qas": qas})
        data.append({"title": f"Article_{article}", "paragraphs": paragraphs})
    path.write_text(json.dumps({"version": "1.1", "data": data}), encoding="utf-8")
    return path


def hotpot_file(path: Path, questions: int = 60, seed: int = 0) -> Path:
    """Write questions over three titled paragraphs, two of which support the answer."""
    draw = random.Random(seed)
    rows = []
    for at in range(questions):
        who, other = draw.sample(NAMES, 2)
        thing = draw.choice(THINGS)
        context = [
            [f"{who} {at}", [f"{who} found a {thing}.", f" {other} was on a boat."]],
            [f"The {thing} {at}", [f"The {thing} was built in {1600 + at}.", " Rain fell."]],
            [f"Rain {at}", ["Rain fell in a mill.", " Rain fell on a sled."]],
        ]
        draw.shuffle(context)
        rows.append({
            "_id": f"q{at}", "question": f"When was the {thing} of {who} built?",
            "answer": str(1600 + at), "type": "bridge", "level": "easy", "context": context,
            "supporting_facts": [[f"{who} {at}", 0], [f"The {thing} {at}", 0], [f"Rain {at}", 9]],
        })  # fmt: skip
    path.write_text(json.dumps(rows), encoding="utf-8")
    return path
