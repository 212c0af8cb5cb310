"""Records as a real run would leave them: smooth curves, small images, some of them failed."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaebench.grid.axes import LIKELIHOODS
from vaebench.grid.cell import Cell, cell_id
from vaebench.records.metrics import METRICS
from vaebench.records.schema import (
    NOT_A_LIKELIHOOD,
    CellRecord,
    DataFacts,
    Environment,
    Metric,
    Note,
    Status,
)
from vaebench.records.store import Store

CHECKSUM = "0f" * 32
ENVIRONMENT = Environment(
    versions={"python": "3.12.3", "torch": "2.13.0", "numpy": "2.4.6", "vaebench": "0.1.0"},
    platform="Linux x86_64",
    processor="AMD EPYC 9B14",
    cores=2,
    threads=1,
    commit="0123abc",
)


def support(cell: Cell) -> str:
    if cell.binarization != "none":
        return "binary"
    return "dequantised" if cell.dequantize else "grey"


def comparable(cell: Cell) -> str:
    if cell.likelihood == "bernoulli" and cell.binarization == "none":
        return NOT_A_LIKELIHOOD
    return LIKELIHOODS[cell.likelihood].kind


def facts(cell: Cell) -> DataFacts:
    return DataFacts(
        name=cell.dataset,
        checksum=CHECKSUM,
        shape=(1, 8, 8),
        levels=2 if cell.binarization != "none" else 17,
        binarization=cell.binarization,
        dequantize=cell.dequantize,
        n_train=1437,
        n_valid=0,
        n_test=360,
        support=support(cell),
    )


def numbers(cell: Cell) -> dict[str, float | None]:
    """Metrics that vary smoothly with the axes, and a little with the seed."""
    noise = np.random.default_rng([cell.seed, cell.latent_dim])
    z = cell.latent_dim
    sigma = cell.sigma if isinstance(cell.sigma, float) else 0.16
    family = list(LIKELIHOODS).index(cell.likelihood)
    kl = min(2.1 * z, 16 / (0.5 + sigma)) ** 0.9
    fit = 38 * np.exp(-z / 5) + (64 * np.log(sigma / 0.16) + 12 * (0.16 / sigma) ** 2)
    density = comparable(cell) == "density"
    rec = fit + 4 * family + (-60 if density else 60) + noise.normal(0, 0.8)
    kl += noise.normal(0, 0.25)
    elbo = -(rec + kl)
    bits = None if comparable(cell) == NOT_A_LIKELIHOOD else 2.2 - elbo / (64 * np.log(2)) * 0.25
    return {
        "elbo": elbo,
        "reconstruction_error": rec,
        "kl": kl,
        "mse": 0.01 + 0.06 * np.exp(-z / 5) + noise.normal(0, 0.0004),
        "sigma_fitted": None if cell.sigma is None else sigma,
        "bits_per_dim": bits,
        "active_units": float(min(z, round(18 / (1 + sigma)))),
        "knn_accuracy": 0.97 - 0.6 * np.exp(-z / 2) + noise.normal(0, 0.004),
        "tsne_trustworthiness": 0.97 - 0.2 * np.exp(-z / 3) + noise.normal(0, 0.004),
        "train_seconds": 2.1 + 0.01 * z,
        "step_ms_median": 2.2 + 0.01 * z + abs(noise.normal(0, 0.05)),
        "step_ms_p95": 3.1 + 0.01 * z,
        "samples_per_second": 128_000 / (2.2 + 0.01 * z + abs(noise.normal(0, 0.05))),
        "pack_size": 1.0,
        "peak_memory_mib": 31 + 0.1 * z + abs(noise.normal(0, 2)),
    }


def metrics(cell: Cell) -> dict[str, Metric]:
    why = {"bits_per_dim": "a Bernoulli on grey pixels is not a likelihood of these data"}
    why["sigma_fitted"] = "this likelihood has no scale"
    found = {}
    for name, value in numbers(cell).items():
        if value is None:
            found[name] = Metric.absent(name, Note.of("no_probability", why[name]))
        else:
            se = 0.4 if name == "elbo" else None
            found[name] = Metric.measured(name, float(value), n=360, se=se)
    # The standard error of the ELBO is part of it, as an evaluation leaves it.
    missing = set(METRICS) - set(found) - {"iw_samples", "elbo_se"}
    unasked = Note.of("not_requested", "not asked for: iw_samples is 0")
    found |= {name: Metric.absent(name, unasked) for name in missing}
    return found


def series(cell: Cell) -> dict[str, list[float | None]]:
    epochs = np.arange(1, cell.epochs + 1)
    end = numbers(cell)["elbo"]
    assert end is not None
    curve = [float(v) for v in end - 160 * np.exp(-epochs / 3)]
    return {"train_elbo": list(curve), "sigma": [0.2] * cell.epochs}


def digits(count: int, seed: int, blur: float) -> NDArray[np.uint8]:
    """Rings and bars of 8 x 8 pixels that look a little like digits, (count, 8, 8)."""
    draw = np.random.default_rng(seed)
    y, x = np.mgrid[0:8, 0:8]
    made = []
    for _ in range(count):
        cx, cy, r = draw.uniform(3, 4.5), draw.uniform(3, 4.5), draw.uniform(1.5, 3)
        ring = np.exp(-((np.hypot(x - cx, y - cy) - r) ** 2) / (0.5 + blur))
        made.append(np.clip(255 * ring, 0, 255))
    return np.asarray(made, dtype=np.uint8)


def arrays(cell: Cell) -> dict[str, NDArray[Any]]:
    z = cell.latent_dim
    draw = np.random.default_rng([7, z])
    labels = draw.integers(0, 10, 300)
    angle = labels * 0.628
    centre = np.stack([np.cos(angle), np.sin(angle)], axis=1) * (4 + z)
    blur = 3 * np.exp(-z / 4)
    return {
        "kl_per_dimension": (3 * np.exp(-np.arange(z) / 6) + 0.01).astype(np.float32),
        "tsne": (centre + draw.normal(0, 2.5, (300, 2))).astype(np.float32),
        "tsne_labels": labels.astype(np.int8),
        "tsne_images": digits(60, 5, 0.0),
        "tsne_reconstructions": digits(60, 5, blur),
        "originals": digits(10, 1, 0.0),
        "reconstructions": digits(10, 1, blur),
        "prior_samples": digits(36, 2, blur + 0.3),
        "interpolations": digits(36, 3, blur).reshape(4, 9, 8, 8),
        "traversal": digits(64, 4, blur).reshape(8, 8, 8, 8),
        **decoder(cell),
    }


def decoder(cell: Cell) -> dict[str, NDArray[Any]]:
    """A decoder of two latent dimensions with int8 weights: 2 to 5 to 64, relu, sigmoid."""
    draw = np.random.default_rng(11)
    sizes = ((5, 2), (64, 5))
    found: dict[str, NDArray[Any]] = {"decoder_kind": np.array([0, 0], np.uint8)}
    for i, shape in enumerate(sizes):
        found[f"decoder_weight_{i}"] = draw.integers(-127, 128, shape).astype(np.int8)
        found[f"decoder_scale_{i}"] = draw.uniform(0.005, 0.02, (shape[0], 1)).astype(np.float32)
        found[f"decoder_bias_{i}"] = draw.normal(0, 0.3, shape[0]).astype(np.float32)
    return found if cell.latent_dim == 2 and cell.seed == 0 else {}


def record(cell: Cell, grid: str = "quick", **changes: Any) -> CellRecord:
    """The record of a finished cell; `changes` replace fields of it."""
    fields: dict[str, Any] = {
        "cell_id": cell_id(cell, CHECKSUM),
        "grid": grid,
        "cell": cell,
        "data": facts(cell),
        "status": Status(state="done"),
        "metrics": metrics(cell),
        "series": series(cell),
        "environment": ENVIRONMENT,
        "comparable": comparable(cell),
    }
    return CellRecord(**{**fields, **changes})


def diverged(cell: Cell, reason: str = "the loss was not finite") -> CellRecord:
    curve = {"train_elbo": [-400.0, -300.0, -900.0, None]}
    return record(
        cell, status=Status(state="diverged", reason=reason, step=41), metrics={}, series=curve
    )


def failed(cell: Cell, reason: str = "out of memory") -> CellRecord:
    return record(
        cell, status=Status(state="failed", reason=reason), metrics={}, series={}, data=None
    )


def cells(
    designs: Iterable[Mapping[str, Any]], sizes: Iterable[int] = (2, 8), seeds: int = 2
) -> list[Cell]:
    sizes = tuple(sizes)
    return [
        Cell(**{"latent_dim": z, "seed": seed, **design})
        for design in designs
        for z in sizes
        for seed in range(seeds)
    ]


def quick() -> list[Cell]:
    """About the packaged grid `quick`: a sweep of latent sizes and a sweep of sigma."""
    sweep = [
        {"likelihood": "bernoulli", "binarization": "dynamic"},
        {"likelihood": "gaussian", "sigma": "learned"},
    ]
    families = [
        {"likelihood": "bernoulli"},
        {"likelihood": "continuous_bernoulli"},
        {"likelihood": "laplace"},
        {"likelihood": "logistic"},
        {"likelihood": "student_t"},
        {"likelihood": "categorical"},
    ]
    kinds: list[float | str] = [0.1, 0.3, 1.0, "optimal", "per_pixel", "predicted"]
    gaussians = [{"likelihood": "gaussian", "sigma": kind} for kind in kinds]
    made = cells(sweep, (1, 2, 4, 8, 16, 32, 64), 3)
    made += cells(families, (2, 16), 3)
    return made + cells(gaussians, (8,), 3)


def fill(root: Path, records: Iterable[CellRecord], pictures: bool = True) -> Path:
    """Write records, with arrays for those that are done, into a store."""
    store = Store(root)
    with store.writing():
        for each in records:
            kept = pictures and each.status.state == "done"
            store.write(each, arrays(each.cell) if kept else None)
    return root
