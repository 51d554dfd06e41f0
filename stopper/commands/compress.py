"""``stopper compress``: keep the sentences of documents that a question may need."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from stopper.context import Compressed, Document


class ScorerOption(StrEnum):
    """What scores the sentences."""

    encoder = "encoder"
    overlap = "overlap"


def compress(
    documents: Annotated[
        Path, typer.Argument(help='One {"title", "text"} a line; - reads standard input.')
    ],
    query: Annotated[str, typer.Option(help="The question.")],
    artifact: Annotated[
        Path | None,
        typer.Option(help="Calibrated sentence filter; default: the one that comes along."),
    ] = None,
    alpha: Annotated[
        float | None,
        typer.Option(help="Share of queries that may lose a sentence they need, in (0, 1)."),
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(help="In its place: drop sentences with -score above it.")
    ] = None,
    floor: Annotated[int, typer.Option(help="Sentences to keep at least.", min=0)] = 0,
    scorer: Annotated[
        ScorerOption,
        typer.Option(help="encoder, or overlap: shared words, without a promise."),
    ] = ScorerOption.encoder,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON with offsets and scores.")
    ] = False,
) -> None:
    """Drop the sentences that cannot help to answer a question.

    Prints what is left, documents parted by a blank line; what it took and left goes to standard
    error.
    """
    # Imported here: `stopper --help` and the other commands need none of it.
    from stopper.commands._tables import note
    from stopper.context.filters import make_filter

    read = _read(documents)
    found = make_filter(scorer.value, artifact, alpha=alpha, threshold=threshold)
    done = found.compress(query, read, floor=floor)
    if as_json:
        typer.echo(_json(done, read, found.artifact))
    elif done.text:
        typer.echo(done.text.encode("utf-8", "replace").decode())  # surrogates cannot be printed
    note(
        f"{done.reason}: kept {len(done.kept)} of {len(done.sentences)} sentences of "
        f"{len(read)} documents, {done.tokens_out} of {done.tokens_in} tokens (estimated), "
        f"threshold {done.threshold:g}"
    )


def _read(file: Path) -> list[Document]:
    import json
    import sys

    from stopper.context import Document
    from stopper.errors import InputError

    name = "standard input" if str(file) == "-" else str(file)
    try:
        data = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
        text = data.decode()
    except OSError as error:
        raise InputError(
            f'{name}: {error.strerror}; give a file with one {{"title", "text"}} a line'
        ) from None
    except UnicodeDecodeError as error:
        raise InputError(f"{name}: not UTF-8 at byte {error.start}; convert it first") from None
    found = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        where = f"{name}, line {number}"
        try:
            fields: Any = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{where}: no JSON: {error}") from None
        if not isinstance(fields, dict) or not isinstance(fields.get("text"), str):
            raise InputError(f'{where}: needs {{"title": "...", "text": "..."}}')
        title = fields.get("title")
        if title is not None and not isinstance(title, str):
            raise InputError(f"{where}: title: must be a string")
        key = fields.get("id")
        found.append(Document(title or "", fields["text"], None if key is None else str(key)))
    return found


def _json(done: Compressed, read: list[Document], artifact: str | None) -> str:
    import json
    import math

    from stopper.context import ESTIMATE

    kept: list[list[dict[str, Any]]] = [[] for _ in read]
    for one in done.kept:
        score = None if math.isnan(one.score) else one.score
        kept[one.document].append({"start": one.start, "end": one.end, "score": score})
    answer = {
        "documents": [
            {
                "id": document.id,
                "title": document.title,
                "text": text,
                "kept": kept[index],
                "duplicate_of": done.duplicates.get(index),
            }
            for index, (document, text) in enumerate(zip(read, done.documents, strict=True))
        ],
        "tokens_in": done.tokens_in,
        "tokens_out": done.tokens_out,
        "tokens_by": ESTIMATE,
        "artifact": artifact,
        "threshold": done.threshold if math.isfinite(done.threshold) else None,
        "reason": done.reason,
    }
    return json.dumps(answer, indent=1)  # ASCII: also broken Unicode survives
