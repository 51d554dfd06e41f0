"""The pure parts of collection: layers, thinking tokens, request names, labels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import makers
import numpy as np
import pytest
from engine_simulator import END, THINK, ids, tokenizer
from makers import HIDDEN, closing

from adapters.vllm.collect import (
    Markers,
    defaults_left_out,
    encode,
    generation_defaults,
    parse_layers,
)
from adapters.vllm.commands import _tell_of_answers
from adapters.vllm.generation import Forced, Generated, SeenCue, outer_id, thinking_tokens
from adapters.vllm.labelling import answer_of, record
from adapters.vllm.prompts import Prompt
from probes.provenance import Closing
from stopper.errors import InputError


@pytest.mark.parametrize(
    ("text", "depth", "layers"),
    [
        (None, 36, (12, 18, 24, 36)),
        ("last", 4, (4,)),
        ("4", 4, (4,)),
        ("2, last", 4, (2, 4)),
        ("last,1,4,1", 4, (1, 4)),
        ("9,16,last", 28, (9, 16, 28)),
    ],
)
def test_layers_that_are_there(text: str | None, depth: int, layers: tuple[int, ...]) -> None:
    assert parse_layers(text, depth) == layers


@pytest.mark.parametrize("text", ["", "0", "5", "-1", "1,,2", "two", "1.5", "LAST", "1-3"])
def test_layers_that_are_not(text: str) -> None:
    with pytest.raises(InputError, match="is no layer of this model; 1 to 4, or last"):
        parse_layers(text, 4)


@pytest.mark.parametrize(
    ("output", "end", "tokens"),
    [
        ([], [9], 0),
        ([1, 2], [9], 2),
        ([1, 9, 2, 9], [9], 1),
        ([9], [9], 0),
        ([1, 8, 1, 8, 9, 2], [8, 9], 3),
        ([1, 8], [8, 9], 2),
        ([8, 8, 9], [8, 9], 1),
    ],
)
def test_thinking_ends_at_the_first_whole_closing(
    output: list[int], end: list[int], tokens: int
) -> None:
    assert thinking_tokens(output, end) == tokens


def test_the_callers_request_id() -> None:
    assert outer_id("7-0123abcd") == "7"
    assert outer_id("forced/3/12-0123abcd") == "forced/3/12"
    assert outer_id("chatcmpl-5-0123abcd") == "chatcmpl-5"


class Coder:
    """The tiny reasoner's tokenizer with the calls that transformers offers."""

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        assert not add_special_tokens
        return ids(text)

    def decode(self, tokens: list[int], skip_special_tokens: bool = False) -> str:
        return str(tokenizer().decode(tokens, skip_special_tokens=skip_special_tokens))


def test_markers_become_token_ids() -> None:
    made = Markers(answer_prompt="", max_answer_tokens=5).closing(Coder())
    assert made == Closing(end_ids=(END,), max_answer_tokens=5)
    made = Markers().closing(Coder())
    assert made.answer_prompt == "\n\nFinal Answer: \\boxed{"
    assert list(made.answer_prompt_ids) == ids(made.answer_prompt) != []
    assert encode(Coder(), "") == []


def generated(output: list[int], *positions: int, finish: str = "stop") -> Generated:
    hidden = np.arange(HIDDEN, dtype=np.float32)
    return Generated(
        request_id="0",
        prompt_ids=[THINK],
        output_ids=output,
        text="the text",
        finish_reason=finish,
        thinking_tokens=thinking_tokens(output, [END]),
        cues=tuple(SeenCue(at, 1 + at % 2, 0.0, hidden + at) for at in positions),
    )


def label(trace: Generated, forced: list[list[int]], answer: str | None = "7", **closing_: Any):  # type: ignore
    ending = closing().model_copy(update={"answer_prompt": "\\boxed{", **closing_})
    prompt = Prompt(id="p", prompt="3+4", group="g", answer=answer, level=2)
    answers = [Forced(ids, -0.5) for ids in forced]
    return record("p/0", prompt, trace, answers, ending, ("hmm", "wait"), Coder(), HIDDEN)


def test_cues_are_labelled_by_the_gold_and_by_the_traces_own_answer() -> None:
    output = [*ids("hmm \\boxed{1} wait"), END, *ids("\n\\boxed{8}")]
    made = label(generated(output, 1, 4), [ids("7}"), ids("8}")])
    assert (made.answer, made.gold, made.full_correct) == ("8", "7", False)
    assert [(cue.position, cue.label) for cue in made.cues] == [(1, "wait"), (4, "hmm")]
    assert [cue.forced_answer for cue in made.cues] == ["7", "8"]
    assert [cue.correct for cue in made.cues] == [True, False]
    assert [cue.agrees for cue in made.cues] == [False, True]
    assert (made.trace_id, made.group, made.level) == ("p/0", "g", 2)
    assert made.thinking_tokens == output.index(END)
    assert (made.hidden.dtype, made.hidden.shape) == (np.float32, (2, HIDDEN))
    assert made.hidden[:, 0].tolist() == [1.0, 4.0]


def test_without_gold_nothing_is_called_right_or_wrong() -> None:
    output = [*ids("hmm"), END, *ids("\\boxed{8}")]
    made = label(generated(output, 1), [ids("8}")], answer=None)
    assert (made.full_correct, made.cues[0].correct, made.cues[0].agrees) == (None, None, True)


def test_a_trace_that_never_ends_its_thinking_has_no_answer() -> None:
    trace = generated(ids("hmm \\boxed{7}"), 1, finish="length")
    assert answer_of(trace, Coder()) is None
    made = label(trace, [ids("no box closes")])
    assert (made.answer, made.full_correct) == (None, False)
    assert made.finish_reason == "length"


def test_a_trace_without_cues_keeps_the_width() -> None:
    made = label(generated([END, *ids("\\boxed{7}")]), [])
    assert (made.full_correct, made.cues, made.hidden.shape) == (True, [], (0, HIDDEN))


def test_every_cue_needs_its_answer() -> None:
    with pytest.raises(ValueError, match="zip"):
        label(generated([*ids("hmm"), END], 1), [])


def test_outputs_without_an_answer_are_told_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All of their cues count as disagreeing, which nobody should learn from the threshold."""
    makers.store(tmp_path / "some", [makers.record("a"), makers.record("b", answer=None)])
    makers.store(tmp_path / "none", [makers.record("a")])
    _tell_of_answers(tmp_path / "none", "auto")
    assert capsys.readouterr().err == ""
    _tell_of_answers(tmp_path / "some", "number")
    told = capsys.readouterr().err
    assert told.startswith("1 of 2 outputs hold no answer that the comparer 'number' finds")
    assert "stopper relabel" in told


@pytest.mark.parametrize(
    ("config", "found", "named"),
    [
        ({"temperature": 0.6, "top_k": 20}, {"temperature": 0.6, "top_k": 20}, []),
        ({"min_p": 0.0, "repetition_penalty": 1.0}, {}, []),
        ({"top_p": 0.9, "min_p": 0.05}, {"top_p": 0.9}, ["min_p"]),
        ({"repetition_penalty": 1.1, "min_p": 0.1}, {}, ["min_p", "repetition_penalty"]),
        (None, {}, []),
    ],
)
def test_sampling_defaults_are_taken_or_named(
    tmp_path: Path, config: dict[str, Any] | None, found: dict[str, Any], named: list[str]
) -> None:
    if config is not None:
        (tmp_path / "generation_config.json").write_text(json.dumps(config))
    assert generation_defaults(str(tmp_path)) == found
    told = defaults_left_out(str(tmp_path))
    if not named:
        assert told is None
        return
    assert told is not None
    remedy = json.loads(told.partition("--override-generation-config '")[2].rstrip("'"))
    assert sorted(remedy) == sorted(named)
    assert all(f"{name} {config[name]}" in told for name in named if config)
