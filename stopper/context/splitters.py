"""Sentence splitters by name: where each begins is all that is taken from them."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from stopper.errors import InputError, UnsupportedError

Span = tuple[int, int]
Splitter = Callable[[str], list[Span]]
"""Takes prose and returns the sentences' places in it, in order."""

NAMES = ("spacy", "pysbd")

WINDOW = {"spacy": 20_000, "pysbd": 2_000}
"""Characters given to a splitter at a time; pysbd's time grows with the square of them."""

_ABBREVIATED = (
    "al approx asst assn ave blvd ca capt cf cmdr co col corp dept dist dr ed eds est etc ext fig "
    "figs ft gen gov hon hrs inc jr lt ltd maj messrs min mr mrs ms mt mts op p pp prof pt rd rep "
    "resp rev sen sgt sr st ste univ viz vol vols vs jan feb apr jun jul aug sep sept oct "
    "nov dec"
)
_ABBREVIATIONS = frozenset(_ABBREVIATED.split())
_NUMBERED = "app art ch chap eq eqs no nos ref refs sec secs tab"
_BEFORE_NUMBERS = frozenset(_NUMBERED.split())

_LAST_WORD = re.compile(r"([A-Za-z]+)\.$")
_OPENING = re.compile(r"\s([\"'\u201c\u2018\u00ab(\[{]+)\s*$")
_ENDLESS = re.compile(r"\S{100,}")
_QUOTES = "\"'\u201c\u2018\u00ab([{"


def named(name: str) -> Splitter:
    """Return a splitter.

    Raises
    ------
    InputError
        If there is none of this name.
    UnsupportedError
        If its package is missing.

    """
    if name not in NAMES:
        raise InputError(f"splitter: {name!r}; there are {', '.join(NAMES)}, or give a function")
    try:
        return _spacy() if name == "spacy" else _pysbd()
    except ModuleNotFoundError as missing:
        raise UnsupportedError(
            f"the splitter {name!r} needs {missing.name}; install it with "
            "`pip install 'stopper[rag]'`"
        ) from None


@lru_cache(maxsize=1)
def _spacy() -> Splitter:
    """Return spaCy's rule-based sentencizer over its English tokenizer; no model is loaded.

    Its tokenizer knows "Dr.", "e.g." and "U.S.". Mended here: opening quotes that it leaves with
    the sentence before, abbreviations it does not know, and sentences that go on in lower case.
    """
    import spacy

    pipeline = spacy.blank("en")
    pipeline.add_pipe("sentencizer")
    lock = threading.Lock()

    def split(text: str) -> list[Span]:
        # The zone forgets the words again: spaCy keeps all it has seen otherwise.
        with lock, pipeline.memory_zone():
            starts = [sentence.start_char for sentence in pipeline(_masked(text)).sents]
        found: list[int] = [0]
        for start in starts[1:]:
            mended = _mended(text, found[-1], start)
            if mended is not None:
                found.append(mended)
        return list(zip(found, [*found[1:], len(text)], strict=True))

    return split


def _masked(text: str) -> str:
    """Blank out what is no word but for its last character: its tokens take quadratic time."""
    return _ENDLESS.sub(lambda found: "x" + " " * (len(found[0]) - 2) + found[0][-1], text)


def _mended(text: str, before: int, start: int) -> int | None:
    """Return where a sentence begins that spaCy lets begin at `start`; None if it does not."""
    head = text[max(before, start - 40) : start].rstrip()
    opening = _OPENING.search(head)
    if opening is not None:
        start = max(before, start - 40) + opening.start(1)
        head = head[: opening.start()].rstrip()
    following = text[start : start + 40].lstrip().lstrip(_QUOTES)[:1]
    if following.islower():
        return None
    word = _LAST_WORD.search(head)
    if word is not None:
        last = word[1].lower()
        if last in _ABBREVIATIONS or (last in _BEFORE_NUMBERS and following.isdigit()):
            return None
    return start if start > before else None


@lru_cache(maxsize=1)
def _pysbd() -> Splitter:
    """Return pysbd's rules for English."""
    import pysbd

    segmenter: Any = pysbd.Segmenter(language="en", clean=False)
    lock = threading.Lock()

    def split(text: str) -> list[Span]:
        with lock:
            sentences = [sentence.strip() for sentence in segmenter.segment(text)]
        found: list[int] = [0]
        place = 0
        for sentence in sentences:
            at = text.find(sentence, place) if sentence else -1
            if at < 0:  # it changes some characters: such a sentence stays with the one before
                continue
            if at > found[-1]:
                found.append(at)
            place = at + len(sentence)
        return list(zip(found, [*found[1:], len(text)], strict=True))

    return split
