import sys
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration import answers
from calibration.answers import extract_answer, extract_forced, normalise, same_answer
from probes.errors import UnsupportedError

PIECES = st.lists(
    st.sampled_from(
        ["\\boxed{", "\\fbox{", "{", "}", "\\{", "\\}", "\\", "x", "1", "/", "\\frac", "^", " ",
         "$", ",", "(", ")", ".", "A", "=", "-", "\\sqrt", "!", "\n", "%", "é"]
    ),
    max_size=25,
).map("".join)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"so \boxed{42}.", "42"),
        (r"\boxed{1} no, \boxed{2}", "2"),
        (r"\boxed{\frac{1}{\sqrt{2}}} done", r"\frac{1}{\sqrt{2}}"),
        (r"\boxed {7}", "7"),
        (r"\fbox{7}", "7"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{ 5 }", "5"),
        (r"\boxed{3} and then \boxed{4", "3"),
        (r"\boxed{4", None),
        (r"\boxed{}", None),
        (r"\boxed{3} \boxed{}", None),
        ("no box", None),
        ("", None),
        (r"\boxed{a \boxed{b} c}", "b"),
    ],
)
def test_the_last_closed_box_is_the_answer(text: str, answer: str | None) -> None:
    assert extract_answer(text) == answer


@pytest.mark.parametrize(
    ("text", "prompt", "answer"),
    [
        ("42}", r"Final Answer: \boxed{", "42"),
        (r"\frac{1}{2}}$. So \boxed{9}", r"\boxed{", r"\frac{1}{2}"),
        ("42", r"\boxed{", None),
        ("} x", r"\boxed{", None),
        (r"\sqrt{2}", r"\boxed{", None),
        ("2}}", r"\boxed{\frac{1}{", r"\frac{1}{2}"),
        (r"I say \boxed{8}", "Final answer:", "8"),
        (r"I say \boxed{8}", "", "8"),
        (r"\boxed{8}", r"Not \boxed{0} but", "8"),
    ],
)
def test_a_forced_answer_begins_inside_the_box(text: str, prompt: str, answer: str | None) -> None:
    assert extract_forced(text, prompt) == answer


EQUAL = [
    ("42", "42"), ("42", " 42. "), ("1,000", "1000"), (r"1{,}000", "1000"), (r"$5$", "5"),
    (r"\(5\)", "5"), (r"\$5", "5"), ("0.5", r"\frac{1}{2}"), (r"\frac12", "1/2"),
    (r"\dfrac{1}{2}", r"\tfrac{1}{2}"), (r"-\frac{1}{2}", "-0.5"), ("\N{MINUS SIGN}3", "-3"),
    ("0.3333", "1/3"), ("1e-4", "0.0001"), (r"\text{Monday}", "monday"), (r"\text{(C)}", "C"),
    ("(B)", "B."), ("(B) seven", "B"), ("x+1", "1+x"), (r"\sqrt{8}", r"2\sqrt{2}"),
    (r"\left(3, 4\right)", "(3,4)"), (r"\{1,2\}", r"\{2,1\}"), ("x=5", "5"), (r"2^{10}", "1024"),
    (r"90^\circ", "90"), (r"12\text{ cm}", "12"), ("x^2-1", "(x-1)(x+1)"), (r"\pi", "pi"),
    ("3:4", "3/4"),
]  # fmt: skip
DIFFERENT = [
    ("42", "43"), ("100000", "100001"), ("A", "B"), ("no", "on"), ("Monday", "Tuesday"),
    ("1/3", "0.3"), ("(1,2)", "[1,2]"), ("", ""), (" ", " "), ("0.0001", "0.0002"), ("x", "y"),
    ("-1", "1"), ("(1,2)", "(2,1)"), ("1/0", "1"), (r"\frac{1}{0}", "2"), ("{", "}"),
    ("yes", "1"), ("", "0"),
]  # fmt: skip


@pytest.mark.parametrize(("first", "second"), EQUAL)
def test_equal_answers(first: str, second: str) -> None:
    assert same_answer(first, second)
    assert same_answer(second, first)


@pytest.mark.parametrize(("first", "second"), DIFFERENT)
def test_different_answers(first: str, second: str) -> None:
    assert not same_answer(first, second)
    assert not same_answer(second, first)


def test_an_absent_answer_equals_nothing() -> None:
    assert not same_answer(None, None)
    assert not same_answer(None, "1")
    assert not same_answer("1", None)


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "monster",
    ["9^{9^{9^9}}", "9**9**9", "2^{999999}", "100000!", "(x+1)^{500}", "(" * 400, "x+" * 400 + "1"],
)
def test_monsters_are_compared_as_strings(monster: str) -> None:
    assert same_answer(monster, monster)
    assert not same_answer(monster, "1 + y")


def test_symbolic_equality_works_off_the_main_thread() -> None:
    results: list[bool] = []
    thread = threading.Thread(target=lambda: results.append(same_answer("a+b+7", "7+b+a")))
    thread.start()
    thread.join()
    assert results == [True]


def test_a_pending_alarm_of_others_is_left_alone() -> None:
    import signal

    before = signal.getsignal(signal.SIGALRM)
    signal.setitimer(signal.ITIMER_REAL, 300)
    try:
        assert same_answer("p+q+11", "11+q+p")
        assert signal.getitimer(signal.ITIMER_REAL)[0] > 200
        assert signal.getsignal(signal.SIGALRM) is before
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


@given(PIECES)
@settings(deadline=None, max_examples=300)
def test_extraction_never_raises_and_gives_balanced_braces(text: str) -> None:
    for answer in (extract_answer(text), extract_forced(text), extract_forced(text, "")):
        if answer is not None:
            assert answer == answer.strip() != ""
            bare = answer.replace("\\\\", "").replace("\\{", "").replace("\\}", "")
            assert bare.count("{") == bare.count("}")


@given(st.text(alphabet="abc123+-^_()[] =,.", min_size=1, max_size=20).filter(str.strip))
@settings(deadline=None)
def test_what_is_put_into_a_box_comes_out(content: str) -> None:
    assert extract_answer(rf"thus \boxed{{{content}}}!") == content.strip()
    assert extract_forced(content + "} and so on") == content.strip()


@given(PIECES, PIECES)
@settings(deadline=None, max_examples=150)
def test_equality_never_raises_is_symmetric_and_reflexive(first: str, second: str) -> None:
    assert same_answer(first, second) == same_answer(second, first)
    assert same_answer(first, first) == bool(first.strip())


@given(st.integers(-(10**12), 10**12), st.integers(-(10**12), 10**12))
@settings(deadline=None)
def test_whole_numbers_are_compared_exactly(first: int, second: int) -> None:
    assert same_answer(str(first), f"{first:,}")
    assert same_answer(str(first), str(second)) == (first == second)


def test_normalise_leaves_plain_answers_alone() -> None:
    assert normalise("x = 5") == "x = 5"
    assert normalise(r"$\left( 1,\; 2 \right)$") == "( 1, 2 )"
    assert normalise(r"\leftarrow") == r"\leftarrow"


def test_a_missing_math_verify_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "math_verify", None)
    answers._math_verify.cache_clear()
    try:
        assert same_answer("1234", "1,234")
        with pytest.raises(UnsupportedError, match="stopper\\[calibrate\\]"):
            same_answer("u+v+1", "v+u+1")
    finally:
        answers._math_verify.cache_clear()
