"""`vaebench audit`: the sigma and beta that a VAE loss hides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from vaebench.cli.options import Command, given_options, whole_numbers
from vaebench.cli.output import say


@click.command(cls=Command, short_help="The sigma and beta that a VAE loss hides.")
@click.option("--recon", help="Reconstruction term, e.g. mse-mean, mse-sum, half-sse, bce-sum.")
@click.option("--kl", default="sum", show_default=True, help="How the KL is reduced.")
@click.option("--kl-weight", type=float, default=1.0, show_default=True)
@click.option("--recon-weight", type=float, default=1.0, show_default=True)
@click.option("--pixels", type=int, help="Pixels per image, times the channels.")
@click.option("--latent", type=int, help="Latent dimensions.")
@click.option("--batch", type=int, help="Images per batch.")
@click.option("--sigma", type=float, help="The sigma of a gaussian-nll.")
@click.option("--loss", metavar="MODULE:FUNCTION", help="Probe loss(x, recon, mu, logvar).")
@click.option(
    "--x-shape", callback=whole_numbers, metavar="C,H,W", help="Shape of one image, for --loss."
)
@click.option(
    "--order",
    metavar="NAME,...",
    help="Arguments of the loss: x, recon, recon_logvar, mu, logvar, std, var, logstd or a number.",
)
@click.option(
    "--range",
    "pixel_range",
    nargs=2,
    type=float,
    metavar="LOW HIGH",
    help="Range of the pixels that the loss expects [default: 0 1].",
)
@click.option("--zoo", is_flag=True, help="Run each classic error and print its effect in nats.")
@click.option("--peers", is_flag=True, help="Print the hidden sigma of well-known code bases.")
def audit(zoo: bool, peers: bool, **words: Any) -> None:
    """Report the sigma and beta that a VAE loss hides, and whether it is an ELBO at all.

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
            raise click.UsageError(f"with {option} leave out {', '.join(idle)}")
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

        say(audit_options(**words).text())
