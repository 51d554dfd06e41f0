"""Which devices each local worker gets: a slice of the GPUs, or of the CPU's cores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from stopper.errors import InputError

CPU_BINDING = "VLLM_CPU_OMP_THREADS_BIND"


def gpu_slices(
    devices: Sequence[str], variable: str, workers: int, ranks: int
) -> list[dict[str, str]]:
    """Share GPUs out.

    Parameters
    ----------
    devices
        Those visible, as the platform's environment variable names them.
    variable
        That variable's name, for example ``CUDA_VISIBLE_DEVICES``.
    workers, ranks
        Engines on this machine, and GPUs each (tensor parallel).

    Returns
    -------
    Per worker, what to set in its environment.

    Raises
    ------
    InputError
        If there are too few.

    """
    if len(devices) < workers * ranks:
        raise InputError(
            f"{workers} workers of {ranks} GPUs need {workers * ranks}; {len(devices)} are visible "
            f"({variable}). Lower --data-parallel-size or --tensor-parallel-size, or spread the "
            "workers over machines with --nodes"
        )
    return [
        {variable: ",".join(devices[number * ranks : (number + 1) * ranks])}
        for number in range(workers)
    ]


def cpu_slices(
    environment: Mapping[str, str], cores: Sequence[int], workers: int, ranks: int
) -> list[dict[str, str]]:
    """Share CPU cores out: those of ``VLLM_CPU_OMP_THREADS_BIND``, or else all, in equal parts.

    vLLM itself would bind every worker to the same cores of the same memory node.

    Parameters
    ----------
    environment
        Of this process. ``nobind`` there leaves all to the system.
    cores
        Those this process may use.
    workers, ranks
        As in :func:`gpu_slices`.

    """
    needed, given = workers * ranks, environment.get(CPU_BINDING, "auto")
    if given == "nobind":
        return [{} for _ in range(workers)]
    if given == "auto":
        if len(cores) < needed:
            raise InputError(
                f"{workers} workers of {ranks} ranks need {needed} CPU cores; {len(cores)} may be "
                f"used. Lower --data-parallel-size, or set {CPU_BINDING}"
            )
        size = len(cores) // needed
        lists = [
            ",".join(map(str, cores[first * size : (first + 1) * size])) for first in range(needed)
        ]
    else:
        lists = given.split("|")
        if len(lists) != needed:
            raise InputError(
                f"{CPU_BINDING}={given} binds {len(lists)} ranks; {workers} workers of {ranks} "
                f"ranks need {needed} lists of cores, separated by '|'"
            )
    return [
        {CPU_BINDING: "|".join(lists[number * ranks : (number + 1) * ranks])}
        for number in range(workers)
    ]


def local_slices(workers: int, ranks: int) -> list[dict[str, str]]:
    """Share out this machine's devices, of the kind that vLLM finds here."""
    import os

    import torch
    from vllm.platforms import current_platform

    if current_platform.is_cpu():
        return cpu_slices(os.environ, sorted(os.sched_getaffinity(0)), workers, ranks)
    variable = current_platform.device_control_env_var
    listed = os.environ.get(variable)
    devices = listed.split(",") if listed else map(str, range(torch.accelerator.device_count()))
    return gpu_slices(list(devices), variable, workers, ranks)
