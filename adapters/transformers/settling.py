"""How a canvas settles, pass by pass, and where a halting rule would end it: for the eye."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.text import Text

from adapters.transformers.generation import Pass, decode
from adapters.transformers.loading import Loaded
from adapters.transformers.requests import Request
from adapters.transformers.sampler import Sampler
from calibration.denoising_table import COLUMNS
from stopper.halting import HaltingRule

MASK, END = "\N{LIGHT SHADE}", "\N{MIDDLE DOT}"
_LINES = 9
_PAUSE = 0.06


@dataclass(slots=True)
class Frame:
    """One pass: the canvas after it, what halting there fills in, and the rule's score."""

    canvas: tuple[int, ...]
    filled: tuple[int, ...]
    score: float


@dataclass(slots=True)
class Settling:
    """The full decode of one request, watched; `halt` is where the rule would end it, or None."""

    request: Request
    frames: list[Frame] = field(default_factory=list)
    halt: int | None = None
    same: bool = True


def watch(
    loaded: Loaded,
    requests: Sequence[Request],
    sampler: Sampler,
    rule: HaltingRule,
    level: float,
) -> list[Settling]:
    """Decode requests fully, keeping every canvas; of several blocks the first halt is marked."""
    found = [Settling(request) for request in requests]
    column, spans = COLUMNS.index(rule.signal), sampler.blocks()

    def see(seen: Pass) -> None:
        scores = rule.scores(seen.signals[:, column], seen.progress, seen.changed)
        canvas, filled = seen.canvas.cpu().numpy(), seen.filled.cpu().numpy()
        for place, index in enumerate(seen.requests):
            start, end = spans[int(seen.blocks[place])]
            now, settling = canvas[place], found[index]
            whole = np.concatenate([now[:start], filled[place][: end - start], now[end:]])
            score = scores[place]
            if settling.halt is None and score > np.float32(level) and not seen.ended[place]:
                settling.halt = len(settling.frames)
            settling.frames.append(Frame(tuple(now.tolist()), tuple(whole.tolist()), float(score)))

    decode(loaded.model, requests, sampler, batch_size=len(requests), watch=see)
    for settling in found:
        if settling.halt is not None:
            halted = settling.frames[settling.halt].filled
            settling.same = loaded.judge.same(halted, settling.frames[-1].canvas)
    return found


def show(console: Console, found: Settling, loaded: Loaded, level: float, title: str) -> None:
    """Print how one canvas settles; in a terminal pass by pass, else a few passes of it."""
    stop = len(found.frames) - 1 if found.halt is None else found.halt
    if console.is_terminal:
        with Live(console=console, transient=True, refresh_per_second=20) as live:
            for index in range(stop + 1):
                live.update(Panel(_line(found, index, loaded), title=title))
                time.sleep(_PAUSE)
    places = sorted({*np.linspace(0, stop, min(_LINES, stop + 1)).round().astype(int).tolist()})
    lines = [_line(found, index, loaded) for index in places]
    full, judge = found.frames[-1].canvas, loaded.judge
    if found.halt is None:
        lines.append(Text("never sure enough: decoded to its end", style="bold"))
    else:
        halted = found.frames[found.halt].filled
        score = found.frames[found.halt].score
        mark = Text(" \N{BLACK SQUARE} halted here ", style="bold white on red")
        mark.append(f" score {score:.2f} > {level:.2f}; all that is left is filled in at once: ",
                    style="not bold default on default")  # fmt: skip
        lines.append(mark)
        lines.append(_canvas(halted, found.frames[found.halt].canvas, loaded))
    answer = Text("answer when halted: ", style="bold")
    shown = full if found.halt is None else found.frames[found.halt].filled
    answer.append(judge.text(shown).strip(), style="green" if found.same else "red")
    answer.append(f"   full decode: {judge.text(full).strip()}   gold: {found.request.gold}")
    lines.append(answer)
    saved = f"{len(found.frames) - stop - 1} of {len(found.frames)} passes spared"
    console.print(Panel(Group(*lines), title=title, subtitle=saved))


def _line(found: Settling, index: int, loaded: Loaded) -> Text:
    frame = found.frames[index]
    before = found.frames[index - 1].canvas if index else ()
    text = Text(f"{index + 1:>4} of {len(found.frames)}  ", style="dim")
    text.append_text(_canvas(frame.canvas, before, loaded))
    return text


def _canvas(tokens: Sequence[int], before: Sequence[int], loaded: Loaded) -> Text:
    """Spell a canvas; what was not there before stands out."""
    text = Text()
    mask, ends = loaded.model.mask_token_id, set(loaded.model.end_ids)
    for place, token in enumerate(tokens):
        fresh = not before or before[place] == mask
        if token == mask:
            text.append(MASK, style="dim")
        elif token in ends:
            text.append(END, style="dim")
        else:
            word = str(loaded.tokenizer.decode([token])).strip() or END
            text.append(word, style="bold cyan" if fresh else "default")
        text.append(" ")
    return text
