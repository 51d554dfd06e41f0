"""The promise in plain words, and the words themselves."""

from __future__ import annotations

from dataclasses import dataclass

from calibration.losses import get_loss
from calibration.page import words
from calibration.report import Evaluation

GLOSSARY: tuple[tuple[str, str], ...] = (
    ("thinking tokens", "The pieces of text that a reasoning model writes for itself before it "
     "answers. They take time and cost money."),
    ("trace", "One recorded request: its whole thinking, and its answer."),
    ("cue", "A place in the thinking at which stopping is considered, such as the word “wait”."),
    ("forced answer", "What the model answers when its thinking is cut at a cue. Forcing it at "
     "every cue of a recorded trace tells afterwards which stops would have been good."),
    ("probe, score", "A small classifier that reads the model's hidden state at a cue and gives a "
     "number. Higher means: safer to stop here."),
    ("threshold", "The rule stops at the first cue whose score is above it."),
    ("bad stop", "A stop that costs something; what counts is named by the loss."),
    ("loss", "“disagree”: the answer differs from the one that the full thinking gives. "
     "“wrong”: it is wrong. “harm”: it is wrong where the full thinking would be right."),
    ("alpha", "The share of all requests that may be stopped badly. You choose it."),
    ("calibration", "Finding the threshold for alpha, on traces kept aside for nothing else."),
    ("conformal, risk control", "The statistics behind it. It needs no model of the data: only "
     "that new requests come from the same traffic as the calibration traces (exchangeability)."),
    ("ltt", "Learn then Test: alpha holds with the stated confidence over the luck of the "
     "calibration draw."),
    ("crc", "Conformal risk control: alpha holds on average over calibration draws."),
    ("interval", "The range of true shares that agree with what was counted (Clopper-Pearson, "
     "95\xa0%). Few traces make it wide."),
    ("marginal", "Over all requests together, not for each kind of request by itself."),
    ("oracle", "A rule that knows the labels and stops at the first good cue, never at a bad one. "
     "No real rule can know that."),
    ("token budget", "A timer: stop at the first cue after a fixed number of tokens."),
    ("group", "The traces of one prompt. They count as one request in calibration."),
    ("AUROC", "Chance that a good cue scores above a bad one: 0.5 is a coin, 1 is perfect."),
)  # fmt: skip


@dataclass(frozen=True)
class Promise:
    """What is promised, and what is not.

    Attributes
    ----------
    paragraphs
        The promise.
    limits
        What it does not cover.
    formal
        The sentence printed with the artifact.
    """

    paragraphs: tuple[str, ...]
    limits: tuple[str, ...]
    formal: str


def promise_of(evaluation: Evaluation, n_units: int, formal: str) -> Promise:
    """Say the promise at an evaluation's alpha.

    Parameters
    ----------
    evaluation
        At the headline's alpha.
    n_units
        Prompts calibrated on.
    formal
        As :func:`calibration.risk.promise` words it; for method ``lynx`` the artifact's own.
    """
    meaning = get_loss(evaluation.loss).meaning
    few, base = words.of_thousand(evaluation.alpha)
    how = (
        "A reasoning model thinks before it answers, often longer than it needs. At certain "
        "places in the thinking a small probe looks inside the model and gives a score for "
        '"the answer is settled". Once the score is high enough, the thinking is ended and the '
        "model answers. That saves tokens. Now and then it stops too early."
    )
    bad = f"A stop is called bad if the request is stopped early {meaning}."
    limits = (
        "It counts over all requests together. It says nothing about one given request, and one "
        "kind of request may do worse than the average (see the breakdown).",
        "It holds for traffic like that of the calibration. With other questions, another model, "
        "quantization, chat template or sampling setting it is void.",
        "It bounds the share of bad stops. It does not make the model's own answers right.",
    )
    if evaluation.guarantee != "risk":
        return Promise((how, bad, _none(evaluation)), limits[1:], formal)
    luck = (
        f"How sure is that? The threshold was found on {words.count(n_units)} requests, and "
        "those may have been lucky ones. "
    )
    if evaluation.method == "ltt":
        confidence = evaluation.confidence or 0.9
        luck += (
            f"If calibration were repeated with fresh requests, at least "
            f"{words.alpha_text(confidence)} of the repetitions would give a threshold that keeps "
            "the promise."
        )
    else:
        luck += (
            "On average over such draws the promise is kept; a single calibration, such as this "
            "one, may lie a little above alpha."
        )
    say = f"The promise: of {base} new requests, on average at most {few} are stopped badly."
    return Promise((how, bad, say, luck), limits, formal)


def _none(evaluation: Evaluation) -> str:
    if evaluation.method == "lynx":
        return (
            "This artifact holds a baseline (method 'lynx'). It limits errors at one cue, not "
            "over a request with many cues, so that there is no promise per request."
        )
    if evaluation.guarantee == "tokens":
        return (
            f"The rule of this artifact ('{evaluation.rule}') keeps its mean thinking tokens "
            "within a budget. How many requests it stops badly is measured, not promised."
        )
    return f"The rule of this artifact ('{evaluation.rule}') is a baseline and promises nothing."
