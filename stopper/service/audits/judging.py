"""From a finished request to an audit: what to ask, and whether the answers agree. Pure.

Everything is done as when the calibration traces were labelled, by the artifact's own closing and
comparer: other eyes would see another risk than was promised.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import msgspec

from calibration.comparers import Comparer, get_comparer
from calibration.monitor import Audit
from probes.provenance import Closing
from stopper.errors import InputError, UnsupportedError
from stopper.service.catalog import Served
from stopper.service.proxy.finished import FinishedRequest

_TRIAL = ("x+1", "1+x")
"""Equal by symbols only: shows whether what the comparer needs is installed."""


class Record(msgspec.Struct, frozen=True):
    """What an audit needs of the engine's record (docs/vllm.md, "Decisions")."""

    decision: str
    artifact: str
    cues: int
    top_score: float | None
    alpha: float | None
    position: int | None
    score: float | None

    @property
    def marked(self) -> bool:
        """Whether it would have been stopped."""
        return self.decision == "marked"


@dataclass(frozen=True, slots=True)
class Judge:
    """Judges the requests of one artifact."""

    version: str
    closing: Closing
    comparer: Comparer

    @classmethod
    def of(cls, served: Served) -> Judge:
        """Take what is needed out of an artifact.

        Raises
        ------
        InputError
            Where its requests cannot be audited live, with the reason; also if the comparer is not
            installed.

        """
        manifest, where = served.artifact.manifest, f"artifact {served.version}"
        if served.record.loss != "disagree":
            raise InputError(
                f"{where}: loss {served.record.loss!r} needs the right answers, which live traffic "
                "does not have. Label audits yourself and hand them in by POST /v1/audits, or "
                "calibrate with `--loss disagree`"
            )
        if manifest.closing is None:
            raise InputError(f"{where}: was made from scores and tells no way to force an answer")
        if manifest.comparer is None:
            raise InputError(
                f"{where}: does not say how answers were compared. Name it by `stopper upgrade`, "
                "or calibrate again"
            )
        comparer = get_comparer(manifest.comparer)
        try:
            comparer.same(*_TRIAL)
        except UnsupportedError as error:
            raise InputError(f"{where}: {error}") from None
        return cls(served.version, manifest.closing, comparer)

    def prompt(self, request: FinishedRequest, position: int) -> list[int]:
        """Return the token ids that make the model answer at a position."""
        closing = self.closing
        assert request.prompt_token_ids is not None
        assert request.output_token_ids is not None
        thought = request.output_token_ids[:position]
        return [*request.prompt_token_ids, *thought, *closing.end_ids, *closing.answer_prompt_ids]

    def answer_ids(self, request: FinishedRequest) -> list[int]:
        """Return the token ids of the full answer; none where the thinking never ended."""
        assert request.output_token_ids is not None
        output = request.output_token_ids
        found = list(output[thinking_tokens(output, self.closing.end_ids) :])
        del found[: len(self.closing.end_ids)]
        # Labelling leaves special tokens out; but for the last one answers have none.
        return found[:-1] if request.finish_reason not in (None, "length") else found

    def forced(self, text: str) -> str | None:
        """Take the answer out of what was generated at the mark."""
        return self.comparer.extract_forced(text, self.closing.answer_prompt)

    def full(self, text: str) -> str | None:
        """Take the answer out of what followed the thinking."""
        return self.comparer.extract(text)

    def audit(self, request: FinishedRequest, record: Record, loss: int) -> Audit:
        """Write the audit.

        Raises
        ------
        pydantic.ValidationError
            If the engine's record contradicts itself.

        """
        assert request.output_token_ids is not None
        time: datetime = request.time
        return Audit.model_validate(
            {
                "request_id": request.request_id,
                "time": time,
                "artifact": record.artifact,
                "alpha": record.alpha,
                "loss_name": "disagree",
                "marked": record.marked,
                "loss": loss,
                "score": record.score if record.marked else None,
                "cues": record.cues,
                "tokens": thinking_tokens(request.output_token_ids, self.closing.end_ids),
                "top_score": record.top_score if record.cues else None,
            }
        )


def thinking_tokens(output_ids: Sequence[int], end_ids: Sequence[int]) -> int:
    """Count output tokens before the end of thinking; all of them if it never ends."""
    end, at = tuple(end_ids), -1
    while True:
        try:
            at = output_ids.index(end[0], at + 1)
        except ValueError:
            return len(output_ids)
        if tuple(output_ids[at : at + len(end)]) == end:
            return at
