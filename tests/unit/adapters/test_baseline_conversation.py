"""A prompt under a rule: whatever the engine does, every token has its place."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.vllm.baselines.conversation import Abort, Branch, Closing, Conversation, Start
from adapters.vllm.baselines.policy import Plan, Silent, Stop, Trial, Tried

END = 99
CLOSING = Closing((END,), (END, 7), (8,))
PROMPT = [1, 2, 3]


class Engine:
    """Gives each running request one token a step; the main one follows a script."""

    def __init__(self, talk: Conversation, script: list[int], seed: int = 0) -> None:
        self.talk = talk
        self.script = script
        self.random = random.Random(seed)
        self.live: list[Branch] = []
        self.generated = 0
        self.obey(talk.begin())

    def obey(self, moves: Any) -> None:
        for move in moves:
            if isinstance(move, Start):
                assert not move.branch.done
                self.live.append(move.branch)
            else:
                assert isinstance(move, Abort)
                self.live.remove(move.branch)

    def step(self) -> None:
        for branch in list(self.live):
            if branch not in self.live or (branch.role != "main" and self.random.random() < 0.3):
                continue  # aborted in this step, or not scheduled
            self.generated += 1
            made = len(branch.token_ids)
            token = self.script[made] if branch.role == "main" else 50
            last = len(self.script) - 1 if branch.role == "main" else branch.max_tokens - 1
            if made >= last:
                self.live.remove(branch)
            self.obey(self.talk.take(branch, [token], [{token: -0.5}], made >= last))

    def run(self) -> Conversation:
        while self.live:
            self.step()
        assert self.talk.done
        return self.talk


class Scripted:
    """Tries and stops where it is told."""

    def __init__(self, trials: dict[int, int], stop_at: int | None, accept: int | None) -> None:
        self._trials, self._stop_at, self._accept = trials, stop_at, accept
        self.seen = 0
        self.answered: list[int] = []

    def on_token(self, token: int, alternatives: Any) -> Trial | Stop | None:
        self.seen += 1
        if self.seen == self._stop_at:
            return Stop(self.seen)
        if self.seen in self._trials:
            return Trial(self.seen, self._trials[self.seen])
        return None

    def on_trial(self, tried: Tried) -> Stop | None:
        self.answered.append(tried.position)
        return Stop(tried.position) if tried.position == self._accept else None


def talk(policy: Any = None, max_tokens: int = 60, room: int = 1000, **fields: Any) -> Conversation:
    made = None if policy is None else (lambda prompt: policy)
    plan = Plan(name="rule", title="rule", guarantee="none", parameters={}, policy=made, **fields)
    return Conversation("p", PROMPT, plan, CLOSING, max_tokens, room, read)


def read(branch: Branch) -> Tried:
    assert branch.trial is not None
    return Tried(branch.trial.position, [], branch.logprobs, "7")


def script(thinking: int, answer: int = 4) -> list[int]:
    return [10] * thinking + [END] + [20] * answer


def test_a_full_trace_is_thinking_and_answer() -> None:
    done = Engine(talk(), script(12)).run()
    assert (done.stop, done.ended, done.thinking, done.overrun) == (None, 12, 12, 0)
    assert done.answer_ids == [END, 20, 20, 20, 20]


def test_a_trace_that_never_ends_is_all_thinking() -> None:
    done = Engine(talk(), [10] * 9).run()
    assert (done.ended, done.thinking, done.answer_ids) == (None, 9, [])


def test_an_immediate_stop_overruns_nothing() -> None:
    done = Engine(talk(Scripted({}, 5, None)), script(30)).run()
    assert (done.stop, done.thinking, done.overrun) == (5, 5, 0)
    assert done.answer is not None
    assert done.answer.prompt == [*PROMPT, *[10] * 5, END, 7]
    assert done.answer.max_tokens == 55


def test_tokens_beyond_the_accepted_trial_are_overrun() -> None:
    done = Engine(talk(Scripted({5: 4}, None, 5)), script(40)).run()
    assert done.stop == 5
    assert done.trials[0].prompt == [*PROMPT, *[10] * 5, END, 7, 8]
    assert done.overrun == len(done.main.token_ids) - 5 >= 4
    assert done.trial_tokens == 4


def test_trials_are_answered_in_the_order_of_asking() -> None:
    policy = Scripted({2: 12, 4: 1, 6: 1}, None, None)
    done = Engine(talk(policy), script(50)).run()
    assert policy.answered == [2, 4, 6]
    assert done.late == 0


def test_a_trial_that_comes_too_late_is_counted_and_stops_nothing() -> None:
    policy = Scripted({9: 30}, None, 9)
    done = Engine(talk(policy), script(12)).run()
    assert (done.stop, done.late, policy.answered) == (None, 1, [])
    assert 0 < done.trial_tokens < 30


def test_no_thinking_is_closed_at_once() -> None:
    done = Engine(talk(thinks=False), []).run()
    assert (done.stop, done.thinking, len(done.branches)) == (0, 0, 1)
    assert done.branches[0].prompt == [*PROMPT, END, 7]


def test_a_trial_without_room_is_counted_and_left_out() -> None:
    done = Engine(talk(Scripted({5: 4, 2: 4}, None, None), room=9), script(12)).run()
    assert (done.crowded, len(done.trials)) == (1, 1)


def test_an_answer_without_room_is_no_answer() -> None:
    done = Engine(talk(Scripted({}, 8, None), room=9), script(12)).run()
    assert (done.stop, done.crowded, done.answer_ids) == (8, 1, [])


@pytest.mark.parametrize("end", [(4, 5), (4, 4, 5)])
def test_an_end_of_several_tokens_is_found(end: tuple[int, ...]) -> None:
    one = Conversation(
        "p", PROMPT, talk().plan, Closing(end, end), 60, 1000, read
    )  # fmt: skip
    done = Engine(one, [4, 6, 4, *end, 20]).run()
    assert done.thinking == 3
    assert done.answer_ids == [*end, 20]


@given(
    st.integers(1, 40),
    st.dictionaries(st.integers(1, 40), st.integers(1, 20), max_size=8),
    st.none() | st.integers(1, 45),
    st.none() | st.integers(1, 45),
    st.integers(4, 60),
    st.integers(0, 1000),
)
def test_every_generated_token_is_counted_once(
    thinking: int,
    trials: dict[int, int],
    stop_at: int | None,
    accept: int | None,
    room: int,
    seed: int,
) -> None:
    lines = script(thinking)
    engine = Engine(talk(Scripted(trials, stop_at, accept), room=room), lines, seed)
    done = engine.run()
    counted = done.thinking + done.overrun + done.trial_tokens + len(done.answer_ids)
    assert counted == engine.generated
    assert counted == sum(len(branch.token_ids) for branch in done.branches)
    # The main request goes its own way, and only the part before the stop is kept.
    assert done.main.token_ids == lines[: len(done.main.token_ids)]
    assert done.stop is None or done.stop <= thinking
    assert done.stop in (None, stop_at, accept)


def test_a_rule_that_tries_nothing_is_not_handed_a_trial() -> None:
    with pytest.raises(AssertionError, match="was handed a trial"):
        Silent().on_trial(Tried(0, [], [], None))
