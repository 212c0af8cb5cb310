"""The folders in which data files are searched, and the folder to which they are written."""

import os
from pathlib import Path


def places(data_dir: Path | None) -> tuple[Path, ...]:
    """Return the data folders in search order: `data_dir`, `$VAEBENCH_DATA`, the user's cache."""
    named = [data_dir, _from_environment("VAEBENCH_DATA"), _cache_folder()]
    return tuple(dict.fromkeys(place for place in named if place is not None))


def storage_folder(data_dir: Path | None) -> Path:
    """Return the folder for new data files: the first of `places`."""
    return places(data_dir)[0]


def _from_environment(variable: str) -> Path | None:
    value = os.environ.get(variable)
    return Path(value) if value else None


def _cache_folder() -> Path:
    return (_from_environment("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "vaebench"
