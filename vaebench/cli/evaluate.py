"""`vaebench evaluate`: score a trained VAE by every estimator."""

from __future__ import annotations

from pathlib import Path

import click

from vaebench.cli.options import Command, data_dir_option, json_option, store_option
from vaebench.cli.output import Echo, say, say_json
from vaebench.errors import UsageError
from vaebench.system.terminal import waiting


@click.command(cls=Command, short_help="Score a trained VAE of yours or of others.")
@click.argument("model")
@click.option("--dataset", required=True, help="The data to score it on, as the axis dataset.")
@store_option("results/external")
@click.option("--name", help="The model's name in tables [default: that of its module].")
@click.option(
    "--likelihood",
    help="The output of decode is the mean of: bernoulli, continuous_bernoulli, gaussian, laplace.",
)
@click.option(
    "--sigma", type=float, help="The scale of a gaussian or laplace, in the unit of the data."
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="AXIS=VALUE",
    help="Another axis, such as binarization, seed, iw_samples or ais_images; may be repeated.",
)
@click.option(
    "--trust", is_flag=True, help="Read pickled parts of a pythae folder, which run their code."
)
@json_option
@data_dir_option
def evaluate(
    model: str,
    dataset: str,
    output: Path | None,
    name: str | None,
    likelihood: str | None,
    sigma: float | None,
    settings: tuple[str, ...],
    trust: bool,
    as_json: bool,
    data_dir: Path | None,
) -> None:
    """Score the trained MODEL by every estimator and add its record to a store.

    MODEL is package.module:load, a function of yours that returns the trained model; a folder that
    pythae saved; or STORE/cells/CELL, a cell with kept weights. The function returns a torch module
    with encode(x) -> (mean, log_variance) and decode(z) -> reconstruction, for which --likelihood
    says what is reconstructed; or an object whose encode, decode and prior are torch.distributions.

    The command first compares the model's own loss, where it has one, with the negative ELBO of its
    distributions. `vaebench report` shows the record together with those of trained cells.
    """
    from vaebench.cli.console import record_text
    from vaebench.grid.spec import parse_override
    from vaebench.runner.external import evaluate as evaluate_model

    axes: dict[str, object] = {}
    for text in settings:
        axis, values = parse_override(text)
        if len(values) != 1:
            raise UsageError(f"--set {text}: one model has one value of {axis}; give one")
        axes[axis] = values[0]
    with waiting(f"evaluating {model}", Echo(err=True)):
        found = evaluate_model(
            model,
            dataset,
            output,
            name=name,
            likelihood=likelihood,
            sigma=sigma,
            settings=axes,
            data_dir=data_dir,
            trust=trust,
        )
    if as_json:
        say_json(found.record.model_dump(mode="json", by_alias=True))
        return
    if found.own_loss is not None:
        say(f"own loss: {found.own_loss}")
    say(record_text(found.record))
    say(f"record: {found.store}")
