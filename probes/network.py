"""A probe's weights, scored by numpy; the reference for every other implementation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from probes.errors import InputError
from probes.spec import ProbeSpec

FloatArray = npt.NDArray[np.float32]

MAX_SCORE = 1e30
"""A score beyond this magnitude counts as not finite, so that shaping cannot overflow float32."""


class Probe:
    """Affine maps with ReLU between: a hidden state in, one logit out.

    The weights are float32, the arithmetic is float64, and only the last result is rounded to
    float32. Float64's rounding depends on the order of a sum as much as float32's does, but some
    2**29 times below what the final rounding keeps. So batch size, library and device change one
    score in many millions, by one float32 step (more where terms far larger than the logit cancel),
    and a decision taken in the engine is the one that was calibrated.

    Parameters
    ----------
    spec
        What the probe reads.
    layers
        One (weight float32 [out, in], bias float32 [out]) per affine map, input side first.

    Raises
    ------
    InputError
        If shapes do not follow ``spec`` or a weight is not finite.

    """

    def __init__(self, spec: ProbeSpec, layers: Sequence[tuple[FloatArray, FloatArray]]) -> None:
        self.spec = spec
        self.layers = tuple((_frozen(weight), _frozen(bias)) for weight, bias in layers)
        shapes = [(weight.shape, bias.shape) for weight, bias in self.layers]
        wanted = [((out, into), (out,)) for into, out in pairwise(spec.widths)]
        if shapes != wanted:
            raise InputError(f"probe weights have shapes {shapes}, its spec asks for {wanted}")
        for index, (weight, bias) in enumerate(self.layers):
            if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
                raise InputError(f"probe weights of layer.{index} hold NaN or infinity")
        self._wide = [(w.astype(np.float64).T.copy(), b.astype(np.float64)) for w, b in self.layers]
        self._vector = self._wide[0][0][:, 0]
        self._offset = float(self._wide[0][1][0])

    def score(self, hidden: npt.ArrayLike) -> FloatArray:
        """Score hidden states.

        Parameters
        ----------
        hidden
            float32 [n, input_dim]; the spec's layers side by side.

        Returns
        -------
        float32 [n]
            Logits; NaN where the hidden state or the logit is not finite, which never stops.

        Raises
        ------
        InputError
            If the width is not the spec's.

        """
        state = np.asarray(hidden, dtype=np.float64)
        if state.ndim != 2 or state.shape[1] != self.spec.input_dim:
            raise InputError(
                f"hidden states have shape {list(state.shape)}, the probe reads "
                f"[n, {self.spec.input_dim}] ({len(self.spec.layers)} layers of "
                f"{self.spec.hidden_size})"
            )
        finite = np.ones(len(state), dtype=np.bool_)
        with np.errstate(invalid="ignore", over="ignore"):
            for index, (weight, bias) in enumerate(self._wide):
                if index == 1:  # ReLU would hide it; infinity or NaN goes in as it comes out here
                    finite &= np.isfinite(state).all(axis=1)
                state = np.maximum(state, 0.0) if index else state
                state = state @ weight + bias
            logit = state[:, 0]
            finite &= np.abs(logit) <= MAX_SCORE
        return np.where(finite, logit, np.nan).astype(np.float32)

    def score_one(self, hidden: npt.NDArray[np.float64]) -> float:
        """Score one hidden state with little ado, for a service that decides thousands a second.

        Parameters
        ----------
        hidden
            float64 [input_dim].

        Returns
        -------
        float
            As `score` gives it.

        """
        if len(self._wide) > 1:
            return float(self.score(hidden[np.newaxis])[0])
        with np.errstate(invalid="ignore", over="ignore"):
            logit = float(hidden.dot(self._vector)) + self._offset
        return float(np.float32(logit)) if abs(logit) <= MAX_SCORE else math.nan

    def to_tensors(self) -> dict[str, FloatArray]:
        """Return the weights by name: ``layer.0.weight``, ``layer.0.bias``, and so on."""
        named: dict[str, FloatArray] = {}
        for index, (weight, bias) in enumerate(self.layers):
            named[f"layer.{index}.weight"], named[f"layer.{index}.bias"] = weight, bias
        return named

    @classmethod
    def from_tensors(cls, spec: ProbeSpec, tensors: Mapping[str, npt.NDArray[np.generic]]) -> Probe:
        """Build a probe from named weights.

        Raises
        ------
        InputError
            If a tensor is missing, unknown, not float32, not finite or of another shape.

        """
        depth = len(spec.widths) - 1
        names = [f"layer.{index}.{part}" for index in range(depth) for part in ("weight", "bias")]
        if set(tensors) != set(names):
            raise InputError(f"probe tensors are {sorted(tensors)}, its spec asks for {names}")
        for name, tensor in tensors.items():
            if tensor.dtype != np.float32:
                raise InputError(f"probe tensor {name} is {tensor.dtype}, not float32")
        flat = [np.asarray(tensors[name], dtype=np.float32) for name in names]
        return cls(spec, list(zip(flat[::2], flat[1::2], strict=True)))


def _frozen(array: npt.ArrayLike) -> FloatArray:
    copy = np.array(array, dtype=np.float32, order="C")
    copy.setflags(write=False)
    return copy
