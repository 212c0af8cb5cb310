"""Load a trained model from a function ``module:load`` or from a folder saved by pythae."""

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
    """A model and its origin.

    Attributes:
        model: an adapter, or a module for `vaebench.adapters.base.as_adapter`.
        name: a short name for tables.
        digest: SHA-256 of the files that the model was loaded from.
        own_loss: the function that the model was trained with, which returns the mean loss of
            images ``(N, C, H, W)``; None if unknown.
        own_samples: number of importance samples in that loss; 1 for an ELBO.
    """

    model: object
    name: str
    digest: str
    own_loss: Callable[[Tensor], Tensor] | None = None
    own_samples: int = 1

    @classmethod
    def of(cls, model: object, name: str | None = None, source: str = "") -> Self:
        """Describe a model that is an object; its digest is that of ``source`` and the weights."""
        digest = hashlib.sha256(source.encode() + _state_digest(model)).hexdigest()
        own_loss = getattr(model, "own_loss", None)
        return cls(model, name or type(model).__name__, digest, own_loss)


def load_external(model: str, *, trust: bool = False) -> Loaded:
    """Load a model that vaebench did not train.

    Args:
        model: ``package.module:load``, a function without arguments that returns the model; or
            the path of a folder saved by pythae.
        trust: allow pickled encoders and decoders, which run code when they are read.

    Raises:
        UsageError: the model does not exist, pythae is not installed, or the folder has pickled
            files and ``trust`` is false.
        UserCodeError: the function cannot be found.
    """
    path = Path(model).expanduser()
    if path.is_dir():
        return _pythae(path, trust=trust)
    if ":" not in model:
        raise UsageError(
            "the model must be a function package.module:load that returns a trained model, a "
            "folder saved by pythae, or the folder of a cell (STORE/cells/CELL); there is no "
            f"folder {model}"
        )
    function = load_function(model)
    try:
        loaded = function()
    except (Exception, SystemExit) as error:
        raise UsageError(f"{model} failed: {error_text(error)}") from error
    module = model.partition(":")[0].rpartition(".")[2]
    return Loaded.of(loaded, module, source_digest(model) or "")


def _state_digest(model: object) -> bytes:
    """Return a digest of all weights, because a function may read them from any file."""
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
"""The models of pythae whose loss depends only on the model and the images."""


def _pythae(folder: Path, *, trust: bool) -> Loaded:
    config_file, weights = folder / "model_config.json", folder / "model.pt"
    if not (config_file.is_file() and weights.is_file()):
        inside = sorted(found.parent for found in folder.glob("**/model_config.json"))
        raise UsageError(
            f"{folder} must be a cell of a store (with record.json and weights.safetensors) or a "
            "model saved by pythae (with model_config.json and model.pt)"
            + (f"; did you mean {inside[-1]}?" if inside else "")
        )
    pickled = [name for name in _PICKLED if (folder / name).exists()]
    if pickled and not trust:
        raise UsageError(
            f"{folder} holds {', '.join(pickled)}, and reading pickled files runs their code: add "
            "--trust if you know who made them"
        )
    try:
        config = json.loads(config_file.read_text(encoding="utf-8"))
        name = str(config["name"]).removesuffix("Config")
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{config_file} must be a configuration written by pythae") from error
    if name not in _GAUSSIAN:
        raise UsageError(
            f"a model of pythae must have a Gaussian encoder and the prior N(0, I), so one of "
            f"{', '.join(_GAUSSIAN)}; {folder} is a {name}"
        )
    try:
        # Fails on anything but tensors, before pythae reads the file.
        torch.load(weights, map_location="cpu", weights_only=True)
        from pythae.models import AutoModel
    except ImportError as error:
        raise UsageError(
            f"reading {folder} needs pythae, which is not installed: pip install pythae"
        ) from error
    except Exception as error:
        raise UsageError(f"{weights} must hold only weights: {error}") from error
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

    ``bce`` is a Bernoulli; ``mse`` is half the sum of squares in pythae, a Gaussian with sigma 1.
    """

    def __init__(self, model: Any, config: dict[str, Any]) -> None:
        super().__init__()
        self.model, self.kind = model, config.get("reconstruction_loss")
        if self.kind not in ("bce", "mse"):
            raise UsageError(f"reconstruction_loss must be bce or mse; got {self.kind!r}")
        size = int(config["latent_dim"])
        self.prior = Independent(Normal(torch.zeros(size), torch.ones(size)), 1)
        self.input_dim = tuple(config["input_dim"])
        pixels = math.prod(self.input_dim)
        self.image_shape = self.input_dim if len(self.input_dim) == 3 else (1, 1, pixels)

    def _inputs(self, x: Tensor) -> Tensor:
        if math.prod(self.input_dim) != x[0].numel():
            raise UsageError(
                f"examples must have shape {self.input_dim}, as the model expects; those of this "
                f"data set have {tuple(x.shape[1:])}"
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
        """Return the loss of images ``(N, C, H, W)`` as computed by pythae."""
        loss: Tensor = self.model({"data": self._inputs(x)}).loss
        return loss
