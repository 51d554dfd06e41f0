"""From a trace store to an uncalibrated artifact: choose prompts, gather cues, fit, wrap up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import JsonValue
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from tqdm import tqdm

from calibration.prompts import PromptIndex, prompt_index, without_leaks
from calibration.splits import PROMPTS, assign, group_hashes
from calibration.traces import TraceDataset, TraceMeta
from probes.errors import InputError
from probes.fit import FitResult, fit_probe
from probes.spec import ProbeSpec
from probes.validation import parse
from stopper import __version__, folders
from stopper.artifact import MAX_TENSOR_BYTES, Artifact, Manifest
from stopper.cues import CueAutomaton, CueSpec
from stopper.libraries import versions_used

CUES = "cues.safetensors"
"""The compiled cue matcher, which `stopper collect` leaves in the trace store."""

Label = Literal["agrees", "correct"]


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """What to fit and on which share of the prompts.

    Attributes
    ----------
    label
        "agrees": the answer forced at the cue equals the full trace's. "correct": it equals gold.
    fractions
        Split name to share of prompts; "train" is fitted on, the others are kept for later.
    max_cues
        At most this many labelled cues are drawn, to bound memory.
    drop_leaked
        Leave out groups whose prompt stands in an earlier split under another name; False refuses.

    """

    label: Label
    fractions: Mapping[str, float]
    seed: int
    max_cues: int
    drop_leaked: bool = False


@dataclass(frozen=True, slots=True)
class Gathered:
    """The labelled cues of the training split, and what was passed over."""

    hidden: npt.NDArray[np.float32]
    labels: npt.NDArray[np.bool_]
    groups: npt.NDArray[np.str_]
    traces: int
    cues: int
    unlabelled: int


def choose_layers(text: str | None, meta: TraceMeta) -> tuple[int, ...]:
    """Read a list such as "9,16,last"; all layers of the store by default.

    Raises
    ------
    InputError
        If it is no such list, or names a layer that was not collected.

    """
    if text is None:
        return meta.layers
    numbers = set()
    for part in text.split(","):
        word = part.strip()
        if not (word == "last" or (word.isdecimal() and int(word) >= 1)):
            raise InputError(
                f"--layers {text!r}: {word!r} is neither a layer (1, 2, ...) nor 'last'. "
                "Give a list such as 9,16,last"
            )
        numbers.add(meta.model.num_layers if word == "last" else int(word))
    layers = tuple(sorted(numbers))
    meta.columns(layers)
    return layers


def parse_widths(text: str) -> tuple[int, ...]:
    """Read a list of widths such as "256,64".

    Raises
    ------
    InputError
        If it is no such list.

    """
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() and int(word) >= 1 for word in words):
        raise InputError(f"--hidden-dims {text!r}: give widths such as 256,64")
    return tuple(int(word) for word in words)


def complete_fractions(train: float, select: float, test: float) -> dict[str, float]:
    """Return the share of prompts per split; calibration gets what is left.

    Raises
    ------
    InputError
        If a share is negative, nothing is left to train on, or they exceed 1.

    """
    shares = {"train": train, "select": select, "test": test}
    for name, share in shares.items():
        if not 0.0 <= share <= 1.0:
            raise InputError(f"--{name}-fraction {share:g}: give a share between 0 and 1")
    if train == 0.0:
        raise InputError("--train-fraction 0: leaves nothing to fit on")
    rest = 1.0 - sum(shares.values())
    if rest < -1e-9:
        raise InputError(f"the fractions sum to {sum(shares.values()):g}; at most 1 is possible")
    shares["calibrate"] = rest if rest > 1e-9 else 0.0
    return shares


def share_out(
    groups: Sequence[str], fractions: Mapping[str, float], seed: int
) -> dict[str, list[str]]:
    """Assign prompts to splits by their hash; empty splits are left out.

    Raises
    ------
    InputError
        If no prompt falls to "train".

    """
    positive = {name: share for name, share in fractions.items() if share != 0.0}
    members: dict[str, list[str]] = {}
    for group in groups:
        members.setdefault(assign(group, positive, seed), []).append(group)
    if "train" not in members:
        raise InputError(
            f"none of the {len(groups)} prompts falls into the train split "
            f"({fractions.get('train', 0):g}). Raise --train-fraction or collect more prompts"
        )
    return members


def keep_apart(
    folder: Path, index: PromptIndex, plan: TrainingPlan
) -> tuple[dict[str, list[str]], int]:
    """Assign a store's groups to splits so that no prompt is in two, whatever its groups' names.

    Returns
    -------
    The splits, and how many groups were left out for their prompt.

    Raises
    ------
    InputError
        If a prompt falls into two splits and the plan does not say to drop it.

    """
    members = share_out(sorted(index.groups), plan.fractions, plan.seed)
    ordered = {name: members[name] for name in plan.fractions if name in members}
    splits, leaks = without_leaks(index, ordered)
    if leaks and not plan.drop_leaked:
        first = leaks[0]
        raise InputError(
            f"{folder}: {len(leaks)} groups hold a prompt that another group brings into another "
            f"split (for instance {first.group!r} in {first.split!r}, whose token ids are also in "
            f"{first.earlier!r}): the promise would rest on prompts that the probe has seen. Give "
            "equal prompts one group and collect again, or leave these groups out with "
            "--drop-leaked"
        )
    return {name: groups for name, groups in splits.items() if groups}, len(leaks)


def gather(
    dataset: TraceDataset, layers: Sequence[int], members: Sequence[str], plan: TrainingPlan
) -> Gathered:
    """Collect the hidden states and labels of the training prompts' cues.

    Memory holds one part of the store and at most ``plan.max_cues`` cues, drawn evenly.

    Raises
    ------
    InputError
        If there is no cue, or none with the label.

    """
    columns, wanted = dataset.meta.columns(layers), frozenset(members)
    rng = np.random.default_rng(plan.seed)
    kept: list[tuple[npt.NDArray[np.float32], bool, str]] = []
    traces = cues = labelled = 0
    for record in tqdm(dataset, total=len(dataset), desc="reading traces", unit="trace"):
        if record.group not in wanted:
            continue
        traces += 1
        cues += len(record.cues)
        for cue, state in zip(record.cues, record.hidden[:, columns], strict=True):
            label = cue.agrees if plan.label == "agrees" else cue.correct
            if label is None:
                continue
            labelled += 1
            if len(kept) < plan.max_cues:
                kept.append((state.copy(), label, record.group))
                continue
            # A reservoir: every labelled cue has the same chance, whatever their number.
            place = int(rng.integers(labelled))
            if place < plan.max_cues:
                kept[place] = (state.copy(), label, record.group)
    if not cues:
        raise InputError(
            f"{dataset.folder}: no cue in any of the {traces} training traces. Collect with other "
            "cue words, --every or --paragraph"
        )
    if not kept:
        raise InputError(
            f"{dataset.folder}: none of the {cues} cues has the label {plan.label!r}. "
            + (
                "Collect prompts with gold answers, or train with --label agrees"
                if plan.label == "correct"
                else "Collect with forced answers"
            )
        )
    states, labels, groups = zip(*kept, strict=True)
    return Gathered(
        np.stack(states), np.array(labels), np.array(groups), traces, cues, cues - labelled
    )


def train(
    dataset: TraceDataset, spec: ProbeSpec, plan: TrainingPlan
) -> tuple[Artifact, FitResult, Gathered]:
    """Fit a probe and wrap it up with its cues, model, closing, sampling and splits.

    Raises
    ------
    InputError
        If the store cannot be read, or its cues cannot teach a probe.

    """
    index = prompt_index(dataset)
    splits, leaked = keep_apart(dataset.folder, index, plan)
    cues = read_cues(dataset)
    data = gather(dataset, spec.layers, splits["train"], plan)
    try:
        result = fit_probe(data.hidden, data.labels, data.groups, spec, seed=plan.seed)
    except InputError as problem:
        raise InputError(f"{dataset.folder}: {problem}") from None
    meta = dataset.meta
    versions = versions_used(meta.engine)
    training: dict[str, JsonValue] = {
        "label": plan.label,
        "seed": plan.seed,
        "fractions": dict(plan.fractions),
        "groups": {name: len(groups) for name, groups in splits.items()},
        "leaked_groups": leaked,
        "max_cues": plan.max_cues,
        "traces": data.traces,
        "cues": data.cues,
        "unlabelled_cues": data.unlabelled,
        "engine": dict(meta.engine),
        "libraries": dict(versions),
        "held_out": dict(result.metrics),
        "fit": dict(result.chosen),
    }
    manifest = Manifest(
        created=datetime.now(UTC).replace(microsecond=0),
        stopper_version=__version__,
        model=meta.model,
        probe=spec,
        cues=cues.spec if cues else None,
        closing=meta.closing,
        sampling=dict(meta.sampling),
        training=training,
        comparer=meta.comparer,
        libraries=versions,
        engine=dict(meta.engine),
    )
    hashes = {name: group_hashes(groups) for name, groups in splits.items()}
    hashes |= {name + PROMPTS: index.of(groups) for name, groups in splits.items()}
    return Artifact(manifest, probe=result.probe, cues=cues, splits=hashes), result, data


def read_cues(dataset: TraceDataset) -> CueAutomaton | None:
    """Read the store's compiled cue matcher; None if the collector left none.

    Raises
    ------
    InputError
        If it is damaged, or its spec in ``meta.json`` is.

    """
    path: Path = dataset.folder / CUES
    spec = parse(CueSpec, dataset.meta.cues, f"{dataset.folder / 'meta.json'} cues", "Restore it")
    try:
        tensors = load_tensors(folders.read(path, MAX_TENSOR_BYTES))
        return CueAutomaton.from_tensors(tensors, spec)
    except FileNotFoundError:
        return None
    except (SafetensorError, OSError, InputError) as problem:
        raise InputError(
            f"{path}: {problem}. Delete it and run `stopper collect` again, which keeps all traces"
        ) from None
