"""Scripts are checked, and what is wrong in them is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from stopper.cli import build_app
from stopper.errors import InputError
from stopper.scripted import Piece, Script, Threshold, Trace, default_script, read_script
from stopper.scripted.faults import FaultBook, read_header
from stopper.scripted.prompts import Casting, render
from stopper.scripted.tokens import Tokenizer

TRACE = {"name": "one", "pieces": [{"text": "Hm"}], "answer": "1"}


def script_file(folder: Path, **changes: Any) -> Path:
    path = folder / "script.json"
    path.write_text(json.dumps({"traces": [TRACE], **changes}))
    return path


def with_piece(**fields: Any) -> dict[str, Any]:
    return {"traces": [{**TRACE, "pieces": [{"text": "Hm", **fields}]}]}


@given(st.lists(st.text()))
def test_token_ids_carry_any_text(parts: list[str]) -> None:
    tokenizer = Tokenizer(151667, 151668)
    ids = [number for part in parts for number in tokenizer.encode(part)]
    expected = "".join(parts).encode("utf-8", "replace").decode()
    assert tokenizer.decode(ids) == expected
    assert all(0 <= number < 2**53 for number in ids)


@given(st.lists(st.sampled_from(["<think>", "</think>", "<|7|>", "<|007|>", "<|", " a", "é"])))
def test_marks_and_foreign_ids_survive_the_way_there_and_back(parts: list[str]) -> None:
    tokenizer = Tokenizer(1, 2)
    text = "".join(parts)
    assert tokenizer.decode(tokenizer.encode(text)) == text


@given(st.integers())
def test_any_number_is_a_token_or_refused(number: int) -> None:
    try:
        assert isinstance(Tokenizer(1, 2).decode([number]), str)
    except InputError as error:
        assert str(number) in str(error)


def test_a_word_keeps_its_space() -> None:
    tokenizer = Tokenizer(1, 2)
    ids = tokenizer.encode("One two")
    assert [tokenizer.decode([number]) for number in ids] == ["One", " two"]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"traces": []}, "traces"),
        ({"modle": "x"}, "modle"),
        ({"alpha": 1.5}, "alpha"),
        ({"alpha": 0.01}, "alpha: 0.01 is below every alpha"),
        ({"traces": [TRACE, TRACE]}, "two have the same name"),
        (with_piece(cue="wait"), "a cue needs a score"),
        (with_piece(score=1.0), "a cue needs a score"),
        (with_piece(forced_answer="1"), "forced_answer belong to a cue"),
        (with_piece(text="a</think>b"), "are put in by the engine"),
        ({"traces": [{**TRACE, "fault": {"kind": "tired"}}]}, "traces.0.fault.kind"),
        ({"think_id": 2}, "are the same"),
        (
            {"thresholds": [{"alpha": 0.1, "threshold": 0}, {"alpha": 0.2, "threshold": 1}]},
            "cannot be higher",
        ),
        (
            {"thresholds": [{"alpha": 0.1, "threshold": 0}, {"alpha": 0.1, "threshold": 1}]},
            "is there twice",
        ),
    ],
)
def test_what_is_wrong_in_a_script_is_named(
    tmp_path: Path, changes: dict[str, Any], named: str
) -> None:
    path = script_file(tmp_path, **changes)
    with pytest.raises(InputError) as caught:
        read_script(path)
    assert named in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("content", [b"\xff", b"a = ", b"[traces", b"x = 2026-01-01"])
def test_what_is_no_script_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "script.toml"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"script\.toml"):
        read_script(path)
    with pytest.raises(InputError, match=r"nowhere\.toml: No such file"):
        read_script(tmp_path / "nowhere.toml")


def test_a_threshold_is_that_of_the_largest_alpha_that_is_not_above() -> None:
    rows = (Threshold(alpha=0.1, threshold=1.0), Threshold(alpha=0.05, threshold=2.0))
    script = Script(thresholds=rows, traces=(Trace.model_validate(TRACE),))
    assert [script.threshold(alpha) for alpha in (0.04, 0.05, 0.09, 0.5)] == [None, 2.0, 2.0, 1.0]


def test_the_answer_forced_is_that_of_the_last_cue_before() -> None:
    trace = Trace(
        name="x",
        pieces=(
            Piece(text="ab", cue="c", score=1.0, forced_answer="early"),
            Piece(text="cd", cue="c", score=1.0),
            Piece(text="ef"),
        ),
        answer="late",
        early_answer="none",
    )
    answers = [trace.forced_answer(trace.thinking[:length]) for length in (0, 1, 2, 4, 5, 6)]
    assert answers == ["none", "none", "early", "early", "early", "late"]


def test_traces_are_cast_by_name_by_substring_and_in_turn() -> None:
    casting = Casting(default_script())
    assert casting.choose("How many primes?", None).name == "primes"
    assert casting.choose("What else?", None).name == "sum"
    assert casting.choose("How many primes?", "1").name == "capital"
    with pytest.raises(InputError, match="give one of primes, capital, sum, or a number"):
        casting.choose("x", "3")
    several = default_script().model_copy(
        update={
            "traces": tuple(t.model_copy(update={"match": None}) for t in default_script().traces)
        }
    )
    turns = Casting(several)
    assert [turns.choose("x", None).name for _ in range(4)] == [
        "primes",
        "capital",
        "sum",
        "primes",
    ]


def test_equal_beginnings_are_told_apart_by_the_prompt() -> None:
    first, second = (
        Trace(name=name, pieces=(Piece(text="Hm", cue="hm", score=0.0, forced_answer=name),),
              answer="x")
        for name in ("first", "second")
    )  # fmt: skip
    casting = Casting(Script(traces=(first, second)))
    prompt = render([{"role": "user", "content": "?"}])
    casting.choose(prompt, "second")
    found = casting.forced(f"{prompt}Hm</think>")
    assert found is not None
    assert found[0].name == "second"
    assert casting.forced(f"{prompt}Hm") is None
    assert casting.forced(f"{prompt}something else</think>") is None


def test_a_message_that_is_no_text_is_refused() -> None:
    with pytest.raises(InputError, match=r"messages\.1\.content"):
        render([{"role": "user", "content": "x"}, {"role": "user", "content": [{"image": 1}]}])
    with pytest.raises(InputError, match=r"messages\.0\.role"):
        render([{"content": "x"}])


@given(st.text())
def test_a_fault_header_is_read_or_refused(text: str) -> None:
    try:
        assert read_header(text).kind in text
    except InputError as error:
        assert str(error).startswith("X-Scripted-Fault: ")


def test_a_fault_that_is_limited_heals() -> None:
    book = FaultBook()
    of_trace = read_header("close; times=2")
    met = [book.meet(None, "x", of_trace) for _ in range(4)]
    assert [fault is not None for fault in met] == [True, True, False, False]
    header = "status; code=503; times=1"
    assert [book.meet(header, "x", None) is not None for _ in range(2)] == [True, False]
    assert book.meet(f"{header}; tag=other", "x", None) is not None
    book.set(read_header("hang; times=1"))
    assert book.meet(None, "y", of_trace) == read_header("hang; times=1")
    assert book.meet(None, "y", None) is None


def test_the_command_checks_and_shows_scripts(tmp_path: Path) -> None:
    runner = CliRunner()
    shown = runner.invoke(build_app(), ["scripted", "--show"])
    assert shown.exit_code == 0
    path = tmp_path / "mine.toml"
    path.write_text(shown.output)
    assert read_script(path) == default_script()
    checked = runner.invoke(build_app(), ["scripted", str(path), "--check"])
    assert checked.output == "3 traces with 8 cues, served as 'scripted'\n"
    refused = runner.invoke(build_app(), ["scripted", str(script_file(tmp_path, alpha=2.0))])
    assert isinstance(refused.exception, InputError)
