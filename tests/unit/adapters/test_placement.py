"""Which devices each worker gets."""

import pytest

from adapters.vllm.placement import cpu_slices, gpu_slices
from probes.errors import InputError

BIND = "VLLM_CPU_OMP_THREADS_BIND"


def test_gpus_are_dealt_in_order_without_overlap() -> None:
    found = gpu_slices(["0", "2", "3", "7", "9"], "CUDA_VISIBLE_DEVICES", 2, 2)
    assert found == [{"CUDA_VISIBLE_DEVICES": "0,2"}, {"CUDA_VISIBLE_DEVICES": "3,7"}]


def test_too_few_gpus_are_refused_with_the_flags_to_change() -> None:
    with pytest.raises(InputError, match=r"need 4; 3 are visible .*--data-parallel-size"):
        gpu_slices(["0", "1", "2"], "CUDA_VISIBLE_DEVICES", 4, 1)


def test_cores_are_cut_into_equal_parts() -> None:
    assert cpu_slices({}, [0, 1, 4, 5, 6], 2, 1) == [{BIND: "0,1"}, {BIND: "4,5"}]
    assert cpu_slices({}, [0, 1, 2, 3], 2, 2) == [{BIND: "0|1"}, {BIND: "2|3"}]


def test_a_binding_of_the_user_is_kept() -> None:
    assert cpu_slices({BIND: "0-3|4-7"}, [0], 2, 1) == [{BIND: "0-3"}, {BIND: "4-7"}]
    assert cpu_slices({BIND: "nobind"}, [0], 2, 1) == [{}, {}]


@pytest.mark.parametrize("bound", ["0-3", "0|1|2"])
def test_a_binding_of_another_number_of_ranks_is_refused(bound: str) -> None:
    with pytest.raises(InputError, match="need 2 lists of cores"):
        cpu_slices({BIND: bound}, [0, 1], 2, 1)


def test_too_few_cores_are_refused() -> None:
    with pytest.raises(InputError, match="need 3 CPU cores; 2 may be used"):
        cpu_slices({}, [0, 1], 3, 1)
