"""Evaluate a trained VAE that vaebench did not train, and record the result."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from pydantic import ValidationError

from vaebench.adapters.base import as_adapter
from vaebench.adapters.external import ExternalVAE, describe, linear_twin
from vaebench.adapters.loaders import Loaded, load_external
from vaebench.adapters.own_loss import OwnLoss, compare_own_loss
from vaebench.errors import UsageError, VaebenchError
from vaebench.evaluation.annealing import Annealing, bidirectional_bounds
from vaebench.evaluation.bound import mean_and_se
from vaebench.evaluation.evaluate import evaluate as measure
from vaebench.evaluation.guards import comparable_as
from vaebench.grid.cell import AXES, Cell, cell_id
from vaebench.grid.values import closest
from vaebench.model.sampling import simulate
from vaebench.records.schema import CellRecord, Metric, Note, Status
from vaebench.records.store import Store, folder_of
from vaebench.runner.machine import environment
from vaebench.runner.messages import Arrays, public
from vaebench.runner.prepared import Prepared, data_facts, prepared_for
from vaebench.runner.seeding import generator

_DESCRIBED_BY = 8
_GRID = "external"


@dataclass(frozen=True)
class Evaluated:
    """The record of an external model, where it is, and what its own loss is.

    Attributes:
        record: an ordinary record; its architecture is ``external:NAME``.
        store: the folder that holds it.
        own_loss: what the model's own loss is of its bound, in words; None if it has none.
    """

    record: CellRecord
    store: Path
    own_loss: str | None


def evaluate(
    model: str | object,
    dataset: str,
    output: Path | str | None = None,
    *,
    name: str | None = None,
    likelihood: str | None = None,
    sigma: float | None = None,
    settings: dict[str, object] | None = None,
    data_dir: Path | str | None = None,
    trust: bool = False,
) -> Evaluated:
    """Score a trained model by every estimator, and write a record like that of any cell.

    Args:
        model: ``package.module:load``, the path of a folder that pythae saved, or an object: an
            adapter (see `vaebench.adapters.base.Adapter`) or a torch module.
        dataset: as the axis ``dataset``.
        output: the results folder, by default ``results/external``.
        name: of the model in tables; letters, digits and underscores.
        likelihood: the family, for a module whose ``decode`` returns a tensor.
        sigma: the scale of that family, in units of the [0, 1] pixel.
        settings: values of further axes, such as ``binarization``, ``seed`` or ``iw_samples``.
        data_dir: where data files are looked for first.
        trust: allow pickled parts of a pythae folder.

    Returns:
        The record and what the audit of the model's own loss found.

    Raises:
        UsageError: the model cannot be used as it is, or an axis has an impossible value; the
            message says what to change.
        DataMissing, DataInvalid: the data were not found, or cannot be used.
        StoreBusy, StorageError: the folder is held by another run, or can't be written.
    """
    loaded = load_external(model, trust=trust) if isinstance(model, str) else _given(model)
    if name is not None and not name.isidentifier():
        raise UsageError(f"a name has letters, digits and underscores; got {name!r}")
    axes = {
        **(settings or {}),
        "dataset": dataset,
        "architecture": f"external:{name or loaded.name}",
    }
    # Which data are loaded does not depend on the likelihood; this one fits any data.
    given = sorted({"latent_dim", "likelihood", "sigma", "posterior", "prior_scale"} & axes.keys())
    if given:
        raise UsageError(f"the model itself decides {', '.join(given)}: leave them out of settings")
    if axes.get("device", "cpu") != "cpu":
        raise UsageError(f"models are evaluated on the cpu; got device = {axes['device']!r}")
    with _refused_axes():
        probe = Cell.model_validate(axes | {"likelihood": "gaussian"})
    with _user_errors("the data set does not fit the settings"):
        prepared = prepared_for(probe, None if data_dir is None else Path(data_dir))
    shape = prepared.data.shape
    with _user_errors("the model failed"):
        adapter = as_adapter(loaded.model, shape, likelihood, sigma)
    with _refused_axes(), _user_errors("the model failed"):
        cell = describe(adapter, prepared.test.pixels[:_DESCRIBED_BY], shape, axes)
    vae = ExternalVAE(adapter, cell, shape, prepared.test.levels).eval().requires_grad_(False)
    own = None
    if loaded.own_loss is not None:
        own = compare_own_loss(vae, loaded.own_loss, prepared.test.pixels)
    record, arrays = _measured(vae, cell, prepared, loaded.digest, own)
    store = Store(folder_of(output, Path("results") / _GRID))
    with store.writing():
        record = store.write(record, arrays)
    return Evaluated(record, store.root, None if own is None else own.text())


@contextmanager
def _refused_axes() -> Iterator[None]:
    """Turn what a cell refuses into a message without the words of the validation library."""
    try:
        yield
    except ValidationError as error:
        faults = (
            f"unknown axis {each['loc'][0]!r}{closest(str(each['loc'][0]), sorted(AXES))}"
            if each["type"] == "extra_forbidden"
            else ": ".join([*map(str, each["loc"]), each["msg"].removeprefix("Value error, ")])
            for each in error.errors()
        )
        raise UsageError("; ".join(faults)) from error


@contextmanager
def _user_errors(what: str) -> Iterator[None]:
    """Turn any error of a user's model or settings into one line; ours keep their own."""
    try:
        yield
    except (VaebenchError, ValidationError):
        raise
    except Exception as error:
        first = str(error).partition("\n")[0][:300]
        raise UsageError(f"{what}: {type(error).__name__}: {first}") from error


def _given(model: object) -> Loaded:
    if isinstance(model, ExternalVAE):
        raise UsageError("pass the adapter or module itself, not the model that was made of it")
    return Loaded.of(model)


def _measured(
    vae: ExternalVAE, cell: Cell, prepared: Prepared, digest: str, own: OwnLoss | None
) -> tuple[CellRecord, Arrays]:
    source = generator(cell.seed, "evaluation")
    measured = measure(vae, cell, prepared.train, prepared.test, source, prepared.valid)
    metrics = dict(measured.metrics)
    twin = linear_twin(vae)
    if twin is not None:
        exact = torch.from_numpy(np.asarray(twin.log_likelihood(prepared.test.pixels.numpy())))
        metrics["exact_log_likelihood"] = mean_and_se("exact_log_likelihood", exact)
    if cell.ais_images:
        metrics["ais_bracket"] = _bracket(vae, cell)
    notes = [Note.of("external", "a model that vaebench did not train; training axes do not apply")]
    if own is not None and not own.agrees:
        notes.append(Note.of("own_loss", own.text()))
    record = CellRecord(
        cell_id=cell_id(cell, prepared.data.checksum, digest),
        grid=_GRID,
        cell=public(cell),
        data=data_facts(cell, prepared),
        status=Status(state="done"),
        metrics=metrics,
        warnings=[*measured.warnings, *notes],
        comparable=comparable_as(cell, prepared.test.levels),
        environment=environment(cell.device),
        network_sha256=digest,
    )
    return record, measured.arrays


def _bracket(vae: ExternalVAE, cell: Cell) -> Metric:
    """The mean gap of bidirectional annealing on images simulated from the model."""
    source = generator(cell.seed, "bracket")
    pixels, codes = simulate(vae, cell.ais_images, source)
    return mean_and_se(
        "ais_bracket", bidirectional_bounds(vae, pixels, codes, Annealing(), source).gap
    )
