"""A server that behaves like `vllm serve` with stopper in it, from a script instead of a model.

For tests without a GPU: it emits scripted thinking and cues, decides at them, and fails on demand.
"""

from stopper.scripted.app import ScriptedEngine, create_app
from stopper.scripted.faults import Fault
from stopper.scripted.script import (
    Piece,
    Script,
    Threshold,
    Trace,
    default_script,
    default_text,
    read_script,
)
from stopper.scripted.serving import serving

__all__ = [
    "Fault",
    "Piece",
    "Script",
    "ScriptedEngine",
    "Threshold",
    "Trace",
    "create_app",
    "default_script",
    "default_text",
    "read_script",
    "serving",
]
