"""What a probe reads and how it turns it into a score."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from probes.validation import Finite, Positive, Record


class ProbeSpec(Record):
    """The shape of a probe; the weights live in a :data:`probes.scorers.Scorer`.

    Attributes
    ----------
    kind
        "linear": one affine map. "mlp": affine maps with ReLU between. "gru": a recurrent probe
        that remembers the trace's earlier cues, see :class:`probes.sequence.SequenceProbe`.
    layers
        Layers whose hidden states at the cue token are concatenated, ascending, 1-based: layer i
        is the output of block i (transformers' ``hidden_states[i]``); the last one is taken after
        the final norm.
    hidden_size
        Width of one layer.
    hidden_dims
        Widths between the affine maps; () for a linear probe, (256, 64) for LYNX's MLP; (width,),
        the width of its memory, for a gru.
    shaping
        "raw": the logit itself. "rise": the logit plus ``rise_weight`` times its rise over the
        trace's own running minimum.
    rise_weight
        Weight of the rise; powers of two make fused multiply-adds exact.

    """

    kind: Literal["linear", "mlp", "gru"]
    layers: tuple[Positive, ...]
    hidden_size: Annotated[Positive, Field(le=1_000_000)]
    hidden_dims: tuple[Positive, ...] = ()
    shaping: Literal["raw", "rise"] = "raw"
    rise_weight: Annotated[Finite, Field(ge=0.0, le=1e6)] = 0.5

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not self.layers:
            raise ValueError("layers: name at least one layer")
        if any(low >= high for low, high in pairwise(self.layers)):
            raise ValueError(f"layers: must ascend without repetition, got {list(self.layers)}")
        if self.kind == "linear" and self.hidden_dims:
            raise ValueError("hidden_dims: a linear probe has none; use kind 'mlp'")
        if self.kind == "mlp" and not self.hidden_dims:
            raise ValueError("hidden_dims: an mlp needs at least one, for example (256, 64)")
        if self.kind == "gru" and len(self.hidden_dims) != 1:
            raise ValueError(
                "hidden_dims: a gru has exactly one, the width of its memory, for example (16,)"
            )
        return self

    @property
    def input_dim(self) -> int:
        """Width of the concatenated hidden state."""
        return len(self.layers) * self.hidden_size

    @property
    def widths(self) -> tuple[int, ...]:
        """Widths in order: the input, the hidden ones, and 1; of all affine maps but a gru's."""
        return (self.input_dim, *self.hidden_dims, 1)


def default_layers(num_layers: int) -> tuple[int, ...]:
    """Choose layers by depth: one third, one half, two thirds, and the last.

    Parameters
    ----------
    num_layers
        Blocks of the model, at least 1.

    Returns
    -------
    tuple of int
        1-based, ascending; fewer than four where a shallow model makes them coincide.

    Notes
    -----
    LYNX (arXiv 2512.05325) lists layers per model: 36 blocks 12, 18, 24, last, which this rule
    gives exactly; 32 blocks 8, 16, 24, last and 64 blocks 16, 32, 48, last, where its outer two
    lie at quarters (the rule: 11, 16, 21 and 21, 32, 43); 28 blocks 9, 16, last, without a third
    inner layer (the rule: 9, 14, 19). Name the paper's lists by hand to reproduce it to the letter.

    Examples
    --------
    >>> default_layers(36)
    (12, 18, 24, 36)
    >>> default_layers(3)
    (1, 2, 3)

    """
    if num_layers < 1:
        raise ValueError(f"num_layers must be at least 1, got {num_layers}")
    depths = [(num_layers * part + 3) // 6 for part in (2, 3, 4)]
    return tuple(sorted({max(1, depth) for depth in depths} | {num_layers}))
