"""Networks of a user that harm more than their own cell."""

import os
import resource
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

Shape = tuple[int, int, int]
Networks = tuple[nn.Module, nn.Module]

CHILD_FILE = "POISONOUS_NETWORKS_CHILD"


def sound(image_shape: Shape, latent_dim: int, encoder_width: int, decoder_width: int) -> Networks:
    channels, height, width = image_shape
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(channels * height * width, encoder_width))
    return encoder, nn.Linear(latent_dim, decoder_width)


class _Acting(nn.Module):
    """Passes its input on, and acts at its fifth batch."""

    def __init__(self, act: Callable[[], None]) -> None:
        super().__init__()
        self._act, self._calls = act, 0

    def forward(self, x: Tensor) -> Tensor:
        self._calls += 1
        if self._calls == 5:
            self._act()
        return x


def _acting(act: Callable[[], None], sizes: dict[str, object]) -> Networks:
    encoder, decoder = sound(**sizes)  # type: ignore[arg-type]  # the caller passes all four
    return nn.Sequential(_Acting(act), encoder), decoder


def default_device(**sizes: object) -> Networks:
    torch.set_default_device("meta")
    return sound(**sizes)  # type: ignore[arg-type]  # the caller passes all four


def no_gradients(**sizes: object) -> Networks:
    networks = sound(**sizes)  # type: ignore[arg-type]  # the caller passes all four
    torch.set_grad_enabled(False)
    return networks


def process_state(**sizes: object) -> Networks:
    """Change what the process has outside torch, and then fail."""

    def change() -> None:
        os.chdir("/")
        os.environ.clear()
        sys.path.clear()
        warnings.simplefilter("error")
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        torch.nn.functional.linear = None  # type: ignore[assignment]  # that is the point
        raise RuntimeError("this network changes its process")

    return _acting(change, sizes)


def hangs_with_a_child(**sizes: object) -> Networks:
    def hang() -> None:
        child = subprocess.Popen(["sleep", "10000"])
        Path(os.environ[CHILD_FILE]).write_text(str(child.pid), encoding="ascii")
        time.sleep(10_000)

    return _acting(hang, sizes)


def leaves_a_child(**sizes: object) -> Networks:
    """Start a process in the background and train to the end."""

    def start() -> None:
        child = subprocess.Popen(["sleep", "10000"])
        Path(os.environ[CHILD_FILE]).write_text(str(child.pid), encoding="ascii")

    return _acting(start, sizes)


def ends_its_child(**sizes: object) -> Networks:
    """A child must hear SIGTERM as usual."""

    def end() -> None:
        child = subprocess.Popen(["sleep", "10000"])
        child.terminate()
        if child.wait(timeout=10) != -signal.SIGTERM:
            raise RuntimeError("the child did not end by SIGTERM")

    return _acting(end, sizes)


STRANGE = "\x1b[2J\x1b]0;title\x07 \u202e red \ud800 "


def raises_strange_text(**sizes: object) -> Networks:
    def fail() -> None:
        raise RuntimeError(STRANGE + "x" * 6_000_000)

    return _acting(fail, sizes)


class _OutsideException(BaseException):
    """What `except Exception` does not catch."""


class _Unprintable(RuntimeError):
    def __str__(self) -> str:
        raise ValueError("this error has no message")


def _raising(error: BaseException, sizes: dict[str, object]) -> Networks:
    def fail() -> None:
        raise error

    return _acting(fail, sizes)


def raises_base_exception(**sizes: object) -> Networks:
    return _raising(_OutsideException("outside"), sizes)


def raises_keyboard_interrupt(**sizes: object) -> Networks:
    return _raising(KeyboardInterrupt("nobody pressed it"), sizes)


def raises_unprintable(**sizes: object) -> Networks:
    return _raising(_Unprintable(), sizes)


def floods(**sizes: object) -> Networks:
    """Write to the descriptors, past Python's own streams."""

    def write() -> None:
        for _ in range(1000):
            os.write(1, b"flood\x1b[2J\n" * 100)
            os.write(2, b"flood\x1b[2J\n" * 100)

    return _acting(write, sizes)


def exhausts_memory(**sizes: object) -> Networks:
    return _acting(lambda: torch.empty(10**15) and None, sizes)


def is_killed(**sizes: object) -> Networks:
    """End as the system ends a process when memory runs out."""
    return _acting(lambda: os.kill(os.getpid(), signal.SIGKILL), sizes)


def fills_memory(**sizes: object) -> Networks:
    """Take more and more memory, up to a limit that stands for the machine's."""

    def fill() -> None:
        used = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        most = used * resource.getpagesize() + 300 * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        taken = []
        while True:
            taken.append(torch.ones(10**7))

    return _acting(fill, sizes)
