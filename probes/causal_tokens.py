"""A model's tokenizer as the Yes/No prompts need it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer

from probes.errors import InputError
from probes.provenance import sha256_text


class FastTokens:
    """A tokenizer of the library `tokenizers`.

    Parameters
    ----------
    tokenizer
        Copied: its truncation and padding are turned off.
    control
        Strings it reads as control tokens, besides those it calls special: those of a chat
        template.

    """

    def __init__(self, tokenizer: Tokenizer, control: Sequence[str] = ()) -> None:
        described = tokenizer.to_str()
        self._tokenizer = Tokenizer.from_str(described)
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._identity = sha256_text(described)
        added = self._tokenizer.get_added_tokens_decoder().values()
        names = {token.content for token in added if token.special} | set(control)
        self._control = tuple(sorted(name for name in names if name.strip()))
        self._start = tuple(self._tokenizer.encode("", add_special_tokens=True).ids)

    @classmethod
    def from_folder(cls, folder: str | Path) -> FastTokens:
        """Read ``tokenizer.json`` of a model's folder.

        Raises
        ------
        InputError
            If it is not there or no tokenizer.

        """
        path = Path(folder) / "tokenizer.json"
        try:
            text = path.read_text(encoding="utf-8")
            json.loads(text)
            return cls(Tokenizer.from_str(text))
        except OSError as problem:
            reason: object = problem.strerror
        except Exception as problem:  # the library raises nothing more exact
            reason = problem
        raise InputError(f"{path}: {reason}. Point to the folder of a model with a fast tokenizer")

    @property
    def identity(self) -> str:
        """SHA-256 of the tokenizer."""
        return self._identity

    @property
    def start(self) -> tuple[int, ...]:
        """Ids that begin a text (BOS), if any."""
        return self._start

    @property
    def control(self) -> tuple[str, ...]:
        """Strings that it reads as control tokens."""
        return self._control

    def encode(self, text: str) -> list[int]:
        """Return the ids, none added."""
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def encode_with_ends(self, text: str) -> tuple[list[int], list[int]]:
        """Return the ids and the character at which each ends."""
        found = self._tokenizer.encode(text, add_special_tokens=False)
        return list(found.ids), [end for _, end in found.offsets]
