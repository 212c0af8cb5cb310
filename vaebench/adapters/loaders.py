"""How a trained model is found by its name: a function, a pythae folder, or a cell of a store."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Distribution, Independent, Normal

from vaebench.errors import UsageError
from vaebench.grid.user_code import load_function, source_digest

__all__ = ["Loaded", "load_external"]


@dataclass(frozen=True)
class Loaded:
    """A model and where it came from.

    Attributes:
        model: an adapter, or a module for `vaebench.adapters.base.as_adapter`.
        name: a short name for tables.
        digest: SHA-256 of the files that the model was loaded from.
        own_loss: the mean over images ``(N, C, H, W)`` of the loss that the model was trained
            with, in the model's own words; None if it is not known.
    """

    model: object
    name: str
    digest: str
    own_loss: Callable[[Tensor], Tensor] | None = None

    @classmethod
    def of(cls, model: object, name: str | None = None, source: str = "") -> Self:
        """Return a model that is an object; its digest is that of ``source`` and its weights."""
        digest = hashlib.sha256(source.encode() + _state_digest(model)).hexdigest()
        own_loss = getattr(model, "own_loss", None)
        return cls(model, name or type(model).__name__, digest, own_loss)


def load_external(model: str, *, trust: bool = False) -> Loaded:
    """Load a model that vaebench did not train.

    Args:
        model: ``package.module:load``, a function without arguments that returns the model; or
            the path of a folder that pythae saved.
        trust: allow pickled encoders and decoders, which run code when they are read.

    Raises:
        UsageError: there is no such model, pythae is not installed, or the folder has pickled
            parts and ``trust`` is false.
        UserCodeError: the function cannot be found.
    """
    path = Path(model).expanduser()
    if path.is_dir():
        return _pythae(path, trust=trust)
    if ":" not in model:
        raise UsageError(
            f"{model} is neither a folder nor package.module:load; name a function that returns "
            "the trained model, or a folder that pythae saved"
        )
    function = load_function(model)
    try:
        loaded = function()
    except Exception as error:
        raise UsageError(f"{model} failed: {type(error).__name__}: {error}") from error
    module = model.partition(":")[0].rpartition(".")[2]
    return Loaded.of(loaded, module, source_digest(model) or "")


def _state_digest(model: object) -> bytes:
    """A digest of all weights, because the function may read them from any file."""
    digest = hashlib.sha256()
    held = getattr(model, "__dict__", {}).values()
    for module in [model] if isinstance(model, nn.Module) else held:
        if isinstance(module, nn.Module):
            for name, tensor in module.state_dict().items():
                digest.update(name.encode())
                digest.update(
                    tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
                )
    return digest.digest()


_PICKLED = ("encoder.pkl", "decoder.pkl", "internal_decoder.pkl", "internal_encoder.pkl")


def _pythae(folder: Path, *, trust: bool) -> Loaded:
    config_file, weights = folder / "model_config.json", folder / "model.pt"
    if not (config_file.is_file() and weights.is_file()):
        raise UsageError(
            f"{folder} is not a model that pythae saved: it needs model_config.json and model.pt"
        )
    pickled = [name for name in _PICKLED if (folder / name).exists()]
    if pickled and not trust:
        raise UsageError(
            f"{folder} holds {', '.join(pickled)}, which run code when they are read: pass --trust "
            "if you know who made them"
        )
    config = json.loads(config_file.read_text(encoding="utf-8"))
    try:
        # Fails on anything but tensors, before pythae reads the file.
        torch.load(weights, map_location="cpu", weights_only=True)
        from pythae.models import AutoModel
    except ImportError as error:
        raise UsageError("this is a pythae model: pip install pythae") from error
    except Exception as error:
        raise UsageError(f"{weights} holds more than weights: {error}") from error
    adapter = _PythaeAdapter(AutoModel.load_from_folder(str(folder)).eval(), config)
    digest = hashlib.sha256(config_file.read_bytes() + weights.read_bytes())
    name = str(config.get("name", "model")).removesuffix("Config").lower()
    return Loaded(adapter, f"pythae_{name}", digest.hexdigest(), adapter.own_loss)


class _PythaeAdapter(nn.Module):
    """A pythae model: its encoder, its decoder, and the density of its reconstruction loss.

    ``bce`` is a Bernoulli; ``mse`` there is half the sum of squares, a Gaussian of sigma 1.
    """

    def __init__(self, model: Any, config: dict[str, Any]) -> None:
        super().__init__()
        self.model, self.kind = model, config.get("reconstruction_loss")
        if self.kind not in ("bce", "mse"):
            raise UsageError(f"a reconstruction_loss of bce or mse is known; got {self.kind!r}")
        size = int(config["latent_dim"])
        self.prior = Independent(Normal(torch.zeros(size), torch.ones(size)), 1)
        self.image_shape = tuple(config["input_dim"])

    def encode(self, x: Tensor) -> Distribution:
        """Return q(z|x) over ``(N, Z)``."""
        output = self.model.encoder(x.reshape(-1, *self.image_shape))
        deviation = (0.5 * output.log_covariance).exp()
        return Independent(Normal(output.embedding, deviation, validate_args=False), 1)

    def decode(self, z: Tensor) -> Distribution:
        """Return p(x|z) over ``(N, C, H, W)``."""
        output = self.model.decoder(z)["reconstruction"].reshape(len(z), *self.image_shape)
        if self.kind == "bce":
            return Independent(Bernoulli(probs=output, validate_args=False), 3)
        return Independent(Normal(output, torch.ones_like(output)), 3)

    def own_loss(self, x: Tensor) -> Tensor:
        """Return the loss as pythae computes it."""
        loss: Tensor = self.model({"data": x.reshape(-1, *self.image_shape)}).loss
        return loss
