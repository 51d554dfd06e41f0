"""The two files of a denoising table: names and settings as JSON, columns as safetensors."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue
from safetensors import SafetensorError
from safetensors.numpy import load, save

from calibration.files import replacing
from probes.errors import InputError
from probes.validation import Record, Sha256, Text, parse, read_json

META = "denoising.json"
TENSORS = "denoising.safetensors"
ARRAYS = (
    "values",
    "progress",
    "changed",
    "agree",
    "correct",
    "block_offsets",
    "trace_offsets",
)
NAMES = ("signals", "trace_ids", "groups", "levels")

_AGAIN = "Restore it, or record the decodes again"


class _Meta(Record):
    schema_version: Literal[1]
    tensors_sha256: Sha256
    signals: list[Text]
    trace_ids: list[Text]
    groups: list[Text]
    levels: list[Text]
    settings: dict[str, JsonValue]


def write(
    folder: Path,
    arrays: Mapping[str, NDArray[Any]],
    names: Mapping[str, list[str]],
    settings: Mapping[str, Any],
) -> None:
    """Write both files; the JSON last, so that a broken-off writing is noticed.

    Raises
    ------
    InputError
        If they cannot be written, or the settings are no JSON.

    """
    tensors = save({name: np.ascontiguousarray(array) for name, array in arrays.items()})
    fields = {
        "schema_version": 1,
        "tensors_sha256": hashlib.sha256(tensors).hexdigest(),
        **names,
        "settings": dict(settings),
    }
    meta = parse(_Meta, fields, META, "Give settings that JSON can hold")
    text = json.dumps(meta.model_dump(mode="json"), indent=1, ensure_ascii=False) + "\n"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise InputError(f"{folder}: cannot be made: {problem.strerror or problem}.") from None
    for name, data in ((TENSORS, tensors), (META, text.encode())):
        with replacing(folder / name) as file:
            file.write(data)


def read(folder: Path) -> tuple[dict[str, NDArray[Any]], dict[str, list[str]], dict[str, Any]]:
    """Read both files and check that they belong together.

    Returns
    -------
    arrays, names, settings
        As :func:`write` takes them.

    Raises
    ------
    InputError
        If a file is missing, damaged, or not of this kind.

    """
    place = folder / META
    try:
        fields = read_json(_bytes(place))
    except ValueError as problem:
        raise InputError(f"{place}: not JSON ({problem}). {_AGAIN}") from None
    meta = parse(_Meta, fields, str(place), _AGAIN)
    place = folder / TENSORS
    data = _bytes(place)
    if hashlib.sha256(data).hexdigest() != meta.tensors_sha256:
        raise InputError(f"{place}: not the file that {META} was written with. {_AGAIN}")
    try:
        arrays = load(data)
    except SafetensorError as problem:
        raise InputError(f"{place}: no safetensors ({problem}). {_AGAIN}") from None
    if set(arrays) != set(ARRAYS):
        raise InputError(f"{place}: holds {sorted(arrays)}, expected {sorted(ARRAYS)}. {_AGAIN}")
    names = {name: list(getattr(meta, name)) for name in NAMES}
    return arrays, names, dict(meta.settings)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as problem:
        raise InputError(
            f"{path}: {problem.strerror}. Point to a folder of recorded decodes"
        ) from None
