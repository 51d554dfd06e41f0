"""The oracle: stop each full trace at its first cue from which the forced answer is good."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from adapters.vllm.baselines.answers import Reader
from adapters.vllm.baselines.conversation import Conversation
from adapters.vllm.baselines.figures import Answered, Row, is_bad
from adapters.vllm.generation import Generated, Sampling, SeenCue, force_answers
from calibration.evaluate import clopper_pearson
from probes.provenance import Closing
from stopper.cues import CueAutomaton

if TYPE_CHECKING:
    from vllm import LLM


def oracle(
    llm: LLM,
    full: Sequence[Conversation],
    answers: Sequence[Answered],
    cues: CueAutomaton,
    closing: Closing,
    sampling: Sampling,
    reader: Reader,
    loss: str,
    same: Any,
) -> Row:
    """Force an answer at every cue of the full traces and take the first good one.

    No rule can know this: it is what the others are measured against. Its tokens are the thinking
    alone; what its search cost is not counted.
    """
    nothing = np.zeros(0, np.float32)
    traces = [
        Generated(
            request_id=talk.main.name,
            prompt_ids=talk.main.prompt,
            output_ids=talk.main.token_ids,
            text="",
            finish_reason="",
            thinking_tokens=talk.thinking,
            # The last token was sampled and never fed: an engine sees no cue there.
            cues=tuple(
                SeenCue(index + 1, 0, 0.0, nothing)
                for index, _ in cues.events(talk.main.prompt, talk.main.token_ids[:-1])
            ),
        )
        for talk in full
    ]
    forced = force_answers(llm, traces, closing, sampling)
    tokens, answered, right, stopped = [], [], [], []
    for trace, tried, case in zip(traces, forced, answers, strict=True):
        at, length, answer = trace.thinking_tokens, len(trace.output_ids), case.full
        after = length - at
        stops = False
        for cue, attempt in zip(trace.cues, tried, strict=True):
            text = reader.tokenizer.decode(attempt.token_ids, skip_special_tokens=True)
            short = reader.forced(text)
            if not is_bad(loss, Answered(case.gold, case.full, short), same):
                at, after, answer, stops = cue.position, len(attempt.token_ids), short, True
                break
        tokens.append(at)
        answered.append(after)
        right.append(same(answer, case.gold))
        stopped.append(stops)
    known = all(case.gold is not None for case in answers)
    return Row(
        rule="oracle",
        title="oracle",
        guarantee="none",
        parameters={"at": "the first cue whose forced answer is good"},
        accuracy=float(np.mean(right)) if known else None,
        tokens=float(np.mean(tokens)),
        overrun_tokens=0.0,
        trial_tokens=0.0,
        answer_tokens=float(np.mean(answered)),
        prefill_tokens=float(np.mean([len(trace.prompt_ids) for trace in traces])),
        cached_tokens=0.0,
        bad_stops=0,
        bad_stop_share=0.0,
        bad_stop_interval=clopper_pearson(0, len(traces)),
        stopped_share=float(np.mean(stopped)),
        trials=0.0,
        late_trials=0,
        crowded=0,
        main_equal_share=1.0,
        wall_s=None,
        cpu_s=None,
        engine={},
    )
