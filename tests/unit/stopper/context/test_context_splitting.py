"""Sentences of documents: what is not cut, and that nothing is lost."""

# ruff: noqa: RUF001
from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stopper.context import Deadline, split
from stopper.context.limits import ContextTimeoutError
from stopper.errors import InputError

both = pytest.mark.parametrize("splitter", ["spacy", "pysbd"])


def sentences(text: str, splitter: str = "spacy") -> list[str]:
    return [text[start:end] for start, end in split(text, splitter)]


@both
@pytest.mark.parametrize(
    "wanted",
    [
        ["Dr. Smith met Mr. Jones.", "They talked."],
        ["Use a shell, e.g. bash.", "Then go on."],
        ["The U.S. economy grew.", "So did others."],
        ["Pi is 3.14159 or so.", "It costs $1,299.50 today.", "Version 2.0.1 is out."],
        ["See Fig. 3 for it.", "Smith et al. (2020) agree."],
        ["J. R. R. Tolkien wrote it.", "He was born in 1892."],
        ["Is it so?", "Yes!", "It is."],
        ["He left.", '"Then she came."'],
        ["It opened on Jan. 5 at St. Mary's.", "Nobody came."],
    ],
    ids=lambda wanted: wanted[0][:12],
)
def test_abbreviations_and_numbers_end_no_sentence(splitter: str, wanted: list[str]) -> None:
    assert sentences(" ".join(wanted), splitter) == wanted


def test_what_goes_on_in_lower_case_is_one_sentence() -> None:
    assert sentences('"What?" he asked. Nobody knew.') == ['"What?" he asked.', "Nobody knew."]
    assert sentences("See item no. 5. There is no. Nothing.") == [
        "See item no. 5.", "There is no.", "Nothing.",
    ]  # fmt: skip


@both
@pytest.mark.parametrize(
    "wanted",
    [
        ["今天天气很好。", "我们去公园。", "好吗？", "好！"],
        ["今日は雨です。", "傘はありますか？", "はい。"],
        ["Mixed text。", "混合的。", "Yes, it is."],
        ["他说：“走吧！”", "我们走了。"],
    ],
    ids=lambda wanted: wanted[0][:5],
)
def test_chinese_and_japanese_full_stops_end_sentences(splitter: str, wanted: list[str]) -> None:
    assert sentences("".join(wanted), splitter) == wanted


def test_a_closing_bracket_belongs_to_its_sentence() -> None:
    wanted = ["「傘はありますか？」", "はい。"]
    assert sentences("".join(wanted)) == wanted


@both
def test_lists_keep_their_markers_with_their_words(splitter: str) -> None:
    text = "Steps:\n\n1. Stop it. Wait.\n2. Start it.\n- A dash.\n  * Nested.\n(a) Letters.\n3."
    assert sentences(text, splitter) == [
        "Steps:", "1. Stop it.", "Wait.", "2. Start it.", "- A dash.", "* Nested.", "(a) Letters.",
        "3.",
    ]  # fmt: skip


@both
def test_code_tables_and_headings_are_not_cut(splitter: str) -> None:
    code = "```python\na = 1. \nb. C = d\n\n# no. Heading\n```"
    tildes = "~~~~\n```\nx. Y.\n~~~\nz\n~~~~"
    text = (
        f"# One. Two\nProse here. More.\n{code}\n\n{tildes}\n| a | b. C |\n|---|:-:|\n"
        "| 1. X | Y. Z |\nw | v. U\n\nTitle. Set\n====\nEnd. It: ```not a fence```"
    )
    assert sentences(text, splitter) == [
        "# One. Two", "Prose here.", "More.", code, tildes, "| a | b. C |\n|---|:-:|",
        "| 1. X | Y. Z |", "w | v. U", "Title. Set\n====", "End.", "It: ```not a fence```",
    ]  # fmt: skip


def test_a_fence_that_is_never_closed_is_code_to_the_end() -> None:
    text = "Look. Here:\n```\na. B.\n\nC. D."
    assert sentences(text) == ["Look.", "Here:", "```\na. B.\n\nC. D."]


def test_the_ends_of_html_blocks_end_sentences() -> None:
    text = "<div><p>One <b>thing</b>.</p><p>Two</p><ul><li>Three</li></ul></div>Four<br/>Five"
    assert sentences(text) == [
        "<div><p>One <b>thing</b>.</p>", "<p>Two</p>", "<ul><li>Three</li></ul></div>",
        "Four<br/>", "Five",
    ]  # fmt: skip


@both
@pytest.mark.parametrize("text", ["", " \n\t \r\n", "\u2028 \u00a0", "\x1c\x1d"])
def test_white_space_has_no_sentences(splitter: str, text: str) -> None:
    assert split(text, splitter) == []


PIECES = st.sampled_from(
    ["Dr. ", "Fig. 2", ". ", "? ", "!\n", "\n\n", "```\n", "~~~\n", "| a | b |\n", "|---|---|\n",
     "- ", "12. ", "# ", "===\n", "。", "「", "」", "\"", " (", "word", "\ud83d", "\u0000",
     "\x1b[0m", "<p>", "</p>", "<br>", "😀", "\r\n", "é", "\u200b", "\t", "x" * 120]
)  # fmt: skip
TEXTS = st.one_of(
    st.lists(PIECES, max_size=30).map("".join),
    st.text(st.characters(exclude_categories=()), max_size=80),
)


@both
@given(text=TEXTS)
@settings(max_examples=60, deadline=None)
def test_sentences_are_disjoint_in_order_and_cover_all_but_space(splitter: str, text: str) -> None:
    last = 0
    covered = ""
    for start, end in split(text, splitter):
        assert last <= start < end <= len(text)
        assert not text[last:start].strip()
        assert text[start:end] == text[start:end].strip()
        covered += text[last:end]
        last = end
    assert not text[last:].strip()
    assert covered + text[last:] == text


def test_one_sentence_of_a_megabyte_is_cut_at_spaces() -> None:
    text = "word " * 200_000
    found = split(text)
    assert 50 <= len(found) <= 60
    assert all(text[start:end].startswith("word") for start, end in found)
    assert max(end - start for start, end in found) <= 20_000
    unbroken = split("x" * 1_000_000)
    assert [end - start for start, end in unbroken] == [20_000] * 50
    # Quotes, which spaCy would take one by one from each end.
    assert len(split('"' * 50_000)) == 3


def test_a_long_text_is_split_as_its_parts_are() -> None:
    text = "The quick brown fox jumps. Dr. No does not. " * 1_500
    assert sentences(text) == ["The quick brown fox jumps.", "Dr. No does not."] * 1_500


def test_a_function_may_split() -> None:
    def halves(text: str) -> list[tuple[int, int]]:
        return [(0, len(text) // 2), (len(text) // 2, len(text))]

    assert split("ab cd", halves) == [(0, 2), (3, 5)]
    assert split("abc", lambda text: []) == [(0, 3)]  # nothing is lost
    assert split("a b c", lambda text: [(2, 3)]) == [(0, 1), (2, 5)]
    for wrong in ([(2, 1)], [(0, 9)], [(1, 2), (0, 1)]):
        with pytest.raises(InputError, match="one after the other"):
            split("abc", lambda text, found=wrong: found)


def test_another_splitter_is_refused_by_name() -> None:
    with pytest.raises(InputError, match="'nltk'; there are spacy, pysbd"):
        split("a", "nltk")


def test_splitting_ends_at_its_deadline() -> None:
    with pytest.raises(ContextTimeoutError, match="longer than 0 s"):
        split("A. B.", "spacy", Deadline.after(0.0))
