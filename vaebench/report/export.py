"""The tidy table as one file, CSV or Parquet by its ending."""

from pathlib import Path

import pandas as pd

from vaebench.errors import UsageError
from vaebench.records.files import completed
from vaebench.report.tables import csv_text, flat


def export(frame: pd.DataFrame, file: Path) -> Path:
    """Write the frame to a `.csv` or `.parquet` file, completely or not at all.

    Returns:
        The path of the file.

    Raises:
        UsageError: another ending, a folder that does not exist, or Parquet without pyarrow.
        OSError: the file cannot be written.
    """
    ending = file.suffix.lower()
    if ending not in (".csv", ".parquet"):
        raise UsageError(f"a table is exported to a .csv or .parquet file; got {file.name!r}")
    try:
        with completed(file) as part:
            if ending == ".csv":
                part.write_text(csv_text(flat(frame)), encoding="utf-8", newline="")
            else:
                flat(frame).to_parquet(part, engine="pyarrow", index=False)
    except ImportError as error:
        raise UsageError(
            "Parquet needs pyarrow: pip install 'vaebench[parquet]', or export to .csv"
        ) from error
    return file
