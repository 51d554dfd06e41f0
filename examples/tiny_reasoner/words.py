"""Every phrase that problems and traces are written with; the tokenizer reads them too."""

from __future__ import annotations

from typing import Final

# The first person of a problem is one of the first row, the second one of the second: a model
# this small binds names to piles in minutes that way, and hardly at all with free roles.
NAMES: Final = (
    ("Mia", "Ana", "Eva", "Ida", "Zoe", "Lea"),
    ("Tom", "Ben", "Leo", "Max", "Sam", "Jon"),
)
OBJECTS: Final = ("shells", "stamps", "coins", "cards", "apples", "beads", "stones", "books")
# A step's label stands after it: there one attention hop finds what was said, before it would
# take two.
LABELS: Final = ("(A)", "(B)", "(C)", "(D)", "(E)", "(F)", "(G)", "(H)", "(I)")

INTROS: Final = (
    "{P} has {x} {O} and {Q} has {y}.",
    "At first {P} has {x} {O} and {Q} has {y} {O}.",
    "{P} starts with {x} {O}, {Q} with {y}.",
)
RULES: Final = (
    "Count in a circle: after 9 comes 0.",
    "Only the last digit counts, so after 9 comes 0.",
)
ASIDES: Final = (
    "It is a rainy day.",
    "They are old friends.",
    "The market is full of people.",
)
QUESTIONS: Final = (
    "How many {O} does {R} have in the end?",
    "What does {R} have at the end?",
)

# One tuple of phrasings per kind of step. {P} acts, {Q} is the other one, {d} a digit.
STEPS: Final[dict[str, tuple[str, ...]]] = {
    "plus": ("{P} finds {d} {O}.", "{P} gets {d} more.", "{P} buys {d} new {O}."),
    "minus": ("{P} loses {d} {O}.", "{P} sells {d} of them.", "{P} drops {d} {O}."),
    "double": ("{P} doubles the pile.", "{P} gets twice as many {O}."),
    "give": ("{P} gives {d} {O} to {Q}.", "{P} hands {d} over to {Q}."),
    "swap": ("{P} and {Q} swap all their {O}.", "They trade everything."),
    "even": ("If {P} has an even number, {P} gets {d} more.", "If even, {P} finds {d} {O}."),
    "odd": ("If {P} has an odd number, {P} gets {d} more.", "If odd, {P} finds {d} {O}."),
    "nothing": ("{P} sings a song.", "{P} sees {d} birds in a tree.", "{P} talks with {Q}."),
}

OPENINGS: Final = ("Let me see.", "Okay, a quick look.", "First a quick try.")

# (separator before the cue, the cue). Drawn independently of what came before.
CUES: Final = (
    ("\n\n", "Wait"),
    (" ", "Wait"),
    ("\n\nBut ", "wait"),
    (" Oh ", "wait"),
    ("\n\n", "Hmm"),
    (" ", "Hmm"),
    ("\n\n", "Alternatively"),
    (" ", "Alternatively"),
)
# What follows a cue: its first token tells doubt ("...") from routine (",").
DOUBTS: Final = ("... that seems off.", "... I doubt that.")
CHECKS: Final = (", let me check that.", ", once more with care.", ", go over it again.")

USER: Final = "<|user|>"
ASSISTANT: Final = "<|assistant|>"
THINK: Final = "<think>"
END_THINK: Final = "</think>"
END: Final = "<|end|>"
PAD: Final = "<|pad|>"
ANSWER_PREFIX: Final = "\n\nThe answer is \\boxed{"
ANSWER_SUFFIX: Final = "}."
