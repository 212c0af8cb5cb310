"""`vaebench audit`: find the effective sigma and beta of a VAE loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from vaebench.cli.options import Command, given_options, whole_numbers
from vaebench.cli.output import say


@click.command(cls=Command, short_help="Find the effective sigma and beta of a VAE loss.")
@click.option("--recon", help="Reconstruction term, e.g. mse-mean, mse-sum, half-sse or bce-sum.")
@click.option("--recon-weight", type=float, default=1.0, show_default=True, help="Its weight.")
@click.option("--kl", default="sum", show_default=True, help="Reduction of the KL term, e.g. sum.")
@click.option("--kl-weight", type=float, default=1.0, show_default=True, help="Weight of the KL.")
@click.option("--pixels", type=int, help="Number of pixels per image times channels.")
@click.option("--latent", type=int, help="Number of latent dimensions.")
@click.option("--batch", type=int, help="Number of images per batch.")
@click.option("--sigma", type=float, help="Sigma of a gaussian-nll term.")
@click.option("--loss", metavar="MODULE:FUNCTION", help="Function (x, recon, mu, logvar) to audit.")
@click.option(
    "--x-shape", callback=whole_numbers, metavar="C,H,W", help="Shape of one image, for --loss."
)
@click.option(
    "--order",
    metavar="NAME,...",
    help="Arguments of --loss: x, recon, recon_logvar, mu, logvar, std, var, logstd or a number.",
)
@click.option(
    "--range",
    "pixel_range",
    nargs=2,
    type=float,
    metavar="LOW HIGH",
    help="Pixel range that the loss expects [default: 0 1].",
)
@click.option("--zoo", is_flag=True, help="Print the effect in nats of common errors in VAE code.")
@click.option("--peers", is_flag=True, help="Print the effective sigma of well-known code bases.")
def audit(zoo: bool, peers: bool, **words: Any) -> None:
    """Print the effective sigma and beta of a VAE loss, and whether the loss is an ELBO.

    For example: vaebench audit --recon mse-mean --kl sum --kl-weight 0.00025 --pixels 12288
    --latent 128
    """
    given = given_options()
    no_effect_with: dict[str, Sequence[str]] = {
        "--zoo": given,
        "--peers": given,
        "--loss": ("--kl", "--kl-weight", "--recon-weight", "--sigma"),
        "--recon": ("--x-shape", "--order", "--range"),
        "--x-shape": ("--pixels",),
    }
    for option, others in no_effect_with.items():
        idle = [name for name in others if name in given and name != option]
        if option in given and idle:
            raise click.UsageError(
                f"{', '.join(idle)} cannot be used with {option}: remove one of them"
            )
    if zoo:
        from vaebench.auditing.zoo import zoo as run_zoo
        from vaebench.auditing.zoo import zoo_text

        say(zoo_text(run_zoo(echo=lambda text: say(text, err=True))))
    elif peers:
        from vaebench.auditing.peers import hidden_sigmas

        for each in hidden_sigmas():
            say(f"{each.peer:<20} {each.setting:<57} sigma {each.sigma:.3g}")
    else:
        from vaebench.auditing.options import audit_options
        from vaebench.grid.user_code import exits_raised

        with exits_raised():
            text = audit_options(**words).text()
        say(text)
