"""Models of other people: the same estimators, and the loss they were trained with."""

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from outside_models import LinearVAE, Losses, PlainVAE
from scipy.stats import multivariate_normal
from torch import nn
from torch.distributions import Independent, Laplace, Normal

import vaebench
from vaebench.adapters.base import as_adapter
from vaebench.adapters.external import ExternalVAE, describe
from vaebench.adapters.loaders import load_external
from vaebench.adapters.own_loss import ImportanceLoss, OwnLoss, compare_own_loss
from vaebench.cli.main import main
from vaebench.data.sources import load
from vaebench.errors import UsageError, WeightsMissing
from vaebench.records.store import Store
from vaebench.runner.external import evaluate

FAST: dict[str, object] = {"tsne_points": 0, "test_size": 100, "train_size": 200}
DIGITS = (1, 8, 8)


def external(model: object, pixels: torch.Tensor, **settings: object) -> ExternalVAE:
    adapter = as_adapter(model, DIGITS)
    cell = describe(adapter, pixels[:4], DIGITS, {"architecture": "external:m", **settings})
    return ExternalVAE(adapter, cell, DIGITS, 17)


def test_a_linear_model_from_outside_has_its_exact_log_likelihood(tmp_path: Path) -> None:
    data = load("linear-gaussian", None, 200, 0, 100)
    pixels = data.test.images.flatten(1).double().numpy()
    model = LinearVAE(pixels.shape[1])
    found = evaluate(
        model,
        "linear-gaussian",
        tmp_path,
        settings=FAST | {"iw_samples": 2_000, "iw_images": 100, "ais_images": 1},
    )
    W = model.decoder.weight.detach().double().numpy()
    covariance = W @ W.T + 0.25 * np.eye(len(W))
    exact = multivariate_normal(model.decoder.bias.detach().double().numpy(), covariance)
    metrics = found.record.metrics
    value = metrics["exact_log_likelihood"].value
    assert value == pytest.approx(exact.logpdf(pixels).mean(), abs=1e-3)
    assert value is not None
    elbo, bound = metrics["elbo"].value, metrics["iw_bound"].value
    assert elbo is not None
    assert bound is not None
    assert elbo < bound < value + 3 * (metrics["iw_se"].value or 0)
    bracket = metrics["ais_bracket"]
    assert bracket.value is not None
    assert -0.5 < bracket.value < 0.5
    assert Store(tmp_path).read(found.record.cell_id) == found.record


@pytest.mark.parametrize(
    ("error", "gaussian", "words"),
    [
        ("", False, "is the negative ELBO"),
        ("", True, "is the negative ELBO"),
        ("mean", False, "a mean over 64 pixels"),
        ("sign", False, "KL has the wrong sign"),
        ("beta", False, "beta = (3.9|4)"),
        ("no constant", True, r"constant -\d+\.\d+ nats of the gaussian density is missing"),
    ],
)
def test_a_planted_error_of_a_loss_is_described(error: str, gaussian: bool, words: str) -> None:
    images = load("digits", None).test.images
    pixels = (images.float() / 16).flatten(1)
    binary = pixels if gaussian else (pixels > 0.5).float()
    model = Losses(error, gaussian)
    found = compare_own_loss(external(model, binary), model.own_loss, binary)
    assert re.search(words, found.text()), found


def test_a_constant_is_not_missing_where_it_is_there() -> None:
    right = OwnLoss(-10.0, -10.0, 1.0, 1.0, 0.0, 0.1, 64, "gaussian", 0.2)
    assert "missing" not in right.text()


def test_a_module_that_returns_tensors_gets_its_distributions_from_the_user() -> None:
    pixels = torch.rand(8, 64, generator=torch.Generator().manual_seed(1)).round()
    z = torch.randn(8, 2, generator=torch.Generator().manual_seed(2))
    probabilities = as_adapter(PlainVAE(), DIGITS, "bernoulli")
    logits = as_adapter(PlainVAE(logits=True), DIGITS, "bernoulli")
    x = pixels.view(-1, *DIGITS)
    one, other = (a.decode(z).log_prob(x) for a in (probabilities, logits))
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-3)
    output = PlainVAE().decode(z)
    expected = -nn.functional.binary_cross_entropy(output, pixels, reduction="none").sum(1)
    torch.testing.assert_close(one, expected, rtol=1e-4, atol=1e-3)


class NoEncoder(nn.Module):
    def decode(self, z: torch.Tensor) -> torch.Tensor:
        return z


class Triple(nn.Module):
    """A model with one method, forward(x) -> (reconstruction, mean, log-variance)."""

    def __init__(self, sigmoid: bool = False) -> None:
        super().__init__()
        plain = PlainVAE(logits=True)
        self.inner, self.decoder, self.sigmoid = plain, plain.decoder, sigmoid

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        mean, log_variance = self.inner.encode(x)
        z = mean + torch.randn_like(mean) * (0.5 * log_variance).exp()
        output = self.decoder(z)
        return output.sigmoid() if self.sigmoid else output, mean, log_variance


def test_a_module_whose_forward_returns_three_tensors_is_that_with_two_methods() -> None:
    x = torch.rand((8, *DIGITS), generator=torch.Generator().manual_seed(1))
    z = torch.randn((8, 2), generator=torch.Generator().manual_seed(2))
    one = as_adapter(Triple(), DIGITS, "bernoulli")
    other = as_adapter(PlainVAE(logits=True), DIGITS, "bernoulli")
    assert torch.equal(one.encode(x).mean, other.encode(x).mean)
    assert torch.equal(one.encode(x).variance, other.encode(x).variance)
    assert torch.equal(one.decode(z).mean, other.decode(z).mean)


@pytest.mark.parametrize(
    ("model", "settings", "words"),
    [
        (PlainVAE(), {}, "--likelihood"),
        (PlainVAE(), {"likelihood": "gaussian"}, "needs sigma"),
        (PlainVAE(), {"likelihood": "bernoulli", "sigma": 1.0}, "has no sigma"),
        (nn.Linear(64, 2), {"likelihood": "bernoulli"}, "has no method decode"),
        (NoEncoder(), {"likelihood": "bernoulli"}, "has no method encode, and its forward does"),
        (Triple(sigmoid=True), {"likelihood": "bernoulli"}, "forward changes what its decoder"),
        (PlainVAE, {"likelihood": "bernoulli"}, "got the class PlainVAE"),
        (object(), {}, "encode, decode and prior"),
        (Losses(""), {"likelihood": "bernoulli"}, "a model that returns distributions"),
        (PlainVAE(), {"likelihood": "gaussian", "sigma": 0.0}, "positive"),
        (PlainVAE(), {"likelihood": "laplace", "sigma": float("nan")}, "positive"),
    ],
)
def test_a_model_that_cannot_be_used_is_refused(
    model: object, settings: dict[str, Any], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        as_adapter(model, DIGITS, **settings)


class Broken(PlainVAE):
    def __init__(self, value: float | None) -> None:
        super().__init__()
        self.value = value

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        if self.value is None:
            raise NameError("hidden_layer")
        return torch.full((len(z), 64), self.value)


class Noisy(PlainVAE):
    def encode(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        mean, log_variance = super().encode(x)
        return mean + 0.1 * torch.randn_like(mean), log_variance


class OfTheBatch(PlainVAE):
    def decode(self, z: torch.Tensor) -> torch.Tensor:
        return super().decode((z - z.mean(0)) / z.std(0))


class Transposed(PlainVAE):
    def decode(self, z: torch.Tensor) -> torch.Tensor:
        return super().decode(z).T


class InTraining(PlainVAE):
    """A module that is evaluated although it was left in training mode."""

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        return nn.functional.dropout(super().decode(z), 0.5, self.training)


@pytest.mark.parametrize(
    ("model", "settings", "words"),
    [
        (Noisy(), {}, "encode gives another distribution for the same input"),
        (OfTheBatch(), {}, "decode gives another distribution for the same input"),
        (Transposed(), {}, "in one row for each"),
        (Broken(None), {}, "the model failed: NameError: hidden_layer"),
        (Broken(math.nan), {}, "nan or infinity"),
        (PlainVAE(), {"test_sze": 3}, "did you mean 'test_size'"),
        (PlainVAE(), {"latent_dim": 4}, "the model determines latent_dim"),
        (PlainVAE(), {"device": "cuda"}, "must be 'cpu'"),
        (PlainVAE(), {"test_size": 100_000}, "test_size"),
    ],
    ids=["noise", "batch", "transposed", "bug", "nan", "typo", "latent_dim", "device", "test_size"],
)
def test_a_mistake_is_named_in_one_line_and_writes_nothing(
    model: object, settings: dict[str, object], words: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=words) as refused:
        evaluate(
            model, "digits", tmp_path / "store", likelihood="bernoulli", settings=FAST | settings
        )
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "store").exists()


class Changed(Losses):
    """An adapter with one property or method replaced."""

    def __init__(self, **changed: Any) -> None:
        super().__init__("")
        self.__dict__ |= changed


def _normal(*shape: int, event: int) -> Independent:
    return Independent(Normal(torch.zeros(shape), torch.ones(shape)), event)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"prior": _normal(3, event=1)}, r"prior must be a distribution over \(2,\).*over \(3,\)"),
        ({"prior": Independent(Laplace(torch.zeros(2), 1.0), 1)}, "prior must be N.*got Laplace"),
        (
            {"decode": lambda z: _normal(len(z), 64, event=1)},
            r"over \(\d+, 1, 8, 8\) for \d+ codes; got one over \(\d+, 64\)",
        ),
        ({"own_loss": lambda x: x.flatten(1).sum(1)}, r"one finite number.*shape \(1000,\)"),
        ({"own_loss": lambda _x: math.nan}, "one finite number.*got nan or infinity"),
    ],
    ids=["prior size", "prior family", "flat decoder", "vector loss", "nan loss"],
)
def test_an_adapter_of_another_shape_is_refused_with_both_shapes(
    changed: dict[str, Any], words: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=words):
        evaluate(
            Changed(**changed), "digits", tmp_path, settings=FAST | {"binarization": "threshold"}
        )


def test_a_module_in_training_mode_is_switched_to_evaluation() -> None:
    adapter = as_adapter(InTraining().train(), DIGITS, "bernoulli")
    z = torch.zeros((4, 2))
    assert torch.equal(adapter.decode(z).mean, adapter.decode(z).mean)
    held = Changed(inner=nn.Dropout().train())
    as_adapter(held.train(), DIGITS)
    assert not held.training


def test_a_loss_of_something_else_gets_no_weights() -> None:
    pixels = (load("digits", None).test.images.float() / 16).flatten(1).round()
    other = compare_own_loss(
        external(Losses(""), pixels), lambda x: 50 * x[..., ::2].sin().pow(3).mean(), pixels
    )
    assert isinstance(other, OwnLoss)
    assert not other.agrees
    assert "no weight or constant explains the difference" in other.text()


def test_the_weight_of_a_kl_that_is_the_same_for_all_images_is_not_claimed() -> None:
    found = OwnLoss(120.0, 100.0, 1.0, 0.0, 20.0, 0.1, 64, "bernoulli", None, math.inf)
    assert "beta" not in found.text()
    assert "the KL varies too little" in found.text()
    assert "a constant of 20 is added" in found.text()


def test_sigma_is_recorded_as_it_was_given(tmp_path: Path) -> None:
    found = evaluate(
        PlainVAE(), "digits", tmp_path, likelihood="gaussian", sigma=0.3, settings=FAST
    )
    assert found.record.cell.sigma == 0.3


def test_the_same_weights_are_the_same_cell_and_others_are_not(tmp_path: Path) -> None:
    def digits(model: PlainVAE) -> str:
        settings = FAST | {"binarization": "threshold"}
        found = evaluate(model, "digits", tmp_path, likelihood="bernoulli", settings=settings)
        return found.record.cell_id

    changed = PlainVAE()
    with torch.no_grad():
        changed.heads.bias.add_(0.1)
    assert digits(PlainVAE()) == digits(PlainVAE()) != digits(changed)


def test_the_command_scores_a_function_of_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(Path(__file__).parent)
    words = ["--dataset", "digits", "-o", str(tmp_path), "--set", "binarization=threshold"]
    words += ["--set", "tsne_points=0", "--set", "test_size=60"]
    codes = []
    for model in ("outside_models:plain", "outside_models:fails", "nowhere", "no.such:load"):
        with pytest.raises(SystemExit) as leaving:
            main(["evaluate", model, *words, "--likelihood", "bernoulli"])
        codes.append(leaving.value.code)
    assert codes == [0, 2, 2, 2]
    captured = capsys.readouterr()
    assert "external:outside_models" in captured.out
    assert "no weights here" in captured.err
    (record,) = Store(tmp_path).read_all()[0]
    assert record.warnings[-1].code == "external"


def test_a_pythae_folder_is_scored_and_its_pickles_are_not_read(tmp_path: Path) -> None:
    models = pytest.importorskip("pythae.models", reason="pythae is not installed")
    folder = tmp_path / "model"
    config = models.VAEConfig(input_dim=(1, 8, 8), latent_dim=2, reconstruction_loss="bce")
    torch.manual_seed(0)
    models.VAE(config).save(str(folder))
    settings = FAST | {"binarization": "threshold"}
    found = evaluate(str(folder), "digits", tmp_path / "store", settings=settings)
    assert found.record.cell.architecture == "external:pythae_vae"
    assert found.own_loss is not None
    assert "is the negative ELBO" in found.own_loss
    (folder / "encoder.pkl").write_bytes(b"")
    with pytest.raises(UsageError, match="--trust"):
        evaluate(str(folder), "digits", tmp_path / "store", settings=settings)


class Returns(nn.Module):
    """A module whose encode returns what it was given."""

    def __init__(self, returned: object) -> None:
        super().__init__()
        self.returned = returned

    def encode(self, x: torch.Tensor) -> object:
        return self.returned

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        return torch.zeros(len(z), 64)


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        (torch.zeros(8, 4), r"got a tensor of shape \(8, 4\)"),
        (
            (torch.zeros(8, 64), torch.zeros(8, 2), torch.zeros(8, 2)),
            r"got 3 values \(a tensor of shape \(8, 64\), a tensor of shape \(8, 2\)",
        ),
        (
            (torch.zeros(8, 2), torch.zeros(8, 3)),
            r"equal shapes; got 2 values .*\(8, 2\).*\(8, 3\)",
        ),
        ((torch.zeros(4, 2), torch.zeros(4, 2)), r"shape \(8, Z\) for 8 images; got 2 values"),
        ((torch.zeros(8, 2), 1.0), r"a tensor of shape \(8, 2\), float"),
    ],
)
def test_what_encode_returned_is_described_by_its_shapes(returned: object, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        as_adapter(Returns(returned), DIGITS, "bernoulli")


def test_a_misspelt_likelihood_is_answered_with_the_name() -> None:
    with pytest.raises(UsageError, match="did you mean 'bernoulli'"):
        as_adapter(PlainVAE(), DIGITS, "bernouli")


class OfRows(nn.Module):
    """A network of linear layers, which would accept ``(N, 1, 1, D)`` too."""

    def __init__(self, pixels: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoder, self.decoder = nn.Linear(pixels, 4), nn.Linear(2, pixels)
        self.seen: list[torch.Tensor] = []

    def encode(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        self.seen.append(x)
        return self.encoder(x).chunk(2, -1)

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        return self.decoder(z)


def test_rows_of_a_table_arrive_as_rows_in_their_own_unit(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(1_000, 5, (60, 3))
    pd.DataFrame(values, columns=list("abc")).to_csv(tmp_path / "t.csv", index=False)
    model = OfRows(3)
    found = evaluate(
        model,
        str(tmp_path / "t.csv"),
        tmp_path / "s",
        likelihood="gaussian",
        sigma=5.0,
        settings={"tsne_points": 0},
    )
    assert model.seen[-1].shape[1:] == (3,)
    assert model.seen[-1].mean() == pytest.approx(1_000, abs=5)
    assert found.record.data is not None
    assert found.record.data.shift is None, "nothing was standardised"
    assert found.record.metrics["exact_log_likelihood"].value is not None


def test_a_cell_of_a_store_measures_what_its_record_says(tmp_path: Path) -> None:
    base = {"train_size": 200, "test_size": 50, "batch_size": 20, "hidden": [8], "epochs": 1}
    axes = {"likelihood": "gaussian", "sigma": "learned", "seed": 3, "latent_dim": 2}
    grid = {"name": "cell", "base": base | axes | {"tsne_points": 0, "iw_samples": 4}}
    vaebench.run(grid, tmp_path / "trained", jobs=1, keep_weights=True)
    (trained,) = Store(tmp_path / "trained").read_all()[0]
    folder = tmp_path / "trained" / "cells" / trained.cell_id
    found = evaluate(str(folder), "digits", tmp_path / "s").record
    assert found.cell.architecture == "external:vaebench_mlp"
    assert found.cell_id != trained.cell_id
    same = {name for name in found.metrics if not name.endswith("_seconds")}
    assert {"elbo", "iw_bound", "bits_per_dim", "knn_accuracy"} <= same
    assert {n: found.metrics[n] for n in same} == {n: trained.metrics[n] for n in same}
    for words, settings in (
        ("likelihood and sigma cannot be set", {"likelihood": "gaussian"}),
        ("determines latent_dim", {"settings": {"latent_dim": 3}}),
    ):
        with pytest.raises(UsageError, match=words):
            evaluate(str(folder), "digits", tmp_path / "s", **settings)  # type: ignore[arg-type]  # of any type
    with pytest.raises(UsageError, match=r"\(1, 8, 8\), .* those of .*\(3, 32, 32\)"):
        evaluate(str(folder), "torchvision:FakeData", tmp_path / "s", settings={"channels": 3})
    (folder / "weights.safetensors").unlink()
    with pytest.raises(WeightsMissing):
        evaluate(str(folder), "digits", tmp_path / "s")


def test_the_loss_of_an_importance_weighted_autoencoder_is_named() -> None:
    """pythae and others return the mean of log w weighted by w, which is above the bound."""
    images = load("digits", None).test.images
    pixels = (images.float() / 16 > 0.5).float().flatten(1)[:20]
    model = Losses("")
    vae = external(model, pixels)
    k = 5

    def log_weights(x: torch.Tensor) -> torch.Tensor:
        q = model.encode(x.repeat(k, 1, 1, 1))
        z = q.rsample()
        log_w = model.decode(z).log_prob(x.repeat(k, 1, 1, 1)) + model.prior.log_prob(z)
        return (log_w - q.log_prob(z)).view(k, -1)

    def bound(x: torch.Tensor) -> torch.Tensor:
        return -(log_weights(x).logsumexp(0) - math.log(k)).mean()

    def surrogate(x: torch.Tensor) -> torch.Tensor:
        log_w = log_weights(x)
        return -(log_w.softmax(0) * log_w).sum(0).mean()

    right = compare_own_loss(vae, bound, pixels, k)
    assert right.agrees
    assert "is minus the importance-weighted bound with k = 5" in right.text()
    wrong = compare_own_loss(vae, surrogate, pixels, k)
    assert not wrong.agrees
    assert "up to log 5 = 1.61 nats too low" in wrong.text()
    assert isinstance(wrong, ImportanceLoss)
    assert wrong.weighted < wrong.negative_bound <= wrong.weighted + math.log(k)
    other = compare_own_loss(vae, lambda x: 2 * bound(x), pixels, k)
    assert "no weight or constant" in other.text()


@pytest.mark.parametrize(
    ("kind", "size", "words"),
    [
        ("VAE", (1, 4, 4), r"shape \(1, 4, 4\), .* those of this data set .*\(1, 8, 8\)"),
        ("VQVAE", (1, 8, 8), "Gaussian encoder .* is a VQVAE"),
        ("VAMP", (1, 8, 8), "Gaussian encoder .* is a VAMP"),
    ],
)
def test_a_pythae_model_that_does_not_fit_is_named(
    tmp_path: Path, kind: str, size: tuple[int, ...], words: str
) -> None:
    models = pytest.importorskip("pythae.models", reason="pythae is not installed")
    config = getattr(models, f"{kind}Config")(input_dim=size, latent_dim=4)
    getattr(models, kind)(config).save(str(tmp_path / "model"))
    with pytest.raises(UsageError, match=words):
        evaluate(str(tmp_path / "model"), "digits", tmp_path / "s", settings=FAST)


def test_a_folder_above_a_pythae_model_is_answered_with_the_model(tmp_path: Path) -> None:
    final = tmp_path / "training" / "final_model"
    final.mkdir(parents=True)
    (final / "model_config.json").write_text("{}")
    with pytest.raises(UsageError, match=r"did you mean .*training/final_model\?"):
        load_external(str(tmp_path))
    (final / "model_config.json").unlink()
    with pytest.raises(UsageError, match=r"model\.pt\)$"):
        load_external(str(tmp_path))
