"""The drift monitor: whether today's traffic still keeps the promise.

An *audit* (:mod:`.audits`) is one request that was marked where it would have stopped, and not
stopped. The :class:`.Monitor` turns a stream of audits into an alarm that may be looked at after
every audit (:mod:`.evidence`), and into earlier, advisory warnings that the traffic no longer looks
like the calibration traffic (:mod:`.panels`). Its state is one JSON file (:mod:`.state`).
"""

from calibration.monitor.audits import Audit, audits_of, read_audits, write_audits
from calibration.monitor.evidence import METHODS, risk_interval
from calibration.monitor.monitor import Monitor, Settings
from calibration.monitor.panels import ProfileWarning
from calibration.monitor.state import (
    MonitorState,
    dump_state,
    load_state,
    read_state,
    write_state,
)
from calibration.monitor.verdict import Verdict

__all__ = [
    "METHODS",
    "Audit",
    "Monitor",
    "MonitorState",
    "ProfileWarning",
    "Settings",
    "Verdict",
    "audits_of",
    "dump_state",
    "load_state",
    "read_audits",
    "read_state",
    "risk_interval",
    "write_audits",
    "write_state",
]
