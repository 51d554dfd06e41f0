"""What the page of a halting rule says in words: verdict, promise, glossary."""

from __future__ import annotations

from calibration.halting_outcomes import HaltingOutcome
from calibration.page import words
from calibration.page.promise import Promise
from calibration.page.verdict import Tile, Verdict

GLOSSARY: tuple[tuple[str, str], ...] = (
    ("diffusion language model", "It begins with a canvas of masks and fills them in over many "
     "forward passes, in any order, instead of writing from left to right."),
    ("denoising step, pass", "One run of the model over the whole canvas, after which one or more "
     "masks are filled in. It is what costs time."),
    ("halting", "Filling in all masks that are left at once with the most likely tokens of the "
     "pass just run. That pass counts."),
    ("margin", "The largest logit at a position minus the second largest: how far the token that "
     "would be filled in lies ahead."),
    ("signal", "The margins of the masked positions, or of the whole span, as one number: mean, "
     "median, lower fifth or smallest."),
    ("schedule", "A threshold for the signal that falls as the decode goes on."),
    ("level", "What the signal must exceed the schedule by. It shifts the whole schedule, and "
     "calibration finds it."),
    ("stable argmax", "A gate: no halt where the most likely token of a masked position has "
     "changed since the step before."),
    ("other answer", "A halt after which the answer is not the one that the full decode gives "
     "(loss “disagree”)."),
    ("alpha", "The share of all requests that may get another answer. You choose it."),
    ("shape", "Schedule, signal and gate. It is chosen on prompts of its own, by the passes it is "
     "expected to take."),
    ("calibration", "Finding the level for alpha, on prompts kept aside for nothing else."),
    ("ltt", "Learn then Test: alpha holds with the stated confidence over the luck of the "
     "calibration draw."),
    ("crc", "Conformal risk control: alpha holds on average over calibration draws."),
    ("mapie", "Shape and level tested together, with a correction for how many were tested."),
    ("interval", "The range of true shares that agree with what was counted (Clopper-Pearson, "
     "95\xa0%). Few decodes make it wide."),
    ("Prophet, SchED", "Published halting rules with thresholds picked by hand. No guarantee."),
    ("QPS", "Speed-up times (accuracy over the full decode's accuracy) to the fourth power."),
    ("oracle", "A rule that knows the full decode's answer and halts as soon as it would agree. No "
     "real rule can know that."),
)  # fmt: skip


def halting_verdict(own: HaltingOutcome, oracle: HaltingOutcome, alpha: float) -> Verdict:
    """Judge a rule's outcome at an alpha."""
    low, high = own.interval or (0.0, 1.0)
    share = own.disagreement_share
    status = "kept" if share <= alpha else "noise" if low <= alpha else "broken"
    told = (
        f"{words.count(own.disagreements)} of {words.count(own.n)} test requests came out with "
        f"another answer, {words.percent(share)} where {words.alpha_text(alpha)} are tolerated. "
    )
    surely = "Even the upper end of the interval is below that."
    maybe = "The interval reaches above it, as far as this many test decodes can tell."
    headline, rest = {
        "kept": (
            "The promise was kept on these test decodes",
            surely if high <= alpha else maybe,
        ),
        "noise": (
            "Slightly above what is tolerated, but within chance",
            "So few decodes cannot tell this from a rule that keeps its promise: test on more.",
        ),
        "broken": (
            "The promise is broken on these test decodes",
            "Chance does not explain it: these requests are not like those that the rule was "
            "calibrated on. Do not serve it to them; calibrate again on such.",
        ),
    }[status]
    return Verdict(
        status=status,
        headline=headline,
        sentence=told + rest,
        tiles=_tiles(own, oracle, alpha),
        low=low,
        share=share,
        high=high,
        alpha=alpha,
    )


def _tiles(own: HaltingOutcome, oracle: HaltingOutcome, alpha: float) -> tuple[Tile, ...]:
    both = own.accuracy is not None and own.full_accuracy is not None
    change = own.accuracy - own.full_accuracy if both else None  # type: ignore[operator]
    times = "\N{MULTIPLICATION SIGN}"
    return (
        Tile(
            "Fewer forward passes",
            f"{own.speedup:.2f}{times}",
            f"{own.full_steps:.1f} per request before, {own.steps:.1f} halted; the oracle reaches "
            f"{oracle.speedup:.2f}{times}",
        ),
        Tile(
            "Right answers",
            words.percent(own.accuracy),
            f"{words.percent(own.full_accuracy)} without halting ({words.points(change)})"
            if both
            else "no gold answers for all of these requests, so that nobody can say",
        ),
        Tile(
            "Other answers",
            words.percent(own.disagreement_share),
            f"{words.alpha_text(alpha)} tolerated; 95\xa0% interval "
            f"{words.interval_text(own.interval)}",
        ),
        Tile(
            "Halted early at all",
            words.percent(own.halted_share),
            "of the requests; the others are decoded to their end",
        ),
    )


def halting_promise_of(
    alpha: float, n_units: int, formal: str, confidence: float | None
) -> Promise:
    """Say the promise in plain words.

    Parameters
    ----------
    alpha
        Of the headline.
    n_units
        Prompts calibrated on.
    formal
        The sentence printed with the artifact.
    confidence
        None where the promise holds on average.

    """
    few, base = words.of_thousand(alpha)
    how = (
        "A diffusion language model fills in its answer over many passes, and often the answer is "
        "settled long before the last. At each pass a rule looks at how far the most likely tokens "
        "lie ahead of the next ones. Once they lie far enough ahead, all that is still open is "
        "filled in at once. That spares passes. Now and then it comes too early."
    )
    bad = "A halt is called bad if the answer is not the one that the full decode would have given."
    say = f"The promise: of {base} new requests, on average at most {few} are halted badly."
    luck = (
        f"How sure is that? The level was found on {words.count(n_units)} prompts, and those may "
        "have been lucky ones. "
    )
    if confidence is None:
        luck += (
            "On average over such draws the promise is kept; a single calibration, such as this "
            "one, may lie a little above alpha."
        )
    else:
        luck += (
            f"If calibration were repeated with fresh prompts, at least "
            f"{words.alpha_text(confidence)} of the repetitions would give a level that keeps the "
            "promise."
        )
    limits = (
        "It counts over all requests together. It says nothing about one given request, and one "
        "kind of request may do worse than the average (see the breakdown).",
        "It holds for traffic like that of the calibration. With other prompts, another model, "
        "quantization, template or sampler setting it is void.",
        "It bounds the share of answers that differ from the full decode's. It does not make the "
        "model's own answers right.",
    )
    return Promise((how, bad, say, luck), limits, formal)
