"""`vaebench evaluate`: evaluate a trained VAE with every estimator."""

from __future__ import annotations

from pathlib import Path

import click

from vaebench.cli.options import Command, data_dir_option, json_option, store_option
from vaebench.cli.output import Echo, say, say_json
from vaebench.errors import UsageError
from vaebench.system.terminal import waiting


@click.command(cls=Command, short_help="Evaluate a VAE that vaebench did not train.")
@click.argument("model")
@click.option(
    "--dataset", required=True, help="Data for the evaluation, a value of the axis dataset."
)
@store_option("results/external")
@click.option("--name", help="Name of the model in tables [default: that of its module].")
@click.option(
    "--likelihood",
    help="Family whose mean decode returns: bernoulli, continuous_bernoulli, gaussian, laplace.",
)
@click.option(
    "--sigma", type=float, help="Scale of a gaussian or laplace, in the unit of the data."
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="AXIS=VALUE",
    help="Value of another axis, such as binarization or iw_samples; may be repeated.",
)
@click.option(
    "--trust",
    is_flag=True,
    help="Allow pickled files in a pythae folder; reading them runs their code.",
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
    """Evaluate the trained MODEL with every estimator and add its record to a store.

    MODEL is package.module:load, a function that returns the trained model; a folder saved by
    pythae; or STORE/cells/CELL, a cell with kept weights. The function must return a torch module
    with encode(x) -> (mean, log_variance) and decode(z) -> reconstruction, whose distribution
    --likelihood sets; or an object whose encode, decode and prior are torch.distributions.

    If the model has its own loss, the command compares it with the negative ELBO of its
    distributions. `vaebench report` shows the record together with those of trained cells.
    """
    from vaebench.cli.console import record_text
    from vaebench.grid.spec import parse_override
    from vaebench.grid.user_code import exits_raised
    from vaebench.runner.external import evaluate as evaluate_model

    axes: dict[str, object] = {}
    for text in settings:
        axis, values = parse_override(text)
        if len(values) != 1:
            raise UsageError(f"--set {text}: {axis} must have one value; got {len(values)}")
        axes[axis] = values[0]
    with waiting(f"evaluating {model}", Echo(err=True)), exits_raised():
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
