"""Registers the algorithm with SGLang, in each of its processes."""

from __future__ import annotations

from adapters.sglang.version import installed_sglang, require_sglang

NAME = "StopperLowConfidence"


def register() -> None:
    """Add the algorithm to SGLang's by name; idempotent.

    Raises
    ------
    UnsupportedError
        If this SGLang is unknown. SGLang logs it, and then knows no algorithm of that name.

    """
    require_sglang(installed_sglang())
    from sglang.srt.dllm.algorithm import algo_name_to_cls

    from adapters.sglang.algorithm import StopperLowConfidence

    algo_name_to_cls[NAME] = StopperLowConfidence
