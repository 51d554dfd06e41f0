"""The table's numbers, how answers are read, and how it looks."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from engine_simulator import END, ids, tokenizer
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from transformers import PreTrainedTokenizerFast

from adapters.vllm.baselines import ours
from adapters.vllm.baselines.answers import Reader
from adapters.vllm.baselines.comparison import Compared
from adapters.vllm.baselines.conversation import Branch, Closing, Conversation
from adapters.vllm.baselines.figures import Answered, Row, is_bad, row
from adapters.vllm.baselines.plot import _overlap, plot_rules
from adapters.vllm.baselines.policy import Tried
from adapters.vllm.baselines.table import cost_table, parameters_table, risk_table
from adapters.vllm.baselines.vocabulary import Vocabulary
from calibration.answers import same_answer
from stopper.errors import InputError

ANSWER = "\n\nThe answer is \\boxed{7}."
reader = Reader(PreTrainedTokenizerFast(tokenizer_object=tokenizer()), Vocabulary(tokenizer()), "")


def unread(branch: Branch) -> Tried:
    raise AssertionError(branch)


def finished(thinking: str, answer: str = ANSWER, **fields: Any) -> Conversation:
    """A full trace."""
    closing = Closing((END,), (END,))
    talk = Conversation("p", ids("x"), ours.full(), closing, 400, 1000, unread)
    output = [*ids(thinking), END, *ids(answer)]
    talk.main.cached_tokens = 0
    for _ in talk.take(talk.main, output, [], True):
        raise AssertionError("a full trace asks for nothing")
    for name, value in fields.items():
        setattr(talk, name, value)
    return talk


# Losses


@pytest.mark.parametrize(
    ("gold", "full", "short", "bad"),
    [
        ("1", "1", "1", set()),
        ("1", "1", "2", {"disagree", "wrong", "harm"}),
        ("1", "2", "1", {"disagree"}),
        ("1", "2", "2", {"wrong"}),
        ("1", "2", "3", {"disagree", "wrong"}),
        ("1", None, None, {"disagree", "wrong"}),  # no answer equals nothing
    ],
)
def test_what_is_bad(gold: str, full: str | None, short: str | None, bad: set[str]) -> None:
    case = Answered(gold, full, short)
    found = {loss for loss in ("disagree", "wrong", "harm") if is_bad(loss, case, same_answer)}
    assert found == bad


def test_losses_that_need_a_gold_answer_say_so() -> None:
    case = Answered(None, "1", "1")
    assert not is_bad("disagree", case, same_answer)
    with pytest.raises(InputError, match="loss 'harm' needs the right answer of every prompt"):
        is_bad("harm", case, same_answer)


# Rows


def test_a_row_sums_up_its_prompts() -> None:
    full = [finished("So the number is 7."), finished("So the number")]
    cases = [Answered("7", "7", "7"), Answered("7", "7", "8")]
    found = row(full, full, cases, [True, True], "disagree", same_answer, 2.0, 1.0, {})
    assert (found.bad_stops, found.bad_stop_share, found.accuracy) == (1, 0.5, 0.5)
    assert found.bad_stop_interval == pytest.approx((0.0126, 0.9874), abs=1e-4)
    assert found.tokens == sum(talk.thinking for talk in full) / 2
    assert found.all_tokens == sum(len(talk.main.token_ids) for talk in full) / 2
    assert (found.main_equal_share, found.stopped_share) == (1.0, 1.0)
    assert found.to_json()["extra_tokens"] == 0.0
    # What a rule did not touch is never bad.
    alone = row(full, full, cases, [True, False], "disagree", same_answer, 2.0, 1.0, {})
    assert (alone.bad_stops, alone.stopped_share) == (0, 0.5)


def test_a_trace_that_went_another_way_is_noticed() -> None:
    full = [finished("So the number is 7."), finished("So the number is 7.")]
    other = [full[0], finished("So the number is 8.")]
    cases = [Answered(None, "7", "7")] * 2
    found = row(other, full, cases, [False, False], "disagree", same_answer, 2.0, 1.0, {})
    assert (found.main_equal_share, found.accuracy) == (0.5, None)


# Answers


def test_the_common_way_to_an_answer_leads_the_trials() -> None:
    lead = tuple(ids("\n\nThe answer is \\boxed{"))
    same = [finished("So.", f"\n\nThe answer is \\boxed{{{n}}}.") for n in range(9)]
    assert reader.lead([*same, finished("So.", "Even \\boxed{1}.")]) == lead
    assert reader.lead([*same, *[finished("So.", "Even \\boxed{1}.")] * 2]) == ()
    assert reader.lead([finished("So.", " so so")]) == ()
    assert reader.lead([]) == ()


def test_an_answer_prompt_leads_by_itself() -> None:
    prompted = replace(reader, answer_prompt="\\boxed{")
    assert prompted.lead([finished("So.")] * 9) == ()
    assert prompted.forced("7}.") == "7"


# How it looks


def made(name: str, **fields: Any) -> Row:
    empty: dict[str, Any] = dict.fromkeys(Row.__slots__, 0)
    basic = {
        "rule": name,
        "title": name,
        "guarantee": "none",
        "parameters": {"at": ["wait", "hmm"], "sure": 0.95},
        "accuracy": 0.9,
        "tokens": 80.0,
        "bad_stop_interval": (0.0, 0.1),
        "wall_s": 1.0,
        "cpu_s": 1.0,
        "engine": {},
        "main_equal_share": 1.0,
    }
    return Row(**{**empty, **basic, **fields})


def compared(rows: list[Row]) -> Compared:
    full = made("full", tokens=200.0)
    best = made("oracle", wall_s=None, cpu_s=None, tokens=70.0)
    return Compared(0.05, "disagree", 40, 16, "", full, rows, best, [])


def test_the_tables_have_a_line_for_every_rule_on_a_narrow_screen() -> None:
    rows = [
        made("stopper", guarantee="risk"),
        made("deer", title="Dynasor-CoT", late_trials=3, trial_tokens=7.25, tokens=208.0),
    ]
    console = Console(width=80, file=io.StringIO())
    for table in (risk_table, cost_table, parameters_table):
        console.print(table(compared(rows)))
    text = console.file.getvalue()
    for words in ("full", "stopper", "Dynasor-CoT", "oracle", "bad stops", "215.2 (+8%)", "7.2",
                  "80.0 (-60%)", "0.0 - 10.0", "95 % interval", "CPU, s"):  # fmt: skip
        assert words in text, words
    assert "\N{HORIZONTAL ELLIPSIS}" not in text  # nothing is cut off


def test_the_figures_are_plain_json() -> None:
    figures = json.loads(json.dumps(compared([made("stopper")]).to_json(), allow_nan=False))
    assert {"alpha", "loss", "n_test", "rows", "full", "oracle"} <= figures.keys()
    assert {"rule", "guarantee", "accuracy", "tokens", "extra_tokens", "prefill_tokens",
            "cached_tokens", "bad_stops", "bad_stop_share", "bad_stop_interval", "stopped_share",
            "wall_s", "parameters"} <= figures["rows"][0].keys()  # fmt: skip


@pytest.mark.parametrize("accuracy", [0.9, None])
def test_the_plot_is_a_picture(tmp_path: Path, accuracy: float | None) -> None:
    # Eight rules on one spot: the hardest case for the labels.
    rows = [made(f"rule {n}", accuracy=accuracy) for n in range(8)]
    plot_rules(compared(rows), tmp_path / "rules.png", "title")
    assert (tmp_path / "rules.png").read_bytes().startswith(b"\x89PNG")


boxes = st.tuples(*[st.integers(-5, 5)] * 2, *[st.integers(1, 5)] * 2)


@given(boxes, boxes)
def test_overlap_is_shared_ground(one: tuple[int, ...], other: tuple[int, ...]) -> None:
    def ground(box: tuple[int, ...]) -> set[tuple[int, int]]:
        x, y, width, height = box
        return {(a, b) for a in range(x, x + width) for b in range(y, y + height)}

    corners = [(x, y, x + width, y + height) for x, y, width, height in (one, other)]
    assert _overlap(*corners) == bool(ground(one) & ground(other))
