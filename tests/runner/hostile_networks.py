"""Networks that do what a user's own may do to the process that trains them."""

import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

Shape = tuple[int, int, int]
Networks = tuple[nn.Module, nn.Module]

MARK = "HOSTILE_NETWORKS_MARK"


def sound(image_shape: Shape, latent_dim: int, encoder_width: int, decoder_width: int) -> Networks:
    channels, height, width = image_shape
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(channels * height * width, encoder_width))
    return encoder, nn.Linear(latent_dim, decoder_width)


class _Doing(nn.Module):
    """Passes its input on, and does something at one of its batches."""

    def __init__(self, act: Callable[[], None], batch: int) -> None:
        super().__init__()
        self._act, self._batch, self._calls = act, batch, 0

    def forward(self, x: Tensor) -> Tensor:
        self._calls += 1
        if self._calls == self._batch:
            self._act()
        return x


def _doing(act: Callable[[], None], sizes: dict[str, object], batch: int = 5) -> Networks:
    encoder, decoder = sound(**sizes)  # type: ignore[arg-type]  # what the caller gives all
    return nn.Sequential(_Doing(act, batch), encoder), decoder


def _kill_once() -> None:
    mark = Path(os.environ[MARK])
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)


def killed_once(**sizes: object) -> Networks:
    """Kill the worker in mid-epoch as the kernel would, unless that has been done."""
    return _doing(_kill_once, sizes)


def killed_once_later(**sizes: object) -> Networks:
    """The same in the second epoch of ten batches."""
    return _doing(_kill_once, sizes, batch=15)


def killed_always(**sizes: object) -> Networks:
    return _doing(lambda: os.kill(os.getpid(), signal.SIGKILL), sizes)


def raises(**sizes: object) -> Networks:
    def fail() -> None:
        raise RuntimeError("this network has had enough")

    return _doing(fail, sizes)


def raises_at_once(**sizes: object) -> Networks:
    raise KeyError("no such layer")


def exits(**sizes: object) -> Networks:
    return _doing(lambda: sys.exit(3), sizes)


def exits_hard(**sizes: object) -> Networks:
    return _doing(lambda: os._exit(7), sizes)


def hangs(**sizes: object) -> Networks:
    """Fall silent after an epoch of ten batches."""
    return _doing(lambda: time.sleep(10_000), sizes, batch=15)


def draws(**sizes: object) -> Networks:
    """Write down what a layer with noise of its own, as dropout has, would draw."""

    def draw() -> None:
        numbers = torch.rand(()).item(), float(np.random.random()), random.random()  # noqa: NPY002, S311
        with Path(os.environ[MARK]).open("a", encoding="utf-8") as notes:
            notes.write(" ".join(map(str, numbers)) + "\n")

    return _doing(draw, sizes)


def meddles(**sizes: object) -> Networks:
    """Change what every later cell of the process relies on."""

    def meddle() -> None:
        torch.manual_seed(99)
        torch.set_default_dtype(torch.float64)

    return _doing(meddle, sizes)
