"""Which groups and prompts an artifact has used already, by the hashes that it keeps."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from calibration.prompts import PromptIndex
from calibration.splits import PROMPTS, group_hash
from stopper.artifact import Artifact

_NOBODY: npt.NDArray[np.uint64] = np.empty(0, dtype=np.uint64)


def used_groups(
    artifact: Artifact, groups: Iterable[str], splits: Collection[str]
) -> dict[str, str]:
    """Map each of `groups` that one of the artifact's `splits` contains to that split's name."""
    names = list(dict.fromkeys(groups))
    hashes = np.fromiter(map(group_hash, names), dtype=np.uint64, count=len(names))
    found: dict[str, str] = {}
    for split in splits:
        hit = np.flatnonzero(np.isin(hashes, artifact.splits.get(split, _NOBODY)))
        found.update((names[place], split) for place in hit)
    return found


def leaked_groups(
    artifact: Artifact, index: PromptIndex, used: Mapping[str, str], splits: Collection[str]
) -> dict[str, str]:
    """Map each group to the split that used its prompt under another group's name.

    Known are the prompts that the artifact keeps, and those of the store's own `used` groups.
    """
    found: dict[str, str] = {}
    fresh = [group for group in index.groups if group not in used]
    for name in splits:
        kept = artifact.splits.get(name + PROMPTS, _NOBODY)
        here = index.of(group for group, split in used.items() if split == name)
        for group in index.sharing(fresh, np.concatenate([kept, here])):
            found.setdefault(group, name)
    return found


def leak_message(folder: Path, leaked: Mapping[str, str]) -> str:
    """Say what leaks, with one example and the remedy."""
    group, name = next(iter(leaked.items()))
    return (
        f"{folder}: {len(leaked)} groups hold prompts that this artifact has used under other "
        f"group names (for instance {group!r}, whose token ids are in its split {name!r}): a "
        "threshold is only honest on prompts that nothing was fitted to. Give equal prompts one "
        "group and collect again, or leave these out with --drop-leaked (train, calibrate, "
        "evaluate, report)"
    )


def unknown_prompts(artifact: Artifact, splits: Collection[str]) -> list[str]:
    """Say which of the splits tell prompts apart by the name of their group alone."""
    lacking = [
        name
        for name in splits
        if artifact.splits.get(name, _NOBODY).size and name + PROMPTS not in artifact.splits
    ]
    if not lacking:
        return []
    return [
        f"the artifact keeps no prompt hashes of its splits {', '.join(lacking)} (it was made by "
        "an older stopper, or from scores): the same prompt under another group's name would go "
        "unnoticed. `stopper train` again keeps them"
    ]
