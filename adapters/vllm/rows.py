"""The row map: which logit row belongs to which request, token and position.

One function per model runner turns its state into `StepRows`; the rest of the plugin knows no
runner. Both rely on fields that were checked for the vLLM versions in `compatibility`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

Rows: TypeAlias = torch.Tensor | npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class StepRows:
    """One engine step, as far as sampling sees it.

    Attributes
    ----------
    request_ids
        Per request of the batch, in row order.
    counts
        Logit rows per request (1 + draft tokens); None where every request has one.
    live
        Per request: whether its rows will be sampled; None where all will. Rows of unfinished
        prompt chunks are computed by the runner and thrown away.
    tokens, positions
        Integer [rows]: the token fed at the row and its absolute position in the sequence.
    sources
        Per probed layer float [*, hidden_size]; row r of the step is `source[index[r]]`.
    index
        Integer [rows] into every source.

    Notes
    -----
    Where the engine computes on the CPU, the three are numpy arrays: a small numpy operation costs
    a third of a small torch one, and a step is short.

    """

    request_ids: Sequence[str]
    counts: list[int] | None
    live: npt.NDArray[np.bool_] | None
    tokens: Rows
    positions: Rows
    sources: Sequence[torch.Tensor]
    index: Rows

    def hidden_row(self, row: int) -> npt.NDArray[np.float32]:
        """Return float32 [input_dim] of one row, on the host."""
        at = int(self.index[row])
        parts = [source[at].to("cpu", torch.float32).numpy() for source in self.sources]
        return np.concatenate(parts) if len(parts) > 1 else parts[0].copy()

    def hidden_rows(self, rows: torch.Tensor | None) -> torch.Tensor:
        """Return [rows, input_dim] on the device; None takes all rows."""
        every = torch.as_tensor(self.index)
        index = every if rows is None else every[rows]
        parts = [source[index] for source in self.sources]
        return torch.cat(parts, dim=-1) if len(parts) > 1 else parts[0]


def pick_sources(
    layers: Sequence[int], num_layers: int, final: torch.Tensor, aux: Sequence[torch.Tensor] | None
) -> list[torch.Tensor]:
    """Order the engine's tensors as the probe's layers: inner ones from `aux`, the last `final`.

    `aux` holds the inner layers in ascending order, as `set_aux_hidden_state_layers` was given
    them; index L there is the residual stream after L blocks, transformers' `hidden_states[L]`.
    """
    inner = iter(aux or ())
    return [final if layer == num_layers else next(inner) for layer in layers]


def v1_rows(runner: Any, state: Any, layers: Sequence[int], num_layers: int) -> StepRows:
    """Read V1's `ExecuteModelState` and persistent batch.

    Draft rows of a request follow its committed token's row, by ascending position.
    """
    count = runner.input_batch.num_reqs
    drafts = state.spec_decode_metadata
    counts = None if drafts is None else [1 + number for number in drafts.num_draft_tokens]
    starts, fed, places = runner.query_start_loc.gpu, runner.input_ids.gpu, runner.positions
    index = None if drafts is None else drafts.logits_indices
    if fed.device.type == "cpu":
        starts, fed, places = starts.numpy(), fed.numpy(), places.numpy()
        index = None if index is None else index.numpy()
    if index is None:
        index = starts[1 : count + 1] - 1
    discarded = runner.discard_request_mask.np[:count]
    return StepRows(
        request_ids=runner.input_batch.req_ids,
        counts=counts,
        live=~discarded if discarded.any() else None,
        tokens=fed[index],
        positions=places[index],
        sources=pick_sources(layers, num_layers, state.hidden_states, state.aux_hidden_states),
        index=index,
    )


def v2_rows(state: Any, layers: Sequence[int], num_layers: int) -> StepRows:
    """Read V2's `ExecuteModelState` and its `InputBatch`."""
    batch = state.input_batch
    fed = batch.num_computed_tokens_np[: batch.num_reqs] + batch.num_scheduled_tokens
    live = fed >= batch.prefill_len_np
    index = batch.logits_indices
    single = batch.num_draft_tokens == 0
    return StepRows(
        request_ids=batch.req_ids,
        counts=None if single else np.diff(batch.cu_num_logits_np).tolist(),
        live=None if live.all() else live,
        tokens=batch.input_ids[index],
        positions=batch.positions[index],
        sources=pick_sources(layers, num_layers, state.hidden_states, state.aux_hidden_states),
        index=index,
    )
