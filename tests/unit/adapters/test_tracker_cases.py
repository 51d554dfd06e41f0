"""Single traces: the prompt's edge, ties, NaN, audit, closing, faults, and hidden states kept."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from engine_simulator import (
    BEYOND,
    END,
    FORCE,
    THINK,
    Engine,
    Trace,
    automaton,
    choices,
    host_watch,
    ids,
    judge,
    offline,
    step_rows,
)
from makers import HIDDEN, LAYERS

from adapters.vllm.watch import Forced, HostWatch, Outcome

WAIT = ids(" wait")
assert len(WAIT) == 1  # what is counted below are tokens
GLUED = ids("wait")  # a cue unless a letter stands before it


def trace(prompt: list[int], output: list[int], **fields: object) -> Trace:
    """Make a trace of given tokens: the model's choice is what stands there."""
    made = Trace("one", prompt, len(output) + 1, **fields)
    made.choice = dict(enumerate([*output, 0], start=len(prompt))).__getitem__  # type: ignore
    return made


def replay(made: Trace, **cues: object) -> tuple[Outcome, Outcome]:
    return Engine(automaton(**cues), judge()).run([made])["one"]


@pytest.mark.parametrize(
    ("prompt", "output", "starts_inside", "cues"),
    [
        ([THINK], WAIT, False, 1),
        ([THINK, *ids("wait")], ids("so"), False, 0),  # a cue of the prompt is none of ours
        ([THINK, *ids("a")], GLUED, False, 0),  # "await"
        ([THINK, *ids("Alter")], ids("natively"), False, 1),
        ([THINK, END], WAIT, False, 0),
        (ids("so"), WAIT, False, 0),
        (ids("so"), [THINK, *WAIT], False, 1),
        ([THINK], [END, *WAIT], False, 0),
        ([THINK], [*WAIT, END, *WAIT, THINK, *WAIT], False, 2),
        (ids("so"), GLUED, True, 1),
        (ids("a"), GLUED, True, 1),  # the output begins anew: not "await"
        ([BEYOND], GLUED, True, 1),
        ([END], WAIT, True, 0),
    ],
)
def test_where_the_prompt_ends(
    prompt: list[int], output: list[int], starts_inside: bool, cues: int
) -> None:
    made = trace(prompt, output)
    for outcome in replay(made, starts_inside=starts_inside):
        assert outcome.cues == cues
    spelled = automaton(starts_inside=starts_inside).events(made.prompt, made.output[:-1])
    assert len(spelled) == cues


def test_a_score_equal_to_the_threshold_does_not_stop() -> None:
    output = WAIT * 6
    watched = trace([THINK], output)
    replay(watched)
    scores = offline(watched, automaton(), judge()).scores
    best = int(scores.argmax())
    for threshold, stop in (
        (scores[best], None),
        (np.nextafter(scores[best], np.float32(-np.inf)), best + 1),
    ):
        for outcome in replay(trace([THINK], output, threshold=float(threshold))):
            assert outcome.stop_position == stop
            np.testing.assert_equal(outcome.stop_score, scores[best] if stop else np.nan)


def test_non_finite_hidden_states_never_stop_and_are_counted() -> None:
    made = trace([THINK], WAIT * 5, threshold=-np.inf, nan_rate=1.0)
    for outcome in replay(made):
        assert (outcome.stop_position, outcome.cues, outcome.non_finite) == (None, 5, 5)
        assert np.isnan(outcome.stop_score)
    assert made.output == [*WAIT * 5, 0]


def test_a_threshold_of_minus_infinity_stops_at_the_first_cue() -> None:
    made = trace([THINK], [*ids(" so"), *WAIT * 5, THINK, *WAIT * 3], threshold=-np.inf)
    for outcome in replay(made):
        assert (outcome.stop_position, outcome.cues) == (2, 1)  # once is enough
    assert made.output[2:5] == list(FORCE)
    assert made.output[5:] == [*WAIT, THINK, *WAIT * 3, 0]


def test_an_audit_marks_the_stop_and_changes_nothing() -> None:
    made = trace([THINK], WAIT * 4, threshold=-np.inf, forces=False)
    for outcome in replay(made):
        assert (outcome.stop_position, outcome.cues) == (1, 4)  # it thinks on, past its mark
    assert made.output == [*WAIT * 4, 0]


def test_untracked_requests_in_the_batch_are_left_alone() -> None:
    engine = Engine(automaton(), judge())
    stranger = Trace("stranger", [THINK], 5)
    rows = step_rows([stranger], [[(0, THINK)]], [True], engine.random)
    for watch in engine.watches:
        assert watch.step(rows) is None  # nobody is watched
        watch.start("one", [THINK], np.float32(-np.inf), forces=True)
        assert choices(watch.step(rows), 1) == {}
        (outcome,) = watch.running()
        assert (outcome.cues, outcome.stop_position) == (0, None)


def test_a_known_request_is_one_of_the_same_prompt_length() -> None:
    engine = Engine(automaton(), judge())
    for watch in engine.watches:
        watch.start("one", [THINK, 5], np.float32(0), forces=True)
        assert watch.knows("one", 2)
        assert not watch.knows("one", 3)
        assert not watch.knows("two", 2)
        watch.finish("one")
        watch.finish("one")  # told twice: once is enough
        assert not watch.knows("one", 2)
        assert len(list(watch.outcomes(wait=False))) == 1


def test_starting_again_forgets_the_old_trace() -> None:
    engine = Engine(automaton(), judge())
    old, new = (Trace("one", prompt, 9) for prompt in ([THINK], [THINK, *ids(" so so")]))
    for watch in engine.watches:
        watch.start("one", old.prompt, np.float32(-np.inf), forces=True)
        for at, token in enumerate([THINK, *WAIT]):
            forced = watch.step(step_rows([old], [[(at, token)]], [True], engine.random))
        assert choices(forced, 1) == {0: END}
        assert watch.stop_thinking("one").outcome == "already_stopping"
        watch.start("one", new.prompt, np.float32(np.inf), forces=True)
        at = len(new.prompt) - 1
        rows = step_rows([new], [[(at, new.prompt[at])]], [True], engine.random)
        assert choices(watch.step(rows), 1) == {}
        (outcome,) = watch.running()
        assert (outcome.cues, outcome.stop_position) == (0, None)


def test_an_asked_stop_is_forgotten_with_its_trace() -> None:
    engine = Engine(automaton(), judge())
    made = Trace("one", [THINK], 9)
    rows = step_rows([made], [[(0, THINK)]], [True], engine.random)
    for watch in engine.watches:
        for _ in range(2):  # the same id, and on the device the same slot, twice
            watch.start("one", made.prompt, np.float32(np.inf), forces=False)
            assert choices(watch.step(rows), 1) == {}
            assert watch.stop_thinking("one").outcome == "stopping"
            assert choices(watch.step(rows), 1) == {0: END}
            outcome = watch.outcome("one")
            assert outcome is not None
            assert (outcome.asked, outcome.stop_position) == (True, 0)
        assert watch.outcome("two") is None
        assert watch.stop_thinking("two").outcome == "unknown"


def test_who_is_asked_to_stop_closes_after_the_next_token_and_only_once() -> None:
    output = [*WAIT * 2, *ids(" so so"), THINK, *WAIT * 2]
    for threshold, forces in ((np.inf, True), (np.inf, False), (-np.inf, False)):
        engine = Engine(automaton(), judge())
        made = trace([THINK], output, threshold=threshold, forces=forces)
        for watch in engine.watches:
            watch.start("one", made.prompt, np.float32(threshold), forces=forces)
            said, closed = [], {}
            for at, token in enumerate([THINK, *WAIT * 2, *FORCE, THINK, *WAIT]):
                rows = step_rows([made], [[(at, token)]], [True], engine.random)
                if forced := choices(watch.step(rows), 1):
                    closed[at] = forced[0]
                if at:
                    said.append(watch.stop_thinking("one").outcome)
            assert closed == dict(enumerate(FORCE, start=2))  # asked for after token 1
            assert said == [
                "stopping", "already_stopping", "already_stopping", "already_stopping",
                "not_thinking", "not_watched", "not_watched",
            ]  # fmt: skip
            assert watch.stop_thinking("one").reason == "stopped_before"
            outcome = watch.outcome("one")
            assert outcome is not None
            assert (outcome.stop_position, outcome.cues) == (2, 1)
            assert np.isnan(outcome.stop_score)


def test_a_cue_at_the_token_of_an_asked_stop_is_not_looked_at() -> None:
    engine = Engine(automaton(), judge())
    made = trace([THINK], WAIT * 3, nan_rate=1.0)
    for watch in engine.watches:
        watch.start("one", made.prompt, np.float32(-np.inf), forces=True)
        assert watch.stop_thinking("one").outcome == "stopping"  # before its first token
        rows = step_rows([made], [[(0, THINK)]], [True], engine.random)
        assert choices(watch.step(rows), 1) == {0: END}
        outcome = watch.outcome("one")
        assert outcome is not None
        assert (outcome.cues, outcome.non_finite, outcome.asked) == (0, 0, True)


def test_a_collection_keeps_hidden_states_and_scores_nothing() -> None:
    watch = host_watch(automaton(), None, keep_hidden=True)
    made = Trace("one", [THINK], 9)
    watch.start("one", made.prompt, np.float32(np.inf), forces=False)
    shuffle = Engine(automaton(), judge()).random
    for at, token in enumerate([THINK, *ids(" so"), *WAIT, *WAIT]):
        assert watch.step(step_rows([made], [[(at, token)]], [True], shuffle)) is None
    (outcome,) = watch.running()
    assert [cue.position for cue in outcome.seen] == [2, 3]
    assert outcome.stop_position is None
    for cue in outcome.seen:
        assert cue.hidden is not None
        assert (cue.hidden.dtype, cue.hidden.shape) == (np.float32, (len(LAYERS) * HIDDEN,))
        np.testing.assert_array_equal(cue.hidden, made.hidden(cue.position, *WAIT).reshape(-1))


def test_one_request_that_fails_does_not_trouble_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    batch = [Trace(name, [THINK], 9) for name in ("bad", "good")]
    watch = host_watch(automaton(), judge())
    for made in batch:
        watch.start(made.name, made.prompt, np.float32(-np.inf), forces=True)
    shuffle = Engine(automaton(), judge()).random
    for at, token in enumerate([THINK, *WAIT]):
        rows = step_rows(batch, [[(at, token)], [(at, token)]], [True, True], shuffle)
        forced = watch.step(break_row(rows, 0) if at else rows)
    assert choices(forced, 2) == {1: END}
    assert "request bad goes on unwatched" in caplog.text
    assert choices(watch.step(rows), 2) == {1: END}  # the last position again: still unwatched
    asked = watch.stop_thinking("bad")
    assert (asked.outcome, asked.reason) == ("not_watched", "IndexError")
    bad, good = watch.running()
    assert (bad.failure, good.failure) == ("IndexError", None)
    assert (bad.stop_position, good.stop_position) == (None, 1)


def break_row(rows: object, row: int) -> object:
    """Make one row's hidden state unreadable."""

    class Broken:
        def __getattr__(self, name: str) -> object:
            return getattr(rows, name)

        def hidden_row(self, at: int) -> object:
            if at == row:
                raise IndexError("no such row")
            return rows.hidden_row(at)  # type: ignore

    return Broken()


def test_forcing_wins_at_any_temperature_and_touches_one_element() -> None:
    for mask in (None, torch.tensor([True, False])):
        logits = torch.full((3, 10), 50.0)
        Forced(torch.tensor([2, 0]), torch.tensor([4, 7]), mask).write(logits)
        assert logits[2].argmax() == 4
        assert torch.softmax(logits[2] / 1e3, 0)[4] == 1.0
        changed = (logits != 50.0).nonzero().tolist()
        assert changed == ([[0, 7], [2, 4]] if mask is None else [[2, 4]])


def test_len_counts_the_watched() -> None:
    watch: HostWatch = host_watch(automaton(), judge())
    watch.start("one", [THINK], np.float32(0), forces=True)
    assert len(watch) == 1
    watch.finish("one")
    assert len(watch) == 0
