"""From a trace store to an uncalibrated artifact: choose prompts, gather cues, fit, wrap up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydantic import JsonValue
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors

from calibration.prompts import PromptIndex, prompt_index, without_leaks
from calibration.splits import PROMPTS, assign, group_hashes
from calibration.traces import TraceDataset
from probes.errors import InputError, TooFewTraces
from probes.fit import FitResult
from probes.validation import parse
from stopper import __version__, choosing, folders
from stopper.artifact import MAX_TENSOR_BYTES, Artifact, Manifest
from stopper.cues import CueAutomaton, CueSpec
from stopper.fitting import Fitter, Method, fit, fit_with
from stopper.gathering import Gathered, Label, gather
from stopper.libraries import versions_used

CUES = "cues.safetensors"
"""The compiled cue matcher, which `stopper collect` leaves in the trace store."""


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
        Whole traces are drawn until they hold at most this many cues, to bound memory.
    drop_leaked
        Leave out groups whose prompt stands in an earlier split under another name; False refuses.

    """

    label: Label
    fractions: Mapping[str, float]
    seed: int
    max_cues: int
    drop_leaked: bool = False


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


def train(
    dataset: TraceDataset, method: Method, plan: TrainingPlan, fitter: Fitter | None = None
) -> tuple[Artifact, FitResult, Gathered]:
    """Fit a probe and wrap it up with its cues, model, closing, sampling and splits.

    Parameters
    ----------
    dataset, method, plan
        The traces, what to fit, and on which of them.
    fitter
        Fits a probe of the method's shape in a way of your own; its name goes into the artifact.

    Raises
    ------
    InputError
        If the store cannot be read, or its cues cannot teach a probe.

    """
    ground = _prepare(dataset, plan)
    data = _gather(dataset, ground, method.spec.layers, plan, "train")
    further: dict[str, JsonValue] = {}
    try:
        if fitter is None:
            result = fit(data, method, plan.seed)
        else:
            result = fit_with(fitter, data, method, plan.seed)
            further["fitter"] = getattr(fitter, "__qualname__", type(fitter).__qualname__)
    except InputError as problem:
        raise InputError(f"{dataset.folder}: {problem}") from None
    return _wrap(dataset, plan, ground, data, method, result, further), result, data


def train_best(
    dataset: TraceDataset,
    candidates: Sequence[Method],
    plan: TrainingPlan,
    comparison: choosing.Plan,
) -> tuple[Artifact, choosing.Choice]:
    """Fit all candidates on the split "train", keep the one that saves most on "select".

    Raises
    ------
    InputError
        If the store cannot be read, the select split is too small for the promise to be compared
        under, or the cues cannot teach a candidate.

    """
    ground = _prepare(dataset, plan)
    choosing.check_select(len(ground.splits.get("select", ())), comparison)
    layers = tuple(sorted({layer for method in candidates for layer in method.spec.layers}))
    data = _gather(dataset, ground, layers, plan, "train")
    select = _gather(dataset, ground, layers, plan, "select")
    try:
        choice = choosing.choose(data, select, candidates, comparison)
    except TooFewTraces:
        raise
    except InputError as problem:
        raise InputError(f"{dataset.folder}: {problem}") from None
    method, result = choice.winner.method, choice.winner.result
    further: dict[str, JsonValue] = {
        "choice": choice.record() | {"traces": select.traces, "left_out_traces": select.left_out}
    }
    return _wrap(dataset, plan, ground, data, method, result, further), choice


@dataclass(frozen=True)
class _Ground:
    """A store's splits, prompts and cue matcher."""

    index: PromptIndex
    splits: dict[str, list[str]]
    leaked: int
    cues: CueAutomaton | None


def _prepare(dataset: TraceDataset, plan: TrainingPlan) -> _Ground:
    index = prompt_index(dataset)
    splits, leaked = keep_apart(dataset.folder, index, plan)
    return _Ground(index, splits, leaked, read_cues(dataset))


def _gather(
    dataset: TraceDataset, ground: _Ground, layers: Sequence[int], plan: TrainingPlan, split: str
) -> Gathered:
    return gather(
        dataset,
        layers,
        ground.splits[split],
        label=plan.label,
        seed=plan.seed,
        max_cues=plan.max_cues,
        what="training" if split == "train" else split,
    )


def _wrap(
    dataset: TraceDataset,
    plan: TrainingPlan,
    ground: _Ground,
    data: Gathered,
    method: Method,
    result: FitResult,
    further: Mapping[str, JsonValue] | None = None,
) -> Artifact:
    meta, splits = dataset.meta, ground.splits
    versions = versions_used(meta.engine)
    training: dict[str, JsonValue] = {
        "label": plan.label,
        **method.record(),
        "seed": plan.seed,
        "fractions": dict(plan.fractions),
        "groups": {name: len(groups) for name, groups in splits.items()},
        "leaked_groups": ground.leaked,
        "max_cues": plan.max_cues,
        "traces": data.traces,
        "traces_without_cues": data.without_cues,
        "left_out_traces": data.left_out,
        "cues": data.cues,
        "unlabelled_cues": data.unlabelled,
        "engine": dict(meta.engine),
        "libraries": dict(versions),
        "held_out": dict(result.metrics),
        "fit": dict(result.chosen),
        **(further or {}),
    }
    manifest = Manifest(
        created=datetime.now(UTC).replace(microsecond=0),
        stopper_version=__version__,
        model=meta.model,
        probe=method.spec,
        cues=ground.cues.spec if ground.cues else None,
        closing=meta.closing,
        sampling=dict(meta.sampling),
        training=training,
        comparer=meta.comparer,
        libraries=versions,
        engine=dict(meta.engine),
    )
    hashes = {name: group_hashes(groups) for name, groups in splits.items()}
    hashes |= {name + PROMPTS: ground.index.of(groups) for name, groups in splits.items()}
    return Artifact(manifest, probe=result.probe, cues=ground.cues, splits=hashes)


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
