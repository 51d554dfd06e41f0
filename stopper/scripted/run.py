"""One request on the scripted engine: its tokens, and the decisions at its cues."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from stopper.request_options import RequestOptions
from stopper.scripted.script import Piece, Script, Trace
from stopper.scripted.tokens import EOS, Tokenizer

Part = Literal["thinking", "mark", "answer", "end"]
Ask = Literal["stopping", "not_watched", "not_thinking", "already_stopping"]


@dataclass(frozen=True, slots=True)
class Token:
    """One output token; `part` "mark" is the end of thinking, "end" the end of the sequence."""

    id: int
    text: str
    part: Part


class Oracle(Protocol):
    """Decides elsewhere, in its own time; a stop is heard of by `told`."""

    def ask(self, run: Run, piece: Piece, position: int) -> None:
        """Send a cue."""

    def told(self, run: Run) -> Verdict | None:
        """Return a stop that has come in since, once."""

    def forget(self, run: Run) -> None:
        """Take leave of a finished request."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A stop (a mark, in an audit), and what it rests on."""

    position: int
    cue: str | None
    score: float | None
    threshold: float | None
    reason: str
    artifact: str | None = None


@dataclass(slots=True)
class Heard:
    """What came of asking elsewhere.

    Attributes
    ----------
    asked
        Cues that were sent.
    lost
        Cues that nothing was decided on, by cause.
    last
        Reason of the newest decision.

    """

    asked: int = 0
    lost: Counter[str] = field(default_factory=Counter)
    last: str | None = None


@dataclass(slots=True)
class Run:
    """A request while it runs, and what is told of it afterwards.

    Attributes
    ----------
    response_id
        What the client sees; `request_id`, the engine's own, has eight more characters.
    forced
        The answer, where the prompt's thinking has been ended already.
    refusal
        Why the stopper leaves this request alone.

    """

    request_id: str
    response_id: str
    trace: Trace
    prompt_ids: list[int]
    max_tokens: int
    options: RequestOptions
    alpha: float | None
    threshold: float | None
    refusal: str | None = None
    forced: str | None = None
    output_ids: list[int] = field(default_factory=list)
    cue_scores: list[tuple[int, float]] = field(default_factory=list)
    verdict: Verdict | None = None
    thinking_tokens: int = 0
    finish_reason: Literal["stop", "length", "abort"] | None = None
    thinks: bool = True
    heard: Heard = field(default_factory=Heard)
    forced_position: int | None = None
    _ordered: bool = False

    @property
    def watched(self) -> bool:
        """Whether the stopper looks at this request at all."""
        return self.refusal is None

    def stop_thinking(self) -> Ask:
        """End the thinking at the next token, as a client's call asks."""
        if not self.watched:
            return "not_watched"
        if not self.thinks or self.finish_reason is not None:
            return "not_thinking"
        if self._ordered or (self.verdict is not None and self.options.mode != "audit"):
            return "already_stopping"
        self._ordered = True
        return "stopping"

    async def tokens(
        self, script: Script, tokenizer: Tokenizer, oracle: Oracle | None
    ) -> AsyncIterator[Token]:
        """Yield the output, at the script's pace; ends with token `EOS` or at `max_tokens`."""
        delay = self.trace.token_delay_ms
        delay = (script.token_delay_ms if delay is None else delay) / 1000
        if script.first_token_delay_ms:
            await asyncio.sleep(script.first_token_delay_ms / 1000)
        for token in self._course(script, tokenizer, oracle):
            await asyncio.sleep(delay)
            self.output_ids.append(token.id)
            self.thinking_tokens += token.part == "thinking"
            if token.part == "end":
                self.finish_reason = "stop"
            elif len(self.output_ids) >= self.max_tokens:
                self.finish_reason = "length"
            yield token
            if self.finish_reason is not None:
                return

    def _course(
        self, script: Script, tokenizer: Tokenizer, oracle: Oracle | None
    ) -> Iterator[Token]:
        answer = self.forced
        if answer is None:
            thought = ""
            for token in self._thinking(tokenizer, oracle):
                thought += token.text
                yield token
            early = self.thinks and len(thought) < len(self.trace.thinking)
            self.thinks = False
            yield Token(tokenizer.end_of_thinking, "</think>", "mark")
            answer = self.trace.answer
            if early:
                answer = script.answer_prompt + self.trace.forced_answer(thought)
        self.thinks = False
        for number in tokenizer.encode(answer):
            yield Token(number, tokenizer.decode([number]), "answer")
        yield Token(EOS, "", "end")

    def _thinking(self, tokenizer: Tokenizer, oracle: Oracle | None) -> Iterator[Token]:
        for piece in self.trace.pieces:
            for number in tokenizer.encode(piece.text):
                yield Token(number, tokenizer.decode([number]), "thinking")
                if self._told(oracle):
                    return
            if piece.cue is not None and self.watched and self._at_cue(piece, oracle):
                return

    def _told(self, oracle: Oracle | None) -> bool:
        """Return whether to end the thinking for a reason that came from outside."""
        if self._ordered:
            self.verdict = Verdict(len(self.output_ids), None, None, None, "asked_to_stop")
            return True
        if oracle is None or not self.watched or self.verdict is not None:
            return False
        self.verdict = oracle.told(self)
        if self.verdict is None or self.options.mode == "audit":
            return False
        self.forced_position = len(self.output_ids)
        return True

    def _at_cue(self, piece: Piece, oracle: Oracle | None) -> bool:
        assert piece.score is not None
        position = len(self.output_ids)
        self.cue_scores.append((position, piece.score))
        if self.verdict is not None:  # marked: it thinks on, and its later cues count
            return False
        if oracle is not None:
            self.heard.asked += 1
            oracle.ask(self, piece, position)
            return False
        assert self.threshold is not None
        if piece.score <= self.threshold:
            return False
        self.verdict = Verdict(
            position, piece.cue, piece.score, self.threshold, "score_above_threshold"
        )
        return self.options.mode != "audit"

    def record(self, artifact: str) -> dict[str, Any]:
        """Return the decision in the form that the vLLM plugin gives it (docs/vllm.md)."""
        verdict = self.verdict
        decision, reason = self._decided()
        if self.options.mode == "fixed" and reason.startswith("score_"):
            reason += "_without_promise"
        if verdict is not None and verdict.artifact is not None:
            artifact = verdict.artifact
        asked_elsewhere = {"forced_position": self.forced_position} if self.heard.asked else {}
        return {
            "request_id": self.request_id,
            "decision": decision,
            "reason": reason,
            "position": verdict and verdict.position,
            "score": verdict and verdict.score,
            "threshold": verdict.threshold if verdict else self.threshold,
            **asked_elsewhere,
            "alpha": self.alpha,
            "cue": verdict and verdict.cue,
            "cues": len(self.cue_scores),
            "top_score": max((score for _, score in self.cue_scores), default=None),
            "cue_scores": [list(pair) for pair in self.cue_scores],
            "prompt_tokens": len(self.prompt_ids),
            "artifact": artifact,
            "running": self.finish_reason is None,
        }

    def _decided(self) -> tuple[str, str]:
        """Return decision and reason."""
        if self.refusal is not None:
            return "off" if self.refusal == "asked_off" else "not_applied", self.refusal
        if self.verdict is not None:
            reason = self.verdict.reason
            marked = self.options.mode == "audit" and reason != "asked_to_stop"
            return "marked" if marked else "stopped", reason
        if not self.cue_scores:
            return "not_stopped", "no_cue"
        if not self.heard.asked:
            return "not_stopped", "score_below_threshold"
        if self.heard.last is not None:
            return "not_stopped", self.heard.last
        ((cause, _),) = self.heard.lost.most_common(1) or (("remote_unanswered", 0),)
        return "failed_open", cause
