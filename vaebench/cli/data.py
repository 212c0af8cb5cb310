"""`vaebench data`: list, fetch, add and verify data sets."""

from __future__ import annotations

from pathlib import Path

import click

from vaebench.cli.options import Group, data_dir_option
from vaebench.cli.output import leave, say
from vaebench.errors import ExitCode


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
def data() -> None:
    """List, fetch, add and verify data sets."""


@data.command("list", short_help="List data sets and whether their files are present.")
@data_dir_option
def data_list(data_dir: Path | None) -> None:
    """Print each data set and whether its files are present."""
    from vaebench.data.acquire import listing

    for state in listing(data_dir):
        where = f" ({state.folder})" if state.folder else ""
        say(f"{state.name:<16} {state.state}{where}  {state.summary}")


@data.command("fetch", short_help="Download a data set.")
@click.argument("name")
@data_dir_option
def data_fetch(name: str, data_dir: Path | None) -> None:
    """Download the data set NAME from torchvision's mirrors and check the SHA-256 of its files."""
    from vaebench.data.acquire import fetch

    say(f"{name}: {fetch(name, data_dir, say)}")


@data.command("add", short_help="Copy a data set from a folder or archive.")
@click.argument("name")
@click.argument("path", type=click.Path(path_type=Path))
@data_dir_option
def data_add(name: str, path: Path, data_dir: Path | None) -> None:
    """Copy the IDX files of the data set NAME, raw or gzipped, from the folder or archive PATH."""
    from vaebench.data.acquire import add

    say(f"{name}: {add(name, path, data_dir, say)}")


@data.command("verify", short_help="Check the SHA-256 of the files of a data set.")
@click.argument("name")
@data_dir_option
def data_verify(name: str, data_dir: Path | None) -> None:
    """Read the files of the data set NAME and compare their SHA-256 with the expected ones."""
    from vaebench.data.acquire import verify

    checks = verify(name, data_dir)
    for check in checks:
        say(f"{check.path}: {check.fault or 'OK'}")
    if any(check.fault for check in checks):
        leave([ExitCode.DATA])
