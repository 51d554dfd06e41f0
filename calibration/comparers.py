"""Named ways to take an answer out of an output and to compare two of them.

A comparer decides what "the same answer" means, and with it every label and every promise: its name
is kept in the trace store and in the artifact. The choices are built in (:data:`COMPARERS`) or come
from other distributions by the entry-point group ``stopper.comparers``, see :func:`get_comparer`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from itertools import product
from types import MappingProxyType
from typing import Any

from calibration import equality, extraction
from calibration.answers import extract_answer, extract_forced, open_box, same_answer
from probes.errors import InputError

GROUP = "stopper.comparers"
"""Entry-point group: the name is the comparer's, the value a function or a :class:`Comparer`."""

_SPECIMENS = ("", " ", "1", "1.0", "A", "(B) Paris", "paris", r"\frac{1}{2}", "1/2", "\uff21")
"""Answers that a custom comparer is tried on before it is used."""


@dataclass(frozen=True, slots=True)
class Comparer:
    """A way to take and to compare answers.

    Attributes
    ----------
    name
        As in ``stopper collect --comparer``, trace stores and artifacts.
    meaning
        Which answers are the same, in half a sentence.
    equal
        Tells whether two present answers are equal. Symmetric, deterministic, defined on any text.
    extract
        Takes the answer out of what an output holds after the thinking; None where there is none.

    """

    name: str
    meaning: str
    equal: Callable[[str, str], bool]
    extract: Callable[[str], str | None] = extraction.short_text

    def same(self, first: str | None, second: str | None) -> bool:
        """Tell whether two answers are equal; an absent answer equals nothing, not even another."""
        return first is not None and second is not None and self.equal(first, second)

    def extract_forced(self, text: str, answer_prompt: str) -> str | None:
        r"""Take the answer out of what follows a forced end of thinking.

        Where the prompt opens a box, the answer is what closes it, for every comparer; see
        :func:`calibration.answers.extract_forced`. Else what ``extract`` finds in ``text``, read as
        following "Final answer:" where the prompt ends in words like these.
        """
        if self.extract is extract_answer or open_box(answer_prompt) is not None:
            return extract_forced(text, answer_prompt)
        if not text.strip():
            return None
        stated = "Final answer: " + text.lstrip() if extraction.leads_in(answer_prompt) else text
        return self.extract(stated)


AUTO = Comparer(
    "auto",
    "letters, words, numbers to 1e-4 (whole ones exactly), and symbolic equality by math-verify",
    same_answer,
    extract_answer,
)

COMPARERS: Mapping[str, Comparer] = MappingProxyType(
    {
        comparer.name: comparer
        for comparer in (
            AUTO,
            Comparer(
                "math",
                "math-verify alone decides",
                equality.same_mathematics,
                extraction.mathematical,
            ),
            Comparer(
                "choice",
                "the same option's letter; the option's text is ignored",
                equality.same_option,
                extraction.option,
            ),
            Comparer(
                "text",
                "the same words but for case, punctuation, articles and white space",
                equality.same_text,
                extraction.short_text,
            ),
            Comparer(
                "number",
                "one number each, within a relative 1e-4; units are ignored",
                equality.same_number,
                extraction.numeric,
            ),
            Comparer(
                "exact",
                "the same characters but for white space around them",
                equality.same_string,
                extraction.short_text,
            ),
        )
    }
)


_REGISTERED: dict[str, Comparer] = {}


def choices() -> list[str]:
    """Name all comparers: the built-in ones, then the others; loads none."""
    custom = {*(entry.name for entry in entry_points(group=GROUP)), *_REGISTERED} - set(COMPARERS)
    return [*COMPARERS, *sorted(custom)]


def register(name: str, comparer: Comparer | Callable[[str, str], bool]) -> Comparer:
    """Make a comparer known by its name in this process: for scripts and notebooks.

    Every process that reads a trace store or an artifact with this name has to register it; an
    entry point does so for all of them. The contract is that of :func:`get_comparer`. Registering
    a name again replaces it.

    Raises
    ------
    InputError
        If the name is built in or an entry point's, or the comparer breaks the contract.

    """
    if name in COMPARERS or list(entry_points(group=GROUP, name=name)):
        raise InputError(f"comparer {name!r} exists already. Choose another name")
    found = _checked(f"comparer {name!r} (registered)", name, comparer)
    _REGISTERED[name] = found
    return found


def get_comparer(name: str) -> Comparer:
    """Look a comparer up by name.

    A custom one is a function ``(str | None, str | None) -> bool`` or a :class:`Comparer` under
    the entry-point group ``stopper.comparers``, or given to :func:`register`. Its contract:
    *symmetric*, *deterministic* and *total* (a bool for any two texts, no exception). It is tried
    on specimens first, and watched at every call. It is never asked about an absent answer: that
    equals nothing. A bare function reads outputs as the comparer ``text`` does.

    Raises
    ------
    InputError
        If the name is unknown (listing the choices), given twice, takes a built-in name, cannot be
        loaded, or breaks the contract.

    """
    # One distribution may be listed twice where two folders of the path hold it.
    entries = {
        (_origin(entry), entry.value): entry for entry in entry_points(group=GROUP, name=name)
    }
    found = list(entries.values())
    if name in COMPARERS:
        if found:
            raise InputError(
                f"comparer {name!r} is built in, but {_origin(found[0])} has one of the same name; "
                "rename that, or uninstall it"
            )
        return COMPARERS[name]
    if not found and name in _REGISTERED:
        return _REGISTERED[name]
    if not found:
        raise InputError(
            f"comparer {name!r} is unknown; choose one of {', '.join(choices())}. Others come with "
            f"distributions that have an entry point in the group {GROUP}"
        )
    if len(found) > 1:
        raise InputError(
            f"comparer {name!r} comes from several distributions: "
            f"{', '.join(map(_origin, found))}. Uninstall all but one"
        )
    return _load(found[0])


@lru_cache(maxsize=32)
def _load(entry: EntryPoint) -> Comparer:
    where = f"comparer {entry.name!r} ({_origin(entry)})"
    try:
        loaded = entry.load()
    except Exception as problem:  # any import error of somebody else's code
        cause = f"{type(problem).__name__}: {problem}".splitlines()[0]
        raise InputError(f"{where} cannot be loaded: {cause}. Mend or uninstall it") from None
    return _checked(where, entry.name, loaded)


def _checked(where: str, name: str, loaded: Any) -> Comparer:
    """Wrap a custom comparer so that it is watched, and try it on specimens."""
    if isinstance(loaded, Comparer):
        equal, extract, meaning = loaded.equal, loaded.extract, loaded.meaning
    elif callable(loaded):
        equal, extract = loaded, extraction.short_text
        meaning = next(iter((loaded.__doc__ or "").strip().splitlines()), "a custom comparison")
    else:
        raise InputError(f"{where} is a {type(loaded).__name__}, no function. Mend or uninstall it")
    watched = Comparer(name, meaning, _watched(where, equal), _watched_extraction(where, extract))
    _try(where, watched)
    return watched


def _watched(where: str, equal: Callable[[str, str], Any]) -> Callable[[str, str], bool]:
    """Ask both ways round, and refuse what breaks the contract instead of labelling by it."""

    def ask(first: str, second: str) -> bool:
        try:
            answer = equal(first, second)
        except Exception as problem:  # somebody else's code
            cause = f"{type(problem).__name__}: {problem}".splitlines()[0]
            raise InputError(f"{where} failed on {first!r} and {second!r}: {cause}") from None
        if not isinstance(answer, bool):
            kind = type(answer).__name__
            raise InputError(f"{where} gave {kind}, not bool, for {first!r} and {second!r}")
        return answer

    @lru_cache(maxsize=65_536)
    def both(first: str, second: str) -> bool:
        answer = ask(first, second)
        if ask(second, first) is not answer:
            raise InputError(
                f"{where} is not symmetric: {first!r} and {second!r} differ by their order"
            )
        return answer

    return lambda first, second: both(*sorted((first, second)))


def _watched_extraction(where: str, extract: Callable[[str], Any]) -> Callable[[str], str | None]:
    def take(text: str) -> str | None:
        try:
            answer = extract(text)
        except Exception as problem:  # somebody else's code
            cause = f"{type(problem).__name__}: {problem}".splitlines()[0]
            raise InputError(f"{where} failed to take an answer out of {text!r}: {cause}") from None
        if answer is None or isinstance(answer, str):
            return answer
        raise InputError(f"{where} took a {type(answer).__name__}, not text, out of {text!r}")

    return take


def _try(where: str, comparer: Comparer) -> None:
    pairs = list(product(_SPECIMENS, repeat=2))
    rounds = []
    for order in (pairs, pairs[::-1]):
        # Past the cache: the second round must ask again.
        watched = _watched(where, comparer.equal)
        rounds.append({pair: watched(*pair) for pair in order})
    if rounds[0] != rounds[1]:
        pair = next(pair for pair in pairs if rounds[0][pair] != rounds[1][pair])
        raise InputError(f"{where} is not deterministic: asked twice about {pair}, it differs")
    for text in _SPECIMENS:
        comparer.extract(text)


def _origin(entry: EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist is not None else entry.value
