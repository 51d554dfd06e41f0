"""The tokenizer: whole words of the task as single tokens, bytes and a few merges for the rest."""

from __future__ import annotations

import re
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, Sequence, Split
from transformers import PreTrainedTokenizerFast

from examples.tiny_reasoner import words

MODEL_DIR = Path(__file__).parent / "model"

CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{%- if message['role'] == 'assistant' -%}"
    "{{- '<|assistant|>' + message['content'].split('</think>')[-1].strip() + '<|end|>' -}}"
    "{%- else -%}"
    "{{- '<|user|>' + message['content'] -}}"
    "{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|assistant|><think>\\n' -}}{%- endif -%}"
)

# Step labels, words, single digits, runs of signs, runs of white space. Digits never join.
_PIECES = r" ?\([A-I]\)| ?\p{L}+| ?\p{N}| ?[^\s\p{L}\p{N}]+|\s*\n+|\s+(?!\S)|\s+"
_ASCII_PIECES = re.compile(
    r" ?\([A-I]\)| ?[A-Za-z]+| ?[0-9]| ?[^\sA-Za-z0-9]+|\s*\n+|\s+(?!\S)|\s+"
)

# Reached by merges inside longer words: "Altern|atively", " await|ing", " wait|ed".
_PARTS = (
    " Altern", "Altern", "atively", " await", " Wait", " wait", " Hmm", " hmm",
    "Wait", "wait", "Hmm", "hmm", "ing", "ed",
    " the", " th", " an", " in", " re", " co", " be", " st", "th", "er", "on", "re", "en", "es",
    "or", "ti", "ar", "ou", "it", "is", "le", "ve", "ll", "ch", "st", "ic", "al",
)  # fmt: skip
_EXTRA_WORDS = (
    " Wait", "Wait", " wait", "wait", " Hmm", "Hmm", " hmm", "hmm", " await", "{", "}", "}.", ":",
    ";", ".", ",", "!", "?", "...", "\n", "\n\n", " Start", " with", " and", " to", " So",
    " has", " makes", " swap", " plus", " minus", " double", " gives", " even", " odd", " nothing",
    " The", " answer", " is", "The", " \\", "boxed", " a", " I", " you", " of", " in", " it",
    " that", " this", " for", " not", " be", " on", " we", " What", " How", " are", " was",
    "What", "How", " do", " can", " my", " your", " number", " numbers", " step", " steps",
)  # fmt: skip
SPECIAL = (words.PAD, words.END, words.USER, words.ASSISTANT)
VISIBLE = (words.THINK, words.END_THINK)


def corpus() -> list[str]:
    """Return every phrase of the task with its slots filled by blanks."""
    groups = [words.INTROS, words.RULES, words.ASIDES, words.QUESTIONS, words.OPENINGS]
    groups += [*words.STEPS.values(), words.DOUBTS, words.CHECKS]
    phrases = [re.sub(r"\{\w\}", "7", phrase) for group in groups for phrase in group]
    lines = [form for phrase in phrases for form in (phrase, " " + phrase)]
    for word in (
        *words.NAMES[0],
        *words.NAMES[1],
        *words.OBJECTS,
        *words.LABELS,
        *(str(d) for d in range(10)),
    ):
        lines += [word, " " + word]
    lines += [gap + cue for gap, cue in words.CUES if cue != "Alternatively"]
    return lines


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Build the tokenizer from the word lists; the same lists give the same ids."""
    byte_level = ByteLevel(add_prefix_space=False, use_regex=False)

    def spelled(text: str) -> str:
        return "".join(piece for piece, _ in byte_level.pre_tokenize_str(text))

    vocab = {symbol: i for i, symbol in enumerate(sorted(ByteLevel.alphabet()))}
    merges: dict[tuple[str, str], None] = {}
    for part in _PARTS:
        symbols = spelled(part)
        for end in range(1, len(symbols)):
            merges.setdefault((symbols[:end], symbols[end]))
            vocab.setdefault(symbols[: end + 1], len(vocab))
    whole = {piece for line in corpus() for piece in _ASCII_PIECES.findall(line)}
    for word in sorted(whole | set(_EXTRA_WORDS)):
        vocab.setdefault(spelled(word), len(vocab))
    # ignore_merges: a word that is in the vocabulary is one token, whatever the merges say.
    inner = Tokenizer(BPE(vocab=vocab, merges=list(merges), ignore_merges=True))
    inner.pre_tokenizer = Sequence([Split(Regex(_PIECES), "isolated"), byte_level])
    inner.decoder = ByteLevelDecoder()
    inner.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in SPECIAL])
    inner.add_tokens([AddedToken(t, special=False, normalized=False) for t in VISIBLE])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner,
        eos_token=words.END,
        pad_token=words.PAD,
        clean_up_tokenization_spaces=False,
        model_max_length=512,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def prompt_text(content: str) -> str:
    """Return what the chat template makes of one user message."""
    return f"{words.USER}{content}{words.ASSISTANT}{words.THINK}\n"
