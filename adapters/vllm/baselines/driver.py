"""Steps the real engine: so many prompts at a time, their trials beside them, all counted.

The engine runs in this process and step by step, so that nothing is generated unseen: a stop
takes effect before the next step, and every run of the same prompts makes the same tokens.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adapters.vllm.baselines.conversation import Abort, Branch, Closing, Conversation, Start
from adapters.vllm.baselines.policy import Plan, Tried
from adapters.vllm.baselines.vocabulary import Vocabulary
from adapters.vllm.generation import Sampling

if TYPE_CHECKING:
    from vllm import LLM


@dataclass(frozen=True, slots=True)
class Run:
    """One rule on all prompts: what became of each, seconds, and vLLM's own counters.

    `cpu_s` is the processor time of this process, and so of a CPU engine in it.
    """

    plan: Plan
    conversations: list[Conversation]
    wall_s: float
    cpu_s: float
    engine: Mapping[str, float]


class Driver:
    """Runs plans on one engine.

    Parameters
    ----------
    llm
        An engine in this process (`VLLM_ENABLE_V1_MULTIPROCESSING=0`).
    tokenizer
        The model's.
    sampling
        Of the main requests; their seeds depend on the prompt's id alone, not on the rule.
    answer
        Reads the answer out of a trial's decoded text.
    concurrency
        Prompts at a time; trials come on top.

    """

    def __init__(
        self,
        llm: LLM,
        tokenizer: Any,
        vocabulary: Vocabulary,
        sampling: Sampling,
        answer: Callable[[str], str | None],
        concurrency: int,
    ) -> None:
        self._llm = llm
        self._engine = llm.llm_engine
        self._tokenizer = tokenizer
        self._vocabulary = vocabulary
        self._sampling = sampling
        self._answer = answer
        self._concurrency = concurrency
        self._room = int(self._engine.model_config.max_model_len)

    def run(
        self,
        plan: Plan,
        prompts: Sequence[tuple[str, list[int]]],
        closing: Closing,
        progress: Callable[[], None] = lambda: None,
    ) -> Run:
        """Run a plan on prompts (name, token ids), from an empty prefix cache.

        `progress` is called once a prompt.
        """
        if not self._llm.reset_prefix_cache():
            raise RuntimeError("the engine still holds requests; it cannot start afresh")
        before = self._counters()
        waiting = iter(prompts)
        live: dict[str, tuple[Conversation, Branch]] = {}
        found: list[Conversation] = []
        running = 0
        start, busy = time.perf_counter(), time.process_time()
        while True:
            while running < self._concurrency and (next_one := next(waiting, None)) is not None:
                talk = Conversation(
                    *next_one, plan, closing, self._sampling.max_tokens, self._room,
                    lambda branch: self._read(branch, closing),
                )  # fmt: skip
                found.append(talk)
                self._obey(talk, talk.begin(), live)
                running += not talk.done
                if talk.done:
                    progress()
            if not live:
                break
            for output in self._engine.step():
                talk, branch = live[output.request_id]
                completion = output.outputs[0]
                if branch.cached_tokens is None:
                    branch.cached_tokens = output.num_cached_tokens or 0
                tokens = list(completion.token_ids)
                if branch.done:  # aborted in this very step: generated, and counted as such
                    branch.token_ids += tokens
                    continue
                rows = [_plain(row) for row in completion.logprobs or ()]
                finished = bool(output.finished)
                self._obey(talk, talk.take(branch, tokens, rows, finished), live)
                if talk.done:
                    running -= 1
                    progress()
            for name in [name for name, (_, branch) in live.items() if branch.done]:
                del live[name]
        wall, cpu = time.perf_counter() - start, time.process_time() - busy
        after = self._counters()
        engine = {name: after[name] - before.get(name, 0.0) for name in after}
        return Run(plan, found, wall, cpu, engine)

    def _obey(
        self,
        talk: Conversation,
        moves: Iterator[Start | Abort],
        live: dict[str, tuple[Conversation, Branch]],
    ) -> None:
        for move in moves:
            branch = move.branch
            if isinstance(move, Abort):
                self._engine.abort_request([branch.name])
                continue
            live[branch.name] = (talk, branch)
            prompt: Any = {"type": "token", "prompt_token_ids": branch.prompt}
            self._engine.add_request(branch.name, prompt, self._params(branch, talk))

    def _params(self, branch: Branch, talk: Conversation) -> Any:
        from vllm.sampling_params import RequestOutputKind

        changes: dict[str, Any] = {
            "max_tokens": branch.max_tokens,
            "output_kind": RequestOutputKind.DELTA,
            "detokenize": False,
        }
        if branch.role == "main":
            changes |= talk.plan.changes
            return self._sampling.params(talk.prompt_id, talk.plan.mode, **changes)
        if branch.trial is not None:
            changes |= {"temperature": 0.0, "logprobs": branch.trial.alternatives}
        return self._sampling.params(talk.prompt_id, 0, **changes)

    def _read(self, branch: Branch, closing: Closing) -> Tried:
        assert branch.trial is not None
        lead = [*closing.lead_ids, *branch.token_ids]
        text = self._tokenizer.decode(lead, skip_special_tokens=True)
        return Tried(
            position=branch.trial.position,
            texts=[self._vocabulary.text(token) for token in branch.token_ids],
            logprobs=branch.logprobs,
            answer=self._answer(text),
            first=branch.first,
        )

    def _counters(self) -> dict[str, float]:
        """Read vLLM's own counters of tokens, to be held against ours."""
        names = {"vllm:prompt_tokens": "prompt", "vllm:generation_tokens": "generated",
                 "vllm:prefix_cache_hits": "cached"}  # fmt: skip
        return {
            names[metric.name]: float(metric.value)
            for metric in self._llm.get_metrics()
            if metric.name in names and hasattr(metric, "value")
        }


def _plain(row: Any) -> dict[int, float]:
    return {token: entry.logprob for token, entry in row.items()}
