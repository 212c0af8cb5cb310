"""Evaluate a trained VAE that vaebench did not train, and record the result."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import torch
from pydantic import ValidationError
from torch import Tensor

from vaebench.adapters.base import as_adapter
from vaebench.adapters.external import ExternalVAE, describe, linear_twin
from vaebench.adapters.loaders import Loaded, load_external
from vaebench.adapters.own_loss import ImportanceLoss, OwnLoss, compare_own_loss
from vaebench.data.own_data import Reading
from vaebench.errors import UsageError, VaebenchError, error_text
from vaebench.evaluation.annealing import Annealing, bidirectional_bounds
from vaebench.evaluation.bound import mean_and_se
from vaebench.evaluation.evaluate import evaluate as measure
from vaebench.evaluation.guards import comparable_as
from vaebench.evaluation.linear import exact_log_likelihood, has_closed_form
from vaebench.grid.axes import DATASETS
from vaebench.grid.cell import AXES, Cell, cell_id
from vaebench.grid.values import closest
from vaebench.model.sampling import simulate
from vaebench.model.vae import VAE
from vaebench.records.schema import CellRecord, Metric, Note, Status
from vaebench.records.store import Store
from vaebench.runner.machine import environment
from vaebench.runner.messages import Arrays, public
from vaebench.runner.models import unpacked_model
from vaebench.runner.prepared import Prepared, data_facts, prepared_for
from vaebench.runner.seeding import generator
from vaebench.truth.ppca import LinearVAE

_DESCRIBED_BY = 8
_GRID = "external"
_DECIDED = frozenset({"latent_dim", "likelihood", "sigma", "posterior", "prior", "prior_scale"})
"""Axes whose value is determined by the model."""


@dataclass(frozen=True)
class Evaluated:
    """The record of an external model, its store, and the audit of its own loss.

    Attributes:
        record: an ordinary record; its architecture is ``external:NAME``.
        store: the folder of the record.
        own_loss: how the model's own loss is related to the ELBO, in words; None without a loss.
    """

    record: CellRecord
    store: Path
    own_loss: str | None


def evaluate(
    model: str | object,
    dataset: Path | str,
    output: Path | str | None = None,
    *,
    name: str | None = None,
    likelihood: str | None = None,
    sigma: float | None = None,
    settings: dict[str, object] | None = None,
    data_dir: Path | str | None = None,
    trust: bool = False,
) -> Evaluated:
    """Evaluate a trained model with every estimator, and write a record like that of any cell.

    Args:
        model: ``package.module:load``, the path of a folder that pythae saved or of a cell with
            kept weights (``STORE/cells/CELL``), or an object: an adapter (see
            `vaebench.adapters.base.Adapter`) or a torch module.
        dataset: a value of the axis ``dataset``.
        output: the results folder, by default ``results/external``.
        name: name of the model in tables; letters, digits and underscores.
        likelihood: the family, for a module whose ``decode`` returns a tensor.
        sigma: the scale of that family, in the unit of the data (for images, the [0, 1] pixel).
        settings: values of further axes, such as ``binarization``, ``seed`` or ``iw_samples``.
        data_dir: the folder that is searched first for data files.
        trust: allow pickled parts of a pythae folder.

    Returns:
        The record and the audit of the model's own loss.

    Raises:
        UsageError: the model cannot be used, or an axis has an invalid value; the message says
            what to change.
        DataMissing, DataInvalid: the data were not found, or cannot be used.
        StoreBusy, StorageError: another run uses the folder, or it cannot be written.
    """
    if name is not None and not name.isidentifier():
        raise UsageError(f"the name must consist of letters, digits and underscores; got {name!r}")
    given = sorted(_DECIDED & (settings or {}).keys())
    if given:
        raise UsageError(f"the model determines {', '.join(given)}: remove them from settings")
    if model == "":
        raise UsageError("the model must be package.module:load or a folder; got an empty name")
    dataset = os.fspath(dataset)
    folder = None if data_dir is None else Path(data_dir)
    kept = _kept_cell(model, likelihood, sigma) if isinstance(model, str) else None
    if kept is None:
        loaded = load_external(model, trust=trust) if isinstance(model, str) else _given(model)
        axes = _axes(dataset, name or loaded.name, settings)
        made = _of_adapter(loaded, axes, likelihood, sigma, folder)
    else:
        axes = _axes(
            dataset, name or kept.name, _axes_of(kept.record.cell, dataset) | (settings or {})
        )
        made = _of_kept(kept, axes, folder)
    record, arrays = _measured(made)
    store = Store.at(output, Path("results") / _GRID)
    with store.writing():
        record = store.write(record, arrays)
    return Evaluated(record, store.root, None if made.own is None else made.own.text())


@dataclass(frozen=True)
class _Kept:
    """A cell trained by vaebench whose weights were kept."""

    record: CellRecord
    vae: VAE
    digest: str

    @property
    def name(self) -> str:
        """The name of the model in tables."""
        return f"vaebench_{self.record.cell.architecture.rpartition(':')[2]}"


@dataclass(frozen=True)
class _Model:
    """A model that is ready for evaluation.

    Attributes:
        exact: log p(x) of pixels ``(N, D)`` in closed form, or None.
        own: how its own loss is related to the ELBO.
        facts: shift and scale of the standardised data, for models trained by vaebench.
        origin: the note about its origin in the record.
    """

    vae: VAE
    cell: Cell
    prepared: Prepared
    digest: str
    exact: Callable[[Tensor], Tensor] | None
    own: OwnLoss | ImportanceLoss | None = None
    facts: Mapping[str, object] = field(default_factory=lambda: {"shift": None, "scale": None})
    origin: str = "a model that vaebench did not train; training axes do not apply"


def _kept_cell(model: str, likelihood: str | None, sigma: float | None) -> _Kept | None:
    """Return the cell of a store at a path, or None if there is no record."""
    folder = Path(model).expanduser().resolve()
    if not (folder / "record.json").is_file():
        return None
    if folder.parent.name != "cells":
        raise UsageError(f"the folder of a cell must be STORE/cells/CELL; got {folder}")
    if likelihood is not None or sigma is not None:
        raise UsageError(
            "likelihood and sigma cannot be set for a cell, which has its own: remove them"
        )
    store = Store(folder.parents[1])
    record, weights = store.read(folder.name), store.weights(folder.name)
    return _Kept(record, unpacked_model(record, weights, VAE), hashlib.sha256(weights).hexdigest())


def _axes_of(cell: Cell, dataset: str) -> dict[str, object]:
    """Return the axes of a trained cell that apply to its evaluation on a data set."""
    axes = cell.model_dump(exclude={"dataset", "architecture", "device"}, exclude_defaults=True)
    same = Path(dataset).name == Path(cell.dataset).name
    dropped = set() if same else {"train_size", "valid_size", "test_size"}
    if dataset in DATASETS:
        dropped |= set(Reading.__dataclass_fields__) | {"standardize"}
    return {axis: value for axis, value in axes.items() if axis not in dropped}


def _axes(dataset: str, name: str, settings: Mapping[str, object] | None) -> dict[str, object]:
    axes = {**(settings or {}), "dataset": dataset, "architecture": f"external:{name}"}
    if axes.get("device", "cpu") != "cpu":
        raise UsageError(f"device must be 'cpu' for evaluation; got {axes['device']!r}")
    return axes


def _prepared(cell: Cell, data_dir: Path | None) -> Prepared:
    with _user_errors("the data set cannot be read with these settings"):
        return prepared_for(cell, data_dir)


def _of_adapter(
    loaded: Loaded,
    axes: dict[str, object],
    likelihood: str | None,
    sigma: float | None,
    data_dir: Path | None,
) -> _Model:
    # The data do not depend on the likelihood; this one is valid for all data except counts.
    family = "poisson" if axes.get("kind") == "counts" else "gaussian"
    with _refused_axes():
        probe = Cell.model_validate(axes | {"likelihood": family})
    prepared = _prepared(probe, data_dir)
    shape = prepared.data.shape
    with _user_errors("the model failed"):
        adapter = as_adapter(loaded.model, shape, likelihood, sigma)
    with _refused_axes(), _user_errors("the model failed"):
        cell = describe(adapter, prepared.test.pixels[:_DESCRIBED_BY], shape, axes)
    vae = ExternalVAE(adapter, cell, shape, prepared.test.levels).eval().requires_grad_(False)
    own = None
    if loaded.own_loss is not None:
        with _user_errors("the model's own loss failed"):
            pixels = prepared.test.pixels
            own = compare_own_loss(vae, loaded.own_loss, pixels, loaded.own_samples)
    twin = linear_twin(vae)
    exact = None if twin is None else partial(_exact, twin)
    return _Model(vae, cell, prepared, loaded.digest, exact, own)


def _exact(twin: LinearVAE, pixels: Tensor) -> Tensor:
    return torch.from_numpy(np.asarray(twin.log_likelihood(pixels.numpy())))


def _of_kept(kept: _Kept, axes: dict[str, object], data_dir: Path | None) -> _Model:
    trained, vae = kept.record, kept.vae
    with _refused_axes():
        cell = Cell.model_validate(axes)
    prepared = _prepared(cell, data_dir)
    if trained.data is None or prepared.data.shape != trained.data.shape:
        raise UsageError(
            f"examples must have shape {vae.image_shape}, as in the training of the cell; those of "
            f"{cell.dataset} have {prepared.data.shape}"
        )
    if cell.likelihood == "categorical" and prepared.test.levels != vae.levels:
        raise UsageError(
            f"the data must have {vae.levels} grey levels, the number of classes per pixel of the "
            f"cell; {cell.dataset} has {prepared.test.levels}"
        )
    if vae.sigma_kind == "optimal":  # The scale of the training data stays.
        vae.fixed_scale, vae.sigma_kind = cast(Tensor, vae.scale()), "fixed"
    closed = has_closed_form(trained.cell) and "exact_log_likelihood" in trained.metrics
    exact = partial(exact_log_likelihood, vae) if closed else None
    facts = {"shift": trained.data.shift, "scale": trained.data.scale}
    origin = f"the kept model of {trained.cell_id}; its record holds the training axes"
    return _Model(vae, cell, prepared, kept.digest, exact, facts=facts, origin=origin)


@contextmanager
def _refused_axes() -> Iterator[None]:
    """Turn validation errors of a cell into a UsageError in plain words."""
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
    """Turn any exception of a user's model into a UsageError; errors of vaebench are kept."""
    try:
        yield
    except (VaebenchError, ValidationError):
        raise
    except (Exception, SystemExit) as error:
        first = error_text(error).partition("\n")[0][:300]
        raise UsageError(f"{what}: {first}") from error


def _given(model: object) -> Loaded:
    if isinstance(model, ExternalVAE):
        raise UsageError("model must be the adapter or module, not the result of loading it")
    return Loaded.of(model)


def _measured(model: _Model) -> tuple[CellRecord, Arrays]:
    vae, cell, prepared = model.vae, model.cell, model.prepared
    source = generator(cell.seed, "evaluation")
    measured = measure(vae, cell, prepared.train, prepared.test, source, prepared.valid)
    metrics = dict(measured.metrics)
    if model.exact is not None:
        exact = model.exact(prepared.test.pixels)
        metrics["exact_log_likelihood"] = mean_and_se("exact_log_likelihood", exact)
    if cell.ais_images:
        metrics["ais_bracket"] = _bracket(vae, cell)
    notes = [Note.of("external", model.origin)]
    if model.own is not None and not model.own.agrees:
        notes.append(Note.of("own_loss", model.own.text()))
    record = CellRecord(
        cell_id=cell_id(cell, prepared.data.checksum, model.digest),
        grid=_GRID,
        cell=public(cell),
        data=data_facts(cell, prepared).model_copy(update=model.facts),
        status=Status(state="done"),
        metrics=metrics,
        warnings=[*measured.warnings, *notes],
        comparable=comparable_as(cell, prepared.test.levels),
        environment=environment(cell.device),
        network_sha256=model.digest,
    )
    return record, measured.arrays


def _bracket(vae: VAE, cell: Cell) -> Metric:
    """Return the mean gap of bidirectional annealing on images simulated from the model."""
    source = generator(cell.seed, "bracket")
    pixels, codes = simulate(vae, cell.ais_images, source)
    return mean_and_se(
        "ais_bracket", bidirectional_bounds(vae, pixels, codes, Annealing(), source).gap
    )
