"""Figures of the latent-dimension story: both bounds beside published values, and code spectra."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from numpy.typing import NDArray

from vaebench.analysis.comparability import require_comparable
from vaebench.analysis.labels import shown
from vaebench.analysis.summary import summarise
from vaebench.plots.figures import headed, size_axis
from vaebench.plots.palette import colours, ramp
from vaebench.plots.style import INK, WIDTH, tick

_HEIGHT: Final = 3.4


def bounds_and_published(
    frame: pd.DataFrame, published: Mapping[str, Mapping[int, float]], title: str = ""
) -> Figure | None:
    """ELBO and importance-weighted bound over latent sizes, with published log-likelihoods.

    Args:
        frame: rows of one design but for latent size, epochs and seed; the longest training is
            drawn.
        published: label -> latent size -> NLL in nats.
        title: over the figure.

    Returns:
        None without two sizes that have an importance-weighted bound.
    """
    rows = frame[frame["epochs"] == frame["epochs"].max()]
    require_comparable(rows, "elbo")
    figure = Figure(figsize=(WIDTH, _HEIGHT), layout="constrained")
    axes = figure.subplots()
    shades = colours(2 + len(published))
    for metric, label, colour in (
        ("elbo", "ELBO", shades[0]),
        ("iw_bound", "importance-weighted bound", shades[1]),
    ):
        table = summarise(rows, ["latent_dim"], metric)
        table = table[table["n"] > 0]
        if len(table) < 2:
            return None
        half = ((table["high"] - table["low"]) / 2).fillna(0.0)
        sizes = table["latent_dim"].to_numpy(float)
        axes.errorbar(sizes, table["mean"], half, color=colour, marker="o", ms=4, label=label)
    for (label, values), colour in zip(published.items(), shades[2:], strict=True):
        heights = [-nll for nll in values.values()]
        axes.plot(list(values), heights, color=colour, marker="D", ls="--", ms=4, label=label)
    size_axis(axes, sorted({*rows["latent_dim"], *(z for of in published.values() for z in of)}))
    axes.set(xlabel="latent dimension", ylabel="nats/image")
    axes.legend(loc="lower center")
    headed(figure, title)
    return figure


def code_spectra(
    frame: pd.DataFrame, arrays: Callable[[str], Mapping[str, NDArray[Any]]], title: str = ""
) -> Figure | None:
    """Eigenvalues of the covariance of the posterior means, sorted, one line for each size.

    A line is the mean over seeds; the dotted line is the threshold of an active unit, 0.01 λ², if
    the prior is N(0, λ²I).

    Returns:
        None if no record keeps its spectrum.
    """
    rows = frame[frame["epochs"] == frame["epochs"].max()]
    found = {}
    for size, same in rows.groupby("latent_dim", sort=True):
        kept = [arrays(cell).get("code_spectrum") for cell in same["cell_id"]]
        spectra = [spectrum for spectrum in kept if spectrum is not None and len(spectrum)]
        if spectra and len({len(spectrum) for spectrum in spectra}) == 1:
            found[size] = np.mean(spectra, axis=0)
    if not found:
        return None
    figure = Figure(figsize=(WIDTH, _HEIGHT), layout="constrained")
    axes = figure.subplots()
    for (size, spectrum), colour in zip(found.items(), ramp(len(found)), strict=True):
        ranks = np.arange(1, len(spectrum) + 1)
        axes.plot(ranks, np.maximum(spectrum, 1e-6), color=colour, label=shown(size))
    if (rows["prior"] == "normal").all():
        threshold = 0.01 * float(rows["prior_scale"].iloc[0]) ** 2
        axes.axhline(threshold, color=INK, ls=":", lw=1)
    axes.set(xscale="log", yscale="log", xlabel="rank", ylabel="variance of the posterior means")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(tick))
    axes.legend(title="latent dimension", ncols=2)
    headed(figure, title)
    return figure
