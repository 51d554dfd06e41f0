"""Events are parted into bodies that the sidecar takes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from stopper.wire import MAX_BATCH, DecisionEvent

MOST_BYTES = 4 << 20
"""Of hidden states in one batch: in JSON a third more, and below the sidecar's bound of 16 MiB."""


def batches(events: Sequence[DecisionEvent]) -> Iterator[list[DecisionEvent]]:
    """Yield the events in order, at most `MAX_BATCH` and `MOST_BYTES` at a time; none is empty."""
    batch: list[DecisionEvent] = []
    size = 0
    for event in events:
        own = 0 if event.hidden_state is None else len(event.hidden_state.data)
        if batch and (len(batch) == MAX_BATCH or size + own > MOST_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(event)
        size += own
    if batch:
        yield batch
