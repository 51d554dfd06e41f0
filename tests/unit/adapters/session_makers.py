"""A session over real trackers, and the scheduler's messages to it as plain objects."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from engine_simulator import (
    THINK,
    Engine,
    Trace,
    automaton,
    choices,
    host_watch,
    ids,
    judge,
    step_rows,
)
from makers import worst_scores

from adapters.vllm.journal import Journal
from adapters.vllm.session import Session
from adapters.vllm.watch import Watch
from stopper.policy import StopPolicy

PROMPT = (THINK, *ids("so"))
(WAIT,), (SO,) = ids(" wait"), ids(" so")
ALPHA = 0.3
POLICY = StopPolicy(worst_scores(), "ltt", 0.9)


class EagerPolicy(StopPolicy):
    """Stops at any finite score, at every alpha that the real one could serve."""

    def threshold(self, alpha: float) -> Any:
        found = super().threshold(alpha)
        return found if found == float("inf") else found * 0 - 100


EAGER = EagerPolicy(worst_scores(), "ltt", 0.9)


def session(
    watch: Watch | None = None, *, decisions: Path | None = None, **changes: Any
) -> Session:
    cues = automaton()
    fields: dict[str, Any] = {
        "policy": EAGER,
        "alpha": ALPHA,
        "answer_prompt": True,
        "labels": cues.labels,
        "artifact": "abc",
        "journal": Journal(decisions),
        "keeps": False,
    } | changes
    return Session(host_watch(cues, judge()) if watch is None else watch, **fields)


def request(
    name: str, extra: dict[str, Any] | None = None, prompt: Any = PROMPT, **fields: Any
) -> SimpleNamespace:
    sampling = SimpleNamespace(
        extra_args=extra, structured_outputs=fields.pop("structured_outputs", None)
    )
    return SimpleNamespace(
        req_id=name,
        prompt_token_ids=prompt,
        sampling_params=fields.pop("sampling_params", sampling),
        lora_request=fields.pop("lora_request", None),
    )


def admit(to: Session, *new: SimpleNamespace, finished: tuple[str, ...] = ()) -> None:
    to.admit(SimpleNamespace(scheduled_new_reqs=list(new), finished_req_ids=set(finished)))


def feed(
    to: Session, name: str, *tokens: int, prompt: Any = PROMPT, start: int = 0, nan: bool = False
) -> list[int]:
    """Feed the prompt's last token and the output, a step each; return the forced rows' steps."""
    trace = Trace(name, list(prompt), 99, nan_rate=float(nan))
    shuffle = Engine(automaton(), judge()).random
    steps = []
    for at, token in enumerate([prompt[-1], *tokens]):
        if at >= start:
            fed = [[(len(prompt) - 1 + at, token)]]
            rows = step_rows([trace], fed, [True], shuffle)
            if choices(to.step(lambda rows=rows: rows), 1):
                steps.append(at)
    return steps
