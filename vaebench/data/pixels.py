"""Convert grey levels to the pixels that a model is trained on, and back.

Grey level k of L is the pixel value k/(L-1); dequantised data are (k+u)/L with u uniform on one
grey level. Pixels are float32, flattened to `(N, D)` with D = C*H*W. Real-valued data (`levels` is
None) are not changed.

Binarised pixels are 0 or 1: `threshold` cuts at one half, `static` draws each pixel once with its
grey value as the probability of a 1, `dynamic` draws again each time an image is used in training.
Test and validation images are drawn once, from a fixed seed: the draw of an image is the same for
every cell, and does not depend on the number of images after it.
"""

import torch
from torch import Tensor

DRAW_SEED = 20_160_619
"""Seed of the random draws that are shared by all cells."""

_BINARIZATIONS = ("none", "dynamic", "static", "threshold")

# The minimum distance of u from 0 and 1: rounding (k+u)/L to float32 then never moves a pixel to
# another grey level, for up to 256 levels.
_MARGIN = 2.0**-15


def effective_levels(levels: int | None, binarization: str) -> int | None:
    """Return the number of grey levels after binarisation: 2, or `levels` without it.

    Raises:
        ValueError: real-valued data (None) cannot be binarised, or the name is unknown.
    """
    if binarization not in _BINARIZATIONS:
        raise ValueError(
            f"binarization must be one of {', '.join(_BINARIZATIONS)}; got {binarization!r}"
        )
    if binarization == "none":
        return levels
    if levels is None:
        raise ValueError(f"only grey levels can be binarised, not real pixels; got {binarization}")
    return 2


def evaluation_pixels(
    images: Tensor,
    levels: int | None,
    binarization: str,
    dequantize: bool,
    seed: int = DRAW_SEED,
) -> Tensor:
    """Return the pixels of test or validation images; random draws depend on `seed` only.

    With `static` binarisation these are the pixels that `TrainingPixels` holds for the same
    images. The draw of an image does not depend on the number of images after it.

    Args:
        images: grey levels `(N, C, H, W)` uint8, or float32 where `levels` is None; on the CPU.
        levels: number of grey levels L.
        binarization, dequantize: values of the axes of these names.
        seed: seed of the random draws.

    Returns:
        `(N, D)` float32 on the CPU.

    Raises:
        ValueError: the settings cannot be combined.
    """
    _check(levels, binarization, dequantize)
    grey = _grey(images, levels, dequantize)
    if levels is None or (binarization == "none" and not dequantize):
        return grey
    if binarization == "threshold":
        return _threshold(images, levels)
    generator = torch.Generator().manual_seed(seed)
    if dequantize:
        return _dequantized(grey, levels, generator)
    return _binarized(grey, generator)


class TrainingPixels:
    """The training images on a device; `visit` returns the pixels of a batch.

    Args:
        images: grey levels `(N, C, H, W)` uint8, or float32 where `levels` is None.
        levels: number of grey levels L.
        binarization, dequantize: as the axes of a cell.
        seed: seed of `static` binarisation, the same for every cell.
        device: device of the stored pixels and of the batches.

    Raises:
        ValueError: the settings exclude each other.
    """

    def __init__(
        self,
        images: Tensor,
        levels: int | None,
        binarization: str,
        dequantize: bool,
        seed: int = DRAW_SEED,
        device: torch.device | str = "cpu",
    ) -> None:
        _check(levels, binarization, dequantize)
        self.levels = effective_levels(levels, binarization)
        self.device = torch.device(device)
        self._redrawn = binarization == "dynamic"
        self._dequantize = dequantize
        if dequantize or self._redrawn:
            held = _grey(images, levels, dequantize)
        else:
            held = evaluation_pixels(images, levels, binarization, dequantize, seed)
        self._held = held.to(self.device)

    def __len__(self) -> int:
        """The number of images, N."""
        return len(self._held)

    @property
    def dimensions(self) -> int:
        """Number of pixels of an image, D."""
        return self._held.shape[1]

    def visit(self, indices: Tensor, generator: torch.Generator) -> Tensor:
        """Return the pixels of a batch, `(B, D)` float32; all random draws use `generator`.

        Args:
            indices: `(B,)` int64, on the device.
            generator: a generator on the device; not used if nothing is drawn.
        """
        batch = self._held.index_select(0, indices)
        if self._redrawn:
            return _binarized(batch, generator)
        if self._dequantize and self.levels is not None:
            return _dequantized(batch, self.levels, generator)
        return batch


def grey_indices(pixels: Tensor, levels: int, dequantize: bool) -> Tensor:
    """Return the grey level of each pixel, int64, in the shape of `pixels`.

    Args:
        pixels: k/(L-1), or (k+u)/L where `dequantize`.
        levels: number of grey levels L, 2 for binarised pixels.
        dequantize: whether the pixels are dequantised.
    """
    exact = pixels.to(torch.float64)
    index = (exact * levels).floor() if dequantize else (exact * (levels - 1)).round()
    return index.to(torch.int64).clamp_(0, levels - 1)


def _check(levels: int | None, binarization: str, dequantize: bool) -> None:
    effective_levels(levels, binarization)
    if dequantize and (levels is None or binarization != "none"):
        what = "real pixels" if levels is None else f"binarised pixels ({binarization})"
        raise ValueError(f"only grey pixels can be dequantised; got {what}")


def _grey(images: Tensor, levels: int | None, dequantize: bool) -> Tensor:
    """Return pixels k/(L-1), or k/L, to which dequantisation adds noise; `(N, D)`."""
    flat = images.flatten(1).to(torch.float32)
    if levels is None:
        return flat
    return flat / (levels if dequantize else levels - 1)


def _threshold(images: Tensor, levels: int) -> Tensor:
    """Return 1 where k/(L-1) >= 1/2, else 0, as integers `(N, D)`."""
    return (2 * images.flatten(1).to(torch.int32) >= levels - 1).to(torch.float32)


def _binarized(grey: Tensor, generator: torch.Generator) -> Tensor:
    """Draw 1 with the grey value as probability, else 0; twice as fast as `torch.bernoulli`."""
    return torch.rand(grey.shape, generator=generator, device=grey.device).lt_(grey)


def _dequantized(lower: Tensor, levels: int, generator: torch.Generator) -> Tensor:
    noise = torch.rand(lower.shape, generator=generator, device=lower.device)
    return lower + (noise * (1 - 2 * _MARGIN) + _MARGIN) / levels
