"""Figures of the latent-dimension story: what is drawn is what the records and sources say."""

import numpy as np
import pandas as pd
import pytest
from synthetic import cells, record

from vaebench.analysis.frame import tidy
from vaebench.plots.latent_figures import bounds_and_published, code_spectra

DESIGN = {"likelihood": "bernoulli", "binarization": "dynamic"}
PUBLISHED = {"a paper": {2: 130.0, 10: 95.0}}


@pytest.fixture
def frame() -> pd.DataFrame:
    made = tidy([(record(cell), "s") for cell in cells([DESIGN], [2, 8, 32], 3)])
    return made.assign(iw_bound=made["elbo"] + 2.0)


def test_both_bounds_and_the_published_values_are_drawn(frame: pd.DataFrame) -> None:
    figure = bounds_and_published(frame, PUBLISHED, "title")
    assert figure is not None
    (axes,) = figure.axes
    names = [text.get_text() for text in axes.get_legend().get_texts()]
    assert sorted(names) == ["ELBO", "a paper", "importance-weighted bound"]
    paper = next(line for line in axes.get_lines() if line.get_label() == "a paper")
    assert list(paper.get_xdata()) == [2, 10]
    assert list(paper.get_ydata()) == [-130.0, -95.0]
    means = frame.groupby("latent_dim")["elbo"].mean()
    drawn = [np.asarray(bars[0].get_ydata(), float) for bars in axes.containers]
    np.testing.assert_allclose(drawn[0], means)
    np.testing.assert_allclose(drawn[1], means + 2.0)


def test_without_the_second_bound_there_is_no_figure(frame: pd.DataFrame) -> None:
    assert bounds_and_published(frame.assign(iw_bound=np.nan), PUBLISHED) is None


def test_spectra_are_means_over_seeds_of_each_size(frame: pd.DataFrame) -> None:
    seeds = dict(zip(frame["cell_id"], frame["seed"], strict=True))
    sizes = dict(zip(frame["cell_id"], frame["latent_dim"], strict=True))

    def arrays(cell: str) -> dict[str, np.ndarray]:
        return {"code_spectrum": (1.0 + seeds[cell]) / np.arange(1, sizes[cell] + 1)}

    figure = code_spectra(frame, arrays)
    assert figure is not None
    lines = figure.axes[0].get_lines()
    np.testing.assert_allclose(lines[1].get_ydata(), 2.0 / np.arange(1, 9))
    assert lines[-1].get_ydata()[0] == pytest.approx(0.01), "the threshold of an active unit"
    figure.canvas.draw()
    ticks = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert "0.1" in ticks, "numbers, not the source of a formula"
    assert code_spectra(frame, lambda _: {}) is None
