"""A `Session` whose thresholds are the sidecar's."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from adapters.vllm.journal import finite
from adapters.vllm.record import Admitted
from adapters.vllm.remote.request import RemoteOutcome
from adapters.vllm.remote.sender import Sender
from adapters.vllm.remote.watch import RemoteWatch
from adapters.vllm.session import Session
from adapters.vllm.watch import Outcome
from stopper.policy import StopPolicy


class SidecarPolicy(StopPolicy):
    """Thresholds that are not known here: no score passes NaN."""

    def __init__(self) -> None:
        super().__init__(np.zeros(0, np.float32), "crc", 0.0)

    def threshold(self, alpha: float) -> np.float32:
        """See `StopPolicy`."""
        return np.float32(np.nan)


class RemoteSession(Session):
    """Asks the sidecar about requests in modes "stop" and "audit", and reports what came of it.

    Parameters
    ----------
    watch
        Follows the traces.
    sender
        What `watch` asks by; closed with the session.
    fields
        As for `Session`, without the policy.

    """

    def __init__(self, watch: RemoteWatch, sender: Sender, **fields: Any) -> None:
        super().__init__(watch, policy=SidecarPolicy(), **fields)
        self._remote = watch
        self._sender = sender

    def _admit(self, new: Any) -> None:
        super()._admit(new)
        admitted = self._admitted.get(new.req_id)
        if admitted is None or admitted.reason is not None or admitted.alpha is None:
            return  # refused, off, or by a fixed threshold
        self._remote.ask_for(new.req_id, admitted.alpha)

    def _record(self, outcome: Outcome, admitted: Admitted, *, running: bool) -> dict[str, Any]:
        found = super()._record(outcome, admitted, running=running)
        if not isinstance(outcome, RemoteOutcome) or outcome.remote is None:
            return found
        told = dict(outcome.remote)
        if outcome.failure or (running and told["remote"]["unanswered"]):
            # A fault of ours is the reason; and while answers are awaited there is none yet.
            told.pop("decision", None)
            told.pop("reason", None)
        fields: dict[str, Any] = finite({**found, **told})
        return fields

    def counters(self) -> dict[str, dict[str, int]]:
        """Return all counters, those of the sidecar's events among them."""
        found = super().counters()
        if not found:
            return found
        more = self._remote.counters()
        return {
            name: dict(Counter(found.get(name, {})) + Counter(more.get(name, {})))
            for name in (*found, *(name for name in more if name not in found))
        }

    def close(self) -> None:
        """See `Session`."""
        super().close()
        self._survive("close", self._sender.close)
