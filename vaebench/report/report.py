"""The report of one or several results folders: the only module that writes under `reports/`.

A report is a pure function of the records. It is built in a new folder beside the old one and
takes its place when it is whole, so a report that is cut short leaves the old one as it was.
"""

import gc
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pandas as pd
from matplotlib.figure import Figure

from vaebench.analysis.comparability import Group, groups
from vaebench.analysis.frame import (
    Damaged,
    Results,
    outdated_notes,
    read_results,
    require_folder,
    without_superseded,
)
from vaebench.analysis.labels import ordered, plain
from vaebench.analysis.timing import (
    Timings,
    benches,
    counted,
    crossovers,
    device_label,
    precisions,
    read_timings,
    timing_table,
)
from vaebench.errors import NothingToReport, OnlyDamaged
from vaebench.plots import cost_figures, figures, pictures, plane_figures
from vaebench.plots.figures import Drawn
from vaebench.plots.keys import Keys
from vaebench.plots.saving import Saver
from vaebench.plots.style import drawing
from vaebench.plots.timing_figures import timing_caption, timing_figure
from vaebench.records.store import Store
from vaebench.report.export import flat
from vaebench.report.facts import counted as counted_cells
from vaebench.report.facts import facts, named
from vaebench.report.narrative import sentences
from vaebench.report.overview import (
    Overview,
    alike,
    code_tables,
    cost_tables,
    hidden_sigma_table,
    once,
    result_tables,
    spent_table,
    unfinished,
    warnings_table,
)
from vaebench.report.page import Page, Picture, Section, html
from vaebench.report.tables import Table, csv_text, latex, markdown, shortened
from vaebench.report.target import check_target, default_target
from vaebench.system.disk import naming

__all__ = [
    "Report",
    "make_report",
    "write_report",
]

_MOST_ROWS: Final = 200
_SEEDS: Final = "Points are means over seeds with 95 % Student t intervals; a single seed has none."
_OPEN: Final = " An open marker: a seed has no value there."


@dataclass
class _Builder:
    """Writes files into the new folder and keeps what the page needs of them."""

    folder: Path
    saver: Saver
    keys: Keys
    sections: list[Section] = field(default_factory=list)

    def picture(self, drawn: Figure | Drawn, name: str, title: str, caption: str) -> Picture:
        """Save a figure; its caption ends with what is left out of it."""
        of = drawn if isinstance(drawn, Drawn) else Drawn(drawn)
        path = self.saver.save(of.figure, self.folder / "figures", name)
        return Picture(name, title, caption + of.left_out, path)

    def table(self, table: Table, numbers: pd.DataFrame) -> Table:
        """Write the table whole; what the page shows of it."""
        folder = self.folder / "tables"
        written = {".md": markdown(table), ".tex": latex(table), ".csv": csv_text(flat(numbers))}
        for ending, text in written.items():
            _write_text(folder / f"{table.name}{ending}", text)
        return shortened(table, _MOST_ROWS)

    def overviews(self, made: Iterable[Overview]) -> tuple[Table, ...]:
        return tuple(self.table(each.table, each.numbers) for each in made)

    def plain_table(self, table: Table | None) -> tuple[Table, ...]:
        if table is None:
            return ()
        rows = [[None if entry == "-" else entry for entry in row] for row in table.rows]
        return (self.table(table, pd.DataFrame(rows, columns=list(table.header))),)

    def section(
        self,
        key: str,
        title: str,
        intro: str,
        shown: Iterable[Picture] = (),
        tables: tuple[Table, ...] = (),
    ) -> None:
        """Add a section; one without content is left out."""
        found = tuple(shown)
        if found or tables:
            self.sections.append(Section(key, title, intro, found, tables))


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="")


Draw = Callable[[Group, str], Sequence[Figure | Drawn | None]]


def _each(
    build: _Builder, parts: Sequence[Group], name: str, title: str, caption: str, draw: Draw
) -> Iterator[Picture]:
    """The figures of every group, numbered where a group has several."""
    for group in parts:
        heading = f"{title}: {group.label}"
        lost = _SEEDS in caption and (group.frame["status"] != "done").any()
        told = " ".join((f"{caption}{_OPEN if lost else ''}", *alike(group.frame)))
        for number, figure in enumerate(draw(group, heading), 1):
            if figure is not None:
                suffix = f"-{number}" if number > 1 else ""
                yield build.picture(figure, f"{name}-{group.slug}{suffix}", heading, told)


def _one(
    build: _Builder, name: str, title: str, caption: str, figure: Figure | Drawn | None
) -> list[Picture]:
    return [] if figure is None else [build.picture(figure, name, title, caption)]


def _bounds(build: _Builder, parts: Sequence[Group], x: str, title: str) -> Iterator[Picture]:
    metrics = ("elbo", "kl", "reconstruction_error")
    name = f"elbo-by-{x.replace('_', '-')}"
    for group in parts:
        lawful = group.frame["comparable"].isin(("mass", "density")).all()
        told = "" if lawful else "The likelihood is none of these data, so this ELBO is no bound. "
        yield from _each(
            build,
            [group],
            name,
            title,
            f"ELBO (higher is better), rate and distortion. {told}{_SEEDS}",
            lambda one, heading: figures.against(one.frame, x, metrics, heading, build.keys),
        )


def _latent_section(build: _Builder, nats: Sequence[Group]) -> None:
    build.section(
        "latent",
        "Latent dimension",
        "What the size of the code does to the bound and to its two parts. Nats of different data "
        "supports, and of densities and masses, stand in figures of their own.",
        _bounds(build, nats, "latent_dim", "Latent dimension"),
    )


def _sigma_section(build: _Builder, nats: Sequence[Group]) -> None:
    build.section(
        "sigma",
        "Sigma",
        "The scale of the likelihood weighs distortion against rate. Numbers are fixed scales in "
        "units of the [0,1] pixel; words are scales that are fitted.",
        _bounds(build, nats, "sigma", "Sigma"),
    )


def _likelihood_section(build: _Builder, frame: pd.DataFrame) -> None:
    measured = frame[frame["comparable"].isin(("mass", "density"))]
    several = groups(measured, "bits_per_dim")
    parts = [group for group in several if group.frame["likelihood"].nunique() > 1]
    ranked = _each(
        build,
        parts,
        "bits-ranking",
        "Bits per dimension",
        f"All designs, fewest bits first (at most 40). {_SEEDS}",
        lambda group, heading: [figures.bits_ranking(group.frame, heading)],
    )
    lines = _each(
        build,
        parts,
        "bits-by-latent-dim",
        "Bits per dimension",
        f"Bits per dimension against latent size, lower is better. {_SEEDS}",
        lambda group, heading: figures.against(
            group.frame, "latent_dim", ["bits_per_dim"], heading, build.keys
        ),
    )
    build.section(
        "likelihood",
        "Likelihood families",
        "Bits per dimension of the discrete image, the likelihood integrated over each grey level: "
        "the one score that may be compared across families.",
        [*ranked, *lines],
    )


def _plane_section(build: _Builder, nats: Sequence[Group]) -> None:
    planes = _each(
        build,
        nats,
        "rate-distortion",
        "Rate and distortion",
        "Each point is a design; grey lines with numbers join points of equal ELBO, and lines "
        "between points join latent sizes of one design. Where far points would press the "
        f"others together, these have a panel of their own. {_SEEDS}",
        lambda group, heading: [plane_figures.rate_distortion(group.frame, heading, build.keys)],
    )
    build.section(
        "rate-distortion",
        "The rate-distortion plane",
        "One ELBO can be had by many divisions into rate and distortion: where a design stands "
        "says what it spends its nats on.",
        planes,
    )


def _kl_curves(build: _Builder, nats: Sequence[Group], results: Results) -> Iterator[Picture]:
    """Which latent dimensions the rate is spent on."""
    found = {cell: results.arrays(cell) for cell in figures.curve_cells(nats)}
    curves = {c: of["kl_per_dimension"] for c, of in found.items() if "kl_per_dimension" in of}
    yield from _one(
        build,
        "kl-per-dimension",
        "KL per dimension",
        "Latent dimensions sorted by their KL: the mean over seeds, and the range over seeds as a "
        "band. A dot ends each curve; at the bottom are dimensions of 0.0001 nats or less.",
        figures.kl_per_dimension(nats, curves, "KL per dimension", keys=build.keys),
    )
    yield from _each(
        build,
        nats,
        "kl-by-design",
        "KL per dimension",
        "Latent dimensions sorted by their KL, for designs of one latent size: the mean over "
        "seeds, and the range over seeds as a band.",
        lambda group, heading: [
            figures.kl_by_design(group.frame, curves, heading, keys=build.keys)
        ],
    )


def _code_section(
    build: _Builder, nats: Sequence[Group], frame: pd.DataFrame, results: Results
) -> None:
    metrics = ("active_units", "knn_accuracy", "mse")
    labelled = bool(frame["knn_accuracy"].notna().any())
    nearest = "accuracy of 5 nearest neighbours on the codes, " if labelled else ""
    coloured = (
        "coloured by label. kNN: accuracy on the codes themselves, not on the map; "
        if labelled
        else "whose data have no labels; "
    )
    lines = _each(
        build,
        groups(frame, "mse"),
        "codes-by-latent-dim",
        "Codes",
        f"Active units, {nearest}and squared error. {_SEEDS}",
        lambda group, heading: figures.against(
            group.frame, "latent_dim", metrics, heading, build.keys
        ),
    )
    maps = _each(
        build,
        groups(frame, "knn_accuracy"),
        "tsne",
        "t-SNE of the codes",
        f"Posterior means of test images, {coloured}trust: the share of neighbourhoods that the "
        "map keeps. Where there are more designs or latent sizes than fit, evenly spread ones are "
        "shown.",
        lambda group, heading: [pictures.tsne_maps(group.frame, results.arrays, heading)],
    )
    build.section(
        "codes",
        "What the codes hold",
        "How many latent dimensions are used"
        + (", and what they know of the labels they never saw." if labelled else "."),
        [*lines, *_kl_curves(build, nats, results), *maps],
    )


_IMAGES: Final = (
    (
        pictures.reconstructions,
        "Reconstructions",
        "Test images and their reconstructions (the mean of p(x|z)), a row a latent size or "
        "design.",
    ),
    (pictures.prior_samples, "Samples", "Means of p(x|z) for codes z drawn from the prior."),
    (
        pictures.interpolations,
        "Interpolations",
        "Straight lines between the codes of two test images, two pairs a latent size or design.",
    ),
    (
        pictures.traversals,
        "Traversals",
        "The two latent dimensions of highest KL go from −1.53 to 1.53 standard deviations of the "
        "prior (its quantiles 1/16 to 15/16), all others are 0.",
    ),
)


def _image_section(build: _Builder, frame: pd.DataFrame, results: Results) -> None:
    parts = groups(frame, "knn_accuracy")
    shown: list[Picture] = []
    for function, title, caption in _IMAGES:
        for group in parts:
            heading = f"{title}: {group.label}"
            figure = function(group.frame, results.arrays, heading)
            if figure is not None:
                name = f"{title.lower()}-{group.slug}"
                told = " ".join((caption, *alike(group.frame)))
                shown.append(build.picture(figure, name, heading, told))
    build.section(
        "images",
        "Images",
        "The seed shown is the lowest that finished; where there are more designs or latent sizes "
        "than fit, those are shown that cover the most sizes, evenly spread.",
        shown,
    )


def _training_section(build: _Builder, nats: Sequence[Group], results: Results) -> None:
    diverged = any((group.frame["status"] == "diverged").any() for group in nats)
    cross = "; a cross marks where a cell diverged" if diverged else ""
    curves = _one(
        build,
        "training",
        "Training",
        f"The training ELBO by epoch, a line a cell{cross}. The lowest twentieth of the values is "
        "cut off below.",
        figures.loss_curves(nats, results.series, "Training", keys=build.keys),
    )
    build.section("training", "Training", "How the bound rose while training.", curves)


def _cost_section(build: _Builder, frame: pd.DataFrame) -> None:
    timed = frame[frame["machine"].notna() & frame["step_ms_median"].notna()]
    machines = groups(timed, "train_seconds")
    lines = _each(
        build,
        machines,
        "cost",
        "Cost",
        "Designs of several latent sizes. A dot is a finished cell, or a pack of them that was "
        "timed as one (of more than 200 on a line, 200 are drawn); the line runs through the "
        "medians. Training only, evaluation apart; a cell of a pack has its share of the pack's "
        "step, and its memory is the whole pack's.",
        lambda group, heading: [cost_figures.cost(group.frame, heading, build.keys)],
    )
    rows = _each(
        build,
        machines,
        "cost-by-design",
        "Cost by design",
        "Designs of one latent size. A dot is a finished cell, or a pack of them that was timed as "
        "one; a bar is the median. Training only, evaluation apart; a cell of a pack has its share "
        "of the pack's step, its memory is the whole pack's, and sizes of packs are named where "
        "they differ.",
        lambda group, heading: [cost_figures.cost_by_design(group.frame, heading)],
    )
    spent = spent_table(timed)
    build.section(
        "cost",
        "Time and memory",
        "Timings are compared within one machine only.",
        [*lines, *rows],
        build.overviews([*([] if spent is None else [spent]), *cost_tables(timed)]),
    )


def _notes(frame: pd.DataFrame, current: pd.DataFrame, once: pd.DataFrame) -> tuple[str, ...]:
    told = outdated_notes(frame)
    repeated = len(current) - len(once)
    if repeated:
        one = repeated == 1
        told += (
            f"{repeated} record{' repeats' if one else 's repeat'} a design and a seed; each "
            "counts once in the results, the finished one or the first by name. All are in "
            "tables/results.csv.",
        )
    return told


def _timing_section(build: _Builder, timings: Timings) -> None:
    pictures, tables = [], []
    for place, bench in enumerate(benches(timings.frame), 1):
        title = f"Training steps: {bench.label}"
        pictures += _one(
            build,
            f"timings-{place}",
            title,
            timing_caption(bench),
            timing_figure(bench, title),
        )
        tables.append(build.table(timing_table(bench, f"timings-{place}"), bench.frame))
    build.section(
        "timings",
        "Training steps, timed",
        f"{_TIMED_MODEL}. Each timing is taken alone in a fresh process, after a warm-up; a "
        "step ends when the device has finished it. Machines are never compared with each other.",
        pictures,
        tuple(tables),
    )


_TIMED_MODEL: Final = (
    "A Bernoulli VAE with one hidden layer on made-up, dynamically binarised images of 28×28 "
    "pixels that lie in the device's memory"
)


def _timing_facts(frame: pd.DataFrame) -> tuple[tuple[str, str], ...]:
    devices = frame[["device", "device_name"]].drop_duplicates().itertuples(index=False)
    return (
        ("Records", counted(frame)),
        ("Machine", "; ".join(map(plain, ordered(frame["machine"])))),
        ("Device", ", ".join(sorted(device_label(*each) for each in devices))),
    )


def _build(results: Results, timings: Timings, folder: Path) -> None:
    for name in ("figures", "tables"):
        (folder / name).mkdir(parents=True)
    with drawing(), Saver() as saver:
        frame = results.frame
        keys = Keys(() if frame.empty else frame["latent_dim"])
        build = _Builder(folder, saver, keys)
        page = (_timing_page if results.frame.empty else _page)(build, results, timings)
    _write_text(folder / "index.html", html(page))


def _page(build: _Builder, results: Results, timings: Timings) -> Page:
    current = without_superseded(results.frame)
    frame = once(current, "data_checksum")
    _sections(build, frame, results)
    _timing_section(build, timings)
    _write_text(build.folder / "tables" / "results.csv", csv_text(flat(results.frame)))
    return Page(
        title=named(frame, "grid"),
        lead=f"Design choices of a variational autoencoder, measured in {counted_cells(frame)}.",
        facts=facts(current),
        sentences=(*sentences(frame), *crossovers(timings.frame), *precisions(timings.frame)),
        sections=tuple(build.sections),
        damaged=(*results.damaged, *timings.damaged),
        notes=_notes(results.frame, current, frame),
    )


def _timing_page(build: _Builder, results: Results, timings: Timings) -> Page:
    """The page of stores that hold timings alone."""
    _timing_section(build, timings)
    return Page(
        title="Training steps, timed",
        lead=f"What a training step costs, in {counted(timings.frame)}.",
        facts=_timing_facts(timings.frame),
        sentences=(*crossovers(timings.frame), *precisions(timings.frame)),
        sections=tuple(build.sections),
        damaged=(*results.damaged, *timings.damaged),
        has_cells=False,
    )


def _sections(build: _Builder, frame: pd.DataFrame, results: Results) -> None:
    nats = groups(frame, "elbo")
    _latent_section(build, nats)
    _sigma_section(build, nats)
    if frame["sigma"].notna().any():
        build.section(
            "hidden-sigma",
            "The sigma you did not choose",
            "A loss a·SSE + b·KL is the bound of a Gaussian decoder with σ² = b/(2a). What well-"
            "known code sets σ to by its reductions and weights alone, computed from these:",
            tables=build.plain_table(hidden_sigma_table()),
        )
    _likelihood_section(build, frame)
    _plane_section(build, nats)
    _code_section(build, nats, frame, results)
    _image_section(build, frame, results)
    _training_section(build, nats, results)
    _cost_section(build, once(results.frame, "machine"))
    build.section(
        "results",
        "Results in numbers",
        "One row a design, one table for what may be compared. ± is half the 95 % Student t "
        "interval over seeds"
        + (
            "; “div. 1/5”: one of five seeds diverged and has no value."
            if (frame["status"] == "diverged").any()
            else "."
        ),
        tables=build.overviews(result_tables(frame)),
    )
    build.section(
        "code",
        "Code lengths in bits",
        "Rate and distortion as a two-part code of the discrete image: the bits that say z, and "
        "those that say x once z is known. They add up to bits per dim times the number of pixels.",
        tables=build.overviews(code_tables(frame)),
    )
    build.section(
        "unfinished",
        "What did not finish, and warnings",
        "Every cell finished."
        if (frame["status"] == "done").all()
        else "A cell without a result keeps its record, and its reason.",
        tables=(
            *build.plain_table(unfinished(frame)),
            *build.plain_table(warnings_table(frame, named=True)),
        ),
    )


def _swap(fresh: Path, out: Path, old: Path) -> None:
    if out.exists():
        out.replace(old)
    try:
        fresh.replace(out)
    except OSError:
        if old.exists():
            old.replace(out)
        raise


def _empty(paths: Sequence[Path], damaged: Sequence[Damaged]) -> NothingToReport:
    places = ", ".join(map(str, paths)) or "a folder in results/"
    text = f"there is no record of a cell or timing in {places}"
    newer = sum(each.reason.startswith("newer") for each in damaged)
    if newer:
        return OnlyDamaged(f"{text} that this version can read; {newer} are of a newer vaebench")
    for path in paths:
        if any(fact.kind == "finding" for fact in Store(path).read_facts()[0]):
            judge = f"vaebench reproduce --no-train -o {path}"
            return NothingToReport(f"{text}; `{judge}` judges the findings there and makes a page")
    run = f"vaebench run quick -o {paths[0]}" if paths else "vaebench run quick"
    lost = f"; {len(damaged)} files are damaged" if damaged else ""
    kind = OnlyDamaged if damaged else NothingToReport
    return kind(f"{text}{lost}: run `{run}` first")


@dataclass(frozen=True)
class Report:
    """A report that was made: its page, and a line for each file that could not be used."""

    page: Path
    unused: tuple[str, ...]


def write_report(paths: Sequence[Path | str] | Path | str, out: Path | str | None = None) -> Path:
    """Make the report of one or several results folders; the path of its page.

    Args:
        paths: a results folder or several; they are only read.
        out: the report's folder, made or replaced as a whole; `default_target` if not given.

    Raises:
        FileNotFoundError: there is no such results folder.
        NothingToReport: the folders hold no record that can be used.
        ValueError: `out` lies in a results folder, or holds something other than a report.
        StorageError: a results folder cannot be read.
        OSError: the report cannot be written; an older one is left as it was.
    """
    return make_report(paths, out).page


def make_report(paths: Sequence[Path | str] | Path | str, out: Path | str | None = None) -> Report:
    """Make a report as `write_report` does, and say which files it could not use."""
    stores = [Path(paths)] if isinstance(paths, (str, Path)) else [Path(path) for path in paths]
    for store in stores:
        require_folder(store)
    target = default_target(stores) if out is None else Path(out)
    check_target(stores, target)
    results, timings = read_results(stores), read_timings(stores)
    if results.frame.empty and timings.frame.empty:
        raise _empty(stores, (*results.damaged, *timings.damaged))
    target.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}-"))
    # What was read stays to the end: the collector need not look through it for each figure.
    gc.freeze()
    try:
        with naming(target):
            fresh = work / "new"
            _build(results, timings, fresh)
            _swap(fresh, target, work / "old")
    finally:
        gc.unfreeze()
        shutil.rmtree(work, ignore_errors=True)
    return Report(target / "index.html", (*results.unused, *timings.unused))
