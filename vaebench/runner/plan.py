"""The plan of a run: each cell with its id and an estimate of its cost. Needs no torch."""

from __future__ import annotations

import itertools
import math
import os
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vaebench.data.catalog import FILE_SETS, SetFacts, facts_of
from vaebench.data.own_data import Reading
from vaebench.errors import GridError, Problem
from vaebench.grid.axes import DATASETS, LIKELIHOODS
from vaebench.grid.cell import AXES, EVALUATION_SETTINGS, Cell, cell_id, program_key
from vaebench.grid.spec import Grid
from vaebench.grid.user_code import lack_of_function

_MADE_AGAIN = ("unavailable", "interrupted", "damaged", "edited", "arrays", "weights")


@dataclass(frozen=True)
class Planned:
    """A cell, its id, and the number of its training steps."""

    cell: Cell
    cell_id: str
    steps: int = 0


@dataclass(frozen=True)
class Estimate:
    """Rough cost on one core: seconds in all, seconds of evaluation, and peak MiB."""

    seconds: float
    evaluation_seconds: float
    memory_mib: float


@dataclass(frozen=True)
class Plan:
    """The cells of a run.

    Attributes:
        cells: all cells.
        todo: the cells without a usable record.
        finished: maps the id of each cell with a record to its state.
        left_alone: maps the id of each cell that is not run although it has no usable record to
            the reason: ``unreadable``, or ``newer`` if written by a newer vaebench.
        repeated: duplicate cells, for example from `available` together with the device's name.
        notes: what is unusual about data of the user's own.
    """

    cells: tuple[Planned, ...]
    todo: tuple[Planned, ...]
    finished: Mapping[str, str]
    left_alone: Mapping[str, str]
    repeated: int = 0
    notes: tuple[str, ...] = ()

    def data_sets(self) -> list[str]:
        """The data sets stored in files that the cells in `todo` need."""
        return sorted({planned.cell.dataset for planned in self.todo} & set(FILE_SETS))


def expanded(cells: Iterable[Cell], devices: Iterable[str]) -> Iterator[Cell]:
    """Replace a cell with device ``available`` by one cell for each existing device."""
    kinds = tuple(devices)
    for cell in cells:
        if cell.device != "available":
            yield cell
        else:
            for device in kinds:
                yield cell.model_copy(update={"device": device})


def make_plan(
    grid: Grid,
    states: Mapping[str, str],
    devices: Iterable[str] = ("cpu",),
    *,
    retry_failed: bool = False,
    data_dir: Path | None = None,
) -> Plan:
    """Match the cells of a grid with the states of a store's records, by cell id.

    The files of packaged data sets are not searched here; `Plan.data_sets` lists those needed.

    Raises:
        DataMissing, DataInvalid: a user's data set is missing or cannot be used.
        GridError: a size exceeds the number of images, or a user's network does not exist.
    """
    known: dict[_Source, SetFacts] = {}
    cells: dict[str, Planned] = {}
    todo, finished, left_alone, repeated = [], {}, {}, 0
    for cell in expanded(grid.cells, devices):
        source = _source(cell)
        if source not in known:
            known[source] = facts_of(*source, data_dir)
        facts = known[source]
        if facts.levels == 2:
            # Binarising images with two levels has no effect, so these cells are equal.
            cell = cell.model_copy(update={"binarization": "none"})
        name = cell_id(cell, facts.checksum)
        # `available` may stand for a device that is also listed; two paths may hold equal data.
        if name in cells:
            repeated += 1
            continue
        batches = math.ceil((cell.train_size or _rest(cell, facts)) / cell.batch_size)
        cells[name] = Planned(cell, name, batches * cell.epochs)
        state = states.get(name)
        if state in ("newer", "unreadable"):
            left_alone[name] = state
        elif state is None or state in _MADE_AGAIN or (retry_failed and state != "done"):
            todo.append(cells[name])
        else:
            finished[name] = state
    _require_room(todo, known)
    noted = {f"{name}: {facts.note}": None for (name, _), facts in known.items() if facts.note}
    return Plan(tuple(cells.values()), tuple(todo), finished, left_alone, repeated, tuple(noted))


_Source = tuple[str, Reading | None]


def _source(cell: Cell) -> _Source:
    """Return the settings on which the content of a cell's data depends."""
    return cell.dataset, None if cell.dataset in DATASETS else Reading.of(cell)


def _require_room(todo: Sequence[Planned], known: Mapping[_Source, SetFacts]) -> None:
    """Raise one GridError for all sizes above those of the data and all missing networks."""
    problems = [
        problem
        for planned in todo
        for problem in _problems(planned.cell, known[_source(planned.cell)])
    ]
    for name in dict.fromkeys(planned.cell.architecture for planned in todo):
        lack = lack_of_function(name) if ":" in name else None
        if lack is not None:
            problems.append(Problem("architecture", f"{lack}; got {name!r}"))
    if problems:
        raise GridError(problems)


def _rest(cell: Cell, facts: SetFacts) -> int:
    """Return the number of training images without the validation split."""
    return facts.train_images - (0 if facts.brings_valid else cell.valid_size)


def _problems(cell: Cell, facts: SetFacts) -> Iterator[Problem]:
    support = LIKELIHOODS[cell.likelihood].support
    if facts.kind == "counts" and support != "counts":
        yield Problem(
            "likelihood", f"{cell.dataset} holds counts, so the likelihood must be one for counts"
        )
    if facts.kind == "real" and support != "real":
        families = ",".join(name for name, each in LIKELIHOODS.items() if each.support == "real")
        yield Problem(
            "likelihood",
            f"{cell.dataset} holds real values, which need a density on the real line; got "
            f"{cell.likelihood}: choose with --set likelihood=gaussian, or any of {families}",
        )
    if facts.kind != "images" and (cell.dequantize or cell.binarization != "none"):
        axis, default = ("dequantize", "false") if cell.dequantize else ("binarization", "none")
        yield Problem(
            axis,
            f"{cell.dataset} holds no images; leave {axis} at its default: --set {axis}={default}",
        )
    yield from _size_problems(cell, facts)
    height, width = facts.shape[1:]
    most = int(math.log2(min(height, width)))
    if cell.architecture == "conv" and len(cell.hidden) > most:
        yield Problem(
            "hidden",
            f"{len(cell.hidden)} convolutions reduce a {height}x{width} image to nothing: list at "
            f"most {most} channels" + ("" if most else ", or use another architecture"),
        )


def _size_problems(cell: Cell, facts: SetFacts) -> Iterator[Problem]:
    what = "images" if facts.kind == "images" else "rows"
    rest = _rest(cell, facts)
    images = cell.train_size or rest
    if images > rest:
        yield Problem(
            "train_size",
            f"train_size and valid_size ask for more than the {facts.train_images:,} {what} of "
            f"{cell.dataset} to train on: "
            + (f"at most --set train_size={rest}" if rest >= 2 else "lower valid_size"),
        )
    if rest >= 2 and cell.batch_size > min(images, rest):
        smaller = 2 ** int(math.log2(max(1, min(images, rest) / 4)))
        yield Problem(
            "batch_size",
            f"must not exceed the {min(images, rest):,} training {what}; got {cell.batch_size:,}: "
            f"for example --set batch_size={smaller}",
        )
    if (cell.test_size or 1) > facts.test_images:
        asked = f"asks for {cell.test_size:,}, and {cell.dataset} has {facts.test_images:,}"
        yield Problem(
            "test_size",
            f"{asked} {what} to test on: at most --set test_size={facts.test_images}",
        )


_FLOPS = 2.0e10
_STEP_SECONDS = 1.2e-3
_EVALUATION_SECONDS = 0.7


def estimate(cell: Cell) -> Estimate:
    """Estimate the cost of a cell from its sizes: six operations per weight and image, and more."""
    known = DATASETS.get(cell.dataset)
    shape = known.shape if known else (1, 28, 28)
    pixels = math.prod(shape)
    levels = (known.levels if known else 256) or 1
    images = min(cell.train_size or 10**9, known.train_images if known else 10_000)
    outputs = LIKELIHOODS[cell.likelihood].numbers_per_pixel(levels)
    weights, uses = _sizes(cell, shape, outputs)
    visits = images * cell.epochs * cell.importance_samples
    steps = math.ceil(images / cell.batch_size) * cell.epochs
    if cell.prior == "vamp":  # the encoder also sees the pseudo-inputs
        visits += steps * cell.prior_components // 2
    per_image = 6.0 * uses + 400.0 * pixels * outputs
    adam = 30.0 * weights * steps
    seconds = (visits * per_image + adam) / _FLOPS + steps * _STEP_SECONDS
    tested = min(cell.test_size or 10**9, known.test_images if known else 10_000)
    evaluation = _evaluation_seconds(cell, uses, pixels * outputs, tested, images)
    batch = cell.batch_size * cell.importance_samples * (pixels * outputs + cell.latent_dim)
    memory = 4.0 * (4 * weights + 8 * batch + 2 * images * pixels) / 2**20
    evaluation += _EVALUATION_SECONDS
    return Estimate(seconds + evaluation, evaluation, memory + 300)


def estimates(cells: Sequence[Cell]) -> list[Estimate]:
    """Estimate the cost of each cell; cells that share a training add only their evaluation."""
    longest: dict[Cell, Cell] = {}
    for cell in cells:
        first = longest.setdefault(training_key(cell), cell)
        if cell.epochs > first.epochs:
            longest[training_key(cell)] = cell
    priced = [(estimate(cell), longest[training_key(cell)] is cell) for cell in cells]
    return [
        price if trained else replace(price, seconds=price.evaluation_seconds)
        for price, trained in priced
    ]


def training_key(cell: Cell) -> Cell:
    """Return a key that is equal for cells that can share one training.

    The key is the cell without the settings on which its training does not depend.

    Cells that differ only in evaluation settings share a training. With a constant learning rate
    and a beta that does not depend on the number of epochs, cells that differ in the epochs do too:
    the shorter training is the beginning of the longer one.
    """
    ignored = set(EVALUATION_SETTINGS)
    scheduled = cell.learning_rate_schedule != "constant" or "cyclical" in cell.beta_schedule
    if not scheduled and cell.early_stopping is None:
        ignored.add("epochs")
    return cell.model_copy(update={name: AXES[name].default for name in ignored})


def shared_trainings(todo: Iterable[Planned]) -> dict[Planned, tuple[Planned, ...]]:
    """Return the cells to train, each with the cells that share its training."""
    groups: dict[Cell, list[Planned]] = {}
    for planned in todo:
        groups.setdefault(training_key(planned.cell), []).append(planned)
    trained = {}
    for members in groups.values():
        longest = max(members, key=lambda each: each.cell.epochs)
        trained[longest] = tuple(each for each in members if each is not longest)
    return trained


_ANNEALED_PASSES = 4e5
"""Cost of annealed importance sampling of an image, in forward passes: 24 chains (8 for tuning) of
500 moves with 5 leapfrog steps on average, each a gradient in float64."""

_LOCAL_PASSES = 1.6e4
"""Cost of optimising q for an image, in forward passes: 500 gradients of 8 codes, and scores."""


def _evaluation_seconds(cell: Cell, uses: int, outputs: int, tested: int, trained: int) -> float:
    """Estimate the seconds of evaluation that depend on the design."""
    scored = tested + min(trained, 5_000)
    forward = scored * uses * (1 + cell.eval_samples) / 2
    draws = min(cell.iw_images, tested) * cell.iw_samples
    weighed = draws * (uses / 2 + 30.0 * max(outputs, cell.latent_dim)) / 3
    passes = min(cell.ais_images, tested) * _ANNEALED_PASSES
    passes += min(cell.local_images, tested) * _LOCAL_PASSES
    weighed += passes * uses / 2
    # The density of each code under the posterior of each of up to 2,000 images.
    pairs = min(tested, 2_000) ** 2 if cell.posterior == "full" else 0
    mixed = 4.0 * pairs * cell.latent_dim**2 / 2
    return (forward + weighed + mixed) / 1e10


def _sizes(cell: Cell, shape: tuple[int, int, int], outputs: int) -> tuple[int, int]:
    """Return the number of weights of both networks, and the multiplications per image."""
    channels, height, width = shape
    hidden, latent = cell.hidden or (), cell.latent_dim
    code = latent + (latent * (latent + 1) // 2 if cell.posterior == "full" else latent)
    if cell.architecture != "conv":
        pixels = channels * height * width
        chains = ((pixels, *hidden, code), (latent, *reversed(hidden), pixels * outputs))
        weights = sum(a * b for chain in chains for a, b in itertools.pairwise(chain))
        return weights, weights
    weights = uses = 0
    # The decoder mirrors the encoder, but gives all outputs of a pixel.
    ends = (channels * (1 + outputs), *(2 * size for size in hidden[:-1]))
    for end, size in zip(ends, hidden, strict=True):
        height, width = height // 2, width // 2
        pairs = 16 * end * size  # weights: a kernel of 4 by 4 for each pair of channels
        weights, uses = weights + pairs, uses + pairs * height * width
    dense = hidden[-1] * height * width * (code + latent)
    return weights + dense, uses + dense


def lack_of_memory(cells: Iterable[Cell], jobs: int) -> str | None:
    """Return a warning if the cells on the CPU may need more memory than there is, or None."""
    if "SC_PHYS_PAGES" not in getattr(os, "sysconf_names", {}):
        return None
    there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**20
    each = max((estimate(cell).memory_mib for cell in cells if not _on_gpu(cell)), default=0.0)
    if each * jobs <= there:
        return None
    return (
        f"memory: {jobs} {'job' if jobs == 1 else 'jobs'} may need up to {each * jobs:,.0f} MiB, "
        f"and this machine has {there:,.0f} MiB"
    ) + (": lower --jobs" if each <= there else "")


_VARIES_IN_A_PACK = {"seed", "beta", "prior_scale", "sparsity"}
_PACKED_STEP_MOST = 6e6
_LARGEST_PACK = {False: 6, True: 64}
"""The largest pack on a CPU and on a GPU."""

_STEPS_WORTH_COMPILING = {"cpu": 20_000, "cuda": 300_000}
"""Compiling takes 5 to 15 seconds in each worker and saves 1 to 1.5 ms per step on a CPU: two
workers gain from about 20,000 steps on. On a GPU, where steps are captured in any case, it may save
a tenth of that, which is not measured yet."""


def packs(todo: Iterable[Planned], largest: int | None = None) -> list[tuple[Planned, ...]]:
    """Group cells that are trained as one program into packs, the most expensive first.

    The members of a pack share everything but seed, beta, prior scale, sparsity and the value of
    a fixed sigma. A pack shares the cost of starting an operation, so only small steps gain: on a
    CPU those whose weights times batch stay below a few million, on a GPU all. A pack holds
    ``largest`` cells at most, by default 6 on a CPU and 64 on a GPU.
    """
    groups: dict[object, list[Planned]] = {}
    for planned in todo:
        groups.setdefault(_pack_key(planned.cell), []).append(planned)
    made = [
        tuple(members[start : start + most])
        for members in groups.values()
        for most in (largest or _LARGEST_PACK[_on_gpu(members[0].cell)],)
        for start in range(0, len(members), most)
    ]
    return sorted(made, key=lambda pack: -sum(estimate(each.cell).seconds for each in pack))


def programs_worth_compiling(
    cells: Iterable[Planned], largest: int | None = None
) -> frozenset[Hashable]:
    """Return the keys (`program_key`) of the programs that are worth compiling.

    Args:
        cells: all cells of the grid, including those with a record, so that the result is the same
            when a run is continued.
        largest: as in `packs`.
    """
    steps: Counter[tuple[Hashable, str]] = Counter()
    for pack in packs(cells, largest):
        first = pack[0]
        device = first.cell.device.partition(":")[0]
        steps[program_key(first.cell), device] += first.steps
    return frozenset(
        key
        for (key, device), count in steps.items()
        if count >= _STEPS_WORTH_COMPILING.get(device, math.inf)
    )


def _on_gpu(cell: Cell) -> bool:
    return cell.device.startswith("cuda")


def _pack_key(cell: Cell) -> object:
    known = DATASETS.get(cell.dataset)
    shape = known.shape if known else (1, 1000, 1000)
    outputs = LIKELIHOODS[cell.likelihood].numbers_per_pixel(known.levels if known else None)
    _, uses = _sizes(cell, shape, outputs)
    step = uses * cell.batch_size * cell.importance_samples
    small = step <= _PACKED_STEP_MOST and cell.precision == "float32"
    if cell.early_stopping is not None:
        return cell
    if cell.architecture not in ("mlp", "linear") or not (small or _on_gpu(cell)):
        return cell
    fields = cell.model_dump(exclude=_VARIES_IN_A_PACK)
    if isinstance(fields["sigma"], float):
        fields["sigma"] = float
    return tuple(fields.items())
