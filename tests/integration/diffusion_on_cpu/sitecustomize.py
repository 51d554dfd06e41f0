"""Lets vLLM's DiffusionGemma run without a GPU and without torchvision, on text alone.

Put this folder on PYTHONPATH. It does what `v2_on_cpu` does, and where torchvision is missing it
lets its names be imported: transformers asks for them when it loads Gemma's image processor, which
no text request ever calls.
"""

import importlib.abc
import importlib.machinery
import importlib.util
import runpy
import sys
from pathlib import Path


class _Names(type):
    """Makes classes that stand for torchvision's; an attribute (of an enumeration) is its name."""

    def __getattr__(cls, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return f"torchvision's {name}"


class _NoTorchvision(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds `torchvision` and all that may be below it, with nothing in it."""

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] != "torchvision":
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        def named(name):
            if name.startswith("__"):
                raise AttributeError(name)
            return _Names(name, (), {})

        module.__getattr__ = named
        module.__version__ = "0"


if importlib.util.find_spec("torchvision") is None:
    sys.meta_path.append(_NoTorchvision())

runpy.run_path(str(Path(__file__).parents[1] / "v2_on_cpu" / "sitecustomize.py"))
