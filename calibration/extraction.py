r"""Answers in outputs without a box: "The answer is ...", "Final answer: ...", "####", an option.

Each function reads the text *after* the thinking. A closed ``\boxed{...}`` always wins; what comes
next depends on the kind of answer, and the last hit in the text counts, because models correct
themselves. None means that there is no answer, which equals nothing.
"""

from __future__ import annotations

import re

from calibration.answers import extract_answer

#: GSM8K writes "#### 72" (Cobbe et al., "Training Verifiers to Solve Math Word Problems", 2021).
_HASHES = re.compile(r"^\s*####[ \t]*(\S.*)$", re.MULTILINE)
_FILLER = r"(?:[^\S\n]+(?!not\b)\w+){0,4}?"
_MARKER = re.compile(
    # "The answer is", "the correct answer to the question is", "**Final Answer:**", "Answer -"; a
    # heading "### Final Answer" with the answer on the next line that holds something.
    rf"\b(?:answer|(?:correct|right|best)[^\S\n]+(?:choice|option)){_FILLER}[^\S\n]*[*_]*"
    rf"[^\S\n]*(?::|=|\bis\b(?:[^\S\n]+(?:therefore|thus|then|indeed))?[^\S\n]*:?)[*_\s]*([^\n]*)"
    r"|^[#*_\s]*final answer[*_ \t]*\n[*_\s]*([^\n]*)",
    re.IGNORECASE | re.MULTILINE,
)
_SENTENCE_END = re.compile(r"[.!?](?=\s|$)")
_FIGURE = re.compile(
    r"[-+]?(?:\\frac\{\d+\}\{\d+\}|(?:\d[\d,]*\.?\d*|\.\d+)(?:[eE][-+]?\d+)?(?:/\d+)?)"
)
_BRACKETED = re.compile(r"\(([A-Ja-j])\)|\[([A-J])\]")
_BOLD = re.compile(r"\*\*[(\[]?([A-J])[)\]]?(?:[.:)][^*\n]*)?\*\*")
_LEADING = re.compile(r"^[^\S\n]*(?:[-*>][^\S\n]+)?([A-J])(?:[.):]|[^\S\n]*$)", re.MULTILINE)
_EMPHASIS = re.compile(r"\*\*([^\s*](?:[^*]*[^\s*])?)\*\*")
_NAMED = re.compile(r"\b(?:option|choice)[^\S\n]+[(\[]?([A-Ja-j])\b", re.IGNORECASE)

# At the start of a stated answer: a letter in brackets or before punctuation; a bare capital.
_FIRST = re.compile(r"(?:option\s+|choice\s+)?[(\[*]*([A-Ja-j])(?:[)\]*]+|[.,:;](?=\s|$)|$)", re.I)
_FIRST_BARE = re.compile(
    r"(?:[Oo]ption\s+|[Cc]hoice\s+)?([B-HJ](?=\s)|[AI](?=\s+(?:because|since|as|which|and|-)\b))"
)


def boxed(text: str) -> str | None:
    r"""Take the last closed ``\boxed{...}`` and nothing else; see :func:`extract_answer`."""
    return extract_answer(text)


def stated(text: str) -> str | None:
    r"""Take a box, else what follows "####", else the line after the last "answer is" or "answer:".

    Examples
    --------
    >>> stated("So 7 boxes.\n#### 72"), stated("**Final Answer:** Paris.")
    ('72', 'Paris')
    """
    box = extract_answer(text)
    if box is not None:
        return box
    if hashes := _HASHES.findall(text):
        return _plain(hashes[-1])
    return next(iter(_marked(text)), None)


def mathematical(text: str) -> str | None:
    """Take what is :func:`stated`, up to the end of its sentence.

    Examples
    --------
    >>> mathematical("The answer is $x = 5$. This uses the first line.")
    '$x = 5$'
    """
    answer = stated(text)
    if answer is None or answer == extract_answer(text):
        return answer
    return _plain(_SENTENCE_END.split(answer, maxsplit=1)[0])


def numeric(text: str) -> str | None:
    """Take what is stated, or else the last number of the text.

    A stated answer in words gives its last number: "The answer is 72 dollars in all".

    Examples
    --------
    >>> numeric("She pays 3 + 4 = 7 dollars."), numeric("No idea.")
    ('7', None)
    """
    box = extract_answer(text)
    if box is not None:
        return box
    source = mathematical(text)
    figures = _FIGURE.findall(source if source is not None else text) or _FIGURE.findall(text)
    return figures[-1].rstrip(",.") if figures else None


def short_text(text: str) -> str | None:
    r"""Take what is stated, or else the last line that is not empty.

    "Final answer:" with nothing after it is an answer that never came: None.

    Examples
    --------
    >>> short_text("It lies on the Seine.\n\nParis\n")
    'Paris'
    """
    answer = stated(text)
    if answer is not None or leads_in(text):
        return answer
    lines = [plain for line in text.splitlines() if (plain := _plain(line)) is not None]
    return lines[-1] if lines else None


def option(text: str) -> str | None:
    r"""Take a box, else the option that is stated, else the last option that is marked.

    Marked means "option B", "(B)", "[B]", "**B**", or a line that starts with "B." or is "B". A
    bare capital within a sentence is not taken: "A" and "I" are words. What is stated without a
    letter ("The answer is Paris") is the answer as it stands.

    Examples
    --------
    >>> option("The correct answer is B because of (A)."), option("(A) is less.\n\n**B. Paris**")
    ('B', 'B')
    """
    box = extract_answer(text)
    if box is not None:
        return box
    for answer in _marked(text):
        if not answer.casefold().startswith("not "):
            found = _FIRST.match(answer) or _FIRST_BARE.match(answer)
            return found[1].upper() if found else answer
    marks = [
        (match.start(), next(group for group in match.groups() if group))
        for pattern in (_NAMED, _BRACKETED, _BOLD, _LEADING)
        for match in pattern.finditer(text)
    ]
    return max(marks)[1].upper() if marks else None


def leads_in(text: str) -> bool:
    """Tell whether a text ends in words after which an answer follows, such as "Final answer:"."""
    matches = list(_MARKER.finditer(text))
    if not matches:
        return False
    last = matches[-1]
    return _plain(text[last.start(1 if last[1] is not None else 2) :]) is None


def _marked(text: str) -> list[str]:
    """Give what follows each marker, the last marker first."""
    found = [_plain(match[1] or match[2] or "") for match in _MARKER.finditer(text)]
    return [answer for answer in reversed(found) if answer is not None]


def _plain(line: str) -> str | None:
    """Strip Markdown around a line, and the full stop after it."""
    stripped = _EMPHASIS.sub(r"\1", line).strip().strip("*_#>` \t").strip()
    if stripped.endswith(".") and not stripped.endswith(".."):
        stripped = stripped[:-1].rstrip("*_` ")
    return stripped or None
