"""Matrix products of our own, as operations of torch on a CPU.

``vaebench::pixels_times`` and ``vaebench::turned_pixels_times`` skip the zeros of their first
matrix, whatever they are multiplied with; ``vaebench::dense_times`` copies less than a library's
product does. All are float32, and differ from torch's own by rounding. They raise ValueError for
matrices that don't fit, are empty or of another type. `benchmarks/README.md` has the figures.
"""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

__all__ = ["own_products"]

_LIBRARY = torch.library.Library("vaebench", "DEF")  # type: ignore[no-untyped-call]  # so in torch
for _signature in (
    "pixels_times(Tensor x, Tensor dense) -> Tensor",
    "turned_pixels_times(Tensor x, Tensor dense) -> Tensor",
    "dense_times(Tensor first, Tensor second) -> Tensor",
):
    _LIBRARY.define(_signature)  # type: ignore[no-untyped-call]  # so in torch


@cache
def own_products() -> ctypes.CDLL | None:
    """The functions of ``products.cpp`` for this processor; None where they can't be compiled."""
    # Imported late for its two seconds, which a step that is compiled has spent anyhow.
    from torch._inductor.codecache import CppCodeCache

    source = Path(__file__).with_name("products.cpp").read_text(encoding="utf-8")
    try:
        # The flags that torch compiles by forbid to melt a multiplication and an addition.
        library: ctypes.CDLL = CppCodeCache.load(source, extra_flags=("-ffp-contract=fast",))
    except (RuntimeError, OSError):  # no compiler, or one that lacks vectors: torch's products do
        return None
    size, pointer = ctypes.c_int64, ctypes.c_void_p
    for function in (library.pixels_times, library.turned_pixels_times):
        function.argtypes = [pointer, size, size, pointer, size, pointer]
        function.restype = None
    matrix = (pointer, size, size)
    library.dense_times.argtypes = [*matrix, *matrix, pointer, size, size, size]
    library.dense_times.restype = None
    return library


def _call(name: str, *arguments: int) -> None:
    library = own_products()
    if library is None:
        raise RuntimeError(f"vaebench::{name} can't be compiled here")
    getattr(library, name)(*arguments)


@torch.library.impl(_LIBRARY, "pixels_times", "CPU")
def _pixels_times(x: Tensor, dense: Tensor) -> Tensor:
    """``x (B, D)`` times ``dense (D, width)``."""
    return _skipping("pixels_times", x, dense, _shape(x, dense))


@torch.library.impl(_LIBRARY, "turned_pixels_times", "CPU")
def _turned_pixels_times(x: Tensor, dense: Tensor) -> Tensor:
    """The transpose of ``x (B, D)`` times ``dense (B, width)``."""
    return _skipping("turned_pixels_times", x, dense, _turned_shape(x, dense))


@torch.library.impl(_LIBRARY, "dense_times", "CPU")
def _dense_times(first: Tensor, second: Tensor) -> Tensor:
    """``first (M, K)`` times ``second (K, N)``, each by rows or by columns."""
    outcome: Tensor = _shape(first, second)
    if 1 not in first.stride():
        first = first.contiguous()
    _call(
        "dense_times",
        first.data_ptr(),
        *first.stride(),
        second.data_ptr(),
        *second.stride(),
        outcome.data_ptr(),
        *first.shape,
        second.shape[1],
    )
    return outcome


@torch.library.register_fake("vaebench::pixels_times", lib=_LIBRARY)  # type: ignore[untyped-decorator]  # so in torch
@torch.library.register_fake("vaebench::dense_times", lib=_LIBRARY)  # type: ignore[untyped-decorator]  # so in torch
def _shape(first: Tensor, second: Tensor) -> Tensor:
    """An outcome to be filled."""
    _check(first, second, fits=first.shape[1] == second.shape[0])
    return first.new_empty(first.shape[0], second.shape[1])


@torch.library.register_fake("vaebench::turned_pixels_times", lib=_LIBRARY)  # type: ignore[untyped-decorator]  # so in torch
def _turned_shape(x: Tensor, dense: Tensor) -> Tensor:
    """An outcome to be filled."""
    _check(x, dense, fits=x.shape[0] == dense.shape[0])
    return x.new_empty(x.shape[1], dense.shape[1])


def _check(first: Tensor, second: Tensor, *, fits: bool) -> None:
    # What reads memory by its address must not be wrong about it.
    is_float32 = first.dtype == second.dtype == torch.float32
    if not (fits and is_float32 and first.numel() and second.numel()):
        shapes = " and ".join(f"{tuple(each.shape)} {each.dtype}" for each in (first, second))
        raise ValueError(f"float32 matrices that fit, not empty, are multiplied; got {shapes}")


def _skipping(name: str, x: Tensor, dense: Tensor, outcome: Tensor) -> Tensor:
    # Both are contiguous as a rule; a compiler that lays them out otherwise costs a copy.
    x, dense = x.contiguous(), dense.contiguous()
    _call(name, x.data_ptr(), *x.shape, dense.data_ptr(), dense.shape[1], outcome.data_ptr())
    return outcome
