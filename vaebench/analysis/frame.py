"""Records as a tidy frame: one row per record, one column per axis or metric.

Columns, in this order: `cell_id`, `design` (equal for rows that differ only in the seed), `grid`,
`status`, `status_reason`, every axis, every metric with its `<metric>_se`, `<metric>_n` and
`<metric>_reason` (why a value is missing), properties of the data (`data_*`), `comparable` (whether
the likelihood is a 'mass', a 'density', or 'not a likelihood of these data'), `machine`,
`device_name`, `driver`, `versions`, `commit`, `warnings` and `warning_codes`, `network_sha256`, the
`store` of the record, and `outdated`: whether a later version of the numerics changes its results,
so that a run would train the cell again.
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
    of_data,
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
"""The reason for a missing metric of a finished cell if its record has no reason."""


@dataclass(frozen=True)
class Results:
    """The contents of results folders, from which reports are made.

    Attributes:
        frame: the tidy frame, sorted by cell and store.
        series: maps a cell id to its numbers per epoch, by name.
        arrays: reads the arrays of a cell; returns an empty mapping if there are none.
        damaged: incomplete records, and arrays that do not match their record.
        unread: maps a cell id to its arrays that `arrays` could not read although their checksum
            is correct; filled when arrays are read.
    """

    frame: pd.DataFrame
    series: Mapping[str, Mapping[str, Sequence[float | None]]]
    arrays: Callable[[str], Arrays]
    damaged: tuple[Damage, ...] = ()
    unread: Mapping[str, Damage] = field(default_factory=dict)

    @property
    def unused(self) -> tuple[Damage, ...]:
        """The files that are not used, each record once."""
        known = {each.name for each in self.damaged}
        return (*self.damaged, *(each for cell, each in self.unread.items() if cell not in known))


def machine_name(environment: Environment, *, one_cell: bool = True) -> str | None:
    """Return a name of a machine and its threads. Timings are compared only for one such name.

    Args:
        environment: the environment of the record.
        one_cell: whether the threads are those of one cell. Otherwise the name includes the
            version of torch, and a machine without a name is an unknown machine.
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
    """Return the names of the columns with standard error, count and reason of a metric."""
    return f"{metric}_se", f"{metric}_n", f"{metric}_reason"


def _data(record: CellRecord) -> dict[str, object]:
    cell, facts = record.cell, record.data
    # Pixels binarised with a threshold give other images than pixels binarised at random.
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
    """Return the column `design` of a cell: all axes except the seed, optionally on `device`."""
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
    # The record is outdated if the present numerics give its cell another identity.
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
    """Remove outdated records of designs that also have finished records of the present version.

    Seeds of two versions are never averaged. If a design has seeds of the present version, only
    these are kept, even if there are fewer of them.
    """
    if frame.empty or not frame["outdated"].any():
        return frame
    keys = pd.Series(list(zip(frame["design"], frame["data_checksum"], strict=True)), frame.index)
    renewed = set(keys[~frame["outdated"] & (frame["status"] == "done")])
    return frame[~(frame["outdated"] & keys.isin(renewed))]


def outdated_notes(frame: pd.DataFrame) -> tuple[str, ...]:
    """Return sentences on the outdated records of a frame: how many are left out, and used."""
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
    """Fill in the data columns of failed cells from other cells of the data set, if unambiguous."""
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
    """Make the tidy frame of records, in a fixed order.

    If a cell has two records from one machine, one is used: a finished one if there is one. Only
    rows are kept, so an iterator of records needs little memory.

    Args:
        records: pairs of a record and the name of its store.
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
"""Separates the name of a network from the first digits of the SHA-256 of its file."""


def network_names(architecture: str, digest: object) -> tuple[str, ...]:
    """Return the name of a network, and for a network of the user the name of its version."""
    name = architecture.partition(EDITION)[0]
    return (name, f"{name}{EDITION}{digest[:6]}") if isinstance(digest, str) else (name,)


def tell_networks_apart(*frames: pd.DataFrame) -> None:
    """Rename networks of the user, in place, if the frames contain several versions of one.

    The content of the file is part of the identity of a cell, so an edited network is another
    architecture. External models with equal names and different seeds are one design.
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


def read_results(paths: Sequence[Path]) -> Results:
    """Read results folders. Damaged files are listed, not used, and not changed.

    Raises:
        StorageError: a folder cannot be listed.
    """
    damages: list[Damage] = []
    # By cell id and name of the store: whether the cell is done, its store and its series.
    there: dict[tuple[str, str], tuple[bool, Store, Mapping[str, Sequence[float | None]]]] = {}

    def records() -> Iterator[tuple[CellRecord, str]]:
        for path in paths:
            store = Store(path)
            for found in store.inspect():
                if isinstance(found, Damage):
                    damages.append(found)
                elif isinstance(found, CellRecord):
                    key, done = (found.cell_id, escaped(path.name)), found.status.state == "done"
                    if key not in there or (done and not there[key][0]):
                        there[key] = done, store, found.series
                    yield found, escaped(path.name)

    frame = tidy(records())
    # If a cell is in several stores, its series and arrays are from the store of its row.
    rows = dict(zip(frame["cell_id"][::-1], frame["store"][::-1], strict=True))
    series = {cell: there[cell, name][2] for cell, name in rows.items()}
    unread: dict[str, Damage] = {}

    @functools.cache
    def arrays(cell: str) -> Arrays:
        store = there[cell, rows[cell]][1]
        try:
            return store.arrays(cell)
        except (RecordError, RecordMissing, StorageError) as error:
            path = store.root / "cells" / cell / "arrays.npz"
            unread[cell] = Damage(path, cell, "arrays", str(error))
            return {}

    return Results(frame, series, arrays, tuple(damages), unread)


def require_folder(root: Path) -> None:
    """Raise an error if a folder does not exist; a misspelt name must not look like no results.

    Raises:
        FileNotFoundError: there is no such folder.
    """
    if not root.exists():
        raise FileNotFoundError(errno.ENOENT, "there is no such folder", str(root))


def load_results(path: Path | str, *, empty: bool = False) -> pd.DataFrame:
    """Load the records of one results folder as a tidy frame, one row per cell.

    The columns are described in `vaebench.analysis.frame`. `sigma` is text ('0.1', 'learned') and
    missing for a likelihood without a scale. `frame.attrs["units"]` maps each metric and standard
    error to its unit. A warning names records that cannot be used because they are damaged or were
    written by a newer vaebench.

    >>> vaebench.load_results("results/quick").attrs["units"].get("elbo")  # doctest: +SKIP
    'nats/image'

    Args:
        path: the results folder.
        empty: whether to keep columns that are empty in every row.

    Raises:
        FileNotFoundError: there is no such folder.
        StorageError: the folder cannot be read.
    """
    frame, damages = load_with_damage(path)
    warn_of_unused(path, damages)
    scales = [None if is_missing(value) else value_text(value) for value in frame["sigma"]]
    frame["sigma"] = pd.Series(scales, frame.index, dtype="string")
    if len(frame) and not empty:
        frame = frame.dropna(axis="columns", how="all")
    units = {name: of_data(unit(name), frame) for name in METRIC_COLUMNS}
    units |= {f"{name}_se": of for name, of in units.items()}
    frame.attrs["units"] = {str(name): units[name] for name in frame if name in units}
    return frame


def warn_of_unused(path: Path | str, damages: Sequence[Damage]) -> None:
    """Warn about records that cannot be used; the warning points at the caller of the caller."""
    if damages:
        text = f"{plural(len(damages), 'record')} of {path} cannot be used; the first is"
        warnings.warn(f"{text} {damages[0]}", stacklevel=3)


def load_with_damage(
    path: Path | str, *, every_file: bool = False
) -> tuple[pd.DataFrame, list[Damage]]:
    """Return the tidy frame of one results folder, and the files that cannot be used.

    Args:
        path: the results folder.
        every_file: whether to check arrays, weights and facts too, not only records of cells.

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
