"""A probe with memory: a recurrent network over the cues of one trace, scored by numpy."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from probes.errors import InputError
from probes.metrics import sigmoid
from probes.network import MAX_SCORE
from probes.spec import ProbeSpec

FloatArray = npt.NDArray[np.float32]


def tensor_shapes(spec: ProbeSpec) -> dict[str, tuple[int, ...]]:
    """Return the shape of every weight of a gru, by name."""
    wide, width = spec.input_dim, spec.hidden_dims[0]
    return {
        "direct.weight": (1, wide),
        "input.weight": (width, wide),
        "input.bias": (width,),
        "gru.weight_ih": (3 * width, width),
        "gru.weight_hh": (3 * width, width),
        "gru.bias_ih": (3 * width,),
        "gru.bias_hh": (3 * width,),
        "output.weight": (1, width),
        "output.bias": (1,),
    }


class SequenceProbe:
    """A linear probe corrected by what the trace's cues so far have shown.

    At cue k with hidden state x: ``u = input x``, ``m_k = GRU(u, m_{k-1})`` with ``m_0 = 0``, and
    the logit is ``direct . x + output . m_k``. The memory is small, so that few traces can train
    it; the direct term keeps what a linear probe reads. Standardisation is folded into the weights.
    Arithmetic is float64 and rounded once, as in :class:`probes.network.Probe`.

    Parameters
    ----------
    spec
        Of kind "gru".
    tensors
        float32, by the names and shapes of :func:`tensor_shapes`.

    Raises
    ------
    InputError
        If a tensor is missing, unknown, not float32, not finite or of another shape.

    Notes
    -----
    DYNAMAX (arXiv 2504.20922) lets a state-space block decide on early exits; this is the same idea
    along a trace's cues, with a gated recurrent unit (Cho et al. 2014; torch's form of it, in which
    the reset gate follows the state's matrix).

    """

    def __init__(self, spec: ProbeSpec, tensors: Mapping[str, npt.NDArray[np.generic]]) -> None:
        if spec.kind != "gru":
            raise InputError(f"a sequence probe needs the kind 'gru', got {spec.kind!r}")
        wanted = tensor_shapes(spec)
        if set(tensors) != set(wanted):
            raise InputError(f"probe tensors are {sorted(tensors)}, its spec asks for {[*wanted]}")
        for name, shape in wanted.items():
            tensor = tensors[name]
            if tensor.dtype != np.float32 or tensor.shape != shape:
                raise InputError(
                    f"probe tensor {name} is {tensor.dtype} {list(tensor.shape)}, its spec asks "
                    f"for float32 {list(shape)}"
                )
            if not np.isfinite(np.asarray(tensor, dtype=np.float32)).all():
                raise InputError(f"probe tensor {name} holds NaN or infinity")
        self.spec = spec
        self._tensors = {name: _frozen(tensors[name]) for name in wanted}
        self._wide = {name: array.astype(np.float64) for name, array in self._tensors.items()}

    def score(self, hidden: npt.ArrayLike) -> FloatArray:
        """Score all cues of one trace.

        Parameters
        ----------
        hidden
            float32 [n, input_dim], in order of position, from the trace's first cue on.

        Returns
        -------
        float32 [n]
            Logits; the k-th depends on cues 0 to k only. NaN where the hidden state or the logit
            is not finite: such a cue never stops, and the memory skips it.

        Raises
        ------
        InputError
            If the width is not the spec's.

        """
        states = np.asarray(hidden, dtype=np.float64)
        if states.ndim != 2 or states.shape[1] != self.spec.input_dim:
            raise InputError(
                f"hidden states have shape {list(states.shape)}, the probe reads "
                f"[n, {self.spec.input_dim}] ({len(self.spec.layers)} layers of "
                f"{self.spec.hidden_size})"
            )
        weights = self._wide
        scores = np.full(len(states), np.nan)
        memory = np.zeros(self.spec.hidden_dims[0])
        with np.errstate(invalid="ignore", over="ignore"):
            reads = states @ weights["input.weight"].T + weights["input.bias"]
            direct = states @ weights["direct.weight"][0] + weights["output.bias"][0]
            for cue in np.flatnonzero(np.isfinite(states).all(axis=1)):
                following = self._step(reads[cue], memory)
                logit = direct[cue] + weights["output.weight"][0] @ following
                if np.isfinite(following).all():
                    memory = following
                if np.abs(logit) <= MAX_SCORE:
                    scores[cue] = logit
        return scores.astype(np.float32)

    def _step(
        self, read: npt.NDArray[np.float64], memory: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.float64]:
        weights = self._wide
        width = len(memory)
        news = weights["gru.weight_ih"] @ read + weights["gru.bias_ih"]
        olds = weights["gru.weight_hh"] @ memory + weights["gru.bias_hh"]
        reset = sigmoid(news[:width] + olds[:width])
        keep = sigmoid(news[width : 2 * width] + olds[width : 2 * width])
        candidate = np.tanh(news[2 * width :] + reset * olds[2 * width :])
        following: npt.NDArray[np.float64] = (1.0 - keep) * candidate + keep * memory
        return following

    def to_tensors(self) -> dict[str, FloatArray]:
        """Return the weights by name."""
        return dict(self._tensors)


def _frozen(array: npt.NDArray[np.generic]) -> FloatArray:
    copy = np.array(array, dtype=np.float32, order="C")
    copy.setflags(write=False)
    return copy
