"""The cue automaton against a plain reference, on real vocabularies."""

from __future__ import annotations

import functools
from itertools import chain
from typing import Any

import numpy as np
import pytest
import torch
from cue_tokenizers import (
    THINK,
    THINK_END,
    metaspace_tokenizer,
    r1_tokenizer,
    reference_events,
    word_tokenizer,
    wordpiece_tokenizer,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from stopper.cue_pieces import token_pieces
from stopper.cues import CueAutomaton, CueSpec, ambiguous_continuations
from stopper.errors import InputError

R1 = {"think_start_ids": (THINK,), "think_end_ids": (THINK_END,)}
META = {"think_start_ids": (3,), "think_end_ids": (4,)}
WORDS = ("hmm", "wait", "alternatively", "let me double check", "wait a", "等等", "é t")


@functools.cache
def build(kind: str, **options: Any) -> CueAutomaton:
    tokenizer, ids = {
        "r1": (r1_tokenizer, R1),
        "metaspace": (metaspace_tokenizer, META),
        "words": (word_tokenizer, {"think_start_ids": (0,), "think_end_ids": (1,)}),
        "wordpiece": (wordpiece_tokenizer, {"think_start_ids": (0,), "think_end_ids": (1,)}),
    }[kind]
    return CueAutomaton.build(tokenizer(), CueSpec(**{**ids, **options}))


def ids_of(*pieces: str) -> list[int]:
    """Ids of tokens that the R1 vocabulary has as they stand."""
    by_text = {piece: index for index, piece in enumerate(token_pieces(r1_tokenizer()))}
    return [by_text[piece.encode()] for piece in pieces]


def labels(automaton: CueAutomaton, *pieces: str) -> list[str]:
    """Tell what each token fires inside the thinking; "" for nothing."""
    found = dict(automaton.events([THINK], ids_of(*pieces)))
    return [found.get(index, "") for index in range(len(pieces))]


@pytest.mark.parametrize(
    ("token", "label"),
    [
        (14190, "wait"),  # "Wait"
        (13824, "wait"),  # " Wait"
        (11489, "wait"),  # "wait"
        (3783, "wait"),  # " wait"
        (80022, "hmm"),  # "Hmm"
        (88190, "hmm"),  # " Hmm"
        (92014, "alternatively"),  # "Alternatively"
        (38478, "alternatively"),  # " Alternatively"
        (271, "paragraph"),  # "\n\n"
    ],
)
def test_the_cue_tokens_of_deepseek_r1_fire(token: int, label: str) -> None:
    so = 4416  # " So"
    assert build("r1", paragraph=True).events([THINK, 198], [so, token, THINK_END]) == [(1, label)]


@pytest.mark.parametrize(
    ("pieces", "fired"),
    [
        (("H", "mm"), ("", "hmm")),
        (("H", "mmm", ","), ("", "hmm", "")),
        (("H", "m", "m", "m"), ("", "", "hmm", "")),  # told once, however long it is drawn out
        (("H", "ms"), ("", "")),
        (("W", "ait"), ("", "wait")),
        ((" w", "a", "it", "ing"), ("", "", "wait", "")),  # the next token is not known yet
        ((" Waiting", " wait"), ("", "wait")),
        (("a", "wait"), ("", "")),
        ((" a", "wait"), ("", "")),
        (("X", "wait"), ("", "")),
        (("_", "wait"), ("", "")),
        (("3", "wait"), ("", "")),
        (("é", "wait"), ("", "")),
        (("\u2014", "wait"), ("", "wait")),
        (("(", "wait", ","), ("", "wait", "")),
        ((" await",), ("",)),
        (("AL", "TERN", "AT", "IV", "ELY"), ("", "", "", "", "alternatively")),
        (("wait", "wait"), ("wait", "")),
        (("wait", " wait"), ("wait", "wait")),
    ],
)
def test_word_boundaries(pieces: tuple[str, ...], fired: tuple[str, ...]) -> None:
    assert labels(build("r1"), *pieces) == list(fired)


def test_a_phrase_spans_tokens_and_runs_of_white_space() -> None:
    automaton = build("r1", words=("Let me  double check",))
    assert automaton.labels == ("let me double check",)
    for blank in (" ", "  ", "\n", " \n\n"):
        ids = r1_tokenizer().encode(f"So let me{blank}double check, ok").ids
        ends = [index for index, _ in automaton.events([THINK], ids)]
        assert len(ends) == 1, blank
        assert r1_tokenizer().decode(ids[: ends[0] + 1]).endswith("double check")
    assert not automaton.events([THINK], r1_tokenizer().encode("outlet me double check").ids)
    assert not automaton.events([THINK], r1_tokenizer().encode("let me doublecheck").ids)


def test_a_paragraph_ends_once_per_run_of_blank_lines() -> None:
    automaton = build("r1", words=(), paragraph=True)
    assert labels(automaton, "a", "\n", "\n", "\n", "b", ".\n\n", "\n") == [
        *("", "", "paragraph", "", "", "paragraph", "")
    ]
    assert labels(automaton, "a", "\n", " ", "\t", "\n", "b") == ["", "", "", "", "paragraph", ""]
    assert labels(automaton, "a", "\n", "b", "\n") == ["", "", "", ""]
    # Nothing has been thought yet: there is no paragraph to end.
    assert labels(automaton, "\n\n", "a", "\n\n") == ["", "", "paragraph"]


def test_events_lie_inside_the_thinking_only() -> None:
    automaton = build("r1")
    wait = 13824
    assert automaton.events([wait], [wait, wait]) == []
    assert automaton.events([wait], [wait, THINK, wait, THINK_END, wait]) == [(2, "wait")]
    assert automaton.events([THINK, wait, THINK_END], [wait]) == []
    assert automaton.events([THINK, wait, THINK_END, wait, THINK], [wait]) == [(0, "wait")]
    inside = [
        bool(automaton.inside[automaton.state_after(ids)])
        for ids in ([], [THINK], [THINK, wait], [THINK, THINK_END], [THINK_END, THINK])
    ]
    assert inside == [False, True, True, False, True]


def test_the_prompt_counts_for_the_left_boundary() -> None:
    automaton = build("r1")
    assert automaton.events([THINK, *ids_of("a")], ids_of("wait")) == []
    assert automaton.events([THINK, *ids_of("W")], ids_of("ait")) == [(0, "wait")]


def test_starts_inside_holds_unless_the_prompt_says_otherwise() -> None:
    automaton = build("r1", starts_inside=True)
    wait = 13824
    assert automaton.events([], [wait]) == automaton.events([5, 6], [wait]) == [(0, "wait")]
    assert automaton.events([THINK, THINK_END], [wait]) == []
    assert automaton.inside[automaton.start]


def test_markers_of_several_tokens() -> None:
    start, end = (27, 26865, 29), (522, 26865, 29)  # "<", "think", ">" and "</", "think", ">"
    automaton = build("r1", think_start_ids=start, think_end_ids=end)
    wait = 13824
    assert automaton.events([], [*start[:2], wait, *start, wait, *end, wait]) == [(6, "wait")]
    assert automaton.events(start[:1], [*start[1:], wait]) == [(2, "wait")]
    assert automaton.events(start, [*end[:2], wait, *end, wait]) == [(2, "wait")]
    # A marker that begins again within itself is still seen.
    automaton = build("r1", think_start_ids=(27, 27, 29), think_end_ids=(29, 29, 27))
    assert automaton.events([], [27, 27, 27, 29, wait]) == [(4, "wait")]
    assert automaton.events([27, 27, 29], [29, 29, 29, 27, wait]) == []


def test_interval_counts_output_tokens_inside_the_thinking() -> None:
    automaton = build("r1", interval=3)
    so, wait = 4416, 13824
    assert automaton.labels[-1] == "every 3"
    output = [so, so, so, so, so, wait, so, so, so, THINK_END, so, so]
    assert automaton.events([THINK, so], output) == [(2, "every 3"), (5, "wait"), (8, "every 3")]
    assert automaton.events([so], output) == []
    assert build("r1", interval=1).events([THINK], [so, THINK_END, so]) == [(0, "every 1")]


def test_foreign_ids_are_neutral() -> None:
    automaton = build("r1")
    beyond = len(automaton.token_class) + 7
    assert automaton.events([THINK], [*ids_of("w"), beyond, *ids_of("ait")]) == []
    assert automaton.events([THINK], [*ids_of("a"), beyond, *ids_of("wait")]) == [(2, "wait")]
    assert automaton.step(automaton.start, -1) == automaton.step(automaton.start, beyond)
    assert automaton.token_class[151643] == 0  # a control token


def test_characters_split_over_tokens() -> None:
    automaton = build("r1", words=("wait", "等等", "été"))
    ids = {piece: index for index, piece in enumerate(token_pieces(r1_tokenizer())) if piece}

    def fired(*pieces: bytes) -> list[str]:
        found = dict(automaton.events([THINK], [ids[piece] for piece in pieces]))
        return [found.get(index, "") for index in range(len(pieces))]

    def split(text: str) -> list[bytes]:
        return [bytes([byte]) for byte in text.encode()]

    assert fired(*split("等等"))[-1] == "等等"
    assert fired(*split("好等等好"))[-4] == "等等"  # a script without spaces needs no boundary
    assert fired("等".encode(), *split("等"))[-1] == "等等"
    assert fired(*split("un été"))[-1] == "été"
    assert fired(*split("ÉTÉ"))[-1] == "été"
    assert not any(fired(*split("réété")))
    assert not any(fired(*split("étè")))
    assert fired(*split("\u2014"), b"wait")[-1] == "wait"  # a dash
    assert fired(*split("\U0001f914"), b"wait")[-1] == "wait"  # an emoji
    assert fired(*split("好"), b"wait")[-1] == "wait"
    assert fired(*split("ж"), b"wait")[-1] == ""
    assert fired(b"w", b"\xa9", b"ait")[-1] == ""


@pytest.mark.parametrize("kind", ["words", "wordpiece"])
def test_vocabularies_whose_tokens_are_words(kind: str) -> None:
    automaton = build(kind)
    tokenizer = word_tokenizer() if kind == "words" else wordpiece_tokenizer()
    names = ["<think>", "so", "wait", "waiting", "hmm"]
    if kind == "wordpiece":
        names = ["<think>", "so", "wait", "a", "##wait", "wait", "##ing", "hm", "##mm"]
    ids = [tokenizer.token_to_id(name) for name in names]
    fired = [names[index] for index, _ in automaton.events([], ids)]
    assert fired == (["wait", "hmm"] if kind == "words" else ["wait", "wait", "##mm"])


def tokens_of(kind: str) -> st.SearchStrategy[list[int]]:
    """Random token ids, mostly around the cues; whole characters only."""
    tokenizer = r1_tokenizer() if kind == "r1" else metaspace_tokenizer()
    pieces = token_pieces(tokenizer)
    readable, near = [], []
    for index, piece in enumerate(pieces):
        if piece is None or b"\xef\xbf\xbd" in piece:
            continue
        try:
            text = piece.decode().lower()
        except UnicodeDecodeError:
            continue
        readable.append(index)
        core = text.strip()
        if not core or core in "hmmm wait alternatively let me double check wait a 等等 é t awaits":
            near.append(index)
    markers = [THINK, THINK_END] if kind == "r1" else [3, 4]
    one = st.one_of(
        *[st.sampled_from(near)] * 6, st.sampled_from(readable), st.sampled_from(markers)
    )
    texts = [
        "wait",
        " Hmm",
        "let me double  check",
        "\n",
        " \n",
        "等等",
        "a",
        ", ",
        "Alternatively",
    ]
    encoded = [tokenizer.encode(text, add_special_tokens=False).ids for text in texts]
    encoded = [ids for ids in encoded if set(ids) <= set(readable)]
    chunk = st.one_of(one.map(lambda token: [token]), st.sampled_from(encoded))
    return st.lists(chunk, max_size=40).map(lambda chunks: list(chain(*chunks)))


@pytest.mark.parametrize("kind", ["r1", "metaspace"])
@pytest.mark.parametrize("paragraph", [False, True])
def test_events_equal_the_reference(kind: str, paragraph: bool) -> None:
    automaton = build(kind, words=WORDS, paragraph=paragraph)
    pieces = token_pieces(r1_tokenizer() if kind == "r1" else metaspace_tokenizer())
    (start,), (end,) = automaton.spec.think_start_ids, automaton.spec.think_end_ids

    @settings(max_examples=300, deadline=None)
    @given(tokens_of(kind))
    def check(tokens: list[int]) -> None:
        thinking, inside = True, []
        for token in tokens:
            thinking = thinking and token not in (start, end)
            inside.append(thinking)
            thinking = token == start or thinking
        texts = [(pieces[token] or b".").decode() for token in tokens]
        expected = reference_events(automaton.spec, texts, inside)
        assert automaton.events([start], tokens) == expected

    check()


@settings(max_examples=100, deadline=None)
@given(tokens_of("r1"), st.data())
def test_incremental_equals_batch(tokens: list[int], data: st.DataObject) -> None:
    automaton = build("r1", words=WORDS, paragraph=True, interval=4)
    cut = data.draw(st.integers(0, len(tokens)))
    prompt, output = [THINK, *tokens[:cut]], tokens[cut:]
    state, found = automaton.prompt_state(prompt), []
    for index, token in enumerate(output):
        state, label = automaton.step(state, token)
        if label:
            found.append((index, automaton.labels[label - 1]))
    textual = [event for event in automaton.events(prompt, output) if event[1] != "every 4"]
    assert found == textual
    assert state == automaton.state_after(output, automaton.prompt_state(prompt))
    middle = automaton.state_after(tokens[:cut])
    assert automaton.state_after(tokens[cut:], middle) == automaton.state_after(tokens)
    # Only the prompt's last marker and what follows it is read.
    assert automaton.prompt_state(prompt) == automaton.state_after(prompt)


@settings(max_examples=50, deadline=None)
@given(st.lists(tokens_of("r1"), min_size=1, max_size=4))
def test_arrays_index_as_python_does(rows: list[list[int]]) -> None:
    automaton = build("r1", words=WORDS, paragraph=True)
    length = max(map(len, rows))
    padded = np.array([row + [151643] * (length - len(row)) for row in rows], np.int64)
    tables = {name: torch.from_numpy(table) for name, table in automaton.to_tensors().items()}
    at = np.full(len(rows), automaton.start)
    at_torch = torch.from_numpy(at.copy())
    for tokens in padded.reshape(len(rows), length).T:
        column = automaton.token_class[tokens]
        label, at = automaton.fires[at, column], automaton.transitions[at, column]
        column = tables["token_class"][torch.from_numpy(tokens.copy())]
        label_torch = tables["fires"][at_torch, column]
        at_torch = tables["transitions"][at_torch, column]
        assert at_torch.tolist() == at.tolist()
        assert label_torch.tolist() == label.tolist()
    assert at.tolist() == [automaton.state_after(row) for row in padded.tolist()]


def test_ambiguous_continuations_are_those_that_the_tokenizer_splits() -> None:
    tokenizer, automaton = r1_tokenizer(), build("r1")
    found = ambiguous_continuations(tokenizer, automaton.labels)
    assert {"waited", " waiters", "Waitress"} <= set(found)
    assert not {"waiting", " waiting", " waited", " waits"} & set(found)  # one token each
    for text, fired in ((" waiters", [(0, "wait")]), (" waited", []), ("waiting", [])):
        assert automaton.events([THINK], tokenizer.encode(text).ids) == fired
    assert ambiguous_continuations(metaspace_tokenizer(), ["wait"])


def test_thinking_ids_must_be_in_the_vocabulary() -> None:
    with pytest.raises(InputError, match="think_end_ids: id 400000 is not in"):
        build("r1", think_end_ids=(400_000,))


def test_a_tokenizer_without_pieces_is_refused() -> None:
    with pytest.raises(InputError, match="pieces of a str"):
        CueAutomaton.build("gpt2", CueSpec(**R1))
