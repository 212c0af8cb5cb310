"""`vaebench.advise`: search the best design for a data set within a time limit.

A design is a cell without its seed, a trial is the training of a design with one seed, and a stage
is a set of trials with equal numbers of epochs. The candidates are derived from the data, and
`vaebench.runner.search` selects the next trials. The records of the last stage are written to the
results folder, those of earlier stages to its subfolder `search`. The recommendation and the report
are made from the last stage.
"""

from __future__ import annotations

import math
import os
import re
import time as clock
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from vaebench.analysis.columns import heading, unit
from vaebench.analysis.frame import read_results
from vaebench.analysis.labels import design_label, reading_order
from vaebench.analysis.recommendation import (
    PURPOSE_METRICS,
    PURPOSES,
    Purpose,
    Recommendation,
    recommend,
)
from vaebench.data.catalog import SetFacts, facts_of
from vaebench.data.own_data import Reading, keep_arrays
from vaebench.data.places import storage_folder
from vaebench.errors import GridError, Problem, UsageError
from vaebench.grid.axes import LIKELIHOODS, LikelihoodChoice
from vaebench.grid.cell import AXES, Cell, cell_id
from vaebench.grid.spec import Grid, Overrides
from vaebench.grid.values import plural
from vaebench.records.metrics import METRICS, metric_choice
from vaebench.records.schema import CellRecord
from vaebench.records.store import Store
from vaebench.runner.engines import engine_of
from vaebench.runner.run import RunSummary, override_lists, run
from vaebench.runner.search import (
    LONGEST,
    MOST_SEEDS,
    PROBES,
    Outcome,
    Price,
    Stage,
    Trial,
    first_stage,
    next_trials,
    outcome,
    stages,
)
from vaebench.truth import ppca
from vaebench.truth.bounds import empirical_entropy

_MOST_DESIGNS: Final = 60
_MOST_VARIANTS: Final = 10
"""The largest number of combinations of a likelihood family and a kind of sigma."""
_LATENT_SIZES: Final = 3, 5
"""The smallest and the largest number of latent dimensions that are tried."""
_LEARNING_RATES: Final = 1e-3, 3e-3
_MOST_OUTPUTS: Final = 20_000
"""Families whose decoder has more outputs are left out, because its last layer is too large."""
_MOST_IMAGES: Final = 2_000
"""Number of training images from which the spectrum is computed."""
_MOST_VALID: Final = 5_000
_SHORT_TEST: Final = 1_000
"""Number of test images in the stages before the last, whose scores are not reported."""
_MOST_STEPS: Final = 20_000
"""The largest number of training steps in the last stage."""
_SUPPORTS: Final = ("unit", "real", "levels")
"""Supports of the likelihood families for grey levels."""
_READ: Final = (
    *Reading.__dataclass_fields__,
    *("binarization", "dequantize", "train_size", "valid_size", "test_size", "standardize"),
)
"""The axes on which the content of the data depends."""
_TIMES: Final = "train_seconds", "evaluation_seconds"
_BATCH_SECONDS: Final = 60.0
"""Approximate number of seconds between two lines of progress."""


@dataclass(frozen=True)
class Candidates:
    """The designs to search, in the order in which they are tried, and facts about the data.

    Attributes:
        cells: a cell of seed 0 for each design.
        facts: properties of the data set.
        notes: sentences about the data, including limits on the score of any design.
        epochs: the largest number of epochs; None if only the time limit applies.
    """

    cells: tuple[Cell, ...]
    facts: SetFacts
    notes: tuple[str, ...]
    epochs: int | None = None

    @cached_property
    def axes(self) -> list[str]:
        """The axes that appear in the name of a design, in reading order."""
        varying = [axis for axis in AXES if len({getattr(c, axis) for c in self.cells}) > 1]
        named = dict.fromkeys([*varying, "likelihood", "sigma", "latent_dim"])
        return sorted(named, key=reading_order)

    def label(self, cell: Cell) -> str:
        """Return the design of a cell in words."""
        return design_label(self.axes, [getattr(cell, axis) for axis in self.axes])


def candidates(
    dataset: str,
    overrides: Overrides | None = None,
    purpose: Purpose | None = None,
    data_dir: Path | None = None,
) -> Candidates:
    """Return the designs to try on a data set.

    The likelihood families are those whose support contains the data. The latent dimensions lie
    between the numbers of principal components that explain 50 % and 90 % of the variance. A family
    with a closed form is also tried with the sigma of probabilistic PCA.

    Args:
        dataset: a name, or the path of a user's data.
        overrides: maps an axis to the values that replace those of the search.
        purpose: for ``bound``, only families of one kind are tried, which can be compared.
        data_dir: the folder that is searched first for data files.

    Raises:
        GridError: an override is not valid, or not for these data.
        DataMissing, DataInvalid: the data are missing or cannot be used.
    """
    from vaebench.runner.prepared import prepared_for  # imports torch

    given = dict(overrides or {})
    probe = _probe(dataset, given)
    facts = facts_of(dataset, Reading.of(probe), data_dir)
    if facts.levels == 2:
        given["binarization"] = ["none"]
    valid = 0 if facts.brings_valid else min(_MOST_VALID, facts.train_images // 5)
    probe = probe.model_copy(update={"valid_size": probe.valid_size or valid})
    data = prepared_for(probe, data_dir)
    levels = data.test.levels
    images = data.train.first(_MOST_IMAGES).pixels.double().numpy()
    if data.units is not None:
        numbers = np.log1p(images) if facts.kind == "counts" else images
        images = (numbers - data.units.shift.numpy()) / data.units.scale.numpy()
    spectrum = ppca.fit(images)
    half, most = (_components(spectrum, share) for share in (0.5, 0.9))
    families = _families(facts, levels, purpose, dequantised=probe.dequantize)
    sigma = _round(spectrum.ml_sigma(half)) if data.units is None else None
    variants = list(_variants(families, sigma))[:_MOST_VARIANTS]
    least, count = _LATENT_SIZES[0], _MOST_DESIGNS // (len(variants) * len(_LEARNING_RATES))
    sizes = _latent_sizes(half, most, min(max(count, least), _LATENT_SIZES[1]))
    axes = {"latent_dim": sizes, "learning_rate": list(_LEARNING_RATES)}
    grid = Grid.from_dict(
        {
            "name": "advise",
            "base": {"dataset": dataset, "valid_size": probe.valid_size},
            "axes": [{**axes, **variant} for variant in variants],
        },
        given,
    )
    cells = _from_the_start(grid.cells)
    wrong = sorted({c.likelihood for c in cells if not LIKELIHOODS[c.likelihood].fits(levels)})
    if wrong:
        text = f"{wrong[0]} needs data with two levels; {dataset} has {levels} grey levels"
        fitting = ", ".join(each.name for each in families)
        raise GridError([Problem("--set likelihood", f"{text}: choose one of {fitting}")])
    bounds = _bounds(data.train.pixels.numpy(), levels, spectrum, half)
    sizes_text = f"{len(data.train):,} training, {len(data.valid or ()):,} validation and "
    text = f"{dataset}: {sizes_text}{len(data.test):,} test images of {spectrum.dimension} numbers"
    shares = f"{half} principal components explain 50 % of the variance, {most} explain 90 %"
    longest = cells[0].epochs if "epochs" in given else None
    return Candidates(tuple(cells), facts, (text, shares, *bounds), longest)


def _probe(dataset: str, given: Overrides) -> Cell:
    """Return a cell whose reading settings are those of the overrides."""
    problems = []
    if "seed" in given:
        problems.append(Problem("--set seed", "must not be set, because advise chooses seeds"))
    if len(given.get("epochs", ())) > 1:
        problems.append(Problem("--set epochs", "must be one number, for the longest trainings"))
    if "available" in given.get("device", ()):
        problems.append(Problem("--set device", "must be one device, such as cpu; got available"))
    if problems:
        raise GridError(problems)
    support = "counts" if "counts" in given.get("kind", ()) else "real"
    family = next(name for name, each in LIKELIHOODS.items() if each.support == support)
    reading = {axis: values for axis, values in given.items() if axis in _READ}
    base = {"dataset": dataset, "likelihood": family}
    return Grid.from_dict({"name": "advise", "base": base}, reading).cells[0]


def _families(
    facts: SetFacts, levels: int | None, purpose: Purpose | None, *, dequantised: bool
) -> list[LikelihoodChoice]:
    """Return the likelihood families whose support contains the data."""
    supports = {"real": ("real",), "counts": ("counts",)}.get(facts.kind, _SUPPORTS)
    if levels == 2:
        supports = ("binary",)
    densities = dequantised or (purpose == "bound" and supports == _SUPPORTS)
    outputs = math.prod(facts.shape)
    return [
        each
        for each in LIKELIHOODS.values()
        if each.support in supports
        and not (densities and each.kind != "density")
        and outputs * each.numbers_per_pixel(levels) <= max(_MOST_OUTPUTS, 2 * outputs)
    ]


def _variants(
    families: Sequence[LikelihoodChoice], sigma: float | None
) -> Iterator[Mapping[str, Sequence[object]]]:
    """Yield families with a kind of sigma: the default, then that of pPCA, then `predicted`."""
    scaled = [each for each in families if each.has_scale]
    yield from ({"likelihood": [each.name]} for each in families)
    if sigma is not None:
        for each in scaled:
            if each.exact_linear_twin:
                yield {"likelihood": [each.name], "sigma": [sigma]}
    yield from ({"likelihood": [each.name], "sigma": ["predicted"]} for each in scaled)


def _components(spectrum: ppca.Spectrum, share: float) -> int:
    """Return the number of principal components that explain a share of the variance."""
    explained = np.cumsum(spectrum.eigenvalues) / np.sum(spectrum.eigenvalues)
    return int(np.searchsorted(explained, share)) + 1


def _latent_sizes(half: int, most: int, count: int) -> list[int]:
    """Return powers of two, evenly spaced between two numbers; the middle one comes first."""
    exponents = np.linspace(math.log2(half), max(math.log2(most), math.log2(half) + 2), count)
    sizes = sorted({2 ** round(each) for each in exponents})
    middle = (len(sizes) - 1) / 2
    return [sizes[i] for i in sorted(range(len(sizes)), key=lambda i: abs(i - middle))]


def _from_the_start(cells: Sequence[Cell]) -> list[Cell]:
    """Sort the cells: first those whose values come first on all axes."""
    values = {axis: list(dict.fromkeys(getattr(c, axis) for c in cells)) for axis in AXES}
    return sorted(
        cells, key=lambda cell: sum(values[axis].index(getattr(cell, axis)) for axis in AXES)
    )


def _round(value: float) -> float:
    return float(f"{value:.2g}")


def _bounds(
    pixels: NDArray[Any],
    levels: int | None,
    spectrum: ppca.Spectrum,
    latent_dim: int,
) -> Iterator[str]:
    """Yield sentences about limits on the score, and about the score of a linear model."""
    nats_per_bit = spectrum.dimension * math.log(2)
    if levels is not None:
        floor = empirical_entropy(pixels) / nats_per_bit
        yield (
            f"no model can reach less than {floor:.3f} bits per dim on the training images (their "
            f"entropy); uniform grey levels have {math.log2(levels):.3f}"
        )
    sigma = spectrum.ml_sigma(latent_dim)
    linear = f"a linear model (pPCA) with {latent_dim} latent dimensions has sigma {sigma:.2g}"
    if levels is not None and sigma * (levels - 1) > 1:
        density = spectrum.log_likelihood(latent_dim, sigma)
        bits = math.log2(levels - 1) - density / nats_per_bit
        linear += f" and about {bits:.3f} bits per dim"
    yield linear


@dataclass(frozen=True)
class Advice:
    """The result of a search.

    Attributes:
        purpose: the purpose of the design, which sets the score.
        store: the folder with the records from which the recommendation is made.
        recommendation: the design with its evidence; None if no design has a score.
        searched: sentences about the trainings and the designs that remain open.
        open: names of designs that were dropped early although they may be the best.
        settled: whether the search was complete before the time limit.
        summary: the summary of the trainings of this call.
    """

    purpose: Purpose
    store: Path
    recommendation: Recommendation | None
    searched: tuple[str, ...]
    open: tuple[str, ...]
    settled: bool
    summary: RunSummary = field(repr=False)

    def lines(self) -> list[str]:
        """Return sentences about the recommendation and its evidence."""
        found = self.recommendation
        first = (
            ["No design has a score: all failed, diverged or collapsed."]
            if found is None
            else found.lines()
        )
        return [*first, *self.searched]

    def _repr_html_(self) -> str:
        from html import escape

        first, *others = map(escape, self.lines())
        return f"<p><strong>{first}</strong></p>" + "".join(f"<p>{line}</p>" for line in others)


def advise(
    dataset: Path | str | None = None,
    output: Path | str | None = None,
    *,
    time: float = 1200.0,
    purpose: Purpose | None = None,
    overrides: Mapping[str, Iterable[object]] | None = None,
    data: Mapping[str, object] | None = None,
    data_dir: Path | str | None = None,
    jobs: int | None = None,
    wait: bool = False,
    echo: Callable[[str], None] = print,
) -> Advice:
    """Search the best design for a data set, and recommend it with its evidence.

    The same call continues a search that was stopped; a call with more time extends it.

    Args:
        dataset: a name, or the path of a user's data.
        output: the results folder, by default ``results/advise-DATASET``.
        time: duration of the search in seconds, without the report.
        purpose: ``bound``, ``bits``, ``codes``, ``samples`` or ``speed``, which sets the score; by
            default ``bits``, and ``bound`` for real values, which have no bits.
        overrides: maps an axis to the values to search, or to one fixed value.
        data: arrays to use as the data set, as in `vaebench.run`.
        data_dir: the folder that is searched first for data files.
        jobs: number of worker processes; by default one for each core.
        wait: wait if another process uses the folder.
        echo: called with each line of progress.

    Raises:
        UsageError: the purpose is unknown, the time is not positive, or no data are given.
        GridError: an override is not valid, or not for these data.
        DataMissing, DataInvalid: the data are missing or cannot be used.
        StoreBusy, StorageError: another run uses the folder, or it cannot be written.
    """
    folder = None if data_dir is None else Path(data_dir)
    if data is not None:
        dataset = str(keep_arrays(data, storage_folder(folder)))
    if dataset is None:
        raise UsageError("a data set is required: pass its name or path, or data=")
    if not time > 0 or not math.isfinite(time):
        raise UsageError(f"time must be a number of seconds above 0; got {time!r}")
    dataset = os.fspath(dataset)
    root = Store.at(output, default_store(dataset)).root
    if purpose is not None and purpose not in PURPOSES:
        raise UsageError(f"purpose must be one of {', '.join(PURPOSES)}; got {purpose!r}")
    found = candidates(dataset, override_lists(overrides), purpose, folder)
    workers = engine_of("local").jobs(jobs, {"cpu"})
    search = _Search(found, root, time, _purpose(purpose, found.facts), workers)
    for note in found.notes:
        echo(note)
    echo(f"{plural(len(found.cells), 'design')} to search for {search.purpose}")
    begin, summary = clock.monotonic(), RunSummary()
    before = search.used / workers
    while True:
        left = time - before - (clock.monotonic() - begin)
        batch = search.batch(search.next_trials(), left)
        if left <= 0 or not batch:
            break
        known = len(search.scores)
        done = search.train(batch, data_dir=folder, jobs=jobs, wait=wait, echo=echo)
        _add(summary, done)
        search.read()
        stopped = summary.signal is not None or summary.storage_error is not None
        if stopped or len(search.scores) == known or min(search.scores.values()) == math.inf:
            break
        used = before + clock.monotonic() - begin
        echo(f"{used:.0f} of {time:.0f} s: {search.leader()}")
    summary.seconds = clock.monotonic() - begin
    return search.advice(summary)


def default_store(dataset: str) -> Path:
    """Return the results folder of a search if none is given."""
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", Path(dataset).stem).strip("-")[:40] or "data"
    return Path("results") / f"advise-{name}"


def _add(summary: RunSummary, further: RunSummary) -> None:
    """Add the summary of a batch to that of the search."""
    summary.trained |= further.trained
    summary.unused = list(dict.fromkeys([*summary.unused, *further.unused]))
    summary.damaged += further.damaged
    summary.signal, summary.left = further.signal, further.left
    summary.storage_error = further.storage_error


def _purpose(asked: Purpose | None, facts: SetFacts) -> Purpose:
    """Return the purpose of a search; raise an error if these data have no score for it."""
    real = facts.kind == "real"
    purpose = asked or ("bound" if real else "bits")
    if purpose == "bits" and real:
        raise UsageError("real values have no bits per dimension: use --for bound")
    if not any(metric in METRICS for metric in PURPOSE_METRICS[purpose]):
        raise UsageError(f"--for {purpose} has no metric yet: use --for bits")
    return purpose


class _Search:
    """The state of a search, computed from its records.

    Attributes:
        scores: the score of every recorded trial; infinite for a collapsed posterior in the last
            stage.
        plan: the stages that are planned so far.
    """

    def __init__(
        self, found: Candidates, root: Path, seconds: float, purpose: Purpose, workers: int
    ) -> None:
        self.found, self.purpose = found, purpose
        self.seconds, self.workers = seconds, workers
        own = PURPOSE_METRICS["bits" if purpose == "speed" else purpose]
        self._metrics = [name for name in own if name in METRICS]
        self._early, self._last = Store(root / "search"), Store(root)
        self.scores: dict[Trial, float] = {}
        self.plan: tuple[Stage, ...] = ()
        self.price: Price | None = None
        self._ids: dict[tuple[Trial, bool], str] = {}
        self._prices: dict[Stage, Price] = {}
        self.read()

    def read(self) -> None:
        """Read the records and plan the stages whose costs are known."""
        early, last = _finished(self._early), _finished(self._last)
        self.used = sum(map(_seconds, (*early.values(), *last.values())))
        designs, budget = self.found.cells, self.seconds * self.workers
        probes = Stage(min(PROBES, len(designs)), 1, 1)
        price = self._score(probes, designs, early, last=False)
        self.plan, self.price = (probes,), price
        if price is None:
            return
        first = first_stage(len(designs), price, budget, *_first_epochs(self.found))
        price = self._score(first, designs, early, last=False)
        self.plan = stages(first, price, budget, self.found.epochs or math.inf)
        self.price = price or self.price
        for stage in self.plan[1:]:
            at_last = stage == self.plan[-1]
            self._score(stage, designs, last if at_last else early, last=at_last)

    def next_trials(self) -> list[Trial]:
        """Return the next trials."""
        return next_trials(self.found.cells, self.scores, self.plan)

    def outcome(self) -> Outcome:
        """Compare the designs by the scores so far."""
        return outcome(self.found.cells, self.scores, self.plan)

    def batch(self, trials: Sequence[Trial], left: float) -> list[Trial]:
        """Return the trials that fit into the remaining seconds and take at most a minute.

        For a stage without records it is one trial for each worker, to measure the evaluation.
        """
        if self.price is None or not trials:
            return list(trials)
        stage = next(stage for stage in self.plan if stage.epochs == trials[0].epochs)
        price = self._prices.get(stage)
        each = (price or self.price).of(stage.epochs)
        if price is None and each <= left:
            return list(trials[: self.workers])
        rounds = min(int(left / each), max(1, int(_BATCH_SECONDS / each)))
        return list(trials[: rounds * self.workers])

    def train(self, trials: Sequence[Trial], **options: Any) -> RunSummary:
        """Train and record trials that belong to one stage."""
        last = len(self.plan) > 1 and trials[0].epochs == self.plan[-1].epochs
        cells = [self._cell(trial, last=last) for trial in trials]
        return run(Grid.of("advise", cells), self._last if last else self._early, **options)

    def label(self, design: Hashable) -> str:
        """Return a design in words."""
        return self.found.label(cast("Cell", design))

    def leader(self) -> str:
        """Return the best design so far in words."""
        found = self.outcome()
        if found.best is None:
            return f"{plural(len(self.scores), 'training')} recorded"
        trial = Trial(found.best, found.stage.epochs, 0)
        seeds = sum(trial._replace(seed=s) in self.scores for s in range(MOST_SEEDS))
        metric = self._metrics[0]
        sign = -1 if metric_choice(metric).better == "higher" else 1
        mean = sign * sum(s for t, s in self.scores.items() if t[:2] == trial[:2]) / seeds
        return (
            f"{self.label(found.best)} leads, {heading(metric)} {mean:.4g} {unit(metric)} after "
            f"{plural(found.stage.epochs, 'epoch')} ({plural(seeds, 'seed')})"
        )

    def advice(self, summary: RunSummary) -> Advice:
        """Recommend a design from the records of the last stage that has any."""
        found = self.outcome()
        last = len(self.plan) > 1 and found.stage == self.plan[-1]
        store = self._last if last else self._early
        recommendation = None
        if found.best is not None:
            results = read_results([store.root])
            same = results.frame["epochs"] == found.stage.epochs
            every = recommend(replace(results, frame=results.frame[same]))
            own = (each for each in every if each.purpose == self.purpose)
            recommendation = next(own, every[0] if every else None)
        labels = tuple(map(self.label, found.open))
        settled = last and not labels and not self.next_trials()
        return Advice(
            self.purpose,
            store.root,
            recommendation,
            tuple(self._searched(labels, settled=settled)),
            labels,
            settled,
            summary,
        )

    def _searched(self, labels: Sequence[str], *, settled: bool) -> Iterator[str]:
        counts = []
        for stage in self.plan:
            tried = [t for t in self.scores if t.epochs == stage.epochs]
            if tried:
                designs, seeds = ({t[i] for t in tried} for i in (0, 2))
                epochs, each = plural(stage.epochs, "epoch"), plural(len(seeds), "seed")
                counts.append(f"{plural(len(designs), 'design')} for {epochs} ({each})")
        yield f"Trained: {', '.join(counts) or 'nothing'}; {len(self.found.cells)} were considered."
        if labels:
            named = "; ".join(labels[:3]) + (f"; and {len(labels) - 3} more" * (len(labels) > 3))
            text = plural(len(labels), "design")
            yield (
                f"Dropped early, but possibly as good: {text} ({named}). Their scores were closer "
                "to the best one than scores change with more epochs."
            )
        if not settled:
            yield (
                "The time was too short to separate the designs: repeat the command with more time "
                "to continue from these records."
            )

    def _cell(self, trial: Trial, *, last: bool) -> Cell:
        cell = cast("Cell", trial.design)
        update: dict[str, object] = {"epochs": trial.epochs, "seed": trial.seed}
        if not last:
            images = cell.test_size or self.found.facts.test_images
            update |= {"test_size": min(images, _SHORT_TEST), "tsne_points": 0}
        return cell.model_copy(update=update)

    def _score(
        self,
        stage: Stage,
        designs: Sequence[Cell],
        records: Mapping[str, CellRecord],
        *,
        last: bool,
    ) -> Price | None:
        """Add the scores of a stage; return the price of its trials if it is complete."""
        measured = []
        for design in designs:
            for seed in range(MOST_SEEDS):
                trial = Trial(design, stage.epochs, seed)
                record = records.get(self._id(trial, last=last))
                if record is not None:
                    lost = last and any(note.code == "collapsed" for note in record.warnings)
                    self.scores[trial] = math.inf if lost else self._loss(record)
                    if "train_seconds" in record.metrics:
                        measured.append(record)
        if measured:
            self._prices[stage] = _price(measured)
        if any(Trial(d, stage.epochs, 0) not in self.scores for d in designs[: stage.designs]):
            return None
        return _price(measured)

    def _id(self, trial: Trial, *, last: bool) -> str:
        key = (trial, last)
        if key not in self._ids:
            self._ids[key] = cell_id(self._cell(trial, last=last), self.found.facts.checksum)
        return self._ids[key]

    def _loss(self, record: CellRecord) -> float:
        """Return the score of a record on the selection images; lower is better."""
        for name in self._metrics:
            for column in (f"{name}_selection", name):
                metric = record.metrics.get(column)
                if metric is not None and metric.value is not None:
                    return metric.value * (-1 if metric_choice(name).better == "higher" else 1)
        return math.inf


def _finished(store: Store) -> dict[str, CellRecord]:
    """Return the records of a store by cell id, without those of unfinished trainings."""
    if not store.root.exists():
        return {}
    records = (each for each in store.iter_records() if isinstance(each, CellRecord))
    return {r.cell_id: r for r in records if r.status.state not in ("interrupted", "unavailable")}


def _seconds(record: CellRecord, names: Sequence[str] = _TIMES) -> float:
    metrics = (record.metrics.get(name) for name in names)
    return sum(metric.value or 0.0 for metric in metrics if metric is not None)


def _price(records: Sequence[CellRecord]) -> Price:
    """Return the average cost of a trial; one second for each part without records."""
    if not records:
        return Price(1.0, 1.0)
    training, evaluation = _TIMES
    return Price(
        float(np.mean([_seconds(r, [evaluation]) for r in records])),
        float(np.mean([_seconds(r, [training]) / r.cell.epochs for r in records])),
    )


def _first_epochs(found: Candidates) -> tuple[int, float]:
    """Return the smallest and the largest number of epochs in the first stage."""
    if found.epochs is not None:
        return max(1, found.epochs // LONGEST), found.epochs / 2
    design = found.cells[0]
    images = design.train_size or found.facts.train_images - design.valid_size
    steps = math.ceil(images / design.batch_size)
    return 1, _MOST_STEPS / (steps * LONGEST)
