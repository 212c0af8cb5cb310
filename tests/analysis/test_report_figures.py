"""Figures show the numbers they are given, with units, and only what may be compared."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from synthetic import arrays, cells, diverged, record, series

from vaebench.analysis import figures, pictures
from vaebench.analysis.comparability import NotComparable, groups
from vaebench.analysis.frame import tidy
from vaebench.analysis.labels import drawable
from vaebench.analysis.style import drawing
from vaebench.analysis.summary import summarise
from vaebench.records.schema import CellRecord

GAUSSIAN = {"likelihood": "gaussian", "sigma": "learned"}
LAPLACE = {"likelihood": "laplace", "sigma": "learned"}


def frame_of(records: list[CellRecord]) -> pd.DataFrame:
    return tidy([(each, "s") for each in records])


@pytest.fixture(scope="module")
def made() -> list[CellRecord]:
    return [record(cell) for cell in cells([GAUSSIAN, LAPLACE], sizes=[2, 4, 16], seeds=3)]


@pytest.fixture(scope="module")
def frame(made: list[CellRecord]) -> pd.DataFrame:
    return frame_of(made)


def labels(figure: Figure) -> list[str]:
    axes = figure.get_axes()
    return [text for one in axes for text in (one.get_xlabel(), one.get_ylabel()) if text]


def test_points_and_bars_are_the_means_and_intervals(frame: pd.DataFrame) -> None:
    (figure,) = figures.against(frame, "latent_dim", ["elbo"])
    rows = frame[frame["likelihood"] == "gaussian"]
    expected = summarise(rows, ["latent_dim"], "elbo")
    bars = figure.get_axes()[0].containers[0]
    segments = bars[2][0].get_segments()
    assert [s[0][1] for s in segments] == pytest.approx(expected["low"].tolist())
    assert [s[1][1] for s in segments] == pytest.approx(expected["high"].tolist())


def test_axes_carry_their_units(frame: pd.DataFrame) -> None:
    (figure,) = figures.against(frame, "latent_dim", ["elbo", "kl"])
    assert labels(figure) == [
        "latent dimension [count]",
        "ELBO [nats/image]",
        "latent dimension [count]",
        "rate (KL) [nats/image]",
    ]


def test_one_axis_never_holds_a_density_and_a_mass(frame: pd.DataFrame) -> None:
    mixed = pd.concat(
        [frame, frame_of([record(c) for c in cells([{"likelihood": "categorical"}])])]
    )
    for draw in (
        lambda: figures.against(mixed, "latent_dim", ["elbo"]),
        lambda: figures.rate_distortion(mixed),
    ):
        with pytest.raises(NotComparable):
            draw()
    assert figures.bits_ranking(mixed) is not None


def test_what_the_records_lack_is_not_drawn(frame: pd.DataFrame) -> None:
    assert figures.against(frame, "latent_dim", ["iw_bound"]) == []
    assert figures.against(frame, "sigma", ["elbo"]) == []
    assert figures.against(frame[frame["latent_dim"] == 2], "latent_dim", ["elbo"]) == []
    assert figures.bits_ranking(frame.assign(bits_per_dim=np.nan)) is None
    assert (
        figures.cost(
            frame.assign(samples_per_second=np.nan, step_ms_median=np.nan, peak_memory_mib=np.nan)
        )
        is None
    )
    assert figures.loss_curves(groups(frame, "elbo"), {}) is None
    assert figures.kl_per_dimension(groups(frame, "elbo"), {}) is None
    assert pictures.reconstructions(frame, lambda _: {}) is None


def test_an_open_marker_says_that_a_seed_is_missing() -> None:
    made = cells([GAUSSIAN], sizes=[2, 8], seeds=3)
    frame = frame_of([diverged(made[0]), *map(record, made[1:])])
    (figure,) = figures.against(frame, "latent_dim", ["elbo"])
    lines = figure.get_axes()[0].get_lines()
    hollow = [one for one in lines if one.get_markerfacecolor() == "white"]
    assert sum(len(one.get_xdata()) for one in hollow) == 1


def test_one_seed_has_a_point_and_no_bar() -> None:
    frame = frame_of([record(c) for c in cells([GAUSSIAN], sizes=[2, 8], seeds=1)])
    (figure,) = figures.against(frame, "latent_dim", ["elbo"])
    segments = figure.get_axes()[0].containers[0][2][0].get_segments()
    assert all(np.isnan(np.asarray(s)[:, 1]).all() for s in segments if len(s))


def test_many_designs_are_spread_over_several_figures() -> None:
    designs = [{"likelihood": "gaussian", "sigma": i / 10} for i in range(1, 11)]
    frame = frame_of([record(c) for c in cells(designs, seeds=1)])
    drawn = figures.against(frame, "latent_dim", ["elbo"], "all")
    assert len(drawn) == 2
    assert drawn[0].get_suptitle() == "all (1/2)"


def test_of_very_many_designs_some_are_drawn_and_the_title_says_so() -> None:
    designs = [{"likelihood": "gaussian", "sigma": i / 100} for i in range(1, 41)]
    frame = frame_of([record(c) for c in cells(designs, seeds=1)])
    (figure,) = figures.against(frame, "latent_dim", ["elbo"], "all")
    assert figure.get_suptitle() == "all (8 of 40 designs)"
    named = [text.get_text() for text in figure.legends[0].get_texts()]
    assert len(named) == 8
    assert (named[0], named[-1]) == ("σ 0.01", "σ 0.4")
    plane = figures.rate_distortion(frame, "plane")
    assert plane is not None
    assert plane.get_suptitle() == "plane (15 of 40 designs)"


def test_the_dots_of_a_cost_are_bounded_and_its_medians_are_of_all() -> None:
    design = [{"likelihood": "gaussian", "sigma": 0.1}]
    frame = frame_of([record(c) for c in cells(design, sizes=[2, 8], seeds=150)])
    figure = figures.cost(frame)
    assert figure is not None
    axes = figure.get_axes()[1]
    assert len(axes.collections[0].get_offsets()) == 200
    medians = frame.groupby("latent_dim")["step_ms_median"].median()
    np.testing.assert_array_equal(axes.get_lines()[0].get_ydata(), medians)


def test_kl_curves_are_read_of_the_cells_that_can_be_drawn() -> None:
    sweeps = [{"likelihood": "gaussian", "sigma": i / 100} for i in range(1, 9)]
    alone = [{"likelihood": "gaussian", "sigma": i / 10} for i in range(1, 13)]
    made = cells(sweeps, sizes=[2, 8], seeds=1) + cells(alone, sizes=[4], seeds=1)
    chosen = figures.curve_cells(groups(frame_of([record(c) for c in made]), "elbo"))
    assert len(chosen) == 6 * 2 + 10


def test_sigma_keeps_numbers_before_words_and_joins_numbers_only() -> None:
    kinds: list[float | str] = ["optimal", 1.0, 0.1, "learned"]
    designs = [{"likelihood": "gaussian", "sigma": kind} for kind in kinds]
    frame = frame_of([record(c) for c in cells(designs, sizes=[2])])
    (figure,) = figures.against(frame, "sigma", ["elbo"])
    axes = figure.get_axes()[0]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == [
        "0.1",
        "1",
        "learned",
        "optimal",
    ]
    joined = [line for line in axes.get_lines() if line.get_linestyle() == "-"]
    assert max(len(line.get_xdata()) for line in joined) == 2


def test_the_other_figures_are_drawn(frame: pd.DataFrame, made: list[CellRecord]) -> None:
    parts = groups(frame, "elbo")
    kl = {each.cell_id: arrays(each.cell)["kl_per_dimension"] for each in made}
    curves = {each.cell_id: series(each.cell) for each in made}
    for figure in (
        figures.rate_distortion(frame),
        figures.kl_per_dimension(parts, kl),
        figures.loss_curves(parts, curves),
        figures.cost(frame),
    ):
        assert figure is not None
        assert all("[" in label for label in labels(figure))


def test_an_image_grid_holds_the_images_themselves() -> None:
    images = np.arange(2 * 3 * 4 * 4, dtype=np.uint8).reshape(2, 3, 4, 4)
    sheet = pictures.mosaic(images)
    assert sheet.shape == (9, 14, 3)
    assert (sheet[5:9, 10:14, 0] == images[1, 2]).all()
    colour = np.repeat(images[..., None], 3, axis=-1)
    assert (pictures.mosaic(colour) == sheet).all()


@pytest.mark.parametrize(
    "draw",
    [
        pictures.reconstructions,
        pictures.prior_samples,
        pictures.interpolations,
        pictures.traversals,
        pictures.tsne_maps,
    ],
)
def test_pictures_name_their_latent_sizes(
    frame: pd.DataFrame, made: list[CellRecord], draw: object
) -> None:
    kept = {each.cell_id: arrays(each.cell) for each in made}
    assert callable(draw)
    figure = draw(frame, kept.__getitem__)
    words = " ".join(text.get_text() for text in figure.findobj(lambda a: hasattr(a, "get_text")))
    assert all(f"z {size}" in words for size in (2, 4, 16))


def test_designs_of_one_latent_size_stand_side_by_side() -> None:
    designs = [{"likelihood": "gaussian", "sigma": s} for s in (0.1, 0.3, "optimal")]
    records = [record(cell) for cell in cells(designs, sizes=[8])]
    kept = {each.cell_id: arrays(each.cell) for each in records}
    frame = frame_of(records)
    (block,) = pictures.blocks(frame, kept.__getitem__, "tsne", designs=2, sizes=5, alone=9)
    assert block.label == "z 8"
    assert block.names == ("σ 0.1", "σ 0.3", "σ optimal")
    (few,) = pictures.blocks(frame, kept.__getitem__, "tsne", designs=2, sizes=5, alone=2)
    assert few.names == ("σ 0.1", "σ optimal")
    assert figures.kl_by_design(frame, {c: of["kl_per_dimension"] for c, of in kept.items()})


def test_maps_show_accuracy_and_trust_over_each(
    frame: pd.DataFrame, made: list[CellRecord]
) -> None:
    kept = {each.cell_id: arrays(each.cell) for each in made}
    figure = pictures.tsne_maps(frame, kept.__getitem__)
    assert figure is not None
    row = frame[(frame["latent_dim"] == 2) & (frame["seed"] == 0)].iloc[0]
    title = figure.get_axes()[0].get_title()
    assert title.endswith(f"kNN {row['knn_accuracy']:.2f}, trust {row['tsne_trustworthiness']:.2f}")


def test_text_that_cannot_be_drawn_is_replaced() -> None:
    assert drawable("a漢字\n$x$ σ") == "a?? $x$ σ"
    with drawing():
        figure = Figure()
        figure.suptitle(drawable("$\\frac{1}{$ 漢"))
        figure.canvas.draw()
