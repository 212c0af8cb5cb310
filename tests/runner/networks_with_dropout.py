"""A user's own network that draws from torch's default generator, in evaluation too."""

from math import prod

from torch import Tensor, nn
from torch.nn import functional as F


class _Noisy(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x, 0.3, training=True)


def build(
    image_shape: tuple[int, int, int], latent_dim: int, encoder_width: int, decoder_width: int
) -> tuple[nn.Module, nn.Module]:
    pixels = prod(image_shape)
    encoder = nn.Sequential(
        nn.Flatten(), _Noisy(), nn.Dropout(0.3), nn.Linear(pixels, encoder_width)
    )
    return encoder, nn.Sequential(nn.Linear(latent_dim, decoder_width))
