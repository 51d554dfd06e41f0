"""Ends the thinking inside ``model.generate`` of plain transformers, row by row: no vLLM needed.

`ThinkingStopper` is a logits processor. At each step it hands the token just fed, and at a cue its
hidden state, to the tracker that the vLLM plugin uses on the host; where that says stop, the next
tokens are forced to those that close the thinking, and the row answers by itself.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
import torch
from transformers import LogitsProcessor

from adapters.transformers.identity import model_fingerprint
from adapters.vllm.host_tracker import HostTracker, TrackedRequest
from probes.scorers import require_servable
from probes.shaping import weight_of
from stopper.artifact import Artifact
from stopper.errors import ArtifactError, InputError, UnsupportedError
from stopper.policy import StopPolicy

logger = logging.getLogger(__name__)

_ONE_CALL = (
    "Make one ThinkingStopper for each call of generate, and decode greedily or by sampling: beam "
    "search and assisted generation take tokens back"
)


@dataclass(frozen=True, slots=True)
class ThinkingOutcome:
    """What was decided about one row.

    Attributes
    ----------
    decision
        "stop", "audit" where it would have been stopped but was only marked, or "keep".
    reason
        As in `stopper.policy.Decision`, of the cue that stopped the row or else of its last one;
        "no_cue" without one, "fault" where watching it failed and it was left alone.
    position, cue, label, score
        Of the cue that stopped it: thinking tokens, index from 0, name, shaped float32 logit.
    threshold
        What scores were compared with.
    cues
        How many were seen.

    """

    decision: Literal["stop", "audit", "keep"]
    reason: str
    position: int | None
    cue: int | None
    label: str | None
    score: float | None
    threshold: float
    cues: int


class ThinkingStopper(LogitsProcessor):  # type: ignore[misc]
    """A logits processor that closes the thinking of each row when the artifact's rule says so.

    It belongs to one call of ``generate``::

        with ThinkingStopper(model, artifact) as stopper:
            ids = model.generate(**inputs, logits_processor=[stopper])
        stopper.outcomes()

    Within the ``with`` block hooks on the model ask it for the hidden states of each new token.
    Prompts are padded on the left, as ``generate`` wants them. Sample as the artifact's
    ``manifest.sampling`` says, for the promise is about such traces.

    Parameters
    ----------
    model
        A causal language model of transformers, the one that the artifact was made for.
    artifact
        Trained and calibrated on traces.
    alpha
        Tolerated share of bad stops: one number, or one for each row. None takes the artifact's.
    audit
        Only mark where a row would be stopped.

    Raises
    ------
    ArtifactError
        If the artifact is not calibrated, or for other things than stopping.
    InputError
        If it was made for another model, or an alpha is not between 0 and 1.
    UnsupportedError
        If its probe can only be used offline.

    """

    def __init__(
        self,
        model: Any,
        artifact: Artifact,
        alpha: float | Sequence[float] | None = None,
        *,
        audit: bool = False,
    ) -> None:
        self._policy = StopPolicy.from_artifact(artifact)
        probe, cues, closing = artifact.probe, artifact.cues, artifact.manifest.closing
        record = artifact.manifest.calibration
        if probe is None or cues is None or closing is None or record is None:
            raise ArtifactError(
                "the artifact has no probe or no cues (it was made from scores alone). Train one "
                "on traces with `stopper train`, or decide by your scores with stopper.policy"
            )
        wrong = artifact.mismatches(model_fingerprint(model))
        if wrong:
            raise InputError(
                f"the artifact was calibrated on another model than this one: {'; '.join(wrong)}. "
                "Collect and calibrate for this one"
            )
        asked = record.alpha if alpha is None else alpha
        self._alphas = [asked] if isinstance(asked, int | float) else list(asked)
        self._one = isinstance(asked, int | float)
        for value in self._alphas:
            self._policy.threshold(value)  # refuses what is no alpha before anything runs
        self._labels = cues.labels
        self._audit = audit
        self._model = model
        self._layers = probe.spec.layers
        self._tracker = HostTracker(
            cues,
            require_servable(probe, "the artifact"),
            rise_weight=weight_of(probe.spec),
            force_ids=(*closing.end_ids, *closing.answer_prompt_ids),
            keep_hidden=False,
        )
        self._ends = _as_set(model.generation_config.eos_token_id)
        self._rows: list[TrackedRequest] = []
        self._over: set[int] = set()
        self._ids: torch.Tensor | None = None
        self._states: tuple[torch.Tensor, ...] | None = None
        self._hooks: list[Any] = []

    def __enter__(self) -> Self:
        self._hooks = [
            self._model.register_forward_pre_hook(self._ask, with_kwargs=True),
            self._model.register_forward_hook(self._keep),
        ]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks, self._states, self._ids = [], None, None

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Take note of one step and force what must come next.

        Parameters
        ----------
        input_ids
            int64 [rows, n], all tokens so far.
        scores
            float32 [rows, vocabulary]; returned as they are where nothing is forced.

        Raises
        ------
        InputError
            If there is not one alpha for each row, or the stopper is used outside ``with``.
        UnsupportedError
            If tokens were taken back, or the model gives no hidden states.

        """
        if not self._hooks:
            raise InputError("use it in a with block: `with ThinkingStopper(...) as stopper:`")
        if self._ids is None:
            self._start(input_ids)
        else:
            self._check(input_ids, self._ids)
        self._ids = input_ids
        position, tokens = input_ids.shape[1] - 1, input_ids[:, -1].tolist()
        if position >= self._rows[0].prompt_len:  # the prompt may end with such a token
            self._over |= {row for row, token in enumerate(tokens) if token in self._ends}
        fed = [
            (row, request, tokens[row], position)
            for row, request in enumerate(self._rows)
            if row not in self._over
        ]
        forced = self._tracker.step(fed, self._hidden, _failed)
        self._states = None
        if forced:
            scores = scores.clone()
            for row, token in forced:
                scores[row] = -torch.inf
                scores[row, token] = 0.0
        return scores

    def outcomes(self) -> list[ThinkingOutcome]:
        """Tell what was decided about each row so far, in order."""
        alphas = self._alphas if self._rows else []
        return [
            self._outcome(request, alpha) for request, alpha in zip(self._rows, alphas, strict=True)
        ]

    def _outcome(self, request: TrackedRequest, alpha: float) -> ThinkingOutcome:
        stop = request.stop
        last = stop or (request.cues[-1] if request.cues else None)
        reason = "no_cue" if last is None else self._policy.decide(last.score, alpha).reason
        marked: Literal["stop", "audit"] = "stop" if request.forces else "audit"
        return ThinkingOutcome(
            decision="keep" if stop is None else marked,
            reason=reason if request.failure is None else "fault",
            position=None if stop is None else stop.position - request.prompt_len + 1,
            cue=None if stop is None else request.cues.index(stop),
            label=None if stop is None else self._labels[stop.label - 1],
            score=None if stop is None else stop.score,
            threshold=float(request.threshold),
            cues=len(request.cues),
        )

    def _start(self, input_ids: torch.Tensor) -> None:
        count, width = input_ids.shape
        if self._rows:
            raise UnsupportedError(f"this stopper was used before. {_ONE_CALL}")
        if not width:
            raise UnsupportedError("there are no token ids. Call generate with input_ids")
        if self._one:
            self._alphas = self._alphas * count
        if len(self._alphas) != count:
            raise InputError(
                f"alpha: {len(self._alphas)} numbers for {count} rows. Give one for each row, "
                "those of num_return_sequences included, or one number for all"
            )
        for row, (ids, alpha) in enumerate(zip(input_ids.tolist(), self._alphas, strict=True)):
            limit = self._policy.threshold(alpha)
            request = TrackedRequest(f"row {row}", width, limit, forces=not self._audit)
            self._tracker.start(request, ids)
            self._rows.append(request)

    def _check(self, input_ids: torch.Tensor, before: torch.Tensor) -> None:
        grown = input_ids.shape == (before.shape[0], before.shape[1] + 1)
        if not grown or not torch.equal(input_ids[:, :-1], before):
            raise UnsupportedError(f"the rows do not go on where they were. {_ONE_CALL}")
        if self._states is None:
            raise UnsupportedError(
                "the model that the stopper was made with gave no hidden state of this token. "
                f"{_ONE_CALL}"
            )
        # One token with a cache, all of them without one; anything else are drafts.
        if self._states[-1].shape[1] not in (1, input_ids.shape[1]):
            raise UnsupportedError(f"several tokens were fed in one step. {_ONE_CALL}")

    def _hidden(self, row: int) -> npt.NDArray[np.float32]:
        assert self._states is not None  # the prompt, of which nothing is kept, has no cue
        parts = [self._states[layer][row, -1] for layer in self._layers]
        side_by_side = torch.cat([part.to("cpu", torch.float32) for part in parts])
        found: npt.NDArray[np.float32] = side_by_side.numpy()
        return found

    def _ask(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        # A long prompt's hidden states would fill the memory for nothing.
        return None if self._ids is None else (args, {**kwargs, "output_hidden_states": True})

    def _keep(self, module: Any, args: tuple[Any, ...], output: Any) -> None:
        if self._ids is not None:
            self._states = getattr(output, "hidden_states", None)


def _as_set(ids: int | Sequence[int] | None) -> frozenset[int]:
    return frozenset(() if ids is None else (ids,) if isinstance(ids, int) else ids)


def _failed(request: TrackedRequest, error: Exception) -> None:
    logger.error(
        "stopper: %s goes on unwatched after a fault: %s", request.request_id, error, exc_info=error
    )
