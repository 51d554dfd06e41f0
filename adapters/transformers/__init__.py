"""Plain transformers: reasoners stopped in ``generate``; diffusion LMs loaded, decoded and halted.

The names below are loaded when they are first used: the command line must start without torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adapters.transformers.baselines import FULL, METHODS, Method, named
    from adapters.transformers.checkpoints import export_dream, export_llada, load
    from adapters.transformers.comparison import Figures, compare
    from adapters.transformers.generation import Pass, decode
    from adapters.transformers.identity import load_tokenizer, model_fingerprint
    from adapters.transformers.judges import Judge, TextJudge, TokenJudge
    from adapters.transformers.model import DiffusionLM
    from adapters.transformers.recording import record
    from adapters.transformers.requests import Decoded, Request, answer
    from adapters.transformers.sampler import ORDERS, Sampler, Stability, Threshold
    from adapters.transformers.thinking import ThinkingOutcome, ThinkingStopper

__all__ = [
    "FULL",
    "METHODS",
    "ORDERS",
    "Decoded",
    "DiffusionLM",
    "Figures",
    "Judge",
    "Method",
    "Pass",
    "Request",
    "Sampler",
    "Stability",
    "TextJudge",
    "ThinkingOutcome",
    "ThinkingStopper",
    "Threshold",
    "TokenJudge",
    "answer",
    "compare",
    "decode",
    "export_dream",
    "export_llada",
    "load",
    "load_tokenizer",
    "model_fingerprint",
    "named",
    "record",
]

_HOMES = {
    "Decoded": "requests",
    "DiffusionLM": "model",
    "FULL": "baselines",
    "Figures": "comparison",
    "Judge": "judges",
    "METHODS": "baselines",
    "Method": "baselines",
    "ORDERS": "sampler",
    "Pass": "generation",
    "Request": "requests",
    "Sampler": "sampler",
    "Stability": "sampler",
    "TextJudge": "judges",
    "ThinkingOutcome": "thinking",
    "ThinkingStopper": "thinking",
    "Threshold": "sampler",
    "TokenJudge": "judges",
    "answer": "requests",
    "compare": "comparison",
    "decode": "generation",
    "export_dream": "checkpoints",
    "export_llada": "checkpoints",
    "load": "checkpoints",
    "load_tokenizer": "identity",
    "model_fingerprint": "identity",
    "named": "baselines",
    "record": "recording",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
