"""Encoders and decoders: ``mlp``, ``conv``, ``linear``, ``tutorial`` and networks of the user.

An encoder maps pixels ``(P, N, D)`` to the parameters of q(z|x), ``(P, N, width)``. A decoder maps
codes ``(P, N, Z)`` to the parameters of p(x|z), ``(P, N, D * outputs_per_pixel)``; those of one
pixel are next to each other. P is the size of the pack: the number of cells that are trained as one
program. Weights are stacked, ``(P, out, in)``. The weights of each cell are drawn from its own
generator, so that they are the same alone and in a pack. The initial values are those of PyTorch,
uniform within 1/sqrt(fan_in), or those of the tutorial.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.nn import functional as F

from vaebench.grid.user_code import load_function

Generators = Sequence[torch.Generator]

_SPARSE_STD, _SPARSE_OUTGOING = 0.1, 15.0
"""Initialization ``sparse``: the numbers of Doersch's code. Caffe's "sparse 15" keeps a weight with
probability 15 / (number of outputs)."""

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "tanh": torch.tanh,
    "gelu": F.gelu,
    "silu": F.silu,
    "elu": F.elu,
}


@dataclass(frozen=True)
class Sizes:
    """The sizes that the two networks must have.

    Attributes:
        image_shape: (C, H, W); ``D = C * H * W``.
        latent_dim: ``Z``.
        posterior_width: number of encoder outputs for each image, the parameters of q(z|x).
        outputs_per_pixel: number of decoder outputs for each pixel, the parameters of p(x|z).
    """

    image_shape: tuple[int, int, int]
    latent_dim: int
    posterior_width: int
    outputs_per_pixel: int

    @property
    def pixels(self) -> int:
        return math.prod(self.image_shape)

    @property
    def decoder_width(self) -> int:
        return self.pixels * self.outputs_per_pixel


def _uniform(generators: Generators, shape: tuple[int, ...], fan_in: int) -> nn.Parameter:
    bound = 1 / math.sqrt(fan_in)
    draws = [torch.empty(shape).uniform_(-bound, bound, generator=g) for g in generators]
    return nn.Parameter(torch.stack(draws))


def _gaussian(generators: Generators, size_out: int, size_in: int, kept: float) -> nn.Parameter:
    """Normal weights of standard deviation 0.1, each of them zero with probability 1 - ``kept``."""
    draws = []
    for generator in generators:
        weight = torch.empty(size_out, size_in).normal_(0.0, _SPARSE_STD, generator=generator)
        draws.append(weight * (torch.rand(weight.shape, generator=generator) < kept))
    return nn.Parameter(torch.stack(draws))


class _MemberwiseAffine(torch.autograd.Function):
    """Affine map ``(P, N, in)`` to ``(P, N, out)`` with one matrix product per member.

    A batched matrix product sums in another order than a single one. With separate products the
    results of a cell in a pack stay close to those of the cell alone, and a CPU takes no longer.
    A ReLU is applied if `relu` is true.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, weight: Tensor, bias: Tensor, relu: bool) -> Tensor:
        output = x.new_empty(*x.shape[:2], weight.shape[1])
        for member in range(len(x)):
            torch.addmm(bias[member], x[member], weight[member].t(), out=output[member])
        if relu:
            output.relu_()
        ctx.save_for_backward(x, weight, *([output] if relu else []))
        return output

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, *outputs = ctx.saved_tensors  # type: ignore[attr-defined]  # set by save_for_backward
        for output in outputs:
            gradient = torch.ops.aten.threshold_backward(gradient, output, 0)
        of_x = torch.empty_like(x) if ctx.needs_input_grad[0] else None  # type: ignore[attr-defined]  # set by apply
        of_weight = torch.empty_like(weight)
        of_bias = gradient.new_empty(len(x), weight.shape[1])
        for member in range(len(x)):
            if of_x is not None:
                torch.mm(gradient[member], weight[member], out=of_x[member])
            torch.mm(gradient[member].t(), x[member], out=of_weight[member])
            torch.sum(gradient[member], 0, out=of_bias[member])
        return of_x, of_weight, of_bias, None


class _Linear(nn.Module):
    """An affine map for each member of the pack: ``(P, N, in)`` to ``(P, N, out)``.

    ``outgoing`` is None for torch's initial values. Otherwise weights are Gaussian, biases are
    zero, and each input has ``outgoing`` non-zero weights on average.
    """

    def __init__(
        self, generators: Generators, size_in: int, size_out: int, outgoing: float | None = None
    ) -> None:
        super().__init__()
        if outgoing is None:
            self.weight = _uniform(generators, (size_out, size_in), size_in)
            self.bias = _uniform(generators, (size_out,), size_in)
        else:
            self.weight = _gaussian(generators, size_out, size_in, outgoing / size_out)
            self.bias = nn.Parameter(torch.zeros(len(generators), size_out))

    def forward(self, x: Tensor, activation: str | None = None) -> Tensor:
        if x.shape[0] == 1:
            # The same product without the batch dimension is faster.
            flat = F.linear(x.squeeze(0), self.weight.squeeze(0), self.bias.squeeze(0))
            return _activated(flat.unsqueeze(0), activation)
        compiling = torch.compiler.is_compiling()
        if x.device.type == "cpu" and not (compiling or torch.is_autocast_enabled("cpu")):
            relu = activation == "relu"
            affine = _MemberwiseAffine.apply(x, self.weight, self.bias, relu)  # type: ignore[no-untyped-call]  # as torch's stub has it
            return cast(Tensor, affine) if relu else _activated(affine, activation)
        return _activated(torch.baddbmm(self.bias.unsqueeze(1), x, self.weight.mT), activation)


def _activated(x: Tensor, activation: str | None) -> Tensor:
    return x if activation is None else _ACTIVATIONS[activation](x)


class _Mlp(nn.Module):
    """Linear maps with an activation between them; ``outgoing`` as in `_Linear`, per layer."""

    def __init__(
        self,
        generators: Generators,
        sizes: Sequence[int],
        activation: str,
        outgoing: Sequence[float | None],
    ) -> None:
        super().__init__()
        layers = zip(pairwise(sizes), outgoing, strict=True)
        self.layers = nn.ModuleList(_Linear(generators, a, b, o) for (a, b), o in layers)
        self.activation = activation

    def chain(self) -> list[_Linear]:
        """The layers in order."""
        return [cast(_Linear, layer) for layer in self.layers]

    def forward(self, x: Tensor) -> Tensor:
        *inner, last = self.layers
        for layer in inner:
            x = layer(x, self.activation)
        return cast(Tensor, last(x))


def affine_layers(network: nn.Module) -> tuple[list[tuple[Tensor, Tensor]], str] | None:
    """Return the weights (out, in), biases (out,) and activation of a pack of one cell.

    Returns None if the network is not a chain of linear maps with one activation between them.
    """
    if not isinstance(network, _Mlp):
        return None
    return [(layer.weight[0], layer.bias[0]) for layer in network.chain()], network.activation


class _TutorialEncoder(nn.Module):
    """The encoder of Doersch's code (github.com/cdoersch/vae_tutorial), in Caffe.

    The mean is computed from the last hidden layer after its activation, the log standard
    deviation from the same layer before its activation.
    """

    def __init__(
        self,
        generators: Generators,
        sizes: Sizes,
        hidden: Sequence[int],
        activation: str,
        outgoing: Sequence[float | None],
    ) -> None:
        super().__init__()
        *inner, head = outgoing
        self.body = _Mlp(generators, (sizes.pixels, *hidden), activation, inner)
        self.mean = _Linear(generators, hidden[-1], sizes.latent_dim, head)
        self.log_std = _Linear(generators, hidden[-1], sizes.latent_dim, head)
        self._activation = activation

    def forward(self, x: Tensor) -> Tensor:
        before = self.body(x)
        mean = self.mean(_activated(before, self._activation))
        return torch.cat((mean, 2 * self.log_std(before)), dim=-1)


class _LinearEncoder(nn.Module):
    """Encoder of the linear VAE (Lucas et al. 2019): a linear mean, one variance for all images."""

    def __init__(self, generators: Generators, sizes: Sizes) -> None:
        super().__init__()
        self.mean = _Linear(generators, sizes.pixels, sizes.latent_dim)
        spread = sizes.posterior_width - sizes.latent_dim
        self.spread = nn.Parameter(torch.zeros(len(generators), 1, spread))

    def forward(self, x: Tensor) -> Tensor:
        mean = self.mean(x)
        return torch.cat((mean, self.spread.expand(-1, mean.shape[1], -1)), dim=-1)


class _Convolution(nn.Module):
    """A strided 4x4 convolution, or its transpose, for each member of the pack.

    Maps ``(N, P * in, H, W)`` to ``(N, P * out, H', W')``; H' is about H/2, or 2H if transposed.
    """

    def __init__(
        self, generators: Generators, size_in: int, size_out: int, *, transpose: bool
    ) -> None:
        super().__init__()
        shape = (size_in, size_out, 4, 4) if transpose else (size_out, size_in, 4, 4)
        fan_in = shape[1] * 16
        self.weight = _uniform(generators, shape, fan_in)
        self.bias = _uniform(generators, (size_out,), fan_in)
        self._transpose = transpose

    def forward(self, x: Tensor) -> Tensor:
        convolve = F.conv_transpose2d if self._transpose else F.conv2d
        weight, bias, groups = self.weight.flatten(0, 1), self.bias.flatten(), len(self.weight)
        return convolve(x, weight, bias, stride=2, padding=1, groups=groups)


def _halved(size: int, times: int) -> int:
    for _ in range(times):
        size //= 2
    return size


class _ConvEncoder(nn.Module):
    """Convolutions that halve the image, then one linear map."""

    def __init__(
        self, generators: Generators, sizes: Sizes, channels: Sequence[int], activation: str
    ) -> None:
        super().__init__()
        self._shape = sizes.image_shape
        chain = (sizes.image_shape[0], *channels)
        self.convolutions = nn.ModuleList(
            _Convolution(generators, a, b, transpose=False) for a, b in pairwise(chain)
        )
        flat = channels[-1] * math.prod(_halved(s, len(channels)) for s in sizes.image_shape[1:])
        self.head = _Linear(generators, flat, sizes.posterior_width)
        self._activation = _ACTIVATIONS[activation]

    def forward(self, x: Tensor) -> Tensor:
        members, images = x.shape[:2]
        maps = x.transpose(0, 1).reshape(images, members * self._shape[0], *self._shape[1:])
        for convolution in self.convolutions:
            maps = self._activation(convolution(maps))
        flat = maps.reshape(images, members, -1).transpose(0, 1)
        return cast(Tensor, self.head(flat))


class _ConvDecoder(nn.Module):
    """One linear map, then transposed convolutions that double the image, resized to fit."""

    def __init__(
        self, generators: Generators, sizes: Sizes, channels: Sequence[int], activation: str
    ) -> None:
        super().__init__()
        self._shape = sizes.image_shape
        self._outputs = sizes.outputs_per_pixel
        self._start = (channels[-1], *(_halved(s, len(channels)) for s in sizes.image_shape[1:]))
        self.head = _Linear(generators, sizes.latent_dim, math.prod(self._start))
        chain = (*reversed(channels), sizes.image_shape[0] * sizes.outputs_per_pixel)
        self.convolutions = nn.ModuleList(
            _Convolution(generators, a, b, transpose=True) for a, b in pairwise(chain)
        )
        self._activation = _ACTIVATIONS[activation]

    def forward(self, z: Tensor) -> Tensor:
        members, codes = z.shape[:2]
        flat = self._activation(self.head(z)).transpose(0, 1)
        maps = flat.reshape(codes, members * self._start[0], *self._start[1:])
        *inner, last = self.convolutions
        for convolution in inner:
            maps = self._activation(convolution(maps))
        maps = last(maps)
        _, height, width = self._shape
        # If a size is not a multiple of the stride, halving has dropped the remainder.
        maps = F.pad(maps, (0, width - maps.shape[-1], 0, height - maps.shape[-2]), "replicate")
        return self._by_pixel(maps.reshape(codes, members, -1, height, width))

    def _by_pixel(self, maps: Tensor) -> Tensor:
        """Reorder feature maps to ``(P, N, D * outputs)``, the outputs of one pixel adjacent."""
        codes, members = maps.shape[:2]
        split = maps.reshape(codes, members, self._shape[0], self._outputs, -1)
        return split.permute(1, 0, 2, 4, 3).reshape(members, codes, -1)


class _Single(nn.Module):
    """Wrapper of a user's network, which has no pack dimension: ``(N, ...)`` to ``(N, ...)``."""

    def __init__(
        self, network: nn.Module, name: str, shape_in: tuple[int, ...], width: int
    ) -> None:
        super().__init__()
        self.network = network
        self._name, self._shape_in, self._width = name, shape_in, width

    def forward(self, x: Tensor) -> Tensor:
        flat = x.squeeze(0)
        given = flat.reshape(-1, *self._shape_in)
        output = self.network(given)
        expected = (flat.shape[0], self._width)
        gave = tuple(output.shape) if isinstance(output, Tensor) else f"a {type(output).__name__}"
        if gave != expected:
            raise ValueError(
                f"the {self._name} must return a tensor of shape {expected} for an input of shape "
                f"{tuple(given.shape)}; it returned {gave}"
            )
        return cast(Tensor, output.unsqueeze(0))


def _two_modules(architecture: str, made: object) -> tuple[nn.Module, nn.Module]:
    match made:
        case (nn.Module() as encoder, nn.Module() as decoder):
            return encoder, decoder
    raise ValueError(
        f"{architecture} must return two torch modules, encoder and decoder; "
        f"it returned {made!r:.80}"
    )


def _users_own(
    architecture: str, sizes: Sizes, generators: Generators
) -> tuple[nn.Module, nn.Module]:
    """Call ``package.module:factory(image_shape, latent_dim, encoder_width, decoder_width)``."""
    if len(generators) != 1:
        raise ValueError("a user's network cannot be trained in a pack: use packs of one cell")
    factory = load_function(architecture)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**62, (), generator=generators[0])))
        made = factory(
            image_shape=sizes.image_shape,
            latent_dim=sizes.latent_dim,
            encoder_width=sizes.posterior_width,
            decoder_width=sizes.decoder_width,
        )
    encoder, decoder = _two_modules(architecture, made)
    if not any(each.requires_grad for net in (encoder, decoder) for each in net.parameters()):
        raise ValueError(f"the networks of {architecture} must have a parameter to train")
    return (
        _Single(encoder, "encoder", sizes.image_shape, sizes.posterior_width),
        _Single(decoder, "decoder", (sizes.latent_dim,), sizes.decoder_width),
    )


def build_networks(
    architecture: str,
    sizes: Sizes,
    hidden: Sequence[int],
    activation: str,
    generators: Generators,
    initialization: str = "default",
) -> tuple[nn.Module, nn.Module]:
    """Make the encoder and decoder of a pack, with one generator for each member.

    ``hidden`` are layer widths from pixels to code (``mlp``) or channels (``conv``); the decoder
    mirrors them. A user's own network is named ``package.module:factory``; the factory is called
    with ``image_shape``, ``latent_dim``, ``encoder_width`` and ``decoder_width`` and returns two
    modules that map ``(N, C, H, W)`` to ``(N, encoder_width)`` and ``(N, latent_dim)`` to
    ``(N, decoder_width)``.

    Raises:
        ValueError: if convolutions reduce the image to nothing, or a user's network returns a
            wrong shape.
    """
    if ":" in architecture:
        return _users_own(architecture, sizes, generators)
    if architecture == "linear":
        decoder = _Linear(generators, sizes.latent_dim, sizes.decoder_width)
        return _LinearEncoder(generators, sizes), decoder
    if architecture == "conv":
        if min(_halved(s, len(hidden)) for s in sizes.image_shape[1:]) < 1:
            raise ValueError(
                f"{len(hidden)} convolutions reduce a {sizes.image_shape[1:]} image to nothing: "
                "list fewer channels in hidden"
            )
        return (
            _ConvEncoder(generators, sizes, hidden, activation),
            _ConvDecoder(generators, sizes, hidden, activation),
        )
    return _dense_networks(architecture, sizes, hidden, activation, generators, initialization)


def _dense_networks(
    architecture: str,
    sizes: Sizes,
    hidden: Sequence[int],
    activation: str,
    generators: Generators,
    initialization: str,
) -> tuple[nn.Module, nn.Module]:
    """Make the ``mlp`` or ``tutorial`` networks; with ``sparse`` the output layers stay dense."""
    sparse = initialization == "sparse"
    outgoing = [_SPARSE_OUTGOING if sparse else None] * len(hidden)
    dense = math.inf if sparse else None
    encoder: nn.Module
    if architecture == "tutorial":
        encoder = _TutorialEncoder(generators, sizes, hidden, activation, (*outgoing, dense))
    else:
        widths = (sizes.pixels, *hidden, sizes.posterior_width)
        encoder = _Mlp(generators, widths, activation, (*outgoing, dense))
    widths = (sizes.latent_dim, *reversed(hidden), sizes.decoder_width)
    return encoder, _Mlp(generators, widths, activation, (*outgoing, *outgoing[:1]))
