"""Answers of a live engine are taken and compared by the comparer that was named."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from makers import HIDDEN, closing

from adapters.vllm.demo import Comparison, Served
from adapters.vllm.generation import Forced, Generated, SeenCue
from adapters.vllm.labelling import answer_of, record
from adapters.vllm.prompts import Prompt
from calibration.calibrate import calibrate
from calibration.comparers import AUTO, get_comparer
from calibration.report import Evaluator, Rule
from calibration.simulate import SimulatorSettings, simulate
from stopper import cli

CHOICE = get_comparer("choice")
END = 0x10FFFF


class Characters:
    """One token a character, and one that ends the thinking and is no special token."""

    def decode(self, ids: list[int], skip_special_tokens: bool = False) -> str:
        return "".join("</think>" if token == END else chr(token) for token in ids)


def generated(thinking: str, rest: str | None, *cues: int) -> Generated:
    after = [] if rest is None else [END, *map(ord, rest)]
    hidden = np.zeros(HIDDEN, dtype=np.float32)
    return Generated(
        request_id="0",
        prompt_ids=[1],
        output_ids=[*map(ord, thinking), *after],
        text="",
        finish_reason="stop",
        thinking_tokens=len(thinking),
        cues=tuple(SeenCue(at, 1, 0.0, hidden) for at in cues),
    )


def test_a_choice_without_a_box_is_labelled_under_its_comparer_only() -> None:
    trace = generated("hmm wait", "\n\nThe correct answer is **B. Paris**.", 3, 8)
    forced = [Forced(list(map(ord, text)), -0.5) for text in ("Option A", "(B)")]
    asked = Prompt(id="p", prompt="?", answer="B")
    ending = closing().model_copy(
        update={"end_ids": (END,), "answer_prompt": "", "answer_prompt_ids": ()}
    )
    made = {
        comparer.name: record(
            "p#0", asked, trace, forced, ending, ("wait",), Characters(), HIDDEN, comparer
        )
        for comparer in (AUTO, CHOICE)
    }
    found = made["choice"]
    assert (found.answer, found.full_correct) == ("B", True)
    assert [cue.forced_answer for cue in found.cues] == ["A", "B"]
    assert [cue.agrees for cue in found.cues] == [False, True]
    assert (made["auto"].answer, [c.agrees for c in made["auto"].cues]) == (None, [False, False])


def test_the_words_that_end_the_thinking_are_no_part_of_the_answer() -> None:
    text = get_comparer("text")
    trace = generated("so", "Paris")
    assert answer_of(trace, Characters(), text, (END,)) == "Paris"
    assert answer_of(generated("so Paris", None), Characters(), text, (END,)) is None


@pytest.mark.parametrize("loss", ["disagree", "wrong", "harm"])
def test_the_demo_judges_stops_by_the_artifacts_comparer(loss: str) -> None:
    table = simulate(SimulatorSettings(60, seed=1))
    found = calibrate(table, loss, 0.1)
    rule = Rule("ltt", loss, 0.9, found.worst_scores, found.good_scores, found.bad_scores)
    prompts = [Prompt(id=str(k), prompt=str(k), answer="B") for k in range(3)]
    full = Served([], ["(B)", "B. Paris", "B"], 1.0, CHOICE)
    shown = Comparison(
        prompts=prompts,
        full=full,
        stopped=Served([], ["B. Paris", "C", "D"], 1.0, CHOICE),
        stops=[4, 4, None],
        offline=[4, 4, None],
        evaluation=Evaluator(table, rule).at(0.1),
        curve=[],
    )
    assert shown.bad == [False, True, False]
    assert full.accuracy(prompts) == 1
    # By another comparer the option's text counts; then "(B)" is not right either: no harm.
    exact = get_comparer("exact")
    assert replace(shown, full=replace(full, comparer=exact)).bad[0] is (loss != "harm")


def test_an_unknown_comparer_is_refused_before_anything_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = [
        "collect",
        "no/model",
        "--prompts",
        str(tmp_path / "none"),
        "--out",
        str(tmp_path / "a"),
    ]
    with pytest.raises(SystemExit) as caught:
        cli.main([*argv, "--comparer", "nice"])
    assert caught.value.code == 2
    assert "comparer 'nice' is unknown; choose one of auto" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_options_of_a_source_reach_its_reader(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Collection itself fails at the model, which is not there; the prompts are read before."""
    rows = [{"frage": "3+4?", "gold": "7"}, {"frage": "", "gold": "8"}]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    argv = ["collect", str(tmp_path / "none"), "--prompts", str(tmp_path / "rows.json")]
    argv += ["--out", str(tmp_path / "a"), "--prompts-as", "dataset", "--prompt-column", "frage"]
    with pytest.raises(SystemExit) as caught:
        cli.main(argv)
    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert "2 rows; prompt from 'frage', answer from 'gold'" in said
    assert "1 rows without a question were skipped" in said
    assert "none: no model to load there" in said
