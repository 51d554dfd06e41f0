"""Which worker collects which prompts: a share that needs no talk between workers."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from calibration.records import TraceMeta
from calibration.store_files import (
    META,
    SHARD,
    part_numbers,
    read_meta,
    require_idle,
    same_meta,
    stores,
)
from calibration.traces import TraceDataset
from stopper.errors import InputError


@dataclass(frozen=True, slots=True)
class Shard:
    """Share `index` (from 0 on) of `count`.

    A prompt belongs to the share that the hash of its id says, whatever file it stands in and
    whichever prompts stand beside it; its rollouts stay together, on one prefix cache.
    """

    index: int
    count: int

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count:
            raise InputError(
                f"--shard {self}: must be I/N with I from 0 to N - 1, such as 0/4 (of four)"
            )

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read "I/N"."""
        found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text)
        if found is None:
            raise InputError(f"--shard {text}: must be I/N, such as 0/4 for the first of four")
        return cls(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def takes(self, prompt_id: str) -> bool:
        """Tell whether a prompt is in this share."""
        digest = hashlib.sha256(prompt_id.encode("utf-8", "surrogatepass")).digest()
        return int.from_bytes(digest[:8], "big") % self.count == self.index

    def folder(self, out: Path) -> Path:
        """Give this share's own store inside the folder of all."""
        return out / f"{SHARD}{self.index}-of-{self.count}"


def collected(out: Path, shard: Shard | None, meta: TraceMeta) -> set[str]:
    """List the traces that this and all other workers, now or earlier, have put under `out`.

    The number of workers may change from run to run: what is done is not done again. It may not
    while others are at work, whose shares would overlap.

    Raises
    ------
    InputError
        If a store there is of another setting than `meta`, or one of another number of workers is
        being written to.

    """
    own = out if shard is None else shard.folder(out)
    for folder in [out, *out.glob(f"{SHARD}*")]:
        alongside = shard is not None and folder.name.endswith(f"-of-{shard.count}")
        if folder != own and not alongside:
            require_idle(folder)
    for store in stores(out):
        same_meta(store / META, read_meta(store), meta)
    return _ids(out)


def trace_name(prompt_id: str, rollout: int) -> str:
    """Name a trace; its noise follows from the name, whichever worker makes it."""
    return f"{prompt_id}#{rollout}"


def count_missing(
    out: Path, shares: Sequence[Shard], prompt_ids: Sequence[str], rollouts: int
) -> int:
    """Count the traces of these shares that no store under `out` holds."""
    done = _ids(out)
    return sum(
        trace_name(name, rollout) not in done
        for name in prompt_ids
        if any(share.takes(name) for share in shares)
        for rollout in range(rollouts)
    )


def _ids(out: Path) -> set[str]:
    return TraceDataset(out).ids() if any(map(part_numbers, stores(out))) else set()
