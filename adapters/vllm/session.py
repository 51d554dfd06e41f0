"""One engine worker's stopper: admits requests, advances their traces, reports what was decided."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np

from adapters.vllm.journal import Journal
from adapters.vllm.record import Admitted, nothing_seen, record
from adapters.vllm.request_ids import RequestIds
from adapters.vllm.request_options import RequestOptions
from adapters.vllm.rows import StepRows
from adapters.vllm.stop_thinking import FAULT, Asked, together
from adapters.vllm.watch import Forced, Outcome, Watch
from stopper.errors import InputError
from stopper.policy import StopPolicy

logger = logging.getLogger(__name__)


class Session:
    """The plugin's state in one worker.

    Parameters
    ----------
    watch
        Follows the traces.
    policy
        Thresholds per alpha; None while collecting.
    alpha
        The server's default.
    fixed
        Threshold of requests in mode "fixed", which promises nothing; None refuses them.
    answer_prompt
        Whether text is forced after the end of thinking, which a grammar would reject.
    labels
        Names of the automaton's cues; code i + 1 is label i.
    artifact
        Short name of the artifact for the report.
    journal
        None on ranks that decide alike but do not report.
    keeps
        Keep what was seen of every trace for `drain_collected`.

    """

    def __init__(
        self,
        watch: Watch,
        *,
        policy: StopPolicy | None,
        alpha: float | None,
        fixed: float | None = None,
        answer_prompt: bool,
        labels: tuple[str, ...],
        artifact: str,
        journal: Journal | None,
        keeps: bool,
    ) -> None:
        self._watch = watch
        self._policy = policy
        self._alpha = alpha
        self._fixed = None if fixed is None else np.float32(fixed)
        self._answer_prompt = answer_prompt
        self._labels = labels
        self._artifact = artifact
        self._journal = journal
        self._keeps = keeps
        self._admitted: dict[str, Admitted] = {}
        self._left: dict[str, list[Admitted]] = {}  # finished; their outcomes are on their way
        self._collected: list[Outcome] = []
        self._ids = RequestIds()  # of what the engine has not told us to be finished

    def admit(self, scheduler_output: Any) -> None:
        """Take leave of finished requests and take in new ones; never raises.

        In this order, as the runners do: an id may be finished and given anew in one step.
        """
        for request_id in scheduler_output.finished_req_ids:
            self._survive("finish", self._leave, request_id)
        for new in scheduler_output.scheduled_new_reqs:
            if not self._survive("admit", self._admit, new):
                length = len(new.prompt_token_ids or ())
                fault = Admitted("failed_open", length, None, np.inf, "admit")
                self._admitted.setdefault(new.req_id, fault)
            self._ids.add(new.req_id)
        self._survive("report", self._report)

    def _survive(self, cause: str, call: Callable[..., object], *args: object) -> bool:
        try:
            call(*args)
            return True
        except Exception:  # fail open: the engine must not notice
            logger.exception("stopper: fault in %s; the request goes on unstopped", cause)
            if self._journal is not None:
                self._journal.count_fault(cause)
            return False

    def _admit(self, new: Any) -> None:
        if new.prompt_token_ids is None or new.sampling_params is None:
            self._refuse(new.req_id, 0, "no_prompt_token_ids")
            return
        prompt: list[int] = list(new.prompt_token_ids)
        before = self._admitted.get(new.req_id)
        if self._watch.knows(new.req_id, len(prompt)) or (
            before is not None and before.prompt_tokens == len(prompt)
        ):
            return  # preempted and back: its trace goes on where it was
        self._leave(new.req_id)  # the next turn of a session: another trace
        try:
            options = RequestOptions.from_extra_args(new.sampling_params.extra_args)
        except InputError as error:  # the front end refuses these; an offline caller may pass them
            logger.error("stopper: request %s: %s", new.req_id, error)
            self._refuse(new.req_id, len(prompt), "bad_options")
            return
        if options.mode == "off":
            self._admitted[new.req_id] = Admitted("off", len(prompt), None, np.inf, "asked_off")
            return
        if new.lora_request is not None:
            self._refuse(new.req_id, len(prompt), "lora")
            return
        if self._policy is None:
            self._watch.start(new.req_id, prompt, np.float32(np.inf), forces=False)
            return
        if self._answer_prompt and new.sampling_params.structured_outputs is not None:
            self._refuse(new.req_id, len(prompt), "structured_outputs")
            return
        if options.mode == "fixed":
            if self._fixed is None:
                self._refuse(new.req_id, len(prompt), "no_fixed_threshold")
                return
            self._watch.start(new.req_id, prompt, self._fixed, forces=True)
            self._admitted[new.req_id] = Admitted("fixed", len(prompt), None, float(self._fixed))
            return
        alpha = self._alpha if options.alpha is None else options.alpha
        assert alpha is not None
        threshold = self._policy.threshold(alpha)
        if threshold == np.inf:
            self._refuse(new.req_id, len(prompt), "too_few_calibration_traces", alpha)
            return
        self._watch.start(new.req_id, prompt, threshold, forces=options.mode == "stop")
        self._admitted[new.req_id] = Admitted(options.mode, len(prompt), alpha, float(threshold))

    def _refuse(
        self, request_id: str, prompt: int, reason: str, alpha: float | None = None
    ) -> None:
        self._admitted[request_id] = Admitted("not_applied", prompt, alpha, np.inf, reason)

    @property
    def watching(self) -> bool:
        """Whether any request is under watch: if not, a step costs nothing."""
        return len(self._watch) > 0

    def step(self, read: Callable[[], StepRows]) -> Forced | None:
        """Advance all traces by the rows of one engine step; never raises."""
        try:
            return self._watch.step(read())
        except Exception:  # fail open: the step is sampled as the model would have it
            logger.exception("stopper: fault in a step; nothing is forced in it")
            if self._journal is not None:
                self._journal.count_fault("step")
            return None

    def _report(self, wait: bool = False) -> None:
        for outcome in self._watch.outcomes(wait=wait):
            if self._keeps:
                self._collected.append(outcome)
            left = self._left.pop(outcome.request_id, [])  # first left, first reported
            if not left:
                continue
            admitted = left.pop(0)
            if left:
                self._left[outcome.request_id] = left
            if self._journal is not None:
                self._journal.add(self._record(outcome, admitted, running=False))
                if outcome.failure:
                    self._journal.count_fault(outcome.failure)
                if outcome.non_finite:
                    self._journal.count_fault("score_not_finite", outcome.non_finite)

    def _leave(self, request_id: str) -> None:
        admitted = self._admitted.pop(request_id, None)
        self._ids.discard(request_id)
        if admitted is not None and admitted.reason is None:
            self._left.setdefault(request_id, []).append(admitted)
        self._watch.finish(request_id)
        if admitted is not None and admitted.reason is not None and self._journal is not None:
            self._journal.add(self._record(nothing_seen(request_id), admitted, running=False))

    def _record(self, outcome: Outcome, admitted: Admitted, *, running: bool) -> dict[str, Any]:
        return record(outcome, admitted, self._labels, self._artifact, running=running)

    def decisions(self, limit: int) -> list[dict[str, Any]]:
        """Return the newest finished records and what is known of running requests.

        A worker hears of a finished request only with the next scheduled step: the last ones of
        an idle engine are still shown as running.
        """
        self._survive("report", self._report, True)
        if self._journal is None:
            return []
        running = [
            self._record(outcome, self._admitted[outcome.request_id], running=True)
            for outcome in self._watch.running()
            if outcome.request_id in self._admitted
        ]
        unwatched = [
            self._record(nothing_seen(request_id), admitted, running=True)
            for request_id, admitted in self._admitted.items()
            if admitted.reason is not None
        ]
        return self._journal.recent(limit) + running + unwatched

    def decision(self, request_id: str) -> dict[str, Any] | None:
        """Return one request's record, running or finished, by the engine's id or the response's.

        Of several choices of one response the first. None if it is not known, or on a rank that
        does not report.
        """
        self._survive("report", self._report, True)
        if self._journal is None:
            return None
        live, finished = self._ids.first(request_id), self._journal.find(request_id)
        if live is None or (finished is not None and finished[0] < live[0]):
            return None if finished is None else finished[1]
        admitted = self._admitted.get(live[1])
        if admitted is None:
            return None  # a collection has no decisions
        outcome = self._watch.outcome(live[1]) if admitted.reason is None else None
        return self._record(outcome or nothing_seen(live[1]), admitted, running=True)

    def stop_thinking(self, request_id: str) -> Asked:
        """Close the thinking of a request, or of all choices of a response; never raises.

        All tensor-parallel ranks are asked at the same point between two steps (see the worker) and
        look at nothing but the trace's state, which is the same on all: so they close alike.
        """
        ids = self._ids.all(request_id)
        each: list[Asked] = []
        if not self._survive("stop_thinking", lambda: each.extend(map(self._stop_one, ids))):
            each.append(Asked("not_watched", FAULT))
        found = together(each)
        return Asked(found.outcome, found.reason, tuple(ids))

    def _stop_one(self, engine_id: str) -> Asked:
        admitted = self._admitted.get(engine_id)
        if admitted is None:
            return Asked("not_watched", "collection")
        if admitted.reason is not None:
            return Asked("not_watched", admitted.reason)
        return self._watch.stop_thinking(engine_id)

    def counters(self) -> dict[str, dict[str, int]]:
        """Return all counters."""
        return {} if self._journal is None else self._journal.counters()

    def drain_collected(self) -> list[Outcome]:
        """Hand over the cues and hidden states kept so far, of running requests as well."""
        self._report(True)
        done, self._collected = self._collected, []
        return done + list(self._watch.running()) if self._keeps else []

    def close(self) -> None:
        """Write down what is still open and close the file; never raises."""
        self._survive("close", self._leave_all)
        self._survive("report", self._report, True)
        if self._journal is not None:
            self._survive("close", self._journal.close)

    def _leave_all(self) -> None:
        for request_id in [*self._admitted, *(seen.request_id for seen in self._watch.running())]:
            self._leave(request_id)
