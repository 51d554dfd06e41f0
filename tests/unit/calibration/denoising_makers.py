"""Tables of made-up decodes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from calibration.denoising import COLUMNS, DenoisingTable

Step = tuple[bool, int]
"""Whether a halt agrees there, and whether it is right."""


def table_of(decodes: Sequence[Sequence[Sequence[Step]]], **fields: Any) -> DenoisingTable:
    """Make a table from the steps of each block of each decode; a block's last step agrees."""
    blocks = [block for decode in decodes for block in decode]
    sizes = np.array([len(block) for block in blocks], dtype=np.int64)
    steps = [step for block in blocks for step in block]
    n_steps, first, last = len(steps), np.cumsum(sizes) - sizes, np.cumsum(sizes) - 1
    agree = np.array([step[0] for step in steps], dtype=np.bool_)
    agree[last] = True
    changed = np.arange(n_steps) % 3 == 0
    changed[first] = True
    values = np.random.default_rng(n_steps).random((n_steps, len(COLUMNS)), dtype=np.float32)
    names = tuple(f"decode-{index}" for index in range(len(decodes)))
    made: dict[str, Any] = {
        "signals": COLUMNS,
        "values": values,
        "progress": np.concatenate(
            [np.zeros(0), *(np.linspace(0, 1, size) for size in sizes)]
        ).astype(np.float32),
        "changed": changed,
        "agree": agree,
        "correct": np.array([step[1] for step in steps], dtype=np.int8),
        "block_offsets": offsets(sizes),
        "trace_offsets": offsets([len(decode) for decode in decodes]),
        "trace_ids": names,
        "groups": tuple(f"prompt-{index // 2}" for index in range(len(decodes))),
        "levels": tuple("sudoku/easy" if index % 2 else "" for index in range(len(decodes))),
        "settings": {"sampler": {"steps": 4}, "model": {"model": "tiny"}},
    }
    return DenoisingTable(**(made | fields))


def offsets(sizes: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64]:
    """Return where each group of so many members begins, and where the last ends."""
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(np.asarray(sizes, np.int64))])


_step = st.tuples(st.booleans(), st.sampled_from([0, 1, -1]))
_blocks = st.lists(st.lists(_step, min_size=1, max_size=5), min_size=1, max_size=3)
decodes_of = st.lists(_blocks, max_size=6)
# Few values, so that scores tie with each other and with a level.
scores_of = st.sampled_from([-np.inf, -1.5, -0.0, 0.0, 0.25, 1.0, 3.0])
