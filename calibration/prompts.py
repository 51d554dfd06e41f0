"""Who asked what: the prompts of a trace store as hashes, so that none lands in two splits.

A group is the name somebody gave to a prompt; its token ids are what the model was fitted to. Two
groups with the same ids are one prompt, whatever their names say.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from calibration import columns
from calibration.store_files import named

if TYPE_CHECKING:
    from calibration.traces import TraceDataset


def prompt_hash(prompt_ids: Iterable[int]) -> int:
    """Give the 64-bit fingerprint of a prompt.

    Returns
    -------
    The first 8 bytes (big-endian) of the SHA-256 of its token ids as little-endian int32.
    """
    return _hash(np.fromiter(prompt_ids, dtype="<i4").tobytes())


@dataclass(frozen=True, eq=False)
class PromptIndex:
    """The distinct pairs of group and prompt in a store.

    Attributes
    ----------
    groups
        The distinct groups, by first appearance.
    members
        int64[n_pairs], indices into `groups`.
    hashes
        uint64[n_pairs], :func:`prompt_hash` of the prompts.
    """

    groups: Sequence[str]
    members: NDArray[np.int64]
    hashes: NDArray[np.uint64]

    @cached_property
    def _places(self) -> dict[str, int]:
        return {group: place for place, group in enumerate(self.groups)}

    def of(self, groups: Iterable[str]) -> NDArray[np.uint64]:
        """Give the prompts of some groups: uint64[n], ascending and distinct."""
        return np.unique(self.hashes[self._chosen(groups)])

    def sharing(self, groups: Iterable[str], prompts: NDArray[np.uint64]) -> list[str]:
        """List those of `groups` that hold one of `prompts`, by first appearance."""
        hit = self._chosen(groups) & np.isin(self.hashes, prompts)
        return [self.groups[place] for place in np.unique(self.members[hit])]

    def _chosen(self, groups: Iterable[str]) -> NDArray[np.bool_]:
        marked = np.zeros(len(self.groups), dtype=np.bool_)
        places = (self._places.get(group) for group in groups)
        marked[[place for place in places if place is not None]] = True
        chosen: NDArray[np.bool_] = marked[self.members]
        return chosen


@dataclass(frozen=True, slots=True)
class Leak:
    """A group whose prompt an earlier split holds under another group's name."""

    group: str
    split: str
    earlier: str


def prompt_index(dataset: TraceDataset) -> PromptIndex:
    """Hash the prompts of a store; reads two columns of it, one part at a time.

    Raises
    ------
    InputError
        Naming a damaged part.
    """
    places: dict[str, int] = {}
    pairs = [np.empty((0, 2), dtype=np.uint64)]
    for path in dataset.parts:
        groups, hashes = named(path, _read)
        members = [places.setdefault(group, len(places)) for group in groups]
        part = np.stack([np.array(members, dtype=np.uint64), hashes], axis=1)
        pairs.append(np.unique(part, axis=0))  # rollouts repeat their prompt
    distinct = np.unique(np.concatenate(pairs), axis=0)
    return PromptIndex(list(places), distinct[:, 0].astype(np.int64), distinct[:, 1].copy())


def without_leaks(
    index: PromptIndex, splits: Mapping[str, Collection[str]]
) -> tuple[dict[str, list[str]], list[Leak]]:
    """Leave out of each split the groups whose prompt an earlier one holds.

    Parameters
    ----------
    index
        Of the store.
    splits
        Name to groups; no group is in two.

    Returns
    -------
    The splits without these groups, empty ones included, and who was left out.
    """
    kept: dict[str, list[str]] = {}
    leaks: list[Leak] = []
    seen: dict[str, NDArray[np.uint64]] = {}
    for name, groups in splits.items():
        lost: dict[str, str] = {}
        for earlier, prompts in seen.items():
            lost.update(dict.fromkeys(index.sharing(groups, prompts), earlier) | lost)
        kept[name] = [group for group in groups if group not in lost]
        seen[name] = index.of(kept[name])
        leaks += [Leak(group, name, earlier) for group, earlier in lost.items()]
    return kept, leaks


def _read(path: str) -> tuple[list[str], NDArray[np.uint64]]:
    import pyarrow as pa

    file, _ = columns.open_table(path)
    try:
        table = file.read(["group", "prompt_ids"])
    except (pa.ArrowException, OSError, ValueError) as problem:
        first = str(problem).splitlines()[0]
        raise ValueError(f"column 'prompt_ids' is damaged ({first})") from None
    hashes: list[int] = []
    for chunk in table.column("prompt_ids").chunks:
        if chunk.null_count:
            raise ValueError("prompt_ids is missing in a trace")
        hashes += _hash_lists(chunk)
    return table.column("group").to_pylist(), np.array(hashes, dtype=np.uint64)


def _hash_lists(chunk: Any) -> list[int]:
    offsets = chunk.offsets.to_numpy()
    values = chunk.values.to_numpy(zero_copy_only=False).astype("<i4", copy=False)
    return [_hash(values[low:high].tobytes()) for low, high in pairwise(offsets)]


def _hash(data: bytes) -> int:
    return int.from_bytes(hashlib.sha256(data).digest()[:8], "big")
