"""Choosing between probes by what they save under the promise, on prompts set aside for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from pydantic import JsonValue
from tqdm import tqdm

from calibration.traces import TraceMeta
from calibration.two_fold import TwoFold, require_halves, two_fold
from probes.errors import InputError
from probes.fit import FitResult
from probes.metrics import quality
from probes.scorers import scorer_from_tensors
from stopper.fitting import Method, fit, method_of
from stopper.gathering import LOSS_OF, Gathered

CANDIDATES = ("linear", "mlp", "gru", "first-exit")
"""Every candidate there is, the simplest first; "first-exit" is a linear probe."""

DEFAULT_CANDIDATES = ("linear", "mlp", "first-exit")
"""Those that the engine can serve."""

SHAPINGS = ("raw", "rise")


@dataclass(frozen=True, slots=True)
class Plan:
    """How candidates are compared: their names, and the promise they are compared under."""

    candidates: tuple[str, ...]
    alpha: float
    confidence: float
    seed: int


@dataclass(frozen=True)
class Trial:
    """A fitted candidate and what it did on the select split."""

    method: Method
    result: FitResult
    outcome: TwoFold
    auroc: float | None

    def record(self) -> dict[str, JsonValue]:
        """Return its row of the table."""
        spec = self.method.spec
        return {
            "name": self.method.name,
            "kind": spec.kind,
            **self.method.record(),
            "layers": list(spec.layers),
            "shaping": spec.shaping,
            "auroc": self.auroc,
            **asdict(self.outcome),
        }


@dataclass(frozen=True)
class Choice:
    """All trials; the winner saves most, the simplest of equals."""

    trials: tuple[Trial, ...]
    plan: Plan
    loss: str
    groups: int

    @property
    def winner(self) -> Trial:
        """The trial that saves most."""
        return max(self.trials, key=lambda trial: trial.outcome.saved)

    def record(self) -> dict[str, JsonValue]:
        """Return the whole comparison, for the artifact."""
        return {
            "by": "tokens saved at the trace-level promise, two-fold on the select split",
            "loss": self.loss,
            "alpha": self.plan.alpha,
            "confidence": self.plan.confidence,
            "groups": self.groups,
            "chosen": self.winner.method.name,
            "table": [trial.record() for trial in self.trials],
        }


def parse_candidates(text: str) -> tuple[str, ...]:
    """Read a list such as "linear,mlp".

    Raises
    ------
    InputError
        If it names something else; lists the choices.

    """
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in CANDIDATES:
            raise InputError(
                f"--candidates {text!r}: {name!r} is unknown; choose among {', '.join(CANDIDATES)}"
            )
    return tuple(name for name in CANDIDATES if name in names)


def methods(
    names: Sequence[str],
    layers: tuple[int, ...],
    meta: TraceMeta,
    rise_weight: float,
    bad_weight: float,
) -> list[Method]:
    """List the candidates: each name with all layers and the last, raw and rising."""
    found = []
    for name in names:
        exits = name == "first-exit"
        for chosen in dict.fromkeys((layers, layers[-1:])):
            for shaping in SHAPINGS:
                found.append(
                    method_of(
                        "linear" if exits else name,
                        chosen,
                        meta.hidden_size,
                        shaping=shaping,
                        rise_weight=rise_weight,
                        objective="first-exit" if exits else "cues",
                        bad_weight=bad_weight if exits else None,
                    )
                )
    return found


def check_select(groups: int, plan: Plan) -> None:
    """Refuse a select split that cannot decide anything, before the fits.

    Raises
    ------
    InputError
        If it is empty or too small for the promise.

    """
    if not groups:
        raise InputError(
            "--choose compares probes on prompts of their own, and the select split is empty. "
            "Give it some, for example --select-fraction 0.25"
        )
    require_halves(groups, plan.alpha, plan.confidence)


def choose(data: Gathered, select: Gathered, candidates: Sequence[Method], plan: Plan) -> Choice:
    """Fit every candidate on the train split and compare them on the select split.

    Parameters
    ----------
    data, select
        The two splits, with the hidden states of all candidates' layers.
    candidates
        From :func:`methods`.
    plan
        The promise to compare under.

    Raises
    ------
    InputError
        If the traces cannot teach a candidate, or a label is missing.

    """
    loss = LOSS_OF[data.label]
    fitted: dict[Method, FitResult] = {}
    trials = []
    for method in tqdm(candidates, desc="comparing probes", unit="probe"):
        result = _fit_once(data, method, plan.seed, fitted)
        table = select.scored(result.probe)
        known = select.labels >= 0
        area = quality(table.scores[known], select.labels[known] > 0)["auroc"]
        outcome = two_fold(table, loss, plan.alpha, plan.confidence, seed=plan.seed)
        trials.append(Trial(method, result, outcome, area))
    return Choice(tuple(trials), plan, loss, select.table.n_groups)


def _fit_once(
    data: Gathered, method: Method, seed: int, fitted: dict[Method, FitResult]
) -> FitResult:
    """Fit, or wear another shaping where the fit does not see it."""
    if method.objective == "first-exit":
        return fit(data, method, seed)
    plain = Method(method.spec.model_copy(update={"shaping": "raw"}), method.objective)
    if plain not in fitted:
        fitted[plain] = fit(data, plain, seed)
    result = fitted[plain]
    probe = scorer_from_tensors(method.spec, result.probe.to_tensors())
    return FitResult(probe, result.metrics, result.chosen)
