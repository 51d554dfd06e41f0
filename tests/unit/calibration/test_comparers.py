"""Named comparers: what they take out of real-looking outputs, what they call the same, customs."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration.answers import extract_answer, extract_forced, same_answer
from calibration.comparers import AUTO, COMPARERS, choices, get_comparer
from probes.errors import InputError

every = pytest.mark.parametrize("name", list(COMPARERS))

BOXED = r"""
Let me put it together.

**Final Answer**

The trains meet after $\boxed{\frac{3}{2}}$ hours. The answer is 90 minutes."""
CHOICE_PROSE = """

The boiling point falls with the pressure, so (A) and (D) cannot be right, and B would need a \
catalyst.

The correct answer is **C. It boils at a lower temperature** because of the altitude."""
CHOICE_LAST_LINE = """

Comparing the options:
(A) is an anion.
(B) is neutral.
(C) is a cation, as asked.

**(C)**
"""
CHOICE_HEADING = """

### Final Answer

B) Mitochondria
"""
TEXT_MARKED = """

The novel appeared in 1925 and is set on Long Island.

**Final Answer:** *The Great Gatsby*."""
TEXT_BARE = """

The capital moved there in 1960.

Brasília
"""
GSM8K = """

Natalia sold 48 clips in April and 48 / 2 = 24 in May, 48 + 24 = 72 altogether.
#### 72"""
SENTENCE = "\n\nShe pays 3 x $450 = $1,350, so the answer is $1,350 per month. That is all."


@pytest.mark.parametrize(
    ("name", "output", "answer"),
    [
        *((name, BOXED, r"\frac{3}{2}") for name in COMPARERS),
        ("auto", CHOICE_PROSE, None),
        ("auto", TEXT_MARKED, None),
        ("auto", GSM8K, None),
        ("choice", CHOICE_PROSE, "C"),
        ("choice", CHOICE_LAST_LINE, "C"),
        ("choice", CHOICE_HEADING, "B"),
        ("choice", "I go with option d.", "D"),
        ("choice", "The answer is not (A). Hence **D**.", "D"),
        ("choice", "The right choice is B, since A repeats.", "B"),
        ("choice", "The answer is A because (B) repeats.", "A"),
        ("choice", "The answer is A cat.", "A cat"),
        ("choice", "The answer is Paris, not (B).", "Paris, not (B)"),
        ("choice", "A cat is an animal, I think.", None),
        ("text", TEXT_MARKED, "The Great Gatsby"),
        ("text", TEXT_BARE, "Brasília"),
        ("text", "The answer is Dr. Who.", "Dr. Who"),
        ("text", "", None),
        ("text", "It is old.\n\n**Final Answer:**", None),
        ("number", GSM8K, "72"),
        ("number", SENTENCE, "1,350"),
        ("number", "At 9 he had 5, later 12 apples.", "12"),
        ("number", "The answer is 3.5 m.", "3.5"),
        ("number", "The answer is unknown.", None),
        ("math", GSM8K, "72"),
        ("math", SENTENCE, "$1,350 per month"),
        ("math", "The answer is $x = 5$. It follows from line 2.", "$x = 5$"),
        ("math", "Two is company.", None),
        ("exact", "The code is\n\nabc-DEF", "abc-DEF"),
    ],
)
def test_what_is_taken_out_of_an_output(name: str, output: str, answer: str | None) -> None:
    assert get_comparer(name).extract(output) == answer


SAME = {
    "auto": [("0.5", r"\frac{1}{2}"), ("(B) seven", "B"), ("Monday", "monday"), ("0.3333", "1/3")],
    "math": [(r"\frac{1}{2}", "0.5"), ("x+1", "1+x"), (r"2\sqrt{2}", r"\sqrt{8}"),
             ("1,000", "1000"), ("yes", "yes"), ("9^{9^{9^9}}", "9^{9^{9^9}}")],
    "choice": [("(B)", "B. Paris"), ("b", "option B"), (r"\text{(B)}", "**B**"),
               ("A, C", "C and A"), ("The answer is (D).", "d) 12"), ("B. Paris", "B. Rome"),
               ("Paris", "the Paris!")],
    "text": [("The Great Gatsby", "great gatsby."), ("U.S.", "us"), ("Straße", "STRASSE"),
             ("\uff11\uff19", "19"), ("1,000 men", "1000 men"), ("don't", "dont"),
             ("\xe9", "e\u0301"), ("?", "?"), ("the", "The")],
    "number": [("$1,250.50", "1250.5"), ("3/4 cup", "0.75"), (r"\frac{3}{4}", ".75"), ("50%", "50"),
               ("100000", "100001"), ("-2 degrees", "-2.0"), ("3 to 5", "3 to 5"), ("1e3", "1000")],
    "exact": [("ab", " ab\n"), ("x", "x")],
}  # fmt: skip
OTHER = {
    "auto": [("A", "B"), ("100000", "100001"), ("no", "on")],
    "math": [("yes", "Yes"), ("(B) seven", "B"), ("0.3333", "1/3"), ("no", "on"), ("", "")],
    "choice": [("A", "B"), ("A, C", "A"), ("A cat", "A"), ("Paris", "A"), ("", "")],
    "text": [("-5", "5"), ("3.5", "35"), ("x < y", "x > y"), ("vitamin A", "vitamin"), ("the", "a"),
             ("?", "!"), ("", ""), ("the", ""), ("5%", "5")],
    "number": [("1.0", "1.001"), ("3 to 5", "3"), ("one", "1"), ("-2", "2"), ("1/0", "1"),
               ("", "")],
    "exact": [("ab", "AB"), ("1", "1.0"), ("", ""), (" ", " ")],
}  # fmt: skip


@pytest.mark.parametrize(("name", "pair"), [(name, pair) for name in SAME for pair in SAME[name]])
def test_the_same_answers(name: str, pair: tuple[str, str]) -> None:
    assert get_comparer(name).same(*pair)
    assert get_comparer(name).same(*reversed(pair))


@pytest.mark.parametrize(("name", "pair"), [(name, pair) for name in OTHER for pair in OTHER[name]])
def test_different_answers(name: str, pair: tuple[str, str]) -> None:
    assert not get_comparer(name).same(*pair)
    assert not get_comparer(name).same(*reversed(pair))


@every
def test_an_absent_answer_equals_nothing(name: str) -> None:
    same = get_comparer(name).same
    assert not same(None, None) and not same(None, "1") and not same("1", None)


def test_auto_takes_and_compares_as_it_always_did() -> None:
    assert (AUTO.equal, AUTO.extract) == (same_answer, extract_answer)
    for prompt in (r"\boxed{", "", "Final answer:", r"Not \boxed{0} but"):
        for text in ("7}", r"so \boxed{8}", "The answer is 9.", ""):
            assert AUTO.extract_forced(text, prompt) == extract_forced(text, prompt)


@pytest.mark.parametrize(
    ("name", "text", "prompt", "answer"),
    [
        ("choice", "B}$ as shown", "Final Answer: \\boxed{", "B"),
        ("choice", " B. Paris\nbecause", "\n\nFinal answer:", "B"),
        ("choice", "The best answer is (B).", "", "B"),
        ("text", " Paris.", "\n\nFinal answer:", "Paris"),
        ("text", r"so \boxed{Rome}", "Final answer:", "Rome"),
        ("number", " 72 clips", "The answer is", "72"),
        ("text", "", r"Not \boxed{0} but", None),
        ("text", "", "Final answer:", None),
        ("text", "\n\n", "Final answer:", None),
        ("number", "unknown", "Answer in 2 lines:", None),
        ("choice", "\n\n**C**", "\n\n**Final Answer**\n", "C"),
        ("number", "8 apples", r"Not \boxed{0} but", "8"),
    ],
)
def test_what_follows_a_forced_end(name: str, text: str, prompt: str, answer: str | None) -> None:
    assert get_comparer(name).extract_forced(text, prompt) == answer


PIECES = st.lists(
    st.sampled_from(
        ["\\boxed{", "}", "{", "The answer is ", "Final answer:", "####", "(B)", "B.", "**", "\n",
         " ", "72", "-", "/", "1,000", ".", "a", "the", "\uff21", "\u0301", "'", "^",
         "\\frac", "option ", "%", "٣", "²", "x+1", "e9", "\x00"]
    ),
    max_size=14,
).map("".join)  # fmt: skip


@every
@given(first=PIECES, second=PIECES)
@settings(deadline=None, max_examples=80)
def test_any_text_can_be_read_and_compared(name: str, first: str, second: str) -> None:
    comparer = COMPARERS[name]
    assert comparer.same(first, second) is comparer.same(second, first)
    assert comparer.same(first, first) or not first.strip()
    for text in (first, second):
        answer = comparer.extract(text)
        assert answer is None or answer.strip() == answer != ""
        assert comparer.extract(text) == answer


@every
@given(text=st.text(max_size=40), other=st.text(max_size=40))
@settings(deadline=None, max_examples=40)
def test_any_unicode_can_be_read_and_compared(name: str, text: str, other: str) -> None:
    comparer = COMPARERS[name]
    assert comparer.same(text, other) is comparer.same(other, text)
    comparer.extract(text)


def test_an_unknown_name_lists_the_choices() -> None:
    with pytest.raises(InputError, match="'nice' is unknown; choose one of auto, math, choice, te"):
        get_comparer("nice")


CUSTOM = """
from calibration.comparers import Comparer

calls = []

def initials(first: str | None, second: str | None) -> bool:
    '''Compare first letters.'''
    assert first is not None and second is not None
    return first[:1] == second[:1]

def shout(text: str) -> str | None:
    return text.upper() or None

SHOUTED = Comparer("any", "shouted", lambda a, b: a == b, shout)
FORTY_TWO = 42

def lopsided(first, second):
    return len(first) < len(second)

def later_lopsided(first, second):
    return first == second or first == "late"

def moody(first, second):
    calls.append(first)
    return len(calls) % 3 == 0

def raising(first, second):
    raise ZeroDivisionError("two\\nlines")

def picky(first, second):
    return float(first) == float(second)

def half(first, second):
    return 0.5
"""
ENTRIES = {
    "initials": "initials", "shouted": "SHOUTED", "none": "FORTY_TWO", "lopsided": "lopsided",
    "late": "later_lopsided", "moody": "moody", "raising": "raising", "picky": "picky",
    "half": "half", "gone": "no_such_name", "auto": "initials",
}  # fmt: skip


def install(folder: Path, name: str, entries: dict[str, str]) -> None:
    """Lay a distribution out as an installer does."""
    info = folder / f"{name}-1.5.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.5\n")
    lines = [f"{entry} = house_rules:{target}" for entry, target in entries.items()]
    (info / "entry_points.txt").write_text("[stopper.comparers]\n" + "\n".join(lines) + "\n")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "house_rules.py").write_text(CUSTOM)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "house_rules", raising=False)
    importlib.invalidate_caches()
    return tmp_path


def test_a_distribution_adds_a_function(site: Path) -> None:
    install(site, "house-rules", {"initials": "initials"})
    assert choices() == [*COMPARERS, "initials"]
    found = get_comparer("initials")
    assert (found.name, found.meaning) == ("initials", "Compare first letters.")
    assert found.same("Paris", "Pisa") and not found.same("Paris", "Rome")
    assert not found.same(None, None)  # it would have failed its assertion
    assert found.extract("\n\nFinal answer: Paris.") == "Paris"


def test_a_distribution_adds_a_comparer_with_its_own_extraction(site: Path) -> None:
    install(site, "house-rules", {"shouted": "SHOUTED"})
    found = get_comparer("shouted")
    assert (found.name, found.extract("so"), found.same("SO", "SO")) == ("shouted", "SO", True)
    assert found.extract_forced("so", "") == "SO"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("none", "is a int, no function"),
        ("lopsided", "is not symmetric: '' and "),
        ("moody", "is not deterministic|is not symmetric"),
        ("raising", "failed on '' and '': ZeroDivisionError: two$"),
        ("picky", "failed on '' and '': ValueError"),
        ("half", "gave float, not bool, for"),
        ("gone", "cannot be loaded: AttributeError"),
    ],
)
def test_a_broken_one_is_refused_by_name(site: Path, name: str, words: str) -> None:
    install(site, "house-rules", ENTRIES)
    with pytest.raises(InputError, match=words) as caught:
        get_comparer(name)
    assert str(caught.value).startswith(f"comparer '{name}' (house-rules 1.5)")


def test_one_that_breaks_later_is_reported_then(site: Path) -> None:
    install(site, "house-rules", {"late": "later_lopsided"})
    found = get_comparer("late")
    assert found.same("x", "x")
    with pytest.raises(InputError, match=r"'late' \(house-rules 1.5\) is not symmetric: 'late' an"):
        found.same("never", "late")


def test_a_built_in_name_is_not_taken_over(site: Path) -> None:
    install(site, "house-rules", {"auto": "initials"})
    with pytest.raises(InputError, match=r"'auto' is built in, but house-rules 1\.5 has one"):
        get_comparer("auto")
    assert choices() == list(COMPARERS)


def test_two_distributions_do_not_share_a_name(site: Path) -> None:
    install(site, "house-rules", {"initials": "initials"})
    install(site, "other-rules", {"initials": "initials"})
    with pytest.raises(InputError, match=r"several distributions: \w+-rules 1\.5, \w+-rules 1\.5"):
        get_comparer("initials")


ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "answers.md").read_text(encoding="utf-8")


def test_the_page_names_every_comparer_and_its_examples_are_true() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (`.*`) \| (`.*`) \|$", PAGE, re.MULTILINE)
    assert [name for name, *_ in rows] == list(COMPARERS)
    for name, *cells in rows:
        for cell, expected in zip(cells, (True, False), strict=True):
            pairs = re.findall(r"`([^`]+)` and `([^`]+)`", cell)
            assert len(pairs) >= 1
            assert [get_comparer(name).same(*pair) for pair in pairs] == [expected] * len(pairs)
    described = re.findall(r"^\| `(\w+)`(?: \(default\))? \| [^`]", PAGE, re.MULTILINE)
    assert described[: len(COMPARERS)] == list(COMPARERS)
