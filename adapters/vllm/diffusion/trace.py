"""One request's canvases, as the worker hears of them step by step, and the record made of them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

from adapters.vllm.diffusion.batch import Watched
from adapters.vllm.journal import finite

Mode = Literal["off", "not_applied", "failed_open", "stop", "audit"]

WITHOUT_PROMISE = "_without_promise"


@dataclass(slots=True)
class Canvas:
    """Denoising steps of one canvas; `halted_at` is the first step (from 0) whose score halts."""

    steps: int = 0
    halted_at: int | None = None
    score: float = math.nan
    top_score: float = -math.inf


@dataclass(slots=True)
class Trace:
    """What is known of a request; with a `reason` it is not under watch, and that is why.

    Attributes
    ----------
    alpha, level
        None and 0 for a hand-picked rule, which promises nothing.
    canvases
        Those that were finished: their commit was seen.
    current
        The one being denoised.
    broken
        Steps at which a margin was NaN.

    """

    request_id: str
    mode: Mode
    prompt_tokens: int
    alpha: float | None = None
    level: float = math.inf
    reason: str | None = None
    watched: Watched | None = None
    canvases: list[Canvas] = field(default_factory=list)
    current: Canvas | None = None
    broken: int = 0

    def take(self, step: int, committing: bool, score: float, halts: bool, broken: bool) -> None:
        """Add one engine step.

        A canvas whose request is preempted begins again at step 0; what was seen of it before
        is forgotten, as vLLM forgets it. At the last step a halt changes nothing and is none.
        """
        if committing:
            if self.current is not None:
                self.canvases.append(self.current)
            self.current = None
            return
        if self.current is None or step == 0:
            self.current = Canvas()
        canvas = self.current
        canvas.steps = step + 1
        canvas.top_score = max(canvas.top_score, score)
        self.broken += broken
        last = self.watched is not None and canvas.steps >= self.watched.steps
        if halts and not last and canvas.halted_at is None:
            canvas.halted_at, canvas.score = step, score

    def record(self, artifact: str, *, promised: bool, running: bool) -> dict[str, Any]:
        """Return the record of docs/diffusion-engines.md; NaN and infinity are None in it."""
        seen = [*self.canvases, self.current] if running and self.current else self.canvases
        halted = next(((n, c) for n, c in enumerate(seen) if c.halted_at is not None), None)
        decision: str
        if self.reason is not None:
            decision, reason = self.mode, self.reason
        elif halted is not None:
            decision = "marked" if self.mode == "audit" else "stopped"
            reason = "score_above_threshold" + ("" if promised else WITHOUT_PROMISE)
        else:
            decision = "not_stopped"
            reason = "score_below_threshold" + ("" if promised else WITHOUT_PROMISE)
            reason = reason if seen else "no_step"
        found: dict[str, Any] = finite(
            {
                "request_id": self.request_id,
                "decision": decision,
                "reason": reason,
                "canvas": halted[0] if halted else None,
                "step": halted[1].halted_at if halted else None,
                "score": halted[1].score if halted else None,
                "threshold": self.level,
                "alpha": self.alpha,
                "steps": sum(canvas.steps for canvas in seen),
                "steps_saved": sum(map(self._saved, seen)),
                "top_score": max((canvas.top_score for canvas in seen), default=math.nan),
                "canvases": [[c.steps, c.halted_at, c.score] for c in seen],
                "prompt_tokens": self.prompt_tokens,
                "artifact": artifact,
                "running": running,
            }
        )
        return found

    def _saved(self, canvas: Canvas) -> int:
        """Return the steps spared; of an audit, those that a halt would have spared."""
        if canvas.halted_at is None or self.watched is None:
            return 0
        full = canvas.steps if self.mode == "audit" else self.watched.steps
        return full - canvas.halted_at - 1
