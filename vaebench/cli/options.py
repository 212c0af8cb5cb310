"""Options of the command line that name folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

__all__ = ["FOLDER", "data_dir_option"]


class _Folder(click.Path):
    """A folder, there or to be made."""

    def __init__(self) -> None:
        super().__init__(path_type=Path, file_okay=False)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        # An unset variable of a shell would else fill the working folder.
        if value == "":
            self.fail("a folder's name must not be empty", param, ctx)
        return super().convert(value, param, ctx)


FOLDER = _Folder()

data_dir_option = click.option(
    "--data-dir", type=FOLDER, help="Look for data files here first [default: $VAEBENCH_DATA]."
)
