"""A comparer registered in this process is used by its name, and held to the same contract."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from calibration import comparers
from calibration.comparers import COMPARERS, Comparer, choices, get_comparer, register
from probes.errors import InputError


@pytest.fixture(autouse=True)
def nothing_stays(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(comparers, "_REGISTERED", {})
    yield


def same_length(first: str, second: str) -> bool:
    """Compare lengths."""
    return len(first) == len(second)


def test_a_function_is_found_by_its_name() -> None:
    made = register("length", same_length)
    assert get_comparer("length") is made
    assert choices() == [*COMPARERS, "length"]
    assert made.meaning == "Compare lengths."
    assert made.same("ab", "cd") and not made.same("ab", "c") and not made.same(None, None)


def test_a_comparer_keeps_its_own_extraction_under_the_new_name() -> None:
    made = register("upper", Comparer("other", "as shouted", same_length, str.upper))
    assert (made.name, made.meaning, made.extract("so")) == ("upper", "as shouted", "SO")


def test_registering_again_replaces() -> None:
    register("mine", same_length)
    register("mine", str.__eq__)
    assert not get_comparer("mine").same("ab", "cd")


@pytest.mark.parametrize(
    ("name", "comparer", "words"),
    [
        ("auto", same_length, "comparer 'auto' exists already. Choose another name"),
        ("odd", lambda a, b: a <= b, r"comparer 'odd' \(registered\) is not symmetric"),
        ("odd", lambda a, b: 1, r"\(registered\) gave int, not bool"),
        ("odd", 42, r"\(registered\) is a int, no function"),
    ],
    ids=["built in", "lopsided", "number", "no function"],
)
def test_what_breaks_the_contract_is_refused(name: str, comparer: object, words: str) -> None:
    with pytest.raises(InputError, match=words):
        register(name, comparer)
    assert choices() == list(COMPARERS)
