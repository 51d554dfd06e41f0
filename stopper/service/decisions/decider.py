"""Decides on events by the artifact's probe, the policy's threshold and the trace's state."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np

from probes.network import MAX_SCORE
from stopper.schedule import Schedule
from stopper.service.catalog import Catalog, Served, UnknownModel
from stopper.service.control import Board
from stopper.service.decisions.answers import Item, Undecided, decided, refused, undecided
from stopper.service.decisions.hidden import NUMBERS, SIZES, Dtype, Widener, widen_one
from stopper.service.decisions.margins import by_schedule, refuse_strays
from stopper.service.decisions.terms import Look, Terms, judged, moved, terms_of, version_of
from stopper.service.problems import ProblemError, refuse
from stopper.service.sampling import audited
from stopper.service.store import Advanced, Step, Store, StoreUnavailable
from stopper.wire import Decision, DecisionEvent

_NAN = float("nan")
_NOT_FINITE = "hidden_state holds NaN or infinity."


class Decider:
    """Decides on events in their order.

    Parameters
    ----------
    catalog, store, board
        The sidecar's.
    schedule
        For events that carry logit margins; None refuses them.
    share
        Of the traces that are audited where the event leaves that to us.

    not_decided
        Called with a reason, and how many events went on because of it.

    """

    def __init__(
        self,
        catalog: Catalog,
        store: Store,
        board: Board,
        schedule: Schedule | None,
        share: float,
        *,
        not_decided: Callable[[Undecided, int], None],
    ) -> None:
        self._catalog = catalog
        self._store = store
        self._board = board
        self._schedule = schedule
        self._schedule_version = version_of(schedule)
        self._share = share
        self._not_decided = not_decided
        self._widener = Widener()
        self._audited = lru_cache(16384)(audited)

    async def decide(self, items: Sequence[Item]) -> list[Decision]:
        """Decide on a body of events.

        An event that cannot be decided on is refused and changes nothing; the others are decided.
        While the store is away every trace goes on.

        Parameters
        ----------
        items
            Events, and refusals of those that could not be read.

        Returns
        -------
        list of Decision
            In the order of `items`.

        """
        answers: dict[int, Decision] = {}
        looks: list[Look] = []
        last: Terms | None = None
        withheld = 0
        for index, item in enumerate(items):
            if isinstance(item, Decision):
                answers[index] = item
                continue
            try:
                look = self._look(index, item, last)
            except ProblemError as error:
                answers[index] = refused(item, error.name, error.problem.detail)
                continue
            last = look.terms
            if last.withheld:
                answers[index] = undecided(item, "artifact_unavailable", last.alpha, last.version)
                withheld += 1
            else:
                looks.append(look)
        if withheld:
            self._not_decided("artifact_unavailable", withheld)
        looks = self._score(looks, answers)
        try:
            again = self._take(looks, await self._advance(looks), answers, first=True)
            if again:
                again = self._score(again, answers)
                self._take(again, await self._advance(again), answers, first=False)
        except StoreUnavailable:
            lost = [look for look in looks if look.index not in answers]
            self._not_decided("store_unavailable", len(lost))
            for look in lost:
                terms = look.terms
                version = terms.version if terms.served is not None else None
                answers[look.index] = undecided(
                    look.event, "store_unavailable", terms.alpha, version
                )
        return [answers[index] for index in range(len(items))]

    def _look(self, index: int, event: DecisionEvent, last: Terms | None) -> Look:
        """Check an event and find what it is judged by; `last` is the previous event's terms."""
        state, score, margins = event.hidden_state, event.score, event.logit_margins
        given = (state is not None) + (score is not None) + (margins is not None)
        if given != 1:
            refuse(
                "unprocessable",
                f"Give exactly one of hidden_state, score and logit_margins; there are {given}.",
            )
        if margins is not None and not self._catalog.halts(event.model):
            mean, limit = by_schedule(self._schedule, event)
            terms = Terms(None, self._schedule_version, 0.0, None, limit, None)
            return Look(index, event, terms, mean)
        if margins is None:
            refuse_strays(event)
        if (
            last is None
            or last.served is None
            or event.model != last.served.model
            or event.alpha != last.asked
        ):
            last = self._terms(event)
        if margins is not None:
            return judged(Look(index, event, last, _NAN))
        if state is None:
            assert score is not None
            if not math.isfinite(score):
                refuse("unprocessable", "score must be a finite number.")
            level = float(np.float32(score)) if abs(score) <= MAX_SCORE else _NAN
            return Look(index, event, last, level)
        width = last.width
        if width is None:
            assert last.served is not None
            what = "was made from scores and has no probe; send score"
            if last.served.halting is not None:
                what = "halts a diffusion model; send logit_margins and progress"
            refuse(
                "unprocessable",
                f"The artifact of model {event.model!r} {what} in place of hidden_state.",
            )
        shape = state.shape
        if shape != (width,) and shape != (1, width):
            refuse(
                "unprocessable",
                f"hidden_state has shape {list(shape)[:8]}; the probe reads [{width}].",
            )
        if len(state.data) != width * SIZES[state.dtype]:
            refuse(
                "unprocessable",
                f"hidden_state.data has {len(state.data)} bytes; {width} numbers of {state.dtype} "
                f"take {width * SIZES[state.dtype]}.",
            )
        return Look(index, event, last, _NAN)

    def _terms(self, event: DecisionEvent) -> Terms:
        try:
            served = self._catalog.active(event.model)
        except UnknownModel as error:
            raise ProblemError("unknown-model", str(error)) from None
        terms = terms_of(served, served.alpha if event.alpha is None else event.alpha)
        terms.asked = event.alpha
        terms.withheld = self._catalog.silence(event.model) is not None
        return terms

    def _score(self, looks: list[Look], answers: dict[int, Decision]) -> list[Look]:
        """Score the hidden states, those of one artifact together; refuse what is not finite."""
        if len(looks) == 1:
            self._score_one(looks[0], answers)
            return [] if looks[0].index in answers else looks
        groups: dict[tuple[str, Dtype], list[Look]] = {}
        for look in looks:
            state = look.event.hidden_state
            if state is not None:
                groups.setdefault((look.terms.version, state.dtype), []).append(look)
        for (_, dtype), group in groups.items():
            width = group[0].terms.width
            assert width is not None
            most = max(1, NUMBERS // width)
            for start in range(0, len(group), most):
                self._score_block(group[start : start + most], dtype, answers)
        return [look for look in looks if look.index not in answers] if answers else looks

    def _score_one(self, look: Look, answers: dict[int, Decision]) -> None:
        state, served = look.event.hidden_state, look.terms.served
        if state is None:
            return
        assert served is not None
        assert served.probe is not None
        hidden = widen_one(state.data, state.dtype)
        look.level = served.probe.score_one(hidden)
        if look.level != look.level and not np.isfinite(hidden).all():
            answers[look.index] = refused(look.event, "unprocessable", _NOT_FINITE)

    def _score_block(self, block: list[Look], dtype: Dtype, answers: dict[int, Decision]) -> None:
        served = block[0].terms.served
        assert served is not None
        assert served.probe is not None
        parts = [look.event.hidden_state.data for look in block]  # type: ignore[union-attr]
        hidden = self._widener.widen(parts, dtype)
        levels = served.probe.score(hidden).tolist()
        for look, level, row in zip(block, levels, hidden, strict=True):
            look.level = level
            if level != level and not np.isfinite(row).all():
                answers[look.index] = refused(look.event, "unprocessable", _NOT_FINITE)

    async def _advance(self, looks: list[Look]) -> list[Advanced]:
        steps = []
        for look in looks:
            event, terms = look.event, look.terms
            audit = event.audit
            if audit is None:
                audit = terms.served is not None and self._audited(event.request_id, self._share)
            steps.append(
                Step(
                    event.request_id,
                    event.position,
                    look.level,
                    terms.weight,
                    terms.threshold,
                    terms.alpha,
                    terms.version,
                    audit,
                )
            )
        return await self._store.advance(steps) if steps else []

    def _take(
        self,
        looks: list[Look],
        steps: list[Advanced],
        answers: dict[int, Decision],
        *,
        first: bool,
    ) -> list[Look]:
        """Answer what the store has taken; return what may go to it once more, on other terms."""
        again: list[Look] = []
        control = self._board.current
        gone = 0
        for look, step in zip(looks, steps, strict=True):
            event, outcome = look.event, step.outcome
            if outcome == "new" or outcome == "repeated":
                silence = control.silence(step.artifact)
                schedule = look.terms.served is None
                answers[look.index] = decided(event, step, silence, schedule, look.gated)
            elif outcome == "out_of_order":
                detail = f"position {event.position} comes after a later one of the same trace."
                answers[look.index] = refused(event, "out-of-order", detail)
            elif outcome == "alpha_changed":
                if first and event.alpha is None and step.alpha is not None:
                    served = look.terms.served
                    if served is not None and moved(look, served, step.alpha, answers):
                        again.append(look)
                    if served is not None:
                        continue
                detail = f"The trace began with alpha {step.alpha}; it stays so."
                answers[look.index] = refused(event, "conflict", detail)
            else:
                older = self._catalog.version(step.artifact)
                if first and older is not None and _reads(older, event):
                    if older.model != event.model:
                        detail = f"The trace began with model {older.model!r}."
                        answers[look.index] = refused(event, "conflict", detail)
                        continue
                    alpha = step.alpha if event.alpha is None else event.alpha
                    assert alpha is not None
                    if moved(look, older, alpha, answers):
                        again.append(look)
                    continue
                gone += 1
                answers[look.index] = undecided(
                    event, "artifact_changed", step.alpha, look.terms.version
                )
        if gone:
            self._not_decided("artifact_changed", gone)
        return again


def _reads(served: Served, event: DecisionEvent) -> bool:
    """Say whether an artifact can judge what an event carries."""
    if event.logit_margins is not None:
        return served.halting is not None
    return event.score is not None or served.probe is not None
