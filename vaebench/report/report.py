"""The report of one or several results folders; nothing else writes under `reports/`.

A report depends on the records alone: the same records give the same bytes.
"""

import gc
import shlex
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pandas as pd

from vaebench.analysis.columns import heading
from vaebench.analysis.comparability import Group
from vaebench.analysis.frame import (
    Results,
    outdated_notes,
    read_results,
    require_folder,
    without_superseded,
)
from vaebench.analysis.labels import counted, ordered, plain, reading_order, shown, varying
from vaebench.analysis.recommendation import recommend
from vaebench.analysis.timing import (
    Timings,
    crossovers,
    device_label,
    precisions,
    read_timings,
)
from vaebench.errors import NothingToReport, OnlyDamaged, UsageError
from vaebench.grid.values import closest
from vaebench.plots.keys import Keys
from vaebench.records.metrics import METRICS
from vaebench.records.store import Damage, Store
from vaebench.report.drawing import draw
from vaebench.report.facts import facts
from vaebench.report.interactive import making
from vaebench.report.narrative import sentences
from vaebench.report.overview import once
from vaebench.report.page import Page, Section, html, phrase
from vaebench.report.panels import decoder_of
from vaebench.report.sections import SECTIONS, Content, SectionSpec, caption_facts
from vaebench.report.tables import Table, csv_text, flat, latex, markdown, paper_latex, shortened
from vaebench.report.target import check_target, default_target, replacing
from vaebench.system.disk import naming

_MOST_ROWS: Final = 200
"""Rows of a table on the page; its files have all of them."""


@dataclass(frozen=True)
class Report:
    """A report that was made: its page, and a line for each file that could not be used."""

    page: Path
    unused: tuple[str, ...]


def write_report(
    paths: Sequence[Path | str] | Path | str,
    out: Path | str | None = None,
    *,
    figures: bool = False,
) -> Path:
    """Make the report of one or several results folders and return the path of its page.

    Args:
        paths: one results folder or several; they are only read.
        out: the report's folder; `default_target` if not given. The files of an older report there
            are replaced, other files stay.
        figures: also write every chart of the page as a static figure, a PNG file.

    Raises:
        FileNotFoundError: there is no such results folder.
        NothingToReport: the folders hold no record that can be used.
        UsageError: `out` is in a results folder, or holds something other than a report.
        StorageError: a results folder cannot be read.
        OSError: the report cannot be written.
    """
    return make_report(paths, out, figures=figures).page


def make_report(
    paths: Sequence[Path | str] | Path | str,
    out: Path | str | None = None,
    *,
    figures: bool = False,
    paper: bool = False,
    columns: Sequence[str] = (),
) -> Report:
    """Make a report as `write_report` does, and return also which files it could not use.

    Args:
        paths: one results folder or several.
        out: the report's folder.
        figures: also write every chart as a static figure, a PNG file.
        paper: also write figures of one column's width as SVG and PDF, and LaTeX tables with
            caption, label and decimal alignment, into the folder `paper`.
        columns: the metrics of these tables; all if empty.

    Raises:
        UsageError: also if a column is not a metric, or given without `paper`.
    """
    _check_columns(columns, paper=paper)
    stores = [Path(paths)] if isinstance(paths, (str, Path)) else [Path(path) for path in paths]
    for store in stores:
        require_folder(store)
    target = default_target(stores) if out is None else Path(out)
    check_target(stores, target)
    results, timings = read_results(stores), read_timings(stores)
    if results.frame.empty and timings.frame.empty:
        raise _empty(stores, {*results.damaged, *timings.damaged})
    # The garbage collector need not look through the records again for each figure.
    gc.freeze()
    try:
        with naming(target), replacing(target) as folder:
            _write(results, timings, folder, figures, columns if paper else None)
    finally:
        gc.unfreeze()
    unused = dict.fromkeys((*results.unused, *timings.damaged))
    return Report(target / "index.html", tuple(map(str, unused)))


def _empty(paths: Sequence[Path], damaged: Collection[Damage]) -> NothingToReport:
    places = ", ".join(map(str, paths)) or "a folder in results/"
    text = f"there is no record of a cell or timing in {places}"
    newer = sum(each.kind == "newer" for each in damaged)
    if newer:
        return OnlyDamaged(f"{text} that this version can read; {newer} are of a newer vaebench")
    for path in paths:
        if any(fact.kind == "finding" for fact in Store(path).read_facts()[0]):
            judge = f"vaebench reproduce --no-train -o {shlex.quote(str(path))}"
            return NothingToReport(f"{text}; `{judge}` judges the findings there and makes a page")
    run = "vaebench run quick" + (f" -o {shlex.quote(str(paths[0]))}" if paths else "")
    lost = f"; {len(damaged)} files are damaged" if damaged else ""
    kind = OnlyDamaged if damaged else NothingToReport
    return kind(f"{text}{lost}: run `{run}` first")


def _check_columns(columns: Sequence[str], *, paper: bool) -> None:
    if columns and not paper:
        raise UsageError("columns are chosen for the tables of a paper: add --paper")
    for name in columns:
        if name not in METRICS:
            raise UsageError(f"there is no metric {name!r}{closest(name, METRICS)}")


def _write(
    results: Results, timings: Timings, folder: Path, figures: bool, columns: Sequence[str] | None
) -> None:
    """Write the figures, the tables and the page of a report, with `columns` also for a paper."""
    for name in ("figures", "tables", *(() if columns is None else ("paper",))):
        (folder / name).mkdir()
    current = without_superseded(results.frame)
    frame = once(current, "data_checksum") if len(current) else current
    keys = Keys(() if frame.empty else frame["latent_dim"])
    content = Content(frame, results, timings.frame, keys)
    with making():
        sections = [_section(spec, content, folder, figures, columns) for spec in SECTIONS]
    shown_sections = tuple(each for each in sections if each.pictures or each.tables)
    speeds = (*crossovers(timings.frame), *precisions(timings.frame))
    damaged = tuple(dict.fromkeys((*results.unused, *timings.damaged)))
    if frame.empty:
        page = Page(
            title="Training steps, timed",
            lead=f"The cost of a training step, in {counted(timings.frame['state'], 'timing')}.",
            facts=_timing_facts(timings.frame),
            sentences=speeds,
            sections=shown_sections,
            damaged=damaged,
            has_cells=False,
        )
    else:
        _write_text(folder / "tables" / "results.csv", csv_text(flat(results.frame)))
        page = Page(
            title=_title(frame),
            lead=f"Design choices of a VAE, measured in {counted(frame['status'], 'cell')}.",
            facts=facts(current),
            sentences=(*sentences(frame), *speeds),
            sections=shown_sections,
            damaged=damaged,
            notes=_notes(results.frame, current, frame),
            names=content.designs.names,
            answers=recommend(results),
            decoder=decoder_of(frame, results.arrays),
        )
    _write_text(folder / "index.html", html(page))


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="")


def _title(frame: pd.DataFrame) -> str:
    """The data sets, and what varies between the designs: 'digits: likelihood, sigma'."""
    varied = varying(frame, without=["dataset", "device"])
    axes = sorted(varied, key=lambda axis: (axis != "latent_dim", reading_order(axis)))
    about = ", ".join(heading(axis) for axis in axes[:4]) + (", …" if len(axes) > 4 else "")
    names = ", ".join(plain(shown(name), 40) for name in ordered(frame["dataset"])[:4])
    return f"{names}: {about}" if about else names


def _section(
    spec: SectionSpec,
    content: Content,
    folder: Path,
    figures: bool,
    columns: Sequence[str] | None,
) -> Section:
    group = Group("", "", content.timings if content.frame.empty else content.frame)
    known = caption_facts(group)
    paper = None if columns is None else folder / "paper"
    pictures = [
        picture
        for figure in spec.figures
        for picture in draw(figure, content, folder / "figures", static=figures, paper=paper)
    ]
    tables = []
    for table in spec.tables(content):
        if table is not None:
            _write_table(table, folder / "tables")
            if columns is not None:
                _write_text(folder / "paper" / f"{table.name}.tex", paper_latex(table, columns))
            tables.append(shortened(table, _MOST_ROWS))
    return Section(
        spec.key,
        phrase("section", spec.key, "title", known),
        phrase("section", spec.key, "intro", known),
        tuple(pictures),
        tuple(tables),
    )


def _write_table(table: Table, folder: Path) -> None:
    _write_text(folder / f"{table.name}.md", markdown(table))
    _write_text(folder / f"{table.name}.tex", latex(table))
    _write_text(folder / f"{table.name}.csv", csv_text(flat(table.numbers)))


def _notes(frame: pd.DataFrame, current: pd.DataFrame, used: pd.DataFrame) -> tuple[str, ...]:
    repeated = len(current) - len(used)
    if not repeated:
        return outdated_notes(frame)
    one = repeated == 1
    return (
        *outdated_notes(frame),
        f"{repeated} record{' repeats' if one else 's repeat'} a design and a seed; each is "
        "counted once in the results, the finished one or the first by name. All are in "
        "tables/results.csv.",
    )


def _timing_facts(frame: pd.DataFrame) -> tuple[tuple[str, str], ...]:
    devices = frame[["device", "device_name"]].drop_duplicates().itertuples(index=False)
    return (
        ("Records", counted(frame["state"], "timing")),
        ("Machine", "; ".join(map(plain, ordered(frame["machine"])))),
        ("Device", ", ".join(sorted(device_label(*each) for each in devices))),
    )
