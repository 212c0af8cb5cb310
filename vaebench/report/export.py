"""The tidy table as one file, CSV or Parquet by its ending."""

import os
import tempfile
from pathlib import Path

import pandas as pd

from vaebench.analysis.labels import is_missing, value_text
from vaebench.errors import UsageError
from vaebench.report.tables import csv_text
from vaebench.system.disk import naming

__all__ = ["export", "flat"]


def flat(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with one type a column: numbers, booleans or text; nothing is left out."""
    flattened = frame.copy()
    for column in flattened:
        # Any other type of column holds one type of value as it is.
        if column != "sigma" and flattened[column].dtype != object:
            continue
        values = [value for value in flattened[column] if not is_missing(value)]
        if len({type(value) for value in values} - {int, float}) > 1 or column == "sigma":
            flattened[column] = [
                None if is_missing(value) else value_text(value) for value in flattened[column]
            ]
    return flattened


def export(frame: pd.DataFrame, file: Path) -> Path:
    """Write the frame to a `.csv` or `.parquet` file, whole or not at all; the file's path.

    Raises:
        UsageError: another ending, a folder that is not there, or Parquet without pyarrow.
        OSError: the file cannot be written.
    """
    if file.suffix.lower() not in (".csv", ".parquet"):
        raise UsageError(f"a table is exported to a .csv or .parquet file; got {file.name!r}")
    if not file.parent.is_dir():
        raise UsageError(f"there is no folder {file.parent} to write {file.name} to")
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=".export-", suffix=file.suffix)
    os.close(handle)
    fresh = Path(name)
    try:
        with naming(file):
            _write(flat(frame), fresh)
            fresh.chmod(0o644)
            fresh.replace(file)
    finally:
        fresh.unlink(missing_ok=True)
    return file


def _write(frame: pd.DataFrame, file: Path) -> None:
    if file.suffix.lower() == ".csv":
        file.write_text(csv_text(frame), encoding="utf-8", newline="")
        return
    try:
        frame.to_parquet(file, engine="pyarrow", index=False)
    except ImportError as error:
        raise UsageError(
            "Parquet needs pyarrow: pip install 'vaebench[parquet]', or export to .csv"
        ) from error
