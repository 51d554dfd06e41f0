"""The scripted engine's state: what runs, what was decided, what was asked of it."""

from __future__ import annotations

import secrets
from collections import Counter, OrderedDict, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from stopper.errors import InputError
from stopper.request_options import RequestOptions
from stopper.scripted.faults import FaultBook
from stopper.scripted.prompts import Casting
from stopper.scripted.run import Ask, Run
from stopper.scripted.script import Script
from stopper.scripted.tokens import Tokenizer

if TYPE_CHECKING:
    from stopper.scripted.remote import Sidecar

_KEPT = 10_000


@dataclass(slots=True)
class Seen:
    """What the log tells of one request.

    Attributes
    ----------
    headers
        As received, API keys included, names in small letters.
    body
        Parsed; None where it is no JSON.
    events_sent
        SSE events (pieces of a body) that were handed to the connection.
    client_left
        The client went away before the response was complete.

    """

    method: str
    path: str
    headers: dict[str, str]
    body: Any = None
    response_id: str | None = None
    trace: str | None = None
    fault: str | None = None
    status: int | None = None
    events_sent: int = 0
    client_left: bool = False
    finished: bool = False


@dataclass(slots=True)
class Engine:
    """One scripted engine.

    Parameters
    ----------
    script
        What it says.
    sidecar
        Decides at the cues instead of the script's thresholds.

    """

    script: Script
    sidecar: Sidecar | None = None
    faults: FaultBook = field(default_factory=FaultBook)
    log: deque[Seen] = field(default_factory=lambda: deque(maxlen=_KEPT))
    decided: Counter[str] = field(default_factory=Counter)
    not_applied: Counter[str] = field(default_factory=Counter)
    generated_tokens: int = 0
    prompt_tokens: int = 0
    tokenizer: Tokenizer = field(init=False)
    _casting: Casting = field(init=False)
    _running: dict[str, Run] = field(default_factory=dict)
    _done: OrderedDict[str, Run] = field(default_factory=OrderedDict)

    def __post_init__(self) -> None:
        self.tokenizer = Tokenizer(self.script.think_id, self.script.end_of_thinking_id)
        self._casting = Casting(self.script)

    def start(
        self,
        *,
        response_id: str,
        numbering: str,
        prompt_ids: list[int],
        max_tokens: int | None,
        xargs: Any,
        trace: str | None,
    ) -> Run:
        """Admit a request.

        Parameters
        ----------
        response_id, numbering
            The client's id, and what the engine puts between it and its eight random digits.
        xargs
            The request's `vllm_xargs`.
        trace
            Name or number of a trace, where a header gives one.

        Raises
        ------
        InputError
            As vLLM with stopper answers 400.

        """
        options = RequestOptions.from_extra_args(xargs)
        room = self.script.max_model_len - len(prompt_ids)
        if room < 1:
            raise InputError(
                f"the prompt has {len(prompt_ids)} tokens, the model's maximum context length is "
                f"{self.script.max_model_len}"
            )
        if max_tokens is not None and max_tokens < 1:
            raise InputError(f"max_tokens must be at least 1, got {max_tokens}")
        prompt = self.tokenizer.decode(prompt_ids)
        forced = self._casting.forced(prompt)
        chosen = forced[0] if forced else self._casting.choose(prompt, trace)
        alpha, threshold, refusal = self._threshold(options)
        run = Run(
            request_id=f"{response_id}{numbering}-{secrets.token_hex(4)}",
            response_id=response_id,
            trace=chosen,
            prompt_ids=prompt_ids,
            max_tokens=room if max_tokens is None else min(max_tokens, room),
            options=options,
            alpha=alpha,
            threshold=threshold,
            refusal=refusal,
            forced=forced[1] if forced else None,
            thinks=forced is None,
        )
        self._running[run.request_id] = run
        self.prompt_tokens += len(prompt_ids)
        return run

    def _threshold(self, options: RequestOptions) -> tuple[float | None, float | None, str | None]:
        if not self.script.stopper:
            return None, None, "no_stopper"
        if options.mode == "off":
            return None, None, "asked_off"
        if options.mode == "fixed":
            fixed = self.script.fixed_threshold
            return None, fixed, "no_fixed_threshold" if fixed is None else None
        alpha = self.script.alpha if options.alpha is None else options.alpha
        if self.sidecar is not None:  # it has the thresholds
            return alpha, None, None
        found = self.script.threshold(alpha)
        return alpha, found, "too_few_calibration_traces" if found is None else None

    def oracle(self, run: Run) -> Sidecar | None:
        """Return who decides on a request; a fixed threshold needs nobody."""
        return None if run.options.mode == "fixed" else self.sidecar

    def finish(self, run: Run) -> None:
        """Take leave of a request, finished or aborted."""
        if self._running.pop(run.request_id, None) is None:
            return
        if self.sidecar is not None:
            self.sidecar.forget(run)
        run.finish_reason = run.finish_reason or "abort"
        self.generated_tokens += len(run.output_ids)
        if not self.script.stopper:
            return
        record = run.record(self.script.artifact)
        self.decided[record["decision"]] += 1
        if record["decision"] == "not_applied":
            self.not_applied[record["reason"]] += 1
        self._done[run.request_id] = run
        while len(self._done) > _KEPT:
            self._done.popitem(last=False)

    def drop(self, run: Run) -> None:
        """Forget a request that was refused after all."""
        self._running.pop(run.request_id, None)

    @property
    def running(self) -> int:
        """How many requests run."""
        return len(self._running)

    def decisions(self, limit: int) -> list[dict[str, Any]]:
        """Return the newest finished records, newest last, then those of running requests."""
        runs = [*list(self._done.values())[-limit:], *self._running.values()]
        return [run.record(self.script.artifact) for run in runs]

    def decision(self, name: str) -> dict[str, Any] | None:
        """Return a request's record, by the engine's id or the response's."""
        run = _find(self._running, name) or _find(self._done, name)
        return None if run is None else run.record(self.script.artifact)

    def counters(self) -> dict[str, dict[str, int]]:
        """Return the counters by name and label."""
        return {
            "decisions": dict(self.decided),
            "not_applied": dict(self.not_applied),
            "fail_open": {} if self.sidecar is None else dict(self.sidecar.failed),
        }

    def stop_thinking(self, name: str) -> dict[str, Any]:
        """End a running request's thinking; returns what the plugin's endpoint answers."""
        run = _find(self._running, name)
        outcome: Ask | Literal["unknown"] = "unknown" if run is None else run.stop_thinking()
        return {
            "outcome": outcome,
            "reason": run.refusal if run is not None and outcome == "not_watched" else None,
            "request_ids": [] if run is None else [run.request_id],
            "detail": _DETAIL[outcome],
        }


_DETAIL = {
    "stopping": "the thinking is closed with the next token, and the answer follows",
    "already_stopping": "the thinking is being closed already",
    "not_thinking": "the request is not thinking: it answers",
    "not_watched": "stopper has no hand in this request",
    "unknown": "no such request is running: it is finished, or never was",
}


def _find(runs: dict[str, Run], name: str) -> Run | None:
    for run in reversed(runs.values()):
        if name in (run.request_id, run.response_id):
            return run
    return None
