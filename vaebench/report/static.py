"""The static figures of a report by name: for print, papers and readers without scripts.

Only drawing one imports this module, and with it matplotlib.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.text import Text

from vaebench.analysis.columns import are_tables, of_data
from vaebench.analysis.comparability import Group
from vaebench.findings.latent import PUBLISHED_CURVES
from vaebench.plots import (
    cost_figures,
    figures,
    latent_figures,
    pictures,
    plane_figures,
    timing_figures,
)
from vaebench.plots.figures import Drawn
from vaebench.plots.images import KINDS
from vaebench.plots.saving import save_for_paper, save_png
from vaebench.plots.style import drawing
from vaebench.report.sections import BOUND, CODES, IMAGES, Content

Made = Sequence[Figure | Drawn | None]
Draw = Callable[[Content, Group, str], Made]


def _against(x: str, *metrics: str) -> Draw:
    return lambda content, group, title: figures.against(
        group.frame, x, metrics, title, content.keys
    )


def _images(name: str, content: Content, group: Group, title: str) -> Made:
    arrays = content.results.arrays
    return [pictures.image_figure(KINDS[name], group.frame, arrays, title)]


def _kl(content: Content, group: Group, title: str) -> Made:
    """Designs with several latent sizes, then those with one."""
    return [
        figures.kl_per_dimension([group], content.curves, title, keys=content.keys),
        figures.kl_by_design(group.frame, content.curves, title, keys=content.keys),
    ]


def _bounds(_: Content, group: Group, title: str) -> Made:
    published = PUBLISHED_CURVES if set(group.frame["binarization"]) == {"dynamic"} else {}
    return [latent_figures.bounds_and_published(group.frame, published, title)]


_DRAW: Final[Mapping[str, Draw]] = {
    "elbo-by-latent-dim": _against("latent_dim", *BOUND),
    "elbo-by-sigma": _against("sigma", *BOUND),
    "bits-ranking": lambda _, group, title: [figures.bits_ranking(group.frame, title)],
    "bits-by-latent-dim": _against("latent_dim", "bits_per_dim"),
    "rate-distortion": lambda content, group, title: [
        plane_figures.rate_distortion(group.frame, title, content.keys)
    ],
    "codes-by-latent-dim": _against("latent_dim", *CODES),
    "kl-per-dimension": _kl,
    "tsne": lambda content, group, title: [
        pictures.tsne_maps(group.frame, content.results.arrays, title)
    ],
    **{name: partial(_images, name) for name in IMAGES},
    "columns": lambda content, group, title: [
        pictures.columns(group.frame, content.results.arrays, title)
    ],
    "training": lambda content, group, title: [
        figures.loss_curves([group], content.results.series, title, keys=content.keys)
    ],
    "cost": lambda content, group, title: [cost_figures.cost(group.frame, title, content.keys)],
    "cost-by-design": lambda _, group, title: [cost_figures.cost_by_design(group.frame, title)],
    "timings": lambda _, group, title: [timing_figures.timing_figure(group, title)],
    "bounds-and-published": _bounds,
    "code-spectra": lambda content, group, title: [
        latent_figures.code_spectra(group.frame, content.results.arrays, title)
    ],
}


def save_figures(
    name: str,
    content: Content,
    group: Group,
    title: str,
    folder: Path | None,
    paper: Path | None,
) -> tuple[list[Path], str]:
    """Draw and save the static figures of a group; several are numbered.

    Args:
        name: that of a `FigureSpec`.
        content: the numbers.
        group: comparable rows.
        title: over each figure.
        folder: where the PNG files are saved, if anywhere.
        paper: where the files for a paper are saved, if anywhere.

    Returns:
        The PNG files, and the sentences on the designs that the figures leave out.
    """
    saved, left_out = [], ""
    with drawing():
        made = [each for each in _DRAW[name](content, group, title) if each is not None]
        for number, each in enumerate(made, 1):
            drawn = each if isinstance(each, Drawn) else Drawn(each)
            _name_data(drawn.figure, group.frame)
            file = f"{name}-{group.slug}" + (f"-{number}" if number > 1 else "")
            if folder is not None:
                saved.append(folder / f"{file}.png")
                save_png(drawn.figure, saved[-1])
            if paper is not None:
                save_for_paper(drawn.figure, paper / file)
            left_out += drawn.left_out
    return saved, left_out.strip()


def _name_data(figure: Figure, rows: pd.DataFrame) -> None:
    """Name the unit of tables in the labels of a figure; see `of_data`."""
    if are_tables(rows):
        for text in figure.findobj(Text):
            if isinstance(text, Text):
                text.set_text(of_data(text.get_text(), rows))
