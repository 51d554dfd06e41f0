"""Names without objects: columns of strings, their numbers and hashes, and the memory of them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration.splits import group_hash
from calibration.strings import Seen, Strings, digests, first_appearance

WORDS = st.lists(st.text(max_size=6) | st.sampled_from(["a", "b", "ü", ""]), max_size=40)


@given(WORDS, st.data())
@settings(deadline=None)
def test_a_column_behaves_as_the_list_it_was_made_of(words: list[str], data) -> None:
    column = Strings.of(words)
    assert list(column) == words
    assert [column[row] for row in range(len(words))] == words
    assert list(column[::-2]) == words[::-2]
    cut = data.draw(st.integers(0, len(words)))
    joined = Strings.concatenate([words[:cut], column[cut:], []])
    assert list(joined) == words
    rows = data.draw(st.lists(st.integers(0, len(words) - 1))) if words else []
    assert list(column.take(np.array(rows, dtype=np.int64))) == [words[row] for row in rows]


def test_a_column_counts_from_its_end_and_ends() -> None:
    column = Strings.of(["x", "yy"])
    assert column[-1] == "yy"
    with pytest.raises(IndexError):
        column[2]


@given(WORDS)
@settings(deadline=None)
def test_numbers_by_hash_are_the_numbers_by_name(words: list[str]) -> None:
    named = first_appearance(words)
    assert first_appearance(Strings.of(words)).tolist() == named.tolist()
    assert list(dict.fromkeys(named.tolist())) == list(range(len(set(words))))


def test_a_digest_begins_with_the_hash_of_a_group() -> None:
    assert digests(["p", "ü"])[:, 0].tolist() == [group_hash("p"), group_hash("ü")]


@given(WORDS)
@settings(deadline=None)
def test_a_name_is_remembered_where_it_was_first_seen(words: list[str]) -> None:
    seen, known = Seen(), {}
    for place, word in enumerate(words):
        assert seen.first(word, place) == known.setdefault(word, place)


def test_many_names_are_remembered_in_little_memory() -> None:
    seen, n = Seen(), 50_000
    assert all(seen.first(f"trace-{row}", row) == row for row in range(n))
    assert all(seen.first(f"trace-{row}", n) == row for row in range(0, n, 7))
    assert len(seen._keys) * 16 <= 64 * n
