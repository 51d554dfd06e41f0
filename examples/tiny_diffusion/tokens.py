"""The tokenizer: letters, digits, signs and the task words, one token each."""

from __future__ import annotations

import itertools
import string
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Sequence, Split, WhitespaceSplit
from transformers import PreTrainedTokenizerFast

MODEL_DIR = Path(__file__).parent / "model"

PAD, MASK, END, UNKNOWN = "<|pad|>", "<|mask|>", "<|end|>", "<|unknown|>"
SPECIAL = (PAD, MASK, END, UNKNOWN)
CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{%- if message['role'] == 'user' -%}{{- message['content'] -}}{%- endif -%}"
    "{%- endfor -%}"
)
"""A chat of one message is that message: the tasks know no roles."""

TASKS = ("copy", "reverse", "sort", "follow", "walk")
NODES = "abcdefghij"
"""What arrows such as ``c>f`` join; each arrow is one token."""
_SIGNS = ("+", "-", "=", ".", ":")


def vocabulary() -> list[str]:
    """Return all tokens in the order of their ids."""
    arrows = [f"{a}>{b}" for a, b in itertools.permutations(NODES, 2)]
    letters, digits = list(string.ascii_lowercase), list(string.digits)
    return [*SPECIAL, *digits, *letters, *arrows, *_SIGNS, *TASKS, "from"]


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Build the tokenizer; the same lists give the same ids.

    White space only separates. Decoding puts one space between tokens, as answers are written.
    """
    inner = Tokenizer(WordLevel({t: i for i, t in enumerate(vocabulary())}, unk_token=UNKNOWN))
    pieces = Split(Regex(r"[a-z]>[a-z]|[a-z]{2,}|\S"), "isolated")
    inner.pre_tokenizer = Sequence([WhitespaceSplit(), pieces])
    inner.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in SPECIAL])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner,
        eos_token=END,
        pad_token=PAD,
        mask_token=MASK,
        unk_token=UNKNOWN,
        clean_up_tokenization_spaces=False,
        model_max_length=128,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer
