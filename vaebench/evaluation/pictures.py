"""Pictures of a cell: originals, reconstructions, prior samples, interpolations, a traversal.

All are E[x|z] as uint8 images, ``(n, H, W)``, or ``(n, H, W, C)`` for colour. For the pages of
reports also the images of a t-SNE map, and a decoder of two latent dimensions that is small enough
for a browser.
"""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vaebench.evaluation.split import EvaluationSplit
from vaebench.model.networks import affine_layers
from vaebench.model.prior import Normal, Prior
from vaebench.model.vae import VAE
from vaebench.system.terminal import capped

_SHOWN, _SAMPLES, _PAIRS, _STEPS, _GRID = 10, 36, 4, 9, 8
_ROWS, _COLUMNS = 200, 12
_MAP_PIXELS, _MAP_IMAGES = 80_000, 300
_DECODER_WEIGHTS = 400_000
_DECODER_ERROR = 0.02
"""Mean absolute error in pixel units that the quantised decoder may have."""
_ACTIVATIONS = ("relu", "tanh")


@torch.no_grad()
def pictures(
    vae: VAE, split: EvaluationSplit, ranks: Tensor | None, generator: torch.Generator
) -> dict[str, NDArray[np.uint8]]:
    """Return the pictures of a pack of one, from the same images of the split for every cell.

    Prior samples are decoded codes from the prior. Interpolations are straight lines between the
    posterior means of pairs of images. The traversal goes along the two latent dimensions of the
    highest ``ranks (Z,)``, through the quantiles of a Gaussian with the moments of the prior, with
    the other dimensions at the mean of the prior; None leaves it out.
    """
    device, prior = vae.prior_scale.device, vae.prior()
    x = split.pixels[:_SHOWN].to(device)
    mean = vae.encode(x.unsqueeze(0)).mean[0]
    noise = torch.randn((_SAMPLES, vae.latent_dim), generator=generator).to(device)
    shown = {
        "originals": _images(vae, x),
        "reconstructions": _decoded(vae, mean),
        "prior_samples": _decoded(vae, prior.draw(noise[None, None], generator)[0, 0]),
    }
    pairs = min(_PAIRS, len(mean) // 2)
    if pairs:
        weight = torch.linspace(0, 1, _STEPS, device=device).view(1, -1, 1)
        start, stop = mean[:pairs].unsqueeze(1), mean[pairs : 2 * pairs].unsqueeze(1)
        line = _decoded(vae, torch.lerp(start, stop, weight).flatten(0, 1))
        shown["interpolations"] = line.reshape(pairs, _STEPS, *line.shape[1:])
    if vae.latent_dim >= 2 and ranks is not None:
        picture = _decoded(vae, _traversal(prior, ranks))
        shown["traversal"] = picture.reshape(_GRID, _GRID, *picture.shape[1:])
    return shown


@torch.no_grad()
def column_values(vae: VAE, split: EvaluationSplit) -> dict[str, NDArray[np.generic]]:
    """Rows of numbers and their means E[x|z] at the posterior mean, for a pack of one.

    At most 200 rows and 12 columns: ``rows (n, C)`` and ``row_means (n, C)`` in the unit of the
    data, and ``row_columns (C,)``, the names of the columns. Empty for images.
    """
    if vae.image_shape[:2] != (1, 1):
        return {}
    x = split.pixels[:_ROWS].to(vae.prior_scale.device)
    means = vae.decode(vae.encode(x.unsqueeze(0)).mean.unsqueeze(1)).mean[0, 0]
    names = split.columns or tuple(map(str, range(x.shape[1])))
    both = {"rows": x, "row_means": means}
    shown = {
        name: np.asarray(values[:, :_COLUMNS].float().cpu().numpy(), np.float32)
        for name, values in both.items()
    }
    return {**shown, "row_columns": np.array([capped(name, 40) for name in names[:_COLUMNS]])}


@torch.no_grad()
def map_images(vae: VAE, split: EvaluationSplit, points: int) -> dict[str, NDArray[np.uint8]]:
    """Return the first images of a t-SNE map and their reconstructions, for a pack of one.

    At most 300 images, and at most 80,000 pixels each way, so that records stay small.
    """
    count = min(points, _MAP_IMAGES, _MAP_PIXELS // split.pixels.shape[1])
    x = split.pixels[:count].to(vae.prior_scale.device)
    if not len(x):
        return {}
    reconstructed = _decoded(vae, vae.encode(x.unsqueeze(0)).mean[0])
    return {"tsne_images": _images(vae, x), "tsne_reconstructions": reconstructed}


@torch.no_grad()
def small_decoder(vae: VAE) -> dict[str, NDArray[np.generic]]:
    """Return a decoder with two latent dimensions as int8 weights, for a pack of one.

    ``decoder_weight_i (out, in)`` times ``decoder_scale_i (out, 1)`` is the weight of layer i,
    ``decoder_bias_i (out,)`` its bias; ``decoder_kind`` holds the indices of the activation in
    (relu, tanh) and of the output in (sigmoid, identity). The result is empty for other networks,
    for a learned prior, for more than 400,000 weights, and if the quantised decoder differs from
    the model by more than 0.02 pixel units on average over the codes of the traversal.
    """
    found = affine_layers(vae.decoder)
    if vae.latent_dim != 2 or found is None or found[1] not in _ACTIVATIONS:
        return {}
    if not isinstance(vae.prior(), Normal):
        return {}
    layers, activation = found
    if sum(weight.numel() for weight, _ in layers) > _DECODER_WEIGHTS:
        return {}
    arrays: dict[str, NDArray[np.generic]] = {}
    steps = torch.linspace(-2.5, 2.5, _GRID) * float(vae.prior_scale)
    codes = torch.cartesian_prod(steps, steps)
    hidden = codes.double()
    for i, (weight, bias) in enumerate((w.double().cpu(), b.double().cpu()) for w, b in layers):
        scale = weight.abs().amax(dim=1, keepdim=True).clamp(min=1e-12) / 127
        whole = (weight / scale).round()
        arrays[f"decoder_weight_{i}"] = whole.to(torch.int8).numpy()
        arrays[f"decoder_scale_{i}"] = scale.float().numpy()
        arrays[f"decoder_bias_{i}"] = bias.float().numpy()
        hidden = hidden @ (whole * scale).T + bias
        if i < len(layers) - 1:
            hidden = hidden.relu() if activation == "relu" else hidden.tanh()
    truth = vae.decode(codes.to(vae.prior_scale.device)[None, None]).mean[0, 0].double().cpu()
    for place, output in enumerate((hidden.sigmoid(), hidden)):
        if output.shape == truth.shape and float((output - truth).abs().mean()) < _DECODER_ERROR:
            arrays["decoder_kind"] = np.array([_ACTIVATIONS.index(activation), place], np.uint8)
            return arrays
    return {}


def _traversal(prior: Prior, ranks: Tensor) -> Tensor:
    codes = prior.mean.repeat(_GRID, _GRID, 1)
    for axis, shape in zip(torch.topk(ranks, 2).indices.tolist(), ((-1, 1), (1, -1)), strict=True):
        normal = NormalDist(float(prior.mean[axis]), float(prior.deviation[axis]))
        steps = [normal.inv_cdf((i + 0.5) / _GRID) for i in range(_GRID)]
        codes[..., axis] = torch.tensor(steps).to(codes).view(shape)
    return codes.flatten(0, 1)


def _decoded(vae: VAE, codes: Tensor) -> NDArray[np.uint8]:
    return _images(vae, vae.decode(codes.unsqueeze(0).unsqueeze(0)).mean[0, 0])


def _images(vae: VAE, pixels: Tensor) -> NDArray[np.uint8]:
    levels = (pixels.float().cpu().clamp(0, 1) * 255).round().to(torch.uint8)
    channels_last = levels.reshape(-1, *vae.image_shape).movedim(-3, -1)
    shown = channels_last.squeeze(-1) if vae.image_shape[0] == 1 else channels_last
    return np.asarray(shown.numpy(), dtype=np.uint8)
