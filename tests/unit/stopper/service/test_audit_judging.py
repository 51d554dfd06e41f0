import dataclasses
from typing import Any

import numpy as np
import pytest
from audit_makers import SERVED, finished, record
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from adapters.vllm.generation import Forced, Generated, SeenCue
from adapters.vllm.labelling import record as label
from adapters.vllm.prompts import Prompt
from calibration.comparers import get_comparer
from probes.provenance import Closing
from stopper.errors import InputError
from stopper.scripted.tokens import Tokenizer
from stopper.service.audits.judging import Judge, Record, thinking_tokens

EOS = 0
TOKENIZER = Tokenizer(540, 541)
ANSWERS = [
    "", "So \\boxed{7}", "\\boxed{7.0}", "\\boxed{8", "The answer is 7.", "Paris", "Paris.",
    "It lies on the Seine.\n\nParis", "**B. Paris**", "(A) is less. So B", "Final answer:", "\n",
]  # fmt: skip
PROMPTS = ["", "\n\nFinal Answer: \\boxed{", "\n\nFinal answer:"]


class LabellingTokenizer:
    def decode(self, ids: list[int], skip_special_tokens: bool) -> str:
        assert skip_special_tokens
        return TOKENIZER.decode([number for number in ids if number > 1 << 40])


def detokenize(ids: list[int]) -> str:
    """As vLLM's route does: special tokens are spelled out."""
    return "".join("<|im_end|>" if n == EOS else TOKENIZER.decode([n]) for n in ids)


@hypothesis_settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(ANSWERS),
    st.sampled_from(ANSWERS),
    st.sampled_from(PROMPTS),
    st.sampled_from(["auto", "text", "choice", "number", "exact"]),
    st.sampled_from(["stop", "length", "unended"]),
)
def test_a_live_answer_is_compared_as_a_calibration_trace_was_labelled(
    full: str, forced: str, answer_prompt: str, comparer: str, end: str
) -> None:
    closing = Closing(
        end_ids=(541,),
        answer_prompt=answer_prompt,
        answer_prompt_ids=tuple(TOKENIZER.encode(answer_prompt)),
    )
    thinking = TOKENIZER.encode("I think. Wait")
    output = [*thinking, *([541, *TOKENIZER.encode(full)] if end != "unended" else [])]
    output += [EOS] if end == "stop" else []
    trace = Generated(
        "r0", [540, 9], output, "", end, thinking_tokens(output, (541,)),
        (SeenCue(2, 1, 2.0, np.zeros(3, np.float32)),),
    )  # fmt: skip
    answered = Forced([*TOKENIZER.encode(forced), EOS], None)
    wanted = label(
        "r0", Prompt(id="r0", prompt="?"), trace, [answered], closing, ["wait"],
        LabellingTokenizer(), 3, get_comparer(comparer),
    )  # fmt: skip
    judge = Judge("0123456789abcdef", closing, get_comparer(comparer))
    request = finished(
        prompt_token_ids=(540, 9),
        output_token_ids=tuple(output),
        finish_reason="stop" if end == "stop" else "length",
    )
    full_answer = judge.full(detokenize(judge.answer_ids(request)))
    agrees = judge.comparer.same(judge.forced(forced), full_answer)
    assert full_answer == wanted.answer
    assert agrees == wanted.cues[0].agrees
    assert judge.prompt(request, 2) == [
        540, 9, *thinking[:2], 541, *TOKENIZER.encode(answer_prompt)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("output", "end", "found"),
    [((5, 7, 6), (7,), 1), ((5, 7, 8, 7, 9), (7, 9), 3), ((5, 7), (7, 9), 2), ((), (7,), 0)],
)
def test_thinking_ends_before_the_first_whole_mark(
    output: tuple[int, ...], end: tuple[int, ...], found: int
) -> None:
    assert thinking_tokens(output, end) == found


def read(**changes: Any) -> Record:
    return Record(**{key: record(**changes)[key] for key in Record.__struct_fields__})


def test_an_audit_tells_of_the_whole_thinking_and_of_the_mark() -> None:
    found = Judge.of(SERVED).audit(finished(), read(), 1)
    assert (found.marked, found.loss, found.score, found.top_score) == (True, 1, 2.0, 3.0)
    assert (found.cues, found.tokens, found.alpha) == (2, 3, 0.05)
    calm = read(decision="not_stopped", position=None, score=None)
    found = Judge.of(SERVED).audit(finished(), calm, 0)
    assert (found.marked, found.loss, found.score, found.top_score) == (False, 0, None, 3.0)


def altered(**changes: Any) -> Any:
    """The example artifact with another manifest, in memory."""
    calibration = SERVED.record.model_copy(update={"loss": changes.pop("loss", "disagree")})
    manifest = SERVED.artifact.manifest.model_copy(update=changes)
    artifact = dataclasses.replace(SERVED.artifact)
    object.__setattr__(artifact, "manifest", manifest)
    return dataclasses.replace(SERVED, artifact=artifact, record=calibration)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"loss": "wrong"}, "needs the right answers"),
        ({"loss": "harm"}, "needs the right answers"),
        ({"closing": None}, "no way to force an answer"),
        ({"comparer": None}, "does not say how answers were compared"),
        ({"comparer": "unheard-of"}, "unheard-of"),
    ],
)
def test_what_cannot_be_judged_live_is_refused_with_the_reason(
    changes: dict[str, Any], reason: str
) -> None:
    with pytest.raises(InputError, match=reason):
        Judge.of(altered(**changes))
