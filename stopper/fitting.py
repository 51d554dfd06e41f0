"""The ways to fit a probe, behind one call."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import JsonValue

from probes.errors import InputError
from probes.first_exit import BAD_WEIGHT, fit_first_exit
from probes.fit import FitResult, check_rows, fit_probe, hold_out
from probes.metrics import quality
from probes.scorers import Scorer
from probes.sequence_fit import fit_sequence
from probes.spec import ProbeSpec
from probes.validation import parse
from stopper.gathering import Gathered

Objective = Literal["cues", "first-exit"]

Fitter = Callable[[npt.NDArray[np.float32], npt.NDArray[np.bool_], ProbeSpec], Scorer]
"""Fits a probe of your own: hidden states float32 [n, d], whether stopping there is good, bool
[n], and the shape that the probe must have."""

HELD_OUT = 0.2
"""Share of the prompts that a twin of the probe is measured on."""


@dataclass(frozen=True, slots=True)
class Method:
    """What to fit, and by which objective.

    Attributes
    ----------
    spec
        The probe's shape.
    objective
        "cues": the label of each cue by itself. "first-exit": what whole traces cost.
    bad_weight
        Price of a bad stop under "first-exit"; None under "cues".

    """

    spec: ProbeSpec
    objective: Objective = "cues"
    bad_weight: float | None = None

    @property
    def name(self) -> str:
        """Kind, objective, layers and shaping in one line."""
        kind = self.spec.kind + (" first-exit" if self.objective == "first-exit" else "")
        return f"{kind}, layers {','.join(map(str, self.spec.layers))}, {self.spec.shaping}"

    def record(self) -> dict[str, JsonValue]:
        """Return what an artifact says about it beside the probe's spec."""
        fields: dict[str, JsonValue] = {"objective": self.objective}
        return fields if self.bad_weight is None else fields | {"bad_weight": self.bad_weight}


WIDTHS: dict[str, tuple[int, ...]] = {"linear": (), "mlp": (256, 64), "gru": (16,)}
"""Widths inside a probe, by kind, where none are named."""


def method_of(
    kind: str,
    layers: Sequence[int],
    hidden_size: int,
    *,
    widths: tuple[int, ...] | None = None,
    shaping: str = "rise",
    rise_weight: float = 0.5,
    objective: str = "cues",
    bad_weight: float | None = None,
) -> Method:
    """Put a method together from what was asked for; defaults by kind and objective.

    Raises
    ------
    InputError
        If the parts do not go together, or torch is needed and missing.

    """
    spec = parse(
        ProbeSpec,
        {
            "kind": kind,
            "layers": tuple(layers),
            "hidden_size": hidden_size,
            "hidden_dims": WIDTHS[kind] if widths is None else widths,
            "shaping": shaping,
            "rise_weight": rise_weight,
        },
        "probe",
        "Mend the option of that name",
    )
    if (kind == "gru" or objective != "cues") and importlib.util.find_spec("torch") is None:
        raise InputError(
            f"a {kind} probe by objective {objective} needs torch, which is not installed. Install "
            "it with `pip install torch`, or train a linear probe or an mlp on cues"
        )
    if objective == "cues":
        if bad_weight is not None:
            raise InputError("--bad-weight belongs to --objective first-exit. Drop one of the two")
        return Method(spec)
    if kind == "gru":
        raise InputError(
            "--objective first-exit trains a linear probe or an mlp, which engines can serve, not "
            "a gru. Choose --probe linear or mlp"
        )
    price = BAD_WEIGHT if bad_weight is None else bad_weight
    if not (math.isfinite(price) and price > 0.0):
        raise InputError(f"--bad-weight {price:g}: give a positive number, such as {BAD_WEIGHT:g}")
    return Method(spec, "first-exit", price)


def fit(data: Gathered, method: Method, seed: int) -> FitResult:
    """Fit a probe on gathered traces.

    Raises
    ------
    InputError
        If the traces cannot teach it.

    """
    traces = data.training(method.spec.layers)
    if method.objective == "first-exit":
        assert method.bad_weight is not None
        return fit_first_exit(traces, method.spec, bad_weight=method.bad_weight, seed=seed)
    if method.spec.kind == "gru":
        return fit_sequence(traces, method.spec, seed=seed)
    known = traces.labelled
    hidden = traces.hidden if known.all() else traces.hidden[known]
    labels = traces.labels[known] > 0
    return fit_probe(hidden, labels, traces.cue_groups[known], method.spec, seed=seed)


def fit_with(fitter: Fitter, data: Gathered, method: Method, seed: int) -> FitResult:
    """Fit a probe of your own on gathered traces, and measure a twin of it on prompts held out.

    Raises
    ------
    InputError
        If the traces cannot teach it, or what was fitted is not of the method's shape.

    """
    traces, spec = data.training(method.spec.layers), method.spec
    known = traces.labelled
    hidden, truth = traces.hidden[known], traces.labels[known] > 0
    _, group = np.unique(traces.cue_groups[known], return_inverse=True)
    check_rows(hidden, truth, group, spec)
    test = hold_out(truth, group, HELD_OUT, np.random.default_rng(seed))
    twin, probe = fitter(hidden[~test], truth[~test], spec), fitter(hidden, truth, spec)
    if probe.spec != spec:
        raise InputError(f"your fit made a probe of the shape {probe.spec}, asked was {spec}")
    counts: dict[str, float | int | bool | None] = {
        "cues": int(truth.size),
        "groups": int(group.max()) + 1,
        "held_out_groups": int(np.unique(group[test]).size),
    }
    return FitResult(probe, quality(twin.score(hidden[test]), truth[test]), counts)
