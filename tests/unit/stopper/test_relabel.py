"""`stopper relabel`: other labels from the same token ids, or a refusal that says why."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import makers
import numpy as np
import pytest
from tokenizers import AddedToken, Tokenizer
from tokenizers.decoders import Fuse
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split

from calibration.comparers import get_comparer
from calibration.records import CueRecord, TraceRecord
from calibration.traces import TraceDataset, scored_traces
from probes.provenance import Closing, fingerprint_files
from stopper import cli
from stopper.relabelling import count_answered, relabel

Capture = pytest.CaptureFixture[str]
END, EOS = 0, 1
CLOSING = Closing(end_ids=(END,), answer_prompt="", answer_prompt_ids=())


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder whose tokenizer knows single characters and two special tokens."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    folder.mkdir()
    characters = {chr(code): code - 30 for code in range(32, 127)} | {"\n": 97}
    made = Tokenizer(WordLevel({"</think>": END, "<eos>": EOS, **characters}, unk_token=" "))
    made.add_tokens([AddedToken("</think>", special=False)])
    made.add_special_tokens(["<eos>"])
    made.pre_tokenizer = Split("", "isolated")
    made.decoder = Fuse()
    made.save(str(folder / "tokenizer.json"))
    return folder


def ids(text: str) -> list[int]:
    return [97 if character == "\n" else ord(character) - 30 for character in text]


def trace(name: str, ending: str | None, forced: list[str], gold: str | None) -> TraceRecord:
    """A trace as `auto` labels it."""
    thinking = ids("hmm wait ") + ids("." * len(forced))
    after = [] if ending is None else [END, *ids(ending), EOS]
    auto = get_comparer("auto")
    answer = None if ending is None else auto.extract(ending)
    cues = []
    for number, text in enumerate(forced):
        short = auto.extract_forced(text, "")
        cues.append(
            CueRecord(
                position=number + 1,
                label="wait",
                forced_ids=[*ids(text), EOS],
                forced_answer=short,
                correct=None if gold is None else auto.same(short, gold),
                agrees=auto.same(short, answer),
                forced_logprob=-0.25,
            )
        )
    return TraceRecord(
        trace_id=name,
        group=name,
        prompt_ids=[5],
        output_ids=[*thinking, *after],
        thinking_tokens=len(thinking),
        text="",
        answer=answer,
        gold=gold,
        full_correct=None if gold is None else auto.same(answer, gold),
        level=2,
        finish_reason="stop" if after else "length",
        cues=cues,
        hidden=np.full((len(cues), 3 * makers.HIDDEN), 0.5, np.float32),
        category="geography",
    )


QUIZ = [
    trace("p0", "\n\nThe correct answer is **B. Paris**.", ["(A)", "Option B."], "B"),
    trace("p1", "\n\nSo \\boxed{C}", ["The answer is C because", "\\boxed{A}"], "C"),
    trace("p2", "\n\nHard to say.", ["(D)"], "A"),
    trace("p3", None, ["(D)", "(D)"], None),
    trace("p4", "\n\n(A)", [], None),
]


@pytest.fixture
def store(tmp_path: Path, model: Path) -> Path:
    sha256 = str(fingerprint_files(model)["tokenizer_sha256"])
    told = makers.fingerprint(model=str(model), tokenizer_sha256=sha256)
    return makers.store(tmp_path / "store", QUIZ, model=told, closing=CLOSING)


def run(*argv: str | Path) -> int:
    with pytest.raises(SystemExit) as caught:
        cli.main([str(part) for part in argv])
    assert isinstance(caught.value.code, int)
    return caught.value.code


def refused(capsys: Capture, *argv: str | Path) -> str:
    capsys.readouterr()
    assert run("relabel", *argv) == 2
    shown = capsys.readouterr().err
    (line,) = [text for text in shown.splitlines() if text.startswith("stopper: error: ")]
    return line


def labels(folder: Path) -> Iterator[tuple[Any, ...]]:
    for found in TraceDataset(folder):
        cues = [(cue.forced_answer, cue.correct, cue.agrees) for cue in found.cues]
        yield found.answer, found.full_correct, cues


def test_multiple_choice_without_boxes_gets_its_labels(
    store: Path, tmp_path: Path, capsys: Capture
) -> None:
    """Under `auto`, which reads boxes only, three of these outputs have no answer at all."""
    out, report = tmp_path / "new" / "choice", tmp_path / "r.json"
    assert run("relabel", store, "--comparer", "choice", "--out", out, "--json", report) == 0
    assert list(labels(out)) == [
        ("B", True, [("A", False, False), ("B", True, True)]),
        ("C", True, [("C", True, True), ("A", False, False)]),
        (None, False, [("D", False, False)]),
        (None, None, [("D", None, False), ("D", None, False)]),
        ("A", None, []),
    ]
    assert json.loads(report.read_text()) == {
        "traces": 5, "cues": 7, "answered": 3, "answered_before": 1,
        "changed": {"agrees": 2, "correct": 2, "full_correct": 1},
    }  # fmt: skip
    assert "Outputs with an answer: 3 (before: 1)" in capsys.readouterr().out
    assert (count_answered(store), count_answered(out)) == ((1, 5), (3, 5))
    before, after = TraceDataset(store), TraceDataset(out)
    assert (before.meta.comparer, after.meta.comparer) == ("auto", "choice")
    assert after.meta == before.meta.model_copy(update={"comparer": "choice"})
    assert (out / "cues.safetensors").read_bytes() == (store / "cues.safetensors").read_bytes()
    for old, new in zip(before, after, strict=True):
        assert (old.output_ids, old.level, old.category) == (new.output_ids, 2, "geography")
        assert np.array_equal(old.hidden, new.hidden)
        assert [c.forced_ids for c in old.cues] == [c.forced_ids for c in new.cues]
        assert all(cue.forced_logprob == -0.25 for cue in new.cues)


def test_the_stores_comparer_tells_which_answers_repeat(store: Path, tmp_path: Path) -> None:
    relabel(store, "choice", tmp_path / "choice")
    repeats = [
        [[cue.repeats for cue in found.cues] for found in scored_traces(dataset, makers.probe())]
        for dataset in (TraceDataset(store), TraceDataset(tmp_path / "choice"))
    ]
    assert repeats[0][3] == [0, 0]  # no boxes, no answers
    assert repeats[1][3] == [0, 1]


def test_there_and_back_changes_nothing(store: Path, tmp_path: Path) -> None:
    same = relabel(store, "auto", tmp_path / "same")
    assert same.to_json()["changed"] == {"agrees": 0, "correct": 0, "full_correct": 0}
    relabel(store, "choice", tmp_path / "choice")
    relabel(tmp_path / "choice", "auto", tmp_path / "back")
    assert list(labels(tmp_path / "back")) == list(labels(store))


def test_the_tokenizer_may_lie_elsewhere(store: Path, tmp_path: Path, model: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (model / "tokenizer.json").rename(elsewhere / "tokenizer.json")
    try:
        found = relabel(store, "choice", tmp_path / "a", elsewhere)
    finally:
        (elsewhere / "tokenizer.json").rename(model / "tokenizer.json")
    assert found.answered == 3


def test_what_cannot_be_labelled_again_is_refused(
    store: Path, tmp_path: Path, model: Path, capsys: Capture
) -> None:
    to = ["--out", tmp_path / "a"]
    line = refused(capsys, store, "--comparer", "nice", *to)
    assert "'nice' is unknown; choose one of auto, math, choice" in line
    line = refused(capsys, store, "--comparer", "text", "--out", store)
    assert "holds files already. Name a new folder" in line
    other = tmp_path / "other"
    other.mkdir()
    (other / "tokenizer.json").write_text("{}")
    line = refused(capsys, store, "--comparer", "text", *to, "--tokenizer", other)
    assert "is not the tokenizer of these traces" in line
    sha256 = str(fingerprint_files(model)["tokenizer_sha256"])
    told = makers.fingerprint(model=str(model), tokenizer_sha256=sha256)
    for name, change, words in (
        ("lost", {"forced_ids": []}, "has an answer but no forced_ids"),
        ("lie", {"forced_answer": "A"}, "is 'A', but its token ids give 'C'"),
    ):
        cue = replace(trace("p", "x", ["\\boxed{C}"], None).cues[0], **change)
        bad = replace(trace("p", "x", ["\\boxed{C}"], None), cues=[cue])
        made = makers.store(tmp_path / name, [bad], model=told, closing=CLOSING)
        line = refused(capsys, made, "--comparer", "text", *to)
        assert "trace 'p': cues[0]" in line and words in line
    far = makers.fingerprint(model="/models/on/another/machine", tokenizer_sha256=sha256)
    made = makers.store(tmp_path / "far", QUIZ, model=far, closing=CLOSING)
    line = refused(capsys, made, "--comparer", "text", *to)
    assert "is not on this machine. Give the folder of its tokenizer.json by --tokenizer" in line
    assert not (tmp_path / "a").exists()
    assert [entry.name for entry in tmp_path.iterdir() if entry.name.startswith(".")] == []


def test_a_store_of_an_uninstalled_comparer_can_be_saved(store: Path, tmp_path: Path) -> None:
    meta = json.loads((store / "meta.json").read_text())
    (store / "meta.json").write_text(json.dumps(meta | {"comparer": "gone"}))
    found = relabel(store, "choice", tmp_path / "a")
    assert found.answered == 3
    (note,) = found.notes
    assert "could not be checked: comparer 'gone' is unknown" in note
