"""An offline vLLM engine with stopper in it, as `collect` and `demo` run it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from adapters.vllm.placement import CPU_BINDING
from adapters.vllm.settings import PluginSettings

if TYPE_CHECKING:
    from vllm import LLM


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """What of vLLM's settings matters to a trace; all else is vLLM's default.

    `extra` goes to `vllm.LLM` as it is.
    """

    model: str
    dtype: str = "auto"
    max_model_len: int | None = None
    max_num_seqs: int = 64
    tensor_parallel_size: int = 1
    seed: int = 0
    enforce_eager: bool = False
    prefix_caching: bool = True
    extra: dict[str, Any] = field(default_factory=dict)


@contextmanager
def running_engine(options: EngineOptions, settings: PluginSettings) -> Iterator[LLM]:
    """Start vLLM with these plugin settings and shut it down at the end.

    Left to the interpreter's exit, the engine's processes are joined before they are told to stop
    whenever something else registered a `weakref.finalize` before vLLM: the program never ends.

    Raises
    ------
    StopperError
        If stopper refuses this engine; the message says why.

    """
    # A quiet default for CPU engines: vLLM's own would take most of the memory for its KV cache.
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
    from vllm import LLM
    from vllm.platforms import current_platform

    if current_platform.is_cpu():
        # Upstream (0.32 on CPU): what this stores is never loaded ("no attribute
        # 'finalize_loading'") and compiled again at every start; Inductor's own cache works.
        os.environ.setdefault("VLLM_USE_AOT_COMPILE", "0")
        if options.tensor_parallel_size == 1:
            _keep_to_one_process()
    config = settings.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
    arguments: dict[str, Any] = {
        "model": options.model,
        "dtype": options.dtype,
        "max_model_len": options.max_model_len,
        "max_num_seqs": options.max_num_seqs,
        "tensor_parallel_size": options.tensor_parallel_size,
        "seed": options.seed,
        "enforce_eager": options.enforce_eager,
        "enable_prefix_caching": options.prefix_caching,
        "disable_log_stats": True,
        "additional_config": {"stopper": config},
    }
    if current_platform.is_cpu():
        # Upstream (0.32, V1 on CPU): a seeded request whose prompt is split into chunks kills the
        # engine ("CPU Generator does not use offset").
        arguments["enable_chunked_prefill"] = False
        # The prefix cache holds whole blocks: the CPU's default of 128 tokens would leave most of a
        # trace to be computed again for every forced answer. 32 is its attention's smallest.
        arguments["block_size"] = 32
    llm = LLM(**{**arguments, **options.extra})
    try:
        yield llm
    finally:
        llm.llm_engine.engine_core.shutdown()


def _keep_to_one_process() -> None:
    """Run a CPU's engine in this process, on the cores that its worker would be bound to.

    Each of vLLM's two further processes takes as long to import as this one, and they wait for one
    another in busy loops: on few cores that is most of a small model's time.
    """
    import torch
    from vllm.utils.cpu_resource_utils import parse_id_list

    if os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0") != "0":
        return
    binding = os.environ.get(CPU_BINDING, "auto")
    if binding not in ("auto", "nobind"):  # vLLM heeds it only in processes of its own
        cores = parse_id_list(binding)
        os.sched_setaffinity(0, cores)
        torch.set_num_threads(len(cores))
