"""The exact text of every token of a vocabulary, as the bytes it adds to the output."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from stopper.errors import InputError

_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_METASPACE = "\N{LOWER ONE EIGHTH BLOCK}"


def backend(tokenizer: Any) -> Any:
    """Return the ``tokenizers.Tokenizer`` itself or the one inside a transformers tokenizer.

    Raises
    ------
    InputError
        The tokenizer is neither; slow and Mistral-native tokenizers do not expose their pieces.

    """
    inner = getattr(tokenizer, "backend_tokenizer", tokenizer)
    if not hasattr(inner, "get_added_tokens_decoder"):
        raise InputError(
            f"cannot read the token pieces of a {type(tokenizer).__name__}; pass a "
            "tokenizers.Tokenizer or a fast tokenizer of transformers"
        )
    return inner


def token_pieces(tokenizer: Any) -> list[bytes | None]:
    """Return what each token id adds to the text.

    Parameters
    ----------
    tokenizer
        A ``tokenizers.Tokenizer`` or a fast tokenizer of transformers. Byte-level, metaspace
        (sentencepiece, with byte fallback), WordPiece and word-level vocabularies are read.

    Returns
    -------
    list
        One entry per id up to the largest one. Bytes may be an incomplete UTF-8 sequence; None
        stands for ids without text: control tokens and holes in the vocabulary.

    """
    inner = backend(tokenizer)
    vocabulary: dict[str, int] = inner.get_vocab(with_added_tokens=True)
    added = inner.get_added_tokens_decoder()
    size = 1 + max([*vocabulary.values(), *added], default=-1)
    pieces: list[bytes | None] = [None] * size
    read = _READERS[_alphabet(inner)]
    for piece, index in vocabulary.items():
        if index not in added:
            pieces[index] = read(piece)
    for index, token in added.items():
        pieces[index] = None if token.special else token.content.encode()
    return pieces


def _alphabet(tokenizer: Any) -> str:
    """Return how the vocabulary spells text: a key of ``_READERS``."""
    for part in (tokenizer.decoder, tokenizer.pre_tokenizer, tokenizer.normalizer):
        described = list(_describe(part))
        kinds = {kind for kind, _ in described}
        if "ByteLevel" in kinds:
            return "byte-level"
        if "Metaspace" in kinds or any(_METASPACE in text for _, text in described):
            return "metaspace"
        if "WordPiece" in kinds:
            return "wordpiece"
        if "BPEDecoder" in kinds:
            return "suffix"
    return "words"


def _describe(part: Any) -> Iterator[tuple[str, str]]:
    """Yield the kind and the JSON text of a pipeline component and of all it contains."""
    if part is None:
        return
    stack = [json.loads(part.__getstate__())]
    while stack:
        node = stack.pop()
        if isinstance(node, list):
            stack.extend(node)
        elif isinstance(node, dict):
            if "type" in node:
                yield node["type"], json.dumps(node, ensure_ascii=False)
            stack.extend(value for value in node.values() if isinstance(value, (dict, list)))


def _byte_table() -> dict[str, int]:
    """Return GPT-2's alphabet: printable Latin-1 bytes are themselves, the rest lies above 255."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    table = {chr(byte): byte for byte in printable}
    hidden = (byte for byte in range(256) if chr(byte) not in table)
    return table | {chr(256 + rank): byte for rank, byte in enumerate(hidden)}


_BYTES = _byte_table()


def _read_byte_level(piece: str) -> bytes:
    try:
        return bytes([_BYTES[letter] for letter in piece])
    except KeyError:  # not of the byte alphabet: text that was added to the vocabulary as it is
        return piece.encode()


def _read_metaspace(piece: str) -> bytes:
    byte = _BYTE_TOKEN.fullmatch(piece)
    return bytes.fromhex(byte[1]) if byte else piece.replace(_METASPACE, " ").encode()


def _read_wordpiece(piece: str) -> bytes:
    return (piece[2:] if piece.startswith("##") else " " + piece).encode()


def _read_suffix(piece: str) -> bytes:
    return piece.replace("</w>", " ").encode()


def _read_words(piece: str) -> bytes:
    return (" " + piece).encode()  # decoding such a vocabulary joins its tokens by spaces


_READERS = {
    "byte-level": _read_byte_level,
    "metaspace": _read_metaspace,
    "wordpiece": _read_wordpiece,
    "suffix": _read_suffix,
    "words": _read_words,
}
