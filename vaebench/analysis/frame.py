"""Records as one tidy frame: one row for each record, one column for each axis or metric.

Columns, in this order: `cell_id`, `design` (equal for rows that differ only in the seed), `grid`,
`status`, `status_reason`, every axis, every metric with its `<metric>_se`, `<metric>_n` and
`<metric>_reason` (why a value is missing), the facts about the data (`data_*`), `comparable` (what
the likelihood is on these data: 'mass', 'density', or 'not a likelihood of these data'), `machine`,
`device_name`, `driver`, `versions`, `commit`, `warnings` and `warning_codes`, the `store` of the
record, and `outdated`: whether a later version of the numerics changes its results, so that a run
would train the cell again.
"""

import errno
import functools
import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pandas as pd
from numpy.typing import NDArray

from vaebench.analysis.columns import (
    AXIS_COLUMNS,
    EXTERNAL,
    METRIC_COLUMNS,
    OF_TRAINING,
    unit,
)
from vaebench.analysis.labels import is_missing, value_text
from vaebench.errors import RecordError, RecordMissing, StorageError
from vaebench.grid.cell import Cell, cell_id
from vaebench.grid.values import plural
from vaebench.records.schema import CellRecord, Environment, State
from vaebench.records.store import Damage, Store
from vaebench.system.terminal import escaped

Arrays = Mapping[str, NDArray[Any]]

_KNOWN_METRICS: Final = frozenset(METRIC_COLUMNS)
_KNOWN_AXES: Final = frozenset(AXIS_COLUMNS)
_DATA_COLUMNS: Final = tuple(
    f"data_{name}"
    for name in ("checksum", "support", "threshold", "levels", "pixels", "train", "test")
)
_LAST_COLUMNS: Final = (
    *("comparable", "machine", "device_name", "driver", "versions", "commit"),
    *("warnings", "warning_codes", "network_sha256", "store", "outdated"),
)

_UNMEASURED: Final[Mapping[State, str]] = {
    "diverged": "the cell is diverged",
    "failed": "the cell failed",
    "interrupted": "the cell was interrupted",
    "timeout": "the cell ran out of time",
    "unavailable": "the cell is unavailable",
}


NOT_MEASURED: Final = "not measured"
"""Why a finished cell lacks a metric whose record does not say more."""


@dataclass(frozen=True)
class Damaged:
    """A record that is not used, why, and whether a newer vaebench wrote it."""

    name: str
    reason: str
    newer: bool = False


@dataclass(frozen=True)
class Results:
    """The contents of results folders, from which reports are made.

    Attributes:
        frame: the tidy frame, sorted by store and cell.
        series: the numbers of each epoch of a cell, by name.
        arrays: reads a cell's arrays; empty where there are none.
        damaged: files that are not whole records, and arrays that do not belong to their record.
        unused: a line for each of these with the file's path.
        unread: cell -> a line, for arrays that `arrays` could not read although their checksum
            is right; filled while they are read.
    """

    frame: pd.DataFrame
    series: Mapping[str, Mapping[str, Sequence[float | None]]]
    arrays: Callable[[str], Arrays]
    damaged: tuple[Damaged, ...] = ()
    unused: tuple[str, ...] = ()
    unread: Mapping[str, str] = field(default_factory=dict)


def machine_name(environment: Environment, *, one_cell: bool = True) -> str | None:
    """One name for a machine and the threads it gave: timings compare only within it.

    Args:
        environment: of the record.
        one_cell: name the threads of one cell; if not, also the version of torch, which timed
            steps must share, and machines without a name.
    """
    threads, torch = environment.threads, environment.versions.get("torch")
    parts = [
        environment.processor or environment.platform or ("" if one_cell else "unknown machine"),
        plural(environment.cores, "core") if environment.cores else "",
        plural(threads, "thread") + " a cell" * one_cell if threads else "",
        f"torch {torch}" if torch and not one_cell else "",
    ]
    return ", ".join(filter(None, parts)) or None


def _measured(record: CellRecord) -> dict[str, object]:
    found: dict[str, object] = {}
    why = None if record.status.state == "done" else _UNMEASURED[record.status.state]
    for name in (*METRIC_COLUMNS, *sorted(record.metrics.keys() - _KNOWN_METRICS)):
        metric = record.metrics.get(name)
        if metric is None and found.get(name) is not None:
            continue  # `elbo_se` is part of `elbo`, and there already
        se, n, reason = _parts(name)
        # `iw_samples` is an axis too, and the axis is the same number.
        if name not in _KNOWN_AXES:
            found[name] = None if metric is None else metric.value
        if metric is None:
            found.setdefault(reason, why or NOT_MEASURED)
            continue
        # `iw_se` is also a metric and is not overwritten.
        for part, value in ((se, metric.se), (n, metric.n), (reason, metric.reason)):
            if found.get(part) is None:
                found[part] = value
    return found


@functools.cache
def _parts(metric: str) -> tuple[str, str, str]:
    """The columns of a metric's standard error, count and reason."""
    return f"{metric}_se", f"{metric}_n", f"{metric}_reason"


def _data(record: CellRecord) -> dict[str, object]:
    cell, facts = record.cell, record.data
    # Pixels cut at one half are other images than pixels that were drawn.
    found: dict[str, object] = {"data_threshold": cell.binarization == "threshold"}
    if facts is not None:
        return found | {
            "data_checksum": facts.checksum,
            "data_support": facts.support,
            "data_levels": facts.levels,
            "data_pixels": math.prod(facts.shape),
            "data_train": facts.n_train,
            "data_test": facts.n_test,
        }
    # The cell ended before its data were read.
    support = "real" if cell.dataset == "linear-gaussian" else "grey"
    if cell.binarization != "none":
        support = "binary"
    elif cell.dequantize:
        support = "dequantised"
    return found | {"data_support": support}


def design_text(cell: Cell, device: str | None = None) -> str:
    """The column `design` of a cell: every axis but the seed, optionally of another device."""
    axes = {name: getattr(cell, name) for name in AXIS_COLUMNS if name != "seed"}
    if device is not None:
        axes["device"] = device
    return " ".join(map(value_text, axes.values()))


def _row(record: CellRecord, store: str) -> dict[str, object]:
    environment, digest = record.environment, record.network_sha256
    axes = {name: getattr(record.cell, name) for name in AXIS_COLUMNS}
    axes["hidden"] = value_text(record.cell.hidden)
    if record.cell.architecture.startswith(EXTERNAL):
        axes |= dict.fromkeys(OF_TRAINING)
    versions = ", ".join(f"{name} {is_}" for name, is_ in sorted(environment.versions.items()))
    # Whether the present numerics give the cell another identity, as far as the record shows.
    known = record.data is not None and (":" not in record.cell.architecture or digest is not None)
    checksum = record.data.checksum if record.data is not None else ""
    outdated = known and cell_id(record.cell, checksum, digest) != record.cell_id
    return {
        "cell_id": record.cell_id,
        "design": design_text(record.cell),
        "grid": record.grid,
        "status": record.status.state,
        "status_reason": record.status.reason,
        **axes,
        **_measured(record),
        **_data(record),
        "comparable": record.comparable,
        "machine": machine_name(environment),
        "device_name": environment.device_name,
        "driver": environment.driver,
        "versions": versions or None,
        "commit": environment.commit,
        "warnings": " | ".join(note.text for note in record.warnings) or None,
        "warning_codes": " ".join(note.code for note in record.warnings) or None,
        "network_sha256": digest,
        "store": store,
        "outdated": outdated,
    }


def without_superseded(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame without outdated records of designs that the present numerics finished too.

    Seeds of two versions are never averaged: a design keeps those of the present version, even if
    they are fewer.
    """
    if frame.empty or not frame["outdated"].any():
        return frame
    keys = pd.Series(list(zip(frame["design"], frame["data_checksum"], strict=True)), frame.index)
    renewed = set(keys[~frame["outdated"] & (frame["status"] == "done")])
    return frame[~(frame["outdated"] & keys.isin(renewed))]


def outdated_notes(frame: pd.DataFrame) -> tuple[str, ...]:
    """Notes on the outdated records of a frame: which are left out, and which are used."""
    kept = without_superseded(frame)
    left, old = len(frame) - len(kept), int(kept["outdated"].sum()) if len(kept) else 0
    notes = []
    if left:
        notes.append(
            f"Left out: {plural(left, 'record')} of an older version of the numerics; their "
            "designs were trained again by the present version."
        )
    if old:
        notes.append(
            f"Outdated: {plural(old, 'record')} of {len(kept):,} are of an older version of the "
            "numerics, whose results have changed since. The command that made them trains them "
            "again."
        )
    return tuple(notes)


def _columns(frame: pd.DataFrame) -> list[str]:
    metrics: list[str] = []
    names = map(str, frame.columns)
    extra = sorted(name for name in names if name.endswith("_train") and name != "data_train")
    for name in (*METRIC_COLUMNS, *extra):
        # A standard error has no standard error.
        parts = ("reason",) if name.endswith("_se") else ("se", "n", "reason")
        metrics += [name, *(f"{name}_{part}" for part in parts)]
    head = ["cell_id", "design", "grid", "status", "status_reason"]
    wanted = dict.fromkeys((*head, *AXIS_COLUMNS, *metrics, *_DATA_COLUMNS, *_LAST_COLUMNS))
    return list(wanted)


def _known_data(frame: pd.DataFrame) -> pd.DataFrame:
    """Give a failed cell the data of the other cells of its data set and support, if they agree."""
    filled = frame.copy()
    for column in ("data_checksum", "data_levels"):
        keys = [filled["dataset"], filled["data_support"]]
        if column == "data_checksum":
            keys = keys[:1]
        same = filled.groupby(keys)[column]
        only = same.transform("first").where(same.transform("nunique") == 1)
        filled[column] = filled[column].where(filled[column].notna(), only)
    return filled


def tidy(records: Iterable[tuple[CellRecord, str]]) -> pd.DataFrame:
    """The frame of these records, each with the name of its store, in a fixed order.

    A cell with two records of one machine counts once: the finished one, else the first. Only the
    rows are kept, so the records need not all be in memory.
    """
    rows = sorted(
        (_row(record, store) for record, store in records),
        key=lambda row: (row["status"] != "done", str(row["store"])),
    )
    frame = pd.DataFrame(rows)
    if any(str(row["architecture"]).startswith(EXTERNAL) for row in rows):
        for axis in OF_TRAINING:  # whole numbers beside empty values would become floats
            frame[axis] = pd.Series([row[axis] for row in rows], frame.index, object)
    frame = frame.reindex(columns=_columns(frame))
    if frame.empty:
        return frame
    frame = frame.drop_duplicates(["cell_id", "machine"]).sort_values(["cell_id", "store"])
    for name in map(str, frame.columns):
        measured = name != "status" and f"{name}_reason" in frame
        if measured or name.endswith(("_se", "_n")):
            frame[name] = frame[name].astype("float64")
    frame["sigma"] = frame["sigma"].astype(object)
    frame = _known_data(frame.reset_index(drop=True))
    tell_networks_apart(frame)
    return frame


EDITION: Final = "@"
"""Between a network's name and the first digits of its file's SHA-256."""


def network_names(architecture: str, digest: object) -> tuple[str, ...]:
    """The name of a network; for a user's network also the name of its version."""
    name = architecture.partition(EDITION)[0]
    return (name, f"{name}{EDITION}{digest[:6]}") if isinstance(digest, str) else (name,)


def tell_networks_apart(*frames: pd.DataFrame) -> None:
    """Name the versions of a user's network, in place, if these frames hold several.

    The content of its file is part of a cell's identity: an edited network is another architecture.
    External models of one name and different seeds are one design.
    """
    versions: dict[tuple[str, object], set[str]] = {}
    places = [
        (frame, row, seed, *network_names(str(architecture), digest))
        for frame in frames
        for row, seed, architecture, digest in zip(
            *(frame.index, frame["seed"], frame["architecture"], frame["network_sha256"]),
            strict=True,
        )
        if isinstance(digest, str)
    ]
    for _, _, seed, name, version in places:
        key = name, seed if name.startswith(EXTERNAL) else None
        versions.setdefault(key, set()).add(version)
    several = {name for (name, _), found in versions.items() if len(found) > 1}
    for frame, row, _, name, version in places:
        if name in several and frame.loc[row, "architecture"] == name:
            frame.loc[row, "design"] = str(frame.loc[row, "design"]).replace(name, version, 1)
            frame.loc[row, "architecture"] = version


def _reader(homes: Mapping[str, Store], unread: dict[str, str]) -> Callable[[str], Arrays]:
    """Reads a cell's arrays once; those that cannot be read count as absent and are noted."""

    @functools.cache
    def read(cell: str) -> Arrays:
        try:
            return homes[cell].arrays(cell)
        except (RecordError, RecordMissing, StorageError) as error:
            unread[cell] = f"{homes[cell].root / 'cells' / cell / 'arrays.npz'}: {error}"
            return {}

    return read


@dataclass(frozen=True)
class _There:
    """A cell's record in one store, as far as it is kept."""

    store: Store
    series: Mapping[str, Sequence[float | None]]
    done: bool


def read_results(paths: Sequence[Path]) -> Results:
    """Read whole results folders; what is damaged is listed, not used and not touched.

    Raises:
        StorageError: a folder cannot be listed.
    """
    damages: list[Damage] = []
    there: dict[tuple[str, str], _There] = {}

    def records() -> Iterator[tuple[CellRecord, str]]:
        for path in paths:
            store = Store(path)
            for found in store.inspect():
                if isinstance(found, Damage):
                    damages.append(found)
                elif isinstance(found, CellRecord):
                    key, done = (found.cell_id, escaped(path.name)), found.status.state == "done"
                    if key not in there or (done and not there[key].done):
                        there[key] = _There(store, found.series, done)
                    yield found, escaped(path.name)

    frame = tidy(records())
    # A cell of several stores has its curves and arrays from the one that its row is of.
    rows = dict(zip(frame["cell_id"][::-1], frame["store"][::-1], strict=True))
    homes = {cell: there[cell, name].store for cell, name in rows.items()}
    series = {cell: there[cell, name].series for cell, name in rows.items()}
    damaged = tuple(
        Damaged(each.name, f"{each.kind}: {each.reason}", each.kind == "newer") for each in damages
    )
    unread: dict[str, str] = {}
    lines = tuple(map(str, damages))
    return Results(frame, series, _reader(homes, unread), damaged, lines, unread)


def require_folder(root: Path) -> None:
    """Refuse a folder that does not exist, so that a typing error does not look like no results.

    Raises:
        FileNotFoundError: there is no such folder.
    """
    if not root.exists():
        raise FileNotFoundError(errno.ENOENT, "there is no such folder", str(root))


def load_results(path: Path | str, *, empty: bool = False) -> pd.DataFrame:
    """The tidy frame of one results folder, one row per cell; the module lists the columns.

    `sigma` is text ('0.1', 'learned'), missing where a likelihood has none. `frame.attrs["units"]`
    gives the unit of each metric and standard error. Warns of records that cannot be used: damaged
    ones, or those of a newer vaebench.

    >>> vaebench.load_results("results/quick").attrs["units"].get("elbo")  # doctest: +SKIP
    'nats/image'

    Args:
        path: the results folder.
        empty: keep the columns that are empty in every row.

    Raises:
        FileNotFoundError: there is no such folder.
        StorageError: the folder cannot be read.
    """
    frame, damages = load_with_damage(path)
    warn_of_unused(path, list(map(str, damages)))
    scales = [None if is_missing(value) else value_text(value) for value in frame["sigma"]]
    frame["sigma"] = pd.Series(scales, frame.index, dtype="string")
    if len(frame) and not empty:
        frame = frame.dropna(axis="columns", how="all")
    units = {name: unit(name) for name in METRIC_COLUMNS}
    units |= {f"{name}_se": of for name, of in units.items()}
    frame.attrs["units"] = {str(name): units[name] for name in frame if name in units}
    return frame


def warn_of_unused(path: Path | str, lines: Sequence[str]) -> None:
    """Warn the caller's caller of the records that these lines are about, if there are any."""
    if lines:
        warnings.warn(
            f"not used of {path}: {plural(len(lines), 'record')}, the first {lines[0]}",
            stacklevel=3,
        )


def load_with_damage(
    path: Path | str, *, every_file: bool = False
) -> tuple[pd.DataFrame, list[Damage]]:
    """The tidy frame of one results folder, and the records of cells that it could not use.

    With `every_file` the damage of arrays, weights and facts is found in the same pass.

    Raises:
        FileNotFoundError: there is no such folder.
        StorageError: the folder cannot be read.
    """
    root, damages = Path(path), list[Damage]()
    require_folder(root)

    def sound() -> Iterator[tuple[CellRecord, str]]:
        store = Store(root)
        for each in store.inspect(weights=True) if every_file else store.iter_records():
            if isinstance(each, Damage):
                damages.append(each)
            elif isinstance(each, CellRecord):
                yield each, escaped(root.name)

    return tidy(sound()), damages
