"""What differs between two artifacts, and whether one may take the other's place."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt

from calibration.splits import PROMPTS
from probes.sequence import SequenceProbe
from stopper.artifact import Artifact
from stopper.cards import thresholds
from stopper.policy import StopPolicy

Arrays = Mapping[str, npt.NDArray[Any]]

#: Not compared: when it was written and so expires (but for how long it is valid), and hashes of
#: files whose contents are compared themselves.
_IGNORED = frozenset({"created", "expires", "files"})


@dataclass(frozen=True, slots=True)
class Difference:
    """One field that differs; values as JSON, None where a side lacks it."""

    field: str
    ours: Any
    theirs: Any


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two artifacts side by side.

    Attributes
    ----------
    differences
        In the order of the manifest, then of the arrays.
    obstacles
        Why the second may not take the first one's place under running traffic; empty if it may.
    cautions
        What changes for the traffic if it does.
    """

    differences: tuple[Difference, ...]
    obstacles: tuple[str, ...]
    cautions: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return what ``stopper diff --json`` writes."""
        return {
            "same": not self.differences,
            "differences": [asdict(one) for one in self.differences],
            "may_replace": not self.obstacles,
            "obstacles": list(self.obstacles),
            "cautions": list(self.cautions),
        }


def compare(ours: Artifact, theirs: Artifact, now: datetime) -> Comparison:
    """Compare two artifacts field by field and array by array.

    The time of creation is not compared: the same data give the same artifact on any day. `now` is
    an aware time to judge expiry at.
    """
    differences = [
        *_fields(ours, theirs),
        *_arrays("probe weights", _tensors(ours.probe), _tensors(theirs.probe)),
        *_arrays("cue matcher", _tensors(ours.cues), _tensors(theirs.cues)),
        *_thresholds(ours, theirs),
        *_arrays("calibration scores", _scores(ours), _scores(theirs)),
        *_splits(ours, theirs),
    ]
    obstacles = [*_obstacles(ours, theirs)]
    if theirs.manifest.expired(now):
        obstacles.append(f"it expired on {theirs.manifest.expires:%Y-%m-%d %H:%M %Z}")
    return Comparison(tuple(differences), tuple(obstacles), tuple(_cautions(ours, theirs)))


def _fields(ours: Artifact, theirs: Artifact) -> Iterator[Difference]:
    left, right = (
        dict(_flat(json.loads(made.manifest.model_dump_json(exclude=set(_IGNORED)))))
        for made in (ours, theirs)
    )
    left["valid_days"], right["valid_days"] = _valid_days(ours), _valid_days(theirs)
    for name in dict.fromkeys([*left, *right]):
        if left.get(name) != right.get(name):
            yield Difference(name, left.get(name), right.get(name))


def _valid_days(made: Artifact) -> float | None:
    expires = made.manifest.expires
    return None if expires is None else (expires - made.manifest.created) / timedelta(days=1)


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Leaves of nested objects by dotted name; a list is a leaf."""
    if not isinstance(value, dict) or not value:
        yield path, value if value != {} else None
        return
    for name, inner in value.items():
        yield from _flat(inner, f"{path}.{name}" if path else name)


def _arrays(what: str, ours: Arrays, theirs: Arrays) -> Iterator[Difference]:
    for name in dict.fromkeys([*ours, *theirs]):
        left, right = ours.get(name), theirs.get(name)
        if left is not None and right is not None and _same(left, right):
            continue
        shown = [_describe(array) for array in (left, right)]
        if left is not None and right is not None and left.shape == right.shape:
            change = _largest_change(left, right)
            if change is not None:
                shown[1] = f"{shown[1]}, largest change {change:.6g}"
        yield Difference(f"{what} {name}", *shown)


def _describe(array: npt.NDArray[Any] | None) -> str | None:
    if array is None:
        return None
    digest = hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
    return f"{array.dtype} {list(array.shape)} sha256 {digest[:16]}"


def _same(left: npt.NDArray[Any], right: npt.NDArray[Any]) -> bool:
    return left.dtype == right.dtype and np.array_equal(left, right)


def _largest_change(left: npt.NDArray[Any], right: npt.NDArray[Any]) -> float | None:
    """Largest absolute difference of finite entries; None without any."""
    with np.errstate(invalid="ignore"):
        change = np.abs(left.astype(np.float64) - right.astype(np.float64))
    finite = change[np.isfinite(change)]
    return float(finite.max()) if finite.size else None


def _thresholds(ours: Artifact, theirs: Artifact) -> Iterator[Difference]:
    left, right = (_limits(made) for made in (ours, theirs))
    for alpha in dict.fromkeys([*left, *right]):
        if left.get(alpha) != right.get(alpha):
            yield Difference(f"threshold at alpha {alpha:g}", left.get(alpha), right.get(alpha))


def _limits(made: Artifact) -> dict[float, float | str]:
    if unservable(made) is not None:
        return {}
    spelled = {math.inf: "Infinity", -math.inf: "-Infinity"}
    found = thresholds(StopPolicy.from_artifact(made))
    return {alpha: spelled.get(limit, limit) for alpha, limit in found.items()}


def _splits(ours: Artifact, theirs: Artifact) -> Iterator[Difference]:
    for name in dict.fromkeys([*ours.splits, *theirs.splits]):
        left, right = ours.splits.get(name), theirs.splits.get(name)
        if left is not None and right is not None and _same(left, right):
            continue
        what = "prompts" if name.endswith(PROMPTS) else "groups"
        sizes = [None if array is None else f"{array.size} {what}" for array in (left, right)]
        if left is not None and right is not None:
            sizes[1] = f"{sizes[1]}, {np.intersect1d(left, right).size} shared"
        yield Difference(f"split {name}", *sizes)


def unservable(made: Artifact) -> str | None:
    """Say why an engine's rule cannot be taken out of an artifact; None if it can."""
    record = made.manifest.calibration
    if record is None:
        return "is not calibrated"
    if made.manifest.context is not None:
        return "is a sentence filter, which stops nothing"
    if record.method == "lynx":
        return "is calibrated by lynx, a baseline that is not served"
    if record.method == "mapie":
        return f"is calibrated by mapie, which has a threshold at alpha {record.alpha:g} alone"
    if record.rule != "level":
        return f"is calibrated for the rule '{record.rule}', which the engine does not serve"
    return None


def _obstacles(ours: Artifact, theirs: Artifact) -> Iterator[str]:
    old, new = ours.manifest, theirs.manifest
    if old.model is None or new.model is None:
        yield "an artifact made from scores cannot be served"
    else:
        yield from (f"another model: {phrase}" for phrase in old.model.mismatches(new.model))
    if old.cues != new.cues:
        yield "other cues: it would decide at other places"
    elif not all(_arrays_equal(_tensors(ours.cues), _tensors(theirs.cues))):
        yield "another cue matcher for the same cues: made with another tokenizer"
    if old.closing != new.closing:
        yield "another closing: stopped answers would begin otherwise"
    if isinstance(theirs.probe, SequenceProbe):
        yield "its probe remembers earlier cues, which no engine serves yet"
    if (old.halting is None) != (new.halting is None):
        yield "one halts a diffusion LM, the other stops a reasoning model"
    elif old.halting is not None and new.halting is not None:
        mismatches = old.halting.sampler.mismatches(new.halting.sampler)
        yield from (f"another sampler: {phrase}" for phrase in mismatches)
        if old.halting.progress != new.halting.progress:
            yield f"its progress is over the {new.halting.progress}"
    reason = unservable(theirs)
    # A halting rule is served at the one level that mapie has found.
    if reason is not None and not (new.halting and new.calibration):
        yield f"it {reason}"


def _cautions(ours: Artifact, theirs: Artifact) -> Iterator[str]:
    old, new = ours.manifest, theirs.manifest
    if old.sampling != new.sampling:
        yield "its promise is for another sampling setting: serve with that one"
    if old.engine and new.engine and old.engine != new.engine:
        yield "its traces were served by another engine"
    if old.probe is not None and new.probe is not None and old.probe.layers != new.probe.layers:
        yield f"its probe reads layers {list(new.probe.layers)}, not {list(old.probe.layers)}"
    if old.calibration is None or new.calibration is None:
        return
    for name in ("loss", "method", "confidence"):
        left, right = getattr(old.calibration, name), getattr(new.calibration, name)
        if left != right:
            yield f"it promises by {name} {right}, not {left}"
    if new.halting is not None and new.calibration.method == "mapie":
        yield f"it answers alpha {new.calibration.alpha:g} alone"
    if unservable(theirs) is None:
        limit = StopPolicy.from_artifact(theirs).threshold(old.calibration.alpha)
        if math.isinf(limit) and limit > 0:
            yield f"too few traces for alpha {old.calibration.alpha:g}: there it never stops"
    if new.expires is not None:
        yield f"it expires on {new.expires:%Y-%m-%d %H:%M %Z}"


def _arrays_equal(ours: Arrays, theirs: Arrays) -> Iterator[bool]:
    yield ours.keys() == theirs.keys()
    yield from (_same(ours[name], theirs[name]) for name in ours if name in theirs)


def _tensors(part: Any) -> Arrays:
    return {} if part is None else part.to_tensors()


def _scores(made: Artifact) -> Arrays:
    worst = {} if made.worst_scores is None else {"worst_scores": made.worst_scores}
    return {**worst, **made.calibration_tensors}
