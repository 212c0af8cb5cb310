"""The only module that imports torchvision, and only when needed: the import takes seconds."""

import importlib
from types import ModuleType

import torch

_NO_OPERATORS = "operator torchvision::nms does not exist"
_OPERATORS = ("nms", "qnms")

_schemas: list[torch.library.Library] = []
"""Keeps references to the libraries below: torch removes the schemas of a deleted library."""


def torchvision_module(name: str) -> ModuleType:
    """Return the submodule `torchvision.<name>`, such as `datasets`.

    Raises:
        ImportError, RuntimeError: torchvision is not installed or does not match the torch build.
    """
    try:
        return importlib.import_module(f"torchvision.{name}")
    except RuntimeError as error:
        if _NO_OPERATORS not in str(error) or _schemas:
            raise
    # A torchvision built for CUDA cannot load its compiled operators with a CPU build of torch. Its
    # import then fails, because it describes operators that were not declared. None of them is
    # used here, and after declaring two of them the rest of the package can be imported. With
    # builds that match, the import above succeeds and nothing is declared.
    # torch.library carries no annotations, hence the two ignores.
    library = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    for operator in _OPERATORS:
        schema = f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
        library.define(schema)  # type: ignore[no-untyped-call]
    _schemas.append(library)
    return importlib.import_module(f"torchvision.{name}")
