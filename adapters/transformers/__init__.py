"""Masked diffusion language models in plain transformers: load, decode, halt, record, compare."""

from adapters.transformers.baselines import FULL, METHODS, Method, named
from adapters.transformers.checkpoints import export_dream, export_llada, load
from adapters.transformers.comparison import Figures, compare
from adapters.transformers.generation import Pass, decode
from adapters.transformers.identity import load_tokenizer
from adapters.transformers.judges import Judge, TextJudge, TokenJudge
from adapters.transformers.model import DiffusionLM
from adapters.transformers.recording import record
from adapters.transformers.requests import Decoded, Request, answer
from adapters.transformers.sampler import ORDERS, Sampler, Stability, Threshold

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
    "Threshold",
    "TokenJudge",
    "answer",
    "compare",
    "decode",
    "export_dream",
    "export_llada",
    "load",
    "load_tokenizer",
    "named",
    "record",
]
