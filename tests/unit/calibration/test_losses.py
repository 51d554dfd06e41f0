import numpy as np
import pytest
from table_makers import trace

from calibration.losses import DEFAULT_LOSS, LOSSES, bad_cues, get_loss
from probes.errors import InputError

TRACES = [
    trace("right", [0, 1], correct=[False, True], agrees=[False, True], full_correct=True),
    trace("wrong", [0, 1], correct=[True, False], agrees=[False, True], full_correct=False),
]


@pytest.mark.parametrize(
    ("loss", "bad"),
    [
        ("disagree", [True, False, True, False]),
        ("wrong", [True, False, False, True]),
        ("harm", [True, False, False, False]),
    ],
)
def test_each_loss_marks_its_own_cues(loss: str, bad: list[bool]) -> None:
    assert bad_cues(TRACES, loss).tolist() == bad


def test_the_default_needs_no_gold_labels() -> None:
    unlabelled = [trace("a", [0.0], correct=[None], agrees=[False], full_correct=None)]
    assert bad_cues(unlabelled, DEFAULT_LOSS).tolist() == [True]


@pytest.mark.parametrize(
    ("loss", "culprit", "field"),
    [
        ("disagree", trace("culprit", [0, 1], agrees=[True, None]), "cues[1].agrees"),
        ("wrong", trace("culprit", [0, 1], correct=[None, True]), "cues[0].correct"),
        ("harm", trace("culprit", [0, 1], full_correct=None), "full_correct"),
        ("harm", trace("culprit", [0, 1], correct=[True, None]), "cues[1].correct"),
    ],
)
def test_a_missing_label_is_named_with_its_trace(loss: str, culprit, field: str) -> None:
    with pytest.raises(InputError, match="culprit") as error:
        bad_cues([trace("fine", [1.0]), culprit], loss)
    assert field in str(error.value)
    assert "Label every trace" in str(error.value)


def test_harm_asks_for_no_label_where_nothing_can_be_harmed() -> None:
    wrong_anyway = trace("a", [0.0], correct=[None], full_correct=False)
    cueless = trace("b", [], full_correct=None)
    assert bad_cues([wrong_anyway, cueless], "harm").tolist() == [False]


def test_an_unknown_loss_lists_the_choices() -> None:
    with pytest.raises(InputError, match="disagree, wrong, harm"):
        get_loss("sad")
    with pytest.raises(InputError, match="'sad'"):
        bad_cues(TRACES, "sad")


def test_every_loss_has_its_sentence() -> None:
    assert list(LOSSES) == ["disagree", "wrong", "harm"]
    assert all(loss.meaning.startswith("with ") for loss in LOSSES.values())


def test_no_traces_have_no_bad_cues() -> None:
    assert bad_cues([], "harm").dtype == np.bool_
    assert bad_cues([], "harm").size == 0
