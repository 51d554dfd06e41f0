"""Examples in the OpenAPI document of records that carry none themselves."""

from __future__ import annotations

from typing import Any

_CARD = {
    "model": "tiny",
    "artifact": "0123456789abcdef",
    "folder": "tiny-2026-12",
    "since": "2026-11-24T10:00:00+00:00",
    "previous": "fedcba9876543210",
    "method": "ltt",
    "loss": "disagree",
    "alpha": 0.05,
    "confidence": 0.9,
    "promise": "Over new requests exchangeable with these 500, at most 0.05 ...",
    "calibration_traces": 500,
    "expires": None,
    "silence": None,
    "detail": None,
}

EXAMPLES: dict[str, dict[str, Any]] = {
    "ArtifactCard": _CARD,
    "Artifacts": {"artifacts": [_CARD]},
    "Compression": {
        "documents": [
            {
                "id": "c",
                "text": "Canberra is the capital of Australia.",
                "kept": [{"start": 14, "end": 51, "score": 3.2}],
                "duplicate_of": None,
            }
        ],
        "tokens_in": 18,
        "tokens_out": 8,
        "tokens_by": "estimate:words-and-marks",
        "artifact": "0123456789abcdef",
        "threshold": 1.5,
        "reason": "compressed",
    },
    "KillSwitch": {"on": True, "why": "answers look cut short"},
    "KillSwitchState": {
        "on": True,
        "by": "operations",
        "why": "answers look cut short",
        "time": "2026-11-24T10:00:00+00:00",
    },
    "Load": {"model": None, "folder": "tiny-2026-12"},
    "Rollback": {"model": None},
    "Readiness": {
        "ready": True,
        "draining": False,
        "unready": {},
        "degraded": {},
        "store": {"kind": "redis", "reachable": True},
        "artifacts": [
            {"model": "tiny", "artifact": "0123456789abcdef", "stops": True, "silence": None}
        ],
        "kill_switch": None,
        "alarms": {},
        "keys": None,
        "parts": {},
    },
    "Rearm": {"artifact": "0123456789abcdef", "why": "the new prompt template was taken back"},
    "RearmedAnswer": {
        "artifact": "0123456789abcdef",
        "rearmed": {
            "by": "operations",
            "why": "the new prompt template was taken back",
            "time": "2026-11-24T10:00:00+00:00",
            "times": 1,
        },
        "generation": 7,
    },
    "Receipt": {"counted": 1, "waiting": 0, "left_out": [], "alarms": []},
    "Stopping": {"outcome": "stopping"},
}
"""By the name of the schema."""
