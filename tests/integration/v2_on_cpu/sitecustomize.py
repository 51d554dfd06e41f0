"""Lets vLLM's V2 model runner run without a GPU: its Triton kernels through Triton's interpreter.

Put this folder on PYTHONPATH and set VLLM_USE_V2_MODEL_RUNNER=1. V2 is what GPUs run by default;
the interpreter is slow, but it is the production runner's own code.
"""

import os

os.environ["TRITON_INTERPRET"] = "1"

import triton.backends
import triton.runtime.interpreter as interpreter

# vLLM looks for an active Triton backend named "cpu"; the interpreter needs none.
backends = triton.backends.backends
backends.setdefault("cpu", next(iter(backends.values())))

# The interpreter hands integer masks to numpy, which takes only booleans.
Builder = interpreter.InterpreterBuilder
masked_load, masked_store = Builder.create_masked_load, Builder.create_masked_store


def _as_bool(mask):
    return interpreter.TensorHandle(mask.data.astype(bool), mask.dtype)


def _load(self, ptrs, mask, *rest):
    return masked_load(self, ptrs, _as_bool(mask), *rest)


def _store(self, ptrs, value, mask, *rest):
    return masked_store(self, ptrs, value, _as_bool(mask), *rest)


Builder.create_masked_load, Builder.create_masked_store = _load, _store
