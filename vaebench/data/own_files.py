"""Read a user's data from one file: an .npz archive, or a .csv or .parquet table."""

from __future__ import annotations

import codecs
import hashlib
import shlex
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vaebench.data.own_data import (
    ARRAY_NAMES,
    SPLITS,
    OwnArrays,
    Reading,
    class_names,
    require_memory,
)
from vaebench.errors import DataInvalid

if TYPE_CHECKING:
    import pandas as pd

TABLES = (".csv", ".parquet")

_ALIASES = {name: name for name in ARRAY_NAMES} | {
    # MedMNIST
    "train_images": "train",
    "val_images": "valid",
    "test_images": "test",
    "val_labels": "valid_labels",
    # Keras
    "x_train": "train",
    "y_train": "train_labels",
    "x_val": "valid",
    "y_val": "valid_labels",
    "x_test": "test",
    "y_test": "test_labels",
    # dSprites
    "imgs": "train",
}
_SKIPPED = ("latents_values", "latents_classes", "latents_names", "metadata")
"""Arrays of dSprites that are ignored; one of them holds pickled objects."""
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
# The errors of zipfile and numpy for damaged or encrypted files, for headers that announce more
# data than the file holds, and (ValueError) for arrays of objects, which are never unpickled.
_UNREADABLE = (
    OSError,
    EOFError,
    ValueError,
    KeyError,
    RuntimeError,
    MemoryError,
    zipfile.BadZipFile,
    zlib.error,
)


def npz_arrays(path: Path, reading: Reading) -> OwnArrays:
    """Read the arrays of an .npz file; also accepts the names of MedMNIST, Keras and dSprites.

    Raises:
        DataInvalid: the file or an array cannot be read, or has an unknown name.
    """
    try:
        _check_members(path)
        with np.load(path, allow_pickle=False) as archive:
            names = [name for name in archive.files if name not in _SKIPPED]
            unknown = [name for name in names if name not in _ALIASES]
            if unknown:
                raise DataInvalid(
                    f"{path} holds an unknown array {unknown[0]!r}; the names must be "
                    f"{', '.join(ARRAY_NAMES)} (or those of MedMNIST, Keras or dSprites)"
                )
            arrays = {_ALIASES[name]: archive[name] for name in sorted(names)}
    except _UNREADABLE as error:
        raise DataInvalid(
            f"{path} cannot be read as an .npz file: {error}; write arrays of numbers with "
            "numpy.savez"
        ) from error
    return OwnArrays(str(path), arrays, reading)


def _check_members(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    if any(member.compress_type not in _COMPRESSIONS for member in members):
        raise DataInvalid(f"{path} must be written by numpy.savez or numpy.savez_compressed")
    require_memory(str(path), sum(member.file_size for member in members))


def table_arrays(path: Path, reading: Reading) -> OwnArrays:
    """Read a .csv or .parquet table: one example in each row, one number in each column.

    An optional column ``split`` holds the split of each row (train, valid, test), and an optional
    column ``label`` its class. The values are real numbers unless ``kind`` is set.

    Raises:
        DataInvalid: the table cannot be read, or holds something other than numbers.
    """
    content, table = _table(path)
    split = table.pop("split") if "split" in table else None
    labels = table.pop("label") if "label" in table else None
    columns = tuple(map(str, table.columns))
    values = _numbers(path, table, content)
    names: NDArray[Any] = np.array([])
    codes = None
    if labels is not None:
        _require_values(path, labels, content)
        names, codes = np.unique(labels.astype(str), return_inverse=True)
    arrays: dict[str, NDArray[Any]] = {}
    for name in SPLITS if split is not None else ("train",):
        rows = np.ones(len(values), bool) if split is None else (split == name).to_numpy()
        if rows.any():
            arrays[name] = values[rows]
            if codes is not None:
                arrays[f"{name}_labels"] = codes[rows]
    if split is not None and not split.isin(SPLITS).all():
        other = split[~split.isin(SPLITS)].iloc[0]
        raise DataInvalid(f"{path}: the column 'split' holds {other!r}; use {', '.join(SPLITS)}")
    if reading.kind == "auto":
        reading = replace(reading, kind="real")
    digest = hashlib.sha256(content).hexdigest()
    return OwnArrays(
        str(path),
        arrays,
        reading,
        (digest, digest),
        columns=columns,
        classes=class_names(list(map(str, names))),
    )


def _table(path: Path) -> tuple[bytes, pd.DataFrame]:
    import io

    import pandas as pd

    is_csv = path.suffix.lower() == ".csv"
    try:
        require_memory(str(path), path.stat().st_size if is_csv else _parquet_bytes(path))
        content = path.read_bytes()
        if is_csv:
            _check_separator(path, content)
        read = pd.read_csv if is_csv else pd.read_parquet
        return content, read(io.BytesIO(content))
    except ImportError as error:
        raise DataInvalid(
            f"reading {path} needs pyarrow, which is not installed: pip install "
            "'vaebench[parquet]', or save the table as .csv"
        ) from error
    except DataInvalid:
        raise
    except UnicodeDecodeError as error:
        raise DataInvalid(
            f"{path} is not text in UTF-8; convert it in Python: pd.read_csv({str(path)!r}, "
            f"encoding={_encoding(content)!r}).to_csv('data.csv', index=False)"
        ) from error
    except Exception as error:
        raise DataInvalid(f"{path} cannot be read as a table: {str(error).strip()}") from error


def _encoding(content: bytes) -> str:
    """Return the likely encoding of text that is not UTF-8, from its byte order mark."""
    is_utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return "utf-16" if is_utf16 else "latin-1"


def _parquet_bytes(path: Path) -> int:
    from pyarrow.parquet import read_metadata

    facts = read_metadata(path)
    return sum(facts.row_group(group).total_byte_size for group in range(facts.num_row_groups))


def _check_separator(path: Path, content: bytes) -> None:
    """Raise DataInvalid if the columns are not separated by commas."""
    first, _, rest = content[:100_000].partition(b"\n")
    for separator, name in ((";", "semicolons"), ("\t", "tabs")):
        if separator.encode() in first and b"," not in first:
            decimal = ", decimal=','" if b"," in rest else ""
            raise DataInvalid(
                f"{path}: the columns are separated by {name}, not commas; convert it in Python: "
                f"pd.read_csv({str(path)!r}, sep={separator!r}{decimal}).to_csv('data.csv', "
                "index=False)"
            )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _numbers(path: Path, table: pd.DataFrame, content: bytes) -> NDArray[Any]:
    names = [str(name) for name in table.columns]
    is_csv = path.suffix.lower() == ".csv"
    # pandas names columns without a name 0, 1, 2, ...
    numbered = names == [str(place) for place in range(len(names))]
    if names and is_csv and not numbered and all(map(_is_number, names)):
        raise DataInvalid(
            f"{path}: the first row must hold the names of the columns; got the numbers "
            f"{', '.join(names[:5])}: add a row of names above them"
        )
    unnamed = [name for name in names if name.startswith("Unnamed:")]
    if unnamed:
        raise DataInvalid(
            f"{path}: {len(unnamed)} column has no name (pandas writes its index like this): "
            "write the table with to_csv(..., index=False), or name the column"
        )
    if not len(table):
        raise DataInvalid(f"{path} must have a row for each example; it has none")
    for name in table.columns:
        column = table[name]
        if column.dtype.kind not in "biuf":
            raise DataInvalid(
                f"{path}: column {name!r} holds {column.dtype}, not numbers; drop it, encode it as "
                "numbers, or call it 'label'"
            )
        _require_values(path, column, content)
    if table.shape[1] == 0:
        raise DataInvalid(f"{path} must have at least one column of numbers; it has none")
    return np.asarray(table.to_numpy())


def _require_values(path: Path, column: pd.Series, content: bytes) -> None:
    """Raise DataInvalid if a column of a table has a missing or an infinite value."""
    missing = column.isna().to_numpy()
    wrong = missing.copy()
    if column.dtype.kind == "f":
        wrong |= ~np.isfinite(column.to_numpy(np.float64, na_value=np.nan))
    if wrong.any():
        row = int(wrong.argmax())
        what = "no value" if missing[row] else "an infinite value"
        is_csv = path.suffix.lower() == ".csv"
        place = _line(content, row, len(column)) if is_csv else f"row {row + 1}, counted from 1"
        raise DataInvalid(
            f"{path}: column {column.name!r} has {what} in {place}; drop such rows or fill them"
        )


def _line(content: bytes, row: int, rows: int) -> str:
    """Return the line of a row of a .csv file, counted from 1 as in a text editor."""
    lines = [number for number, line in enumerate(content.splitlines(), 1) if line.strip()]
    # Quoted text may span several lines.
    return f"line {lines[row + 1]}" if len(lines) == rows + 1 else f"row {row + 1} below the names"


_CONVERSIONS = {
    ".npy": "np.savez('data.npz', train=np.load({path!r}))",
    ".mat": "np.savez('data.npz', train=scipy.io.loadmat({path!r})['NAME OF THE ARRAY'])",
    ".pt": "np.savez('data.npz', train=torch.load({path!r}, weights_only=True).numpy())",
    ".pth": "np.savez('data.npz', train=torch.load({path!r}, weights_only=True).numpy())",
    ".amat": "np.savez('data.npz', train=np.loadtxt({path!r}))",
    ".txt": "np.savez('data.npz', train=np.loadtxt({path!r}))",
    ".tsv": "pd.read_table({path!r}).to_csv('data.csv', index=False)",
    ".xlsx": "pd.read_excel({path!r}).to_csv('data.csv', index=False)",
    ".h5": "np.savez('data.npz', train=h5py.File({path!r})['NAME OF THE ARRAY'][:])",
    ".hdf5": "np.savez('data.npz', train=h5py.File({path!r})['NAME OF THE ARRAY'][:])",
    ".json": "pd.read_json({path!r}).to_csv('data.csv', index=False)",
    ".feather": "pd.read_feather({path!r}).to_csv('data.csv', index=False)",
    ".csv.gz": "pd.read_csv({path!r}).to_csv('data.csv', index=False)",
    ".zip": "shutil.unpack_archive({path!r}, 'data')",
    ".tar.gz": "shutil.unpack_archive({path!r}, 'data')",
    ".tar": "shutil.unpack_archive({path!r}, 'data')",
    ".tgz": "shutil.unpack_archive({path!r}, 'data')",
}
"""One line of Python that converts a file of each type."""


def explain_unusable(path: Path) -> str | None:
    """Return why an existing file or folder cannot be used and how to convert it, or None."""
    if not path.is_dir() and not path.is_file():
        return f"{path} must be a regular file, not a pipe or a device: write the data to a file"
    if path.is_dir():
        if any(path.glob("data_batch_*")):
            return (
                f'{path} holds the files of CIFAR10: set dataset = "torchvision:CIFAR10" and '
                f"--data-dir {shlex.quote(str(path.parent))}"
            )
        if any(path.glob("*.parquet")):
            line = f"pd.read_parquet({str(path)!r}).to_parquet('data.parquet')"
            return f"{path} is a folder of tables; join them to one file: {line}"
        return None
    suffixes = "".join(path.suffixes[-2:]).lower()
    conversion = _CONVERSIONS.get(suffixes) or _CONVERSIONS.get(path.suffix.lower())
    accepted = "use an .npz, .csv or .parquet file, or a folder of images"
    if conversion is None:
        return f"{path} has an unsupported format: {accepted}"
    line = conversion.format(path=str(path))
    return f"{path} has an unsupported format: convert it in Python: {line}"
