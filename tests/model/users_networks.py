"""Networks such as a user would write, named by `users_networks:factory` in a cell."""

import torch
from torch import Tensor, nn

Shape = tuple[int, int, int]


class _Scaled(nn.Module):
    """A parameter without dimensions, as a user may well have one."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(0.5))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


def factory(
    image_shape: Shape, latent_dim: int, encoder_width: int, decoder_width: int
) -> tuple[nn.Module, nn.Module]:
    channels, height, width = image_shape
    flat = 5 * (height - 1) * (width - 1)
    encoder = nn.Sequential(
        nn.Conv2d(channels, 5, 2), nn.Flatten(), _Scaled(), nn.Linear(flat, encoder_width)
    )
    return encoder, nn.Linear(latent_dim, decoder_width)


def nothing(**_: object) -> None:
    """What a factory without a return statement gives."""


def with_nothing_to_train(
    image_shape: Shape, latent_dim: int, encoder_width: int, decoder_width: int
) -> tuple[nn.Module, nn.Module]:
    return nn.Flatten(), nn.Identity()


class _Pair(nn.Module):
    """Gives mean and variance apart, as a network of another library does."""

    def __init__(self, flat: int, width: int) -> None:
        super().__init__()
        self.layer = nn.Linear(flat, width)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_variance = self.layer(x.flatten(1)).chunk(2, -1)
        return mean, log_variance


def with_two_outputs(
    image_shape: Shape, latent_dim: int, encoder_width: int, decoder_width: int
) -> tuple[nn.Module, nn.Module]:
    channels, height, width = image_shape
    encoder = _Pair(channels * height * width, encoder_width)
    return encoder, nn.Linear(latent_dim, decoder_width)


def too_narrow(
    image_shape: Shape, latent_dim: int, encoder_width: int, decoder_width: int
) -> tuple[nn.Module, nn.Module]:
    encoder, _ = factory(image_shape, latent_dim, encoder_width, decoder_width)
    return encoder, nn.Linear(latent_dim, decoder_width - 1)
