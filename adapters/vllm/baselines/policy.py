"""What a rule outside the engine sees of a request, and what it may ask for: no engine in here."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

#: What a rule promises: the share of bad stops, its tokens, or nothing.
Guarantee = Literal["risk", "tokens", "none"]


@dataclass(frozen=True, slots=True)
class Trial:
    """Ask for an answer as if the thinking ended after `position` output tokens.

    Attributes
    ----------
    position
        Output tokens of the main request that the trial continues.
    max_tokens
        Longest answer.
    alternatives
        Most likely tokens per position whose log-probabilities are wanted too.
    """

    position: int
    max_tokens: int
    alternatives: int = 0


@dataclass(frozen=True, slots=True)
class Tried:
    """What a trial brought.

    Attributes
    ----------
    position
        As asked.
    texts
        Of each generated token.
    logprobs
        Of each generated token, natural, before temperature.
    answer
        The boxed answer, None without one.
    first
        Token id to log-probability at the first generated token: the alternatives asked for.
    """

    position: int
    texts: Sequence[str]
    logprobs: Sequence[float]
    answer: str | None
    first: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Stop:
    """End the thinking after `position` output tokens."""

    position: int


class Policy(Protocol):
    """One request's rule: fed token by token, it may try an answer and it may stop."""

    def on_token(self, token: int, alternatives: Mapping[int, float]) -> Trial | Stop | None:
        """Take the next token of the thinking.

        `alternatives` are the log-probabilities of the distribution that the token was drawn from;
        empty unless the plan asked for them.
        """

    def on_trial(self, tried: Tried) -> Stop | None:
        """Take a trial's answer; trials come back in the order in which they were asked for."""


class Silent:
    """For rules that try no answers."""

    def on_trial(self, tried: Tried) -> Stop | None:
        """Never called: nothing was tried."""
        raise AssertionError("a rule that tries nothing was handed a trial")


@dataclass(frozen=True, slots=True)
class Plan:
    """How a rule is run.

    Attributes
    ----------
    name, title
        On the command line; in the table.
    guarantee
        What it promises.
    parameters
        All that was chosen, as printed.
    policy
        Makes the rule of one request, given its prompt; None where nothing is decided outside.
    mode
        The main request's `stopper` option.
    changes
        To the main request's sampling parameters.
    thinks
        False closes the thinking before it begins.
    rewrites
        Whether it changes what the model writes instead of ending it.
    """

    name: str
    title: str
    guarantee: Guarantee
    parameters: Mapping[str, Any]
    policy: Any = None
    mode: int | str = 0
    changes: Mapping[str, Any] = field(default_factory=dict)
    thinks: bool = True
    rewrites: bool = False


def answer_logprobs(tried: Tried) -> list[float]:
    """Return the log-probabilities of the tokens that spell the answer; empty without an answer."""
    if tried.answer is None:
        return []
    start = "".join(tried.texts).rfind(tried.answer)
    if start < 0:  # an answer that crosses a character split over tokens
        return list(tried.logprobs)
    found, at = [], 0
    for text, logprob in zip(tried.texts, tried.logprobs, strict=True):
        if at < start + len(tried.answer) and at + len(text) > start:
            found.append(logprob)
        at += len(text)
    return found


def entropy(logprobs: Mapping[int, float]) -> float:
    """Return the entropy in nats; what the given tokens leave over counts as one more token."""
    shares = [math.exp(value) for value in logprobs.values()]
    rest = 1.0 - sum(shares)
    return -sum(p * math.log(p) for p in (*shares, rest) if p > 0.0)
