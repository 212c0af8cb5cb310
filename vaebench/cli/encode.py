"""`vaebench encode`: encode data with a trained model."""

from __future__ import annotations

from pathlib import Path

import click

from vaebench.cli.options import FOLDER, Command, data_dir_option, match_cell, require_stores
from vaebench.cli.output import Echo, say
from vaebench.grid.values import plural
from vaebench.system.terminal import waiting


@click.command(cls=Command, short_help="Encode data with a trained model.")
@click.argument("store", type=FOLDER)
@click.argument("cell")
@click.argument("data")
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="The .npz file to write.",
)
@click.option(
    "--samples",
    type=click.IntRange(0, 10_000),
    default=0,
    help="Number of codes that are also drawn from q(z|x) per example.",
)
@click.option("--seed", type=click.IntRange(0), default=0, help="Seed of these draws.")
@data_dir_option
def encode(
    store: Path,
    cell: str,
    data: str,
    output: Path,
    samples: int,
    seed: int,
    data_dir: Path | None,
) -> None:
    """Write the posterior means of DATA under the model of CELL, a cell of STORE with kept weights.

    CELL may be the beginning of a cell's name. DATA is a value of the axis dataset: a name, or the
    path of a file or image folder. It is read and converted as in training; another shape, type or
    range is an error. The file has an array train_mean, test_mean and so on for each split, with
    one row per example in the order of DATA.
    """
    from vaebench.records.store import Store
    from vaebench.runner.encode import check_output, write_codes
    from vaebench.runner.encode import encode as encode_data

    require_stores(store)
    check_output(output)
    name = match_cell(cell, list(Store(store).states()), store)
    with waiting(f"reading {data}", Echo(err=True)):
        codes = encode_data(store, name, data, samples=samples, seed=seed, data_dir=data_dir)
    count = sum(len(codes[each]) for each in codes if each.endswith("_mean"))
    say(f"{plural(count, 'code')} in {', '.join(codes)}: {write_codes(codes, output)}")
