"""What travels between an engine, the sidecar and its clients: plain typed records, no framework.

JSON and MessagePack carry the same fields; in JSON bytes are base64 (RFC 4648, padded).
"""

from stopper.wire.context import (
    Compression,
    CompressRequest,
    ContextDocument,
    ContextFault,
    ContextReport,
    FilterReason,
    KeptSentence,
    KeptText,
)
from stopper.wire.events import (
    MAX_BATCH,
    MAX_POSITION,
    MAX_REQUEST_ID,
    Decision,
    DecisionBatch,
    DecisionEvent,
    Decisions,
    HiddenState,
    Reason,
)
from stopper.wire.problem import Problem
from stopper.wire.report import Outcome, Report

__all__ = [
    "MAX_BATCH",
    "MAX_POSITION",
    "MAX_REQUEST_ID",
    "CompressRequest",
    "Compression",
    "ContextDocument",
    "ContextFault",
    "ContextReport",
    "Decision",
    "DecisionBatch",
    "DecisionEvent",
    "Decisions",
    "FilterReason",
    "HiddenState",
    "KeptSentence",
    "KeptText",
    "Outcome",
    "Problem",
    "Reason",
    "Report",
]
