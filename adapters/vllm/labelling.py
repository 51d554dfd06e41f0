"""Turns a generated trace and the answers forced in it into the record that is stored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from adapters.vllm.generation import Forced, Generated
from adapters.vllm.prompts import Prompt
from calibration.comparers import AUTO, Comparer
from calibration.records import CueRecord, TraceRecord
from probes.provenance import Closing


def answer_of(
    trace: Generated, tokenizer: Any, comparer: Comparer = AUTO, end_ids: Sequence[int] = ()
) -> str | None:
    """Return the answer after the thinking; None for a trace that never ended it.

    The thinking is not searched: a box in it is a thought, not an answer. Nor are ``end_ids``,
    which close it.
    """
    rest = trace.output_ids[trace.thinking_tokens :]
    if not rest:
        return None
    text = tokenizer.decode(rest[len(end_ids) :], skip_special_tokens=True)
    return comparer.extract(text)


def record(
    trace_id: str,
    prompt: Prompt,
    trace: Generated,
    forced: Sequence[Forced],
    closing: Closing,
    labels: Sequence[str],
    tokenizer: Any,
    width: int,
    comparer: Comparer = AUTO,
) -> TraceRecord:
    """Label one trace.

    Parameters
    ----------
    forced
        Per cue, what was generated after the closing.
    labels
        The automaton's cue names; code i is `labels[i - 1]`.
    width
        Columns of a hidden state.
    comparer
        Takes answers out of outputs and compares them.

    """
    answer = answer_of(trace, tokenizer, comparer, closing.end_ids)
    cues = []
    for cue, answered in zip(trace.cues, forced, strict=True):
        text = tokenizer.decode(answered.token_ids, skip_special_tokens=True)
        short = comparer.extract_forced(text, closing.answer_prompt)
        known = prompt.answer is not None
        cues.append(
            CueRecord(
                position=cue.position,
                label=labels[cue.label - 1],
                forced_ids=answered.token_ids,
                forced_answer=short,
                correct=comparer.same(short, prompt.answer) if known else None,
                agrees=comparer.same(short, answer),
                forced_logprob=answered.logprob,
            )
        )
    hidden = [cue.hidden for cue in trace.cues]
    return TraceRecord(
        trace_id=trace_id,
        group=prompt.group,
        prompt_ids=trace.prompt_ids,
        output_ids=trace.output_ids,
        thinking_tokens=trace.thinking_tokens,
        text=trace.text,
        answer=answer,
        gold=prompt.answer,
        full_correct=None if prompt.answer is None else comparer.same(answer, prompt.answer),
        level=prompt.level,
        finish_reason=trace.finish_reason,
        cues=cues,
        hidden=np.stack(hidden) if hidden else np.zeros((0, width), np.float32),
        category=prompt.category,
    )
