"""How a trained model is found by its name: a function, a pythae folder, or a cell of a store."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Distribution, Independent, Normal

from vaebench.errors import UsageError, error_text
from vaebench.grid.user_code import load_function, source_digest


@dataclass(frozen=True)
class Loaded:
    """A model and where it came from.

    Attributes:
        model: an adapter, or a module for `vaebench.adapters.base.as_adapter`.
        name: a short name for tables.
        digest: SHA-256 of the files that the model was loaded from.
        own_loss: the mean over images ``(N, C, H, W)`` of the loss that the model was trained
            with, in the model's own words; None if it is not known.
        own_samples: importance samples behind that loss; 1 for an ELBO.
    """

    model: object
    name: str
    digest: str
    own_loss: Callable[[Tensor], Tensor] | None = None
    own_samples: int = 1

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
            f"there is no folder {model}, and package.module:load would name a function: give a "
            "function that returns the trained model, a folder that pythae saved, or the folder of "
            "a cell (STORE/cells/CELL)"
        )
    function = load_function(model)
    try:
        loaded = function()
    except (Exception, SystemExit) as error:
        raise UsageError(f"{model} failed: {error_text(error)}") from error
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
_GAUSSIAN = (
    *("VAE", "BetaVAE", "DisentangledBetaVAE", "FactorVAE", "BetaTCVAE", "INFOVAE_MMD"),
    *("IWAE", "MIWAE", "PIWAE", "CIWAE"),
)
"""The models of pythae with a Gaussian encoder and the prior N(0, I)."""
_OWN_LOSS = ("VAE", "BetaVAE", "IWAE")
"""Those whose loss depends on nothing but the model and the images."""


def _pythae(folder: Path, *, trust: bool) -> Loaded:
    config_file, weights = folder / "model_config.json", folder / "model.pt"
    if not (config_file.is_file() and weights.is_file()):
        raise UsageError(
            f"{folder} is neither a cell of a store (record.json and weights.safetensors) nor a "
            "model that pythae saved (model_config.json and model.pt)"
        )
    pickled = [name for name in _PICKLED if (folder / name).exists()]
    if pickled and not trust:
        raise UsageError(
            f"{folder} holds {', '.join(pickled)}, which run code when they are read: pass --trust "
            "if you know who made them"
        )
    try:
        config = json.loads(config_file.read_text(encoding="utf-8"))
        name = str(config["name"]).removesuffix("Config")
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{config_file} is not a configuration that pythae wrote") from error
    if name not in _GAUSSIAN:
        raise UsageError(
            f"{folder} is a {name}; of pythae's models those with a Gaussian encoder and the prior "
            f"N(0, I) can be evaluated: {', '.join(_GAUSSIAN)}"
        )
    try:
        # Fails on anything but tensors, before pythae reads the file.
        torch.load(weights, map_location="cpu", weights_only=True)
        from pythae.models import AutoModel
    except ImportError as error:
        raise UsageError("this is a pythae model: pip install pythae") from error
    except Exception as error:
        raise UsageError(f"{weights} holds more than weights: {error}") from error
    try:
        model = AutoModel.load_from_folder(str(folder)).eval()
    except Exception as error:
        raise UsageError(f"pythae cannot read {folder}: {type(error).__name__}: {error}") from error
    adapter = _PythaeAdapter(model, config)
    digest = hashlib.sha256(config_file.read_bytes() + weights.read_bytes()).hexdigest()
    own_loss = adapter.own_loss if name in _OWN_LOSS else None
    samples = int(config["number_samples"]) if name == "IWAE" else 1
    return Loaded(adapter, f"pythae_{name.lower()}", digest, own_loss, samples)


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
        self.input_dim = tuple(config["input_dim"])
        pixels = math.prod(self.input_dim)
        self.image_shape = self.input_dim if len(self.input_dim) == 3 else (1, 1, pixels)

    def _inputs(self, x: Tensor) -> Tensor:
        if math.prod(self.input_dim) != x[0].numel():
            raise UsageError(
                f"the model was made for examples of shape {self.input_dim}; those of this data "
                f"set have {tuple(x.shape[1:])}"
            )
        return x.reshape(-1, *self.input_dim)

    def encode(self, x: Tensor) -> Distribution:
        """Return q(z|x) over ``(N, Z)``."""
        output = self.model.encoder(self._inputs(x))
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
        loss: Tensor = self.model({"data": self._inputs(x)}).loss
        return loss
