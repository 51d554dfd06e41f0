"""Questions with answers, read from both formats and from several files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from relevance_makers import hotpot_file, squad_file

from calibration.questions import Paragraph, Question, QuestionSet, components, read_questions
from probes.errors import InputError


def squad(path: Path, *paragraphs: dict[str, Any], title: str = "T") -> Path:
    path.write_text(json.dumps({"data": [{"title": title, "paragraphs": list(paragraphs)}]}))
    return path


def paragraph(context: str, *qas: tuple[str, list[tuple[str, int]]]) -> dict[str, Any]:
    return {
        "context": context,
        "qas": [
            {"id": f"{at}", "question": question,
             "answers": [{"text": text, "answer_start": start} for text, start in answers]}
            for at, (question, answers) in enumerate(qas)
        ],
    }  # fmt: skip


def test_a_squad_question_needs_its_answers_spans(tmp_path: Path) -> None:
    file = squad(tmp_path / "a.json", paragraph("One is 1. Two is 2.", ("Two?", [("2", 17)])))
    found = read_questions([file], "squad")
    assert found.paragraphs == (Paragraph("T", "One is 1. Two is 2."),)
    assert found.questions == (Question("0", "Two?", ((0, ((17, 18),)),)),)
    assert found.titles(found.questions[0]) == ["T"]


def test_a_question_without_an_answer_is_left_out(tmp_path: Path) -> None:
    file = squad(tmp_path / "a.json", paragraph("A. B.", ("X?", []), ("A?", [("A", 0)])))
    found = read_questions([file], "squad")
    assert [question.text for question in found.questions] == ["A?"]
    assert found.left_out == 1


def test_the_same_question_in_two_files_is_there_once_with_all_its_answers(tmp_path: Path) -> None:
    one = squad(tmp_path / "a.json", paragraph("A. B. C.", ("X?", [("A", 0)])))
    two = squad(tmp_path / "b.json", paragraph("A. B. C.", ("X?", [("A", 0), ("C", 6)])))
    found = read_questions([one, two], "squad")
    assert len(found.paragraphs) == len(found.questions) == 1
    assert found.questions[0].needed == ((0, ((0, 1), (6, 7))),)


def test_hotpotqa_comes_with_its_sentences_and_its_paragraphs(tmp_path: Path) -> None:
    found = read_questions([hotpot_file(tmp_path / "h.json", 4)], "hotpotqa")
    assert len(found.questions) == 4
    for question in found.questions:
        assert question.given is not None
        assert len(question.given) == 3
        assert len(question.needed) == 2  # the third fact points behind its paragraph
        for index, spans in question.needed:
            own = found.paragraphs[index]
            assert own.sentences is not None
            assert spans == (own.sentences[0],)
            assert own.text[slice(*own.sentences[1])][0] != " "


def test_articles_that_a_question_joins_are_split_together() -> None:
    paragraphs = tuple(Paragraph(title, "x") for title in "abcde")
    needed = ((0, 1), (1, 2), (3,), (4,))
    questions = tuple(
        Question(str(at), "?", tuple((index, ((0, 1),)) for index in some))
        for at, some in enumerate(needed)
    )
    found = QuestionSet(paragraphs, questions, 0)
    assert components(found, questions) == ["a", "a", "d", "e"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not JSON"),
        ("[1]", "not squad format"),
        ('{"data": [{"title": "T"}]}', "data.0.paragraphs"),
        ('{"data": []}', "no question with an answer"),
    ],
)
def test_a_file_of_another_kind_is_refused_by_name(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "odd.json"
    file.write_text(text)
    with pytest.raises(InputError, match=says) as caught:
        read_questions([file], "squad")
    assert "odd.json" in str(caught.value)


@pytest.mark.parametrize("answer", [("B", 0), ("A", 900), ("", 0), ("A", -5)])
def test_an_answer_that_is_not_where_it_says_is_refused(
    tmp_path: Path, answer: tuple[str, int]
) -> None:
    file = squad(tmp_path / "a.json", paragraph("A. B.", ("A?", [answer])))
    with pytest.raises(InputError, match=r"question '0': its answer .* is not at character"):
        read_questions([file], "squad")


def test_a_missing_file_and_an_unknown_format_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        read_questions([tmp_path / "none.json"], "squad")
    with pytest.raises(InputError, match="choose one of squad, hotpotqa"):
        read_questions([squad_file(tmp_path / "a.json", 1)], "msmarco")
