"""What a command needs of a model and its prompts, loaded and checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from adapters.transformers.checkpoints import load
from adapters.transformers.identity import load_tokenizer
from adapters.transformers.judges import TextJudge
from adapters.transformers.model import DiffusionLM
from adapters.transformers.prompts import requests_of
from adapters.transformers.requests import Request
from adapters.vllm.prompts import read_prompts
from calibration.comparers import get_comparer
from calibration.splits import PROMPTS, require_disjoint
from stopper.artifact import Artifact
from stopper.errors import InputError


@dataclass(frozen=True, eq=False)
class Loaded:
    """A model with its tokenizer and the judge of its answers."""

    model: DiffusionLM
    tokenizer: Any
    judge: TextJudge


def load_model(
    folder: str | Path,
    device: str = "auto",
    dtype: str | None = None,
    comparer: str = "auto",
    artifact: Artifact | None = None,
) -> Loaded:
    """Load a checkpoint, and refuse it where an artifact is for another one.

    Parameters
    ----------
    folder
        Of the checkpoint.
    device
        "auto" takes a GPU where there is one.
    dtype
        Such as "bfloat16"; None keeps the weights' own.
    comparer
        See :func:`calibration.comparers.get_comparer`.
    artifact
        That is to be served with it.

    Raises
    ------
    InputError
        If the dtype is unknown, a file is missing, or the artifact is of another model.

    """
    judged_by = get_comparer(comparer)  # refuses an unknown name before anything is read
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    kind = None if dtype is None else getattr(torch, dtype, None)
    if dtype is not None and not isinstance(kind, torch.dtype):
        raise InputError(f"dtype {dtype!r} is unknown; give one such as bfloat16 or float32")
    model = load(folder, device, kind)
    if artifact is not None and model.fingerprint is not None:
        wrong = artifact.mismatches(model.fingerprint)
        if wrong:
            raise InputError(
                f"{folder}: is not the model that the artifact was calibrated for: "
                f"{'; '.join(wrong)}. Calibrate again for this one"
            )
    tokenizer = load_tokenizer(folder)
    return Loaded(model, tokenizer, TextJudge(tokenizer, judged_by, model.end_ids))


def read_requests(path: Path, tokenizer: Any, limit: int | None = None) -> list[Request]:
    """Read prompts from JSON lines as requests to the sampler.

    Raises
    ------
    InputError
        As :func:`adapters.vllm.prompts.read_prompts`.

    """
    return requests_of(read_prompts(path, limit), tokenizer)


def require_unused(artifact: Artifact, requests: Sequence[Request]) -> None:
    """Refuse prompts that made the artifact: their figures would be too good to be true.

    Raises
    ------
    InputError
        Naming the split.

    """
    known = {name: used for name, used in artifact.splits.items() if not name.endswith(PROMPTS)}
    require_disjoint([request.group for request in requests], known, "Give other prompts")
