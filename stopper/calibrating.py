"""Between a trace store and the calibration room: which traces an artifact may be judged by."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydantic import JsonValue
from tqdm import tqdm

from calibration.calibrate import Calibration
from calibration.profile import profile_of
from calibration.prompts import prompt_index
from calibration.report import Rule
from calibration.splits import PROMPTS, group_hashes
from calibration.table import CueTable
from calibration.traces import TraceDataset, TraceMeta, scored_traces
from probes.errors import InputError
from probes.scorers import Scorer
from probes.validation import parse
from stopper import __version__
from stopper.artifact import Artifact, CalibrationRecord, Manifest
from stopper.cues import CueSpec
from stopper.leakage import leak_message, leaked_groups, unknown_prompts, used_groups
from stopper.libraries import versions_used

GOOD, BAD = "good_scores", "bad_scores"
"""Names of the per-class cue scores among an artifact's calibration tensors."""

FITTED = ("train", "select")
CALIBRATED = "calibrate"
TEST = "test"
_OWN = (CALIBRATED, CALIBRATED + PROMPTS)


@dataclass(frozen=True, eq=False)
class Chosen:
    """Scored traces of a store.

    Attributes
    ----------
    table
        Scored and labelled.
    used
        How many groups of the store an avoided split had used, by its name; they are not in the
        table unless the caller insisted.
    meta
        What the store's traces share.
    prompts
        uint64[n], the hashes of the table's prompts.
    notes
        Remarks a person should read.
    """

    table: CueTable
    used: Mapping[str, int]
    meta: TraceMeta
    prompts: npt.NDArray[np.uint64]
    notes: tuple[str, ...] = ()

    @property
    def sampling(self) -> Mapping[str, JsonValue]:
        """How the store was sampled."""
        return self.meta.sampling


def require_probe(artifact: Artifact, folder: str | Path) -> Scorer:
    """Return the probe that scores traces of thinking.

    Raises
    ------
    InputError
        If the artifact has none; names the command that the artifact is for.
    """
    if artifact.probe is not None:
        return artifact.probe
    made = artifact.manifest
    for name, field in (("diffusion", made.halting), ("context", made.context)):
        if field is not None:
            raise InputError(
                f"{folder}: the artifact was made by `stopper {name} calibrate` and cannot score "
                f"traces of thinking; use `stopper {name} evaluate`"
            )
    raise InputError(
        f"{folder}: the artifact has no probe (it was made from scores) and cannot score "
        "traces. Give --scores or a file of scores, or an artifact of `stopper train`"
    )


def choose_traces(
    artifact: Artifact,
    folder: Path,
    avoid: Collection[str],
    insist: bool = False,
    drop_leaked: bool = False,
) -> Chosen:
    """Score the traces of a store whose groups none of the splits in `avoid` has used.

    A group of another name whose prompt one of them has used is a leak, and refused.

    Parameters
    ----------
    artifact
        Its probe scores; its splits say what was used.
    folder
        A trace store of the same model, cues and closing.
    avoid
        Names of splits.
    insist
        Take the used groups, and those that leak, too.
    drop_leaked
        Leave out the groups that leak.

    Raises
    ------
    InputError
        When the artifact has no probe, the store is of another model, cue spec or closing, all
        of its groups are used, or some leak.
    """
    probe = require_probe(artifact, folder)
    dataset = TraceDataset(folder)
    require_same_setting(artifact, dataset.meta, folder)
    index = prompt_index(dataset)
    groups = index.groups
    used = used_groups(artifact, groups, avoid)
    leaked = leaked_groups(artifact, index, used, avoid)
    if leaked and not (insist or drop_leaked):
        raise InputError(leak_message(folder, leaked))
    taken = {group for group in groups if insist or (group not in used and group not in leaked)}
    if not taken:
        used |= leaked
        counts = ", ".join(f"{count} {name}" for name, count in _count(used).items())
        raise InputError(
            f"{folder}: all {len(used)} groups were used in making this artifact ({counts}); a "
            "threshold is only honest on prompts that nothing was fitted to. Collect traces of "
            "other prompts, or keep some back with `stopper train --train-fraction`"
        )
    scored = scored_traces(dataset, probe, taken)
    table = CueTable.from_traces(tqdm(scored, desc="scoring traces", unit="trace", leave=False))
    notes = [*unknown_prompts(artifact, avoid)]
    ours, theirs = artifact.manifest.comparer, dataset.meta.comparer
    if ours not in (None, theirs):
        notes.append(f"answers in {folder} were compared by {theirs!r}, the artifact's by {ours!r}")
    if leaked:
        done = "WARNING: included" if insist else "left out"
        counts = ", ".join(f"{count} {name}" for name, count in _count(leaked).items())
        notes.append(f"{done} groups whose prompts the artifact used under other names: {counts}")
    return Chosen(table, _count(used), dataset.meta, index.of(taken), tuple(notes))


def require_same_setting(artifact: Artifact, meta: TraceMeta, folder: Path) -> None:
    """Refuse traces made under another model, cue spec or closing than the artifact's.

    Raises
    ------
    InputError
        Naming what differs.
    """
    manifest = artifact.manifest
    different = [f"model: {phrase}" for phrase in artifact.mismatches(meta.model)]
    spec = parse(CueSpec, meta.cues, f"{folder / 'meta.json'} cues", "Restore it")
    if manifest.cues is not None and manifest.cues != spec:
        different.append(f"cues: {spec.labels}, expected {manifest.cues.labels} (or other ids)")
    if manifest.closing is not None and manifest.closing != meta.closing:
        different.append(
            f"closing: {meta.closing.answer_prompt!r} after ids {list(meta.closing.end_ids)}, "
            f"expected {manifest.closing.answer_prompt!r} after {list(manifest.closing.end_ids)}"
        )
    if different:
        raise InputError(
            f"{folder}: collected under another setting than the artifact's: "
            f"{'; '.join(different)}. Collect again under the artifact's, or train on this store"
        )


def calibrated(
    found: Calibration,
    table: CueTable,
    base: Artifact | None = None,
    chosen: Chosen | None = None,
    valid_days: float | None = None,
) -> Artifact:
    """Put a calibration into an artifact.

    Parameters
    ----------
    found
        The calibration.
    table
        What it was calibrated on; its groups replace the artifact's split "calibrate".
    base
        The trained artifact; None makes one from scores alone, which can be evaluated, not served.
    chosen
        Where the table comes from: to its sampling, engine and comparer the promise belongs. None
        with scores.
    valid_days
        After that many days the artifact expires.
    """
    now = datetime.now(UTC).replace(microsecond=0)
    record = CalibrationRecord.model_validate(
        {
            "method": found.method,
            "loss": found.loss,
            "alpha": found.alpha,
            "confidence": found.confidence,
            "n_units": found.n_units,
            "n_traces": found.n_traces,
            "n_cues": found.n_cues,
            "threshold": found.threshold,
            "promise": found.promise,
            "rollouts": found.rollouts,
            "rule": found.rule,
            "parameters": dict(found.parameters),
        }
    )
    changes: dict[str, object] = {
        "created": now,
        "expires": None if valid_days is None else now + timedelta(days=valid_days),
        "stopper_version": __version__,
        "calibration": record,
        "profile": profile_of(table),
        "libraries": versions_used(),
    }
    splits = {CALIBRATED: group_hashes(table.groups)}
    if chosen is not None:
        meta = chosen.meta
        changes["sampling"] = dict(meta.sampling)
        changes["engine"] = dict(meta.engine)
        changes["comparer"] = meta.comparer
        changes["libraries"] = versions_used(meta.engine)
        splits[CALIBRATED + PROMPTS] = chosen.prompts
    if base is None:
        manifest = Manifest(created=now, stopper_version=__version__).model_copy(update=changes)
    else:
        manifest = base.manifest.model_copy(update=changes)
        splits = {name: hashes for name, hashes in base.splits.items() if name not in _OWN} | splits
    return Artifact(
        manifest=manifest,
        probe=None if base is None else base.probe,
        cues=None if base is None else base.cues,
        worst_scores=None if found.method == "lynx" else found.worst_scores,
        splits=splits,
        calibration_tensors={GOOD: found.good_scores, BAD: found.bad_scores},
    )


def rule_of(artifact: Artifact) -> Rule:
    """Take the calibrated rule out of an artifact.

    Raises
    ------
    InputError
        If it is not calibrated.
    """
    record = artifact.manifest.calibration
    if record is None:
        raise InputError("the artifact is not calibrated. Run `stopper calibrate` on it first")
    tensors = artifact.calibration_tensors
    return Rule(
        method=record.method,
        loss=record.loss,
        confidence=record.confidence,
        worst_scores=artifact.worst_scores,
        good_scores=tensors.get(GOOD),
        bad_scores=tensors.get(BAD),
        rule=record.rule,
        parameters=record.parameters,
        alpha=record.alpha,
    )


def choose_source(scores: Path | None, traces: Path | None) -> Path:
    """Give the one source of traces that was named.

    Raises
    ------
    InputError
        If it was none or both.
    """
    if (scores is None) == (traces is None):
        raise InputError(
            "give either --scores FILE.jsonl (your own scores) or --traces FOLDER (traces of "
            "`stopper collect`)" + ("" if scores is None else ", not both")
        )
    return scores if scores is not None else Path(str(traces))


def _count(used: Mapping[str, str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for name in used.values():
        counts[name] = counts.get(name, 0) + 1
    return counts
