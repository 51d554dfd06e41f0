"""What a score is tied to: the model behind the hidden states, and how its thinking is closed."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from probes.errors import InputError
from probes.validation import Count, Positive, Record, Sha256, Text, read_json

_COMMIT = re.compile(r"[0-9a-f]{40}")
_SNAPSHOT = re.compile(r"(?:^|/)models--([^/]+)/snapshots/([^/]+)/?$")


class ModelFingerprint(Record):
    """The identity of a served model; a promise holds for this one and no other.

    Attributes
    ----------
    model
        Hub id or folder the model was loaded from; see :func:`hub_identity`.
    architecture
        First entry of ``architectures`` in its ``config.json``.
    dtype, quantization
        As served, for example "bfloat16" and "awq".
    tokenizer_sha256, chat_template_sha256
        See :func:`fingerprint_files`.
    revision
        Hub commit, or else the branch or tag that was asked for, where known.

    """

    model: Text
    architecture: Text
    hidden_size: Positive
    num_layers: Positive
    vocab_size: Positive
    dtype: Text
    quantization: Text | None = None
    tokenizer_sha256: Sha256
    chat_template_sha256: Sha256 | None = None
    revision: Text | None = None

    def mismatches(self, other: ModelFingerprint) -> list[str]:
        """Return one phrase per field in which ``other`` is another model.

        A model loaded from a folder is compared by the folder's name, not by the path to it; a
        revision only where both sides know theirs, and both as commits or both as names: whether
        a branch is at a commit cannot be told.
        """
        found = []
        for name in type(self).model_fields:
            ours, theirs = getattr(self, name), getattr(other, name)
            same = _SAME.get(name)
            if not (ours == theirs if same is None else same(ours, theirs)):
                found.append(f"{name} is {theirs!r}, expected {ours!r}")
        return found


class Closing(Record):
    """How thinking is ended.

    Attributes
    ----------
    end_ids
        Token ids that end the thinking, for example those of ``</think>``.
    answer_prompt, answer_prompt_ids
        Text put in the model's mouth after the end, and its token ids; may be empty.
    max_answer_tokens
        Longest forced answer when labels are collected.

    """

    end_ids: Annotated[tuple[Count, ...], Field(min_length=1)]
    answer_prompt: Text = ""
    answer_prompt_ids: tuple[Count, ...] = ()
    max_answer_tokens: Positive = 64


def hub_identity(model: str, revision: str | None = None) -> tuple[str, str | None]:
    """Undo the resolving of a hub id to a folder of the hub's cache, as engines do offline.

    Returns
    -------
    Name and revision: of ``.../models--ORG--NAME/snapshots/COMMIT`` "ORG/NAME" and the commit, of
    anything else what was given.

    Examples
    --------
    >>> hub_identity("/cache/models--org--tiny/snapshots/0123abc")
    ('org/tiny', '0123abc')
    >>> hub_identity("/models/tiny")
    ('/models/tiny', None)

    """
    found = _SNAPSHOT.search(model)
    return (found[1].replace("--", "/", 1), found[2]) if found else (model, revision)


def _same_revision(ours: str | None, theirs: str | None) -> bool:
    if ours is None or theirs is None or ours == theirs:
        return True
    return bool(_COMMIT.fullmatch(ours)) != bool(_COMMIT.fullmatch(theirs))


def _same_name(ours: str, theirs: str) -> bool:
    def is_hub_id(name: str) -> bool:
        return name.count("/") == 1 and name[0] not in "/.~"

    if ours == theirs:
        return True
    if is_hub_id(ours) and is_hub_id(theirs):
        return False
    return ours.rstrip("/").rsplit("/", 1)[-1] == theirs.rstrip("/").rsplit("/", 1)[-1]


_SAME: dict[str, Callable[[Any, Any], bool]] = {"model": _same_name, "revision": _same_revision}


def sha256_text(text: str) -> str:
    """Return the SHA-256 of a text's UTF-8 bytes, in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()


def fingerprint_files(model_dir: str | Path) -> dict[str, str | None]:
    """Hash a local model folder's tokenizer and chat template.

    Returns
    -------
    dict
        "tokenizer_sha256": of the bytes of ``tokenizer.json``. "chat_template_sha256": of the
        template's text, so that a loaded tokenizer's ``chat_template`` hashes alike through
        :func:`sha256_text`; None if there is no template.

    Raises
    ------
    InputError
        If the folder has no readable ``tokenizer.json``, or a template file cannot be read.

    """
    folder = Path(model_dir)
    try:
        tokenizer = hashlib.sha256((folder / "tokenizer.json").read_bytes()).hexdigest()
    except OSError as problem:
        raise InputError(
            f"{folder / 'tokenizer.json'}: {problem.strerror}. Point to the folder of a model "
            "with a fast tokenizer (tokenizer.json)"
        ) from None
    template = _chat_template(folder)
    return {
        "tokenizer_sha256": tokenizer,
        "chat_template_sha256": None if template is None else sha256_text(template),
    }


def _chat_template(folder: Path) -> str | None:
    # The order in which transformers looks: the file of its own wins over the older JSON fields.
    plain = folder / "chat_template.jinja"
    if plain.is_file():
        return plain.read_text(encoding="utf-8")
    for name in ("chat_template.json", "tokenizer_config.json"):
        path = folder / name
        if not path.is_file():
            continue
        try:
            config = read_json(path.read_bytes())
        except ValueError as problem:
            raise InputError(f"{path}: not JSON ({problem}). Download the model again") from None
        template: Any = config.get("chat_template") if isinstance(config, dict) else None
        if isinstance(template, str):
            return template
        if template is not None:
            return json.dumps(template, sort_keys=True)
    return None
