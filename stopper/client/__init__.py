"""A typed client of the sidecar, synchronous (`StopperClient`) and asynchronous.

Needs httpx and msgspec, and none of what the server is made of.
"""

from stopper.client._async import AsyncStopperClient
from stopper.client._errors import (
    BadAnswerError,
    BadRequestError,
    ClientError,
    ConflictError,
    ForbiddenError,
    NoAnswerError,
    NotFoundError,
    RefusedError,
    SidecarError,
    TimedOutError,
    TooManyRequestsError,
    UnauthorizedError,
    UnavailableError,
)
from stopper.client._hidden import hidden_state
from stopper.client._records import (
    ArtifactCard,
    ArtifactState,
    Audit,
    KillSwitchState,
    LeftOut,
    Readiness,
    RearmedAnswer,
    Receipt,
    Status,
    StoreState,
)
from stopper.client._sync import StopperClient
from stopper.wire import (
    Compression,
    ContextDocument,
    Decision,
    DecisionEvent,
    HiddenState,
    KeptSentence,
    KeptText,
    Problem,
)

__all__ = [
    "ArtifactCard",
    "ArtifactState",
    "AsyncStopperClient",
    "Audit",
    "BadAnswerError",
    "BadRequestError",
    "ClientError",
    "Compression",
    "ConflictError",
    "ContextDocument",
    "Decision",
    "DecisionEvent",
    "ForbiddenError",
    "HiddenState",
    "KeptSentence",
    "KeptText",
    "KillSwitchState",
    "LeftOut",
    "NoAnswerError",
    "NotFoundError",
    "Problem",
    "Readiness",
    "RearmedAnswer",
    "Receipt",
    "RefusedError",
    "SidecarError",
    "Status",
    "StopperClient",
    "StoreState",
    "TimedOutError",
    "TooManyRequestsError",
    "UnauthorizedError",
    "UnavailableError",
    "hidden_state",
]
