"""Tokenizers of the four kinds that vocabularies come in, and a plain reference matcher."""

from __future__ import annotations

import functools
import json
import re
import unicodedata
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from stopper.cue_letters import fold, is_word
from stopper.cues import CueSpec

EXCERPT = Path(__file__).parent / "data" / "r1_tokenizer_excerpt.json"
THINK, THINK_END = 151648, 151649  # of DeepSeek-R1-Distill-Qwen


@functools.cache
def r1_tokenizer() -> Tokenizer:
    """Return the byte-level BPE of DeepSeek-R1-Distill-Qwen around its cue words.

    Ids are those of the original; the file says where the excerpt comes from.
    """
    excerpt = json.loads(EXCERPT.read_text())
    merges = [tuple(merge.split(" ")) for merge in excerpt["merges"]]
    # Control tokens stand in the model's vocabulary too: that keeps their ids.
    control = {content: index for content, index, _ in excerpt["added"]}
    tokenizer = Tokenizer(models.BPE(excerpt["tokens"] | control, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(excerpt["pattern"]), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    for content, _, special in excerpt["added"]:
        add = tokenizer.add_special_tokens if special else tokenizer.add_tokens
        add([AddedToken(content, special=special, normalized=False)])
    return tokenizer


_TEXT = """Okay, so we have 3 + 4. Wait, that is wrong. Hmm, I was waiting for it. Alternatively,
let me double check: await the waiter. Wait... hmmm.

Hmm! alternatively we wait; wait a minute. No wait? ALTERNATIVELY."""


@functools.cache
def metaspace_tokenizer() -> Tokenizer:
    """Train a sentencepiece-like BPE with byte fallback; <think> is 3, </think> 4."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    replace = decoders.Replace("\N{LOWER ONE EIGHTH BLOCK}", " ")
    tokenizer.decoder = decoders.Sequence([replace, decoders.ByteFallback(), decoders.Fuse()])
    byte_tokens = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        special_tokens=["<unk>", "<s>", "</s>", "<think>", "</think>", *byte_tokens],
        show_progress=False,
    )
    tokenizer.train_from_iterator([_TEXT.replace("\n", " ")] * 5, trainer)
    state = json.loads(tokenizer.to_str())  # byte tokens are plain tokens, as in Llama 2
    state["added_tokens"] = state["added_tokens"][:5]
    return Tokenizer.from_str(json.dumps(state))


@functools.cache
def word_tokenizer() -> Tokenizer:
    """Return a word-level vocabulary without a decoder: its tokens are joined by spaces."""
    words = ["<think>", "</think>", "wait", "waiting", "Wait", "so", "hmm", ",", "let", "me"]
    return Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, "so"))


@functools.cache
def wordpiece_tokenizer() -> Tokenizer:
    """Return a WordPiece vocabulary: "##" continues the word before."""
    words = ["<think>", "</think>", "wait", "##ing", "a", "##wait", "hm", "##m", "##mm", "so"]
    model = models.WordPiece({word: index for index, word in enumerate(words)}, unk_token="so")
    tokenizer = Tokenizer(model)
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer


def reference_events(spec: CueSpec, pieces: list[str], inside: list[bool]) -> list[tuple[int, str]]:
    """Find the events by regular expressions over the text up to each token.

    ``inside[k]`` says whether token k is part of the thinking; the text begins anew after a token
    that is not. Slow and plain on purpose; the interval is not looked at.
    """
    events, text = [], ""
    for index, piece in enumerate(pieces):
        if not inside[index]:
            text = ""
            continue
        begin, text = len(text), text + piece
        found = [
            (end, -len(word), rank, word)
            for rank, word in enumerate(spec.words)
            for end in _cue_ends(word, text, begin)
        ]
        if spec.paragraph:
            found += [(end, 0, 0, "paragraph") for end in _paragraph_ends(text) if end > begin]
        if found:
            events.append((index, min(found)[-1]))
    return events


def _cue_ends(word: str, text: str, begin: int) -> list[int]:
    """Return where the cue's own last letter stands, drawn-out letters left aside."""
    plain = _plain(text, keep=set(word))
    unspaced = "".join({letter for letter in word if letter != " " and not is_word(letter)})
    letter = rf"(?:(?![{unspaced}])\w)" if unspaced else r"\w"
    body = r"\s+".join(re.escape(part) for part in word.split())
    drawl = f"{word[-1]}*" if word[-1:] == word[-2:-1] else ""
    left = rf"(?<!{letter})" if is_word(word[0]) else ""
    right = rf"(?!{letter})" if is_word(word[-1]) else ""
    pattern = re.compile(f"{left}({body}){drawl}{right}")
    matches = (pattern.match(plain, start) for start in range(len(plain)))
    return [match.end(1) for match in matches if match and match.end(1) > begin]


def _plain(text: str, keep: set[str]) -> str:
    """Return the text folded, with every character of unspaced scripts and every mark made plain.

    A mark becomes a word letter after one, and a sign elsewhere.
    """
    plain = ""
    for letter in map(fold, text):
        if letter in keep or letter.isspace():
            plain += letter
        elif unicodedata.category(letter).startswith("M"):
            plain += "x" if plain and is_word(plain[-1]) else "."
        else:
            plain += letter if is_word(letter) else "."
    return plain


def _paragraph_ends(text: str) -> list[int]:
    return [match.end() for match in re.finditer(r"(?<=\S)[^\S\n]*\n[^\S\n]*\n", text)]
