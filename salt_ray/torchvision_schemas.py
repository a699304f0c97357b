"""Let ``import timm`` work where torchvision's C++ library cannot be loaded.

timm imports torchvision. PyPI's torchvision wheel is linked against CUDA libraries, so next to a CPU-only torch its
``_C`` library does not load; torchvision continues without it, but then registers fake kernels for two operators that
only that library would have declared and stops with "operator torchvision::nms does not exist". This project never
calls those operators: it is enough that their schemas exist before torchvision is imported.
"""

from __future__ import annotations

import functools
import importlib.util
from importlib.machinery import PathFinder

import torch

#: The operators for which ``torchvision._meta_registrations`` registers fake kernels unconditionally, and their schema.
OPERATORS = ("nms", "qnms")
ARGUMENTS = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


def declare() -> None:
    """Declare the schemas that torchvision needs, unless its own library provides them. Call it before importing timm.

    Does nothing where torchvision is missing, where its library loads or where the operators are declared already.
    """
    if not _missing() or importlib.util.find_spec("torchvision") is None or _library_loads():
        return
    _schemas()


def _missing() -> list[str]:
    return [name for name in OPERATORS if not hasattr(torch.ops.torchvision, name)]


def _library_loads() -> bool:
    """Load torchvision's C++ library as ``torchvision.extension`` does, but without importing the package."""
    package = importlib.util.find_spec("torchvision")
    library = PathFinder.find_spec("_C", list(package.submodule_search_locations))
    if library is None:
        return False
    try:
        torch.ops.load_library(library.origin)
    except OSError:
        return False
    return True


@functools.cache
def _schemas() -> torch.library.Library:
    """The declarations; cached because torch withdraws them when this object is collected."""
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in _missing():
        library.define(name + ARGUMENTS)
    return library
