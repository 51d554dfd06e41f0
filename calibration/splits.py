"""Splits by group: every rollout of a prompt lands in one split, the same one on every machine.

A split is a function of the group's name and a seed alone (SHA-256), not of the order or the
number of the traces: more traces can be collected later without moving an old one, and an artifact
can tell from 8-byte hashes whether a group was used before, without storing anybody's prompts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from probes.errors import InputError

#: Beside a split's groups an artifact keeps its prompts (:mod:`calibration.prompts`) under the
#: split's name and this.
PROMPTS = ".prompts"

#: Shares used by the commands when none are given: the probe is fitted on the first, shaped and
#: selected on the second, calibrated on the third, judged on the fourth.
DEFAULT_FRACTIONS: Mapping[str, float] = {
    "train": 0.4,
    "select": 0.1,
    "calibrate": 0.25,
    "test": 0.25,
}


def group_hash(group: str) -> int:
    """Give the 64-bit fingerprint of a group's name: the first 8 bytes of its SHA-256."""
    return int.from_bytes(hashlib.sha256(group.encode("utf-8")).digest()[:8], "big")


def group_hashes(groups: Iterable[str]) -> NDArray[np.uint64]:
    """Fingerprint the distinct groups.

    Parameters
    ----------
    groups
        Names, repeated or not.

    Returns
    -------
    uint64[n_distinct], ascending: what an artifact keeps of a split.
    """
    return np.array(sorted({group_hash(group) for group in groups}), dtype=np.uint64)


def assign(group: str, fractions: Mapping[str, float] = DEFAULT_FRACTIONS, seed: int = 0) -> str:
    """Name the split of one group.

    Parameters
    ----------
    group
        The prompt's identity.
    fractions
        Split name to share; shares are positive and sum to 1.
    seed
        Another seed gives an independent assignment.

    Raises
    ------
    InputError
        When the shares are not positive or do not sum to 1.
    """
    return _draw(group, _edges(fractions), list(fractions), seed)


def split_groups(
    groups: Sequence[str],
    fractions: Mapping[str, float] = DEFAULT_FRACTIONS,
    seed: int = 0,
) -> dict[str, NDArray[np.int64]]:
    """Split rows by their group.

    Parameters
    ----------
    groups
        The group of each row, for instance of each trace.
    fractions, seed
        As in :func:`assign`.

    Returns
    -------
    Split name to int64 row indices, ascending. The shares hold for groups in expectation (each
    group is drawn by its own hash), so small collections deviate from them, as fair draws do.
    """
    edges, names = _edges(fractions), list(fractions)
    cache: dict[str, str] = {}
    rows: dict[str, list[int]] = {name: [] for name in names}
    for row, group in enumerate(groups):
        if group not in cache:
            cache[group] = _draw(group, edges, names, seed)
        rows[cache[group]].append(row)
    return {name: np.array(indices, dtype=np.int64) for name, indices in rows.items()}


def leaked_groups(groups: Iterable[str], used: NDArray[np.uint64]) -> list[str]:
    """List the groups whose fingerprints occur in `used`, in order of first appearance."""
    known = set(np.asarray(used, dtype=np.uint64).tolist())
    return [group for group in dict.fromkeys(groups) if group_hash(group) in known]


def require_disjoint(
    groups: Iterable[str],
    used: Mapping[str, NDArray[np.uint64]],
    remedy: str = "Collect traces of other prompts, or leave these groups out",
) -> None:
    """Refuse groups that an earlier step has seen.

    Parameters
    ----------
    groups
        The groups about to be used.
    used
        Split name to the fingerprints used there (an artifact's ``splits.safetensors``).
    remedy
        Ends the error.

    Raises
    ------
    InputError
        Naming the split, how many groups leak and one of them.
    """
    groups = list(dict.fromkeys(groups))
    for name, hashes in used.items():
        leaked = leaked_groups(groups, hashes)
        if leaked:
            raise InputError(
                f"{len(leaked)} of {len(groups)} groups were already used in the artifact's "
                f"'{name}' split (for instance group {leaked[0]!r}): a threshold is only honest on "
                f"prompts that nothing was fitted to. {remedy}."
            )


def _edges(fractions: Mapping[str, float]) -> list[float]:
    """Cumulative upper edges of the shares in [0, 1]."""
    shares = list(fractions.values())
    if not shares or any(not share > 0 for share in shares) or abs(sum(shares) - 1) > 1e-9:
        raise InputError(
            f"split fractions {dict(fractions)} must be positive and sum to 1 "
            f"(they sum to {sum(shares):g})."
        )
    return list(accumulate(shares))


def _draw(group: str, edges: list[float], names: list[str], seed: int) -> str:
    digest = hashlib.sha256(f"{seed}:{group}".encode()).digest()
    unit = int.from_bytes(digest[:8], "big") / 2**64
    for name, edge in zip(names, edges, strict=True):
        if unit < edge:
            return name
    return names[-1]  # the last edge may fall a rounding error short of 1
