"""What counts as a cue: the words, the interval, the paragraph ends, and the thinking span."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from stopper.cue_letters import fold

_MAX_LABELS = 127  # labels are stored as int8, 0 meaning none


def _normal_words(words: Any) -> Any:
    """Fold case and blanks, drop repetitions; refuse what no boundary could be found for."""
    if isinstance(words, str) or not isinstance(words, Iterable):
        return words  # pydantic says what is wrong with it
    normal: dict[str, None] = {}
    for word in words:
        if not isinstance(word, str):
            raise ValueError(f"cue word {word!r} is not a string")
        folded = "".join(map(fold, " ".join(unicodedata.normalize("NFC", word).split())))
        wrong = [c for c in folded if not (c.isalnum() or c == " " or unicodedata.combining(c))]
        if not folded or wrong:
            raise ValueError(
                f"cue word {word!r} must be letters, digits and single spaces"
                + (f"; remove {wrong[0]!r}" if wrong else " and not be empty")
            )
        normal[folded] = None
    return tuple(normal)


TokenIds = tuple[Annotated[int, Field(ge=0, strict=True)], ...]


class CueSpec(BaseModel):
    """Where the thinking may be ended.

    Attributes
    ----------
    words
        Cue words or phrases; case and runs of white space do not matter. A cue whose last letter is
        doubled also matches drawn out ("hmmmm").
    interval
        Also an event at every N-th generated token; None for none.
    paragraph
        Also an event at the token that completes a blank line, once per run of blank lines.
    think_start_ids, think_end_ids
        Token ids that open and close the thinking; one or several each.
    starts_inside
        The output begins inside the thinking although no opening id stands in the prompt.

    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    words: Annotated[tuple[str, ...], BeforeValidator(_normal_words)] = (
        "hmm",
        "wait",
        "alternatively",
    )
    interval: int | None = Field(default=None, ge=1)
    paragraph: bool = False
    think_start_ids: TokenIds
    think_end_ids: TokenIds
    starts_inside: bool = False

    @model_validator(mode="after")
    def _check(self) -> CueSpec:
        for name in ("think_start_ids", "think_end_ids"):
            if not getattr(self, name):
                raise ValueError(f"{name} is empty: give the token ids that mark the thinking")
        if self.think_start_ids == self.think_end_ids:
            raise ValueError("think_start_ids and think_end_ids are the same ids")
        if not self.words and not self.paragraph and self.interval is None:
            raise ValueError("no cue at all: give words, an interval or paragraph=True")
        if len(self.words) + 2 > _MAX_LABELS:
            raise ValueError(f"{len(self.words)} cue words; at most {_MAX_LABELS - 2} are possible")
        return self

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the events; label i of the automaton is ``labels[i - 1]``."""
        names = list(self.words)
        if self.paragraph:
            names.append("paragraph")
        if self.interval is not None:
            names.append(f"every {self.interval}")
        return tuple(names)
