"""Figures show the numbers they are given, with units, and only what may be compared."""

import itertools
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from synthetic import CHECKSUM, arrays, cells, diverged, record, series

from vaebench.analysis.comparability import groups
from vaebench.analysis.frame import tidy
from vaebench.analysis.labels import drawable
from vaebench.analysis.summary import summarise
from vaebench.errors import NotComparable
from vaebench.grid.cell import cell_id
from vaebench.plots import cost_figures, figures, images, pictures, plane_figures
from vaebench.plots.keys import Keys
from vaebench.plots.selection import curve_cells, split, widest
from vaebench.plots.style import drawing
from vaebench.records.schema import CellRecord, Status

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
        lambda: plane_figures.rate_distortion(mixed),
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
        cost_figures.cost(
            frame.assign(samples_per_second=np.nan, step_ms_median=np.nan, peak_memory_mib=np.nan)
        )
        is None
    )
    assert figures.loss_curves(groups(frame, "elbo"), {}) is None
    assert figures.kl_per_dimension(groups(frame, "elbo"), {}) is None
    assert pictures.image_figure(images.KINDS["samples"], frame, lambda _: {}) is None


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
    plane = plane_figures.rate_distortion(frame, "plane")
    assert plane is not None
    assert plane.get_suptitle() == "plane (13 of 40 designs)"


def test_the_dots_of_a_cost_are_bounded_and_its_medians_are_of_all() -> None:
    design = [{"likelihood": "gaussian", "sigma": 0.1}]
    frame = frame_of([record(c) for c in cells(design, sizes=[2, 8], seeds=150)])
    drawn = cost_figures.cost(frame)
    assert drawn is not None
    axes = drawn.figure.get_axes()[1]
    assert len(axes.collections[0].get_offsets()) == 200
    medians = frame.groupby("latent_dim")["step_ms_median"].median()
    np.testing.assert_array_equal(axes.get_lines()[0].get_ydata(), medians)


def test_a_line_of_costs_is_of_one_design_and_of_finished_cells() -> None:
    """Medians of each design alone; one size has rows of its own; a diverged cell has no time."""
    designs = [{"likelihood": "bernoulli"}, {"likelihood": "gaussian", "sigma": 0.1}]
    sweeps, alone = cells(designs, sizes=[2, 8], seeds=3), cells([{"likelihood": "laplace"}], [8])
    frame = frame_of([record(cell) for cell in [*sweeps, *alone]])
    slow = (frame["likelihood"] == "laplace") & (frame["seed"] == 0)
    stopped = (frame["likelihood"] == "bernoulli") & (frame["seed"] == 0)
    frame.loc[slow, "samples_per_second"] = 7.0
    frame.loc[stopped, ["samples_per_second", "status"]] = [0.5, "diverged"]
    drawn = cost_figures.cost(frame)
    assert drawn is not None
    axes = drawn.figure.get_axes()[0]
    named = [text.get_text() for text in drawn.figure.legends[0].get_texts()]
    assert named == ["bernoulli", "gaussian, σ 0.1"]
    for name, line, dots in zip(named, axes.get_lines(), axes.collections, strict=True):
        own = frame[(frame["likelihood"] == name.split(",")[0]) & (frame["status"] == "done")]
        medians = own.groupby("latent_dim")["samples_per_second"].median()
        np.testing.assert_array_equal(line.get_ydata(), medians)
        assert len(dots.get_offsets()) == len(own)
    rows = cost_figures.cost_by_design(frame)
    assert rows is not None
    (left, *_) = rows.figure.get_axes()
    assert [tick.get_text() for tick in left.get_yticklabels()] == ["laplace, σ learned, z 8"]
    assert sorted(left.collections[0].get_offsets()[:, 0]) == pytest.approx(
        sorted(frame.loc[frame["likelihood"] == "laplace", "samples_per_second"])
    )


def test_cells_that_were_timed_as_one_pack_are_one_dot() -> None:
    """Three equal dots on each other would look like a measurement without spread."""
    designs = [{"likelihood": "laplace"}, {"likelihood": "logistic"}]
    frame = frame_of([record(cell) for cell in cells(designs, [8], seeds=3)])
    frame["pack_size"], frame["step_ms_median"] = 3.0, [0.5, 0.5, 0.5, 0.7, 0.7, 0.7]
    drawn = cost_figures.cost_by_design(frame)
    assert drawn is not None
    steps = drawn.figure.get_axes()[1]
    assert [len(dots.get_offsets()) for dots in steps.collections] == [1, 1]
    apart = cost_figures.cost_by_design(frame.assign(pack_size=1.0))
    assert apart is not None
    steps = apart.figure.get_axes()[1]
    assert [len(dots.get_offsets()) for dots in steps.collections] == [3, 3]


def test_ticks_of_a_wide_range_of_costs_have_room() -> None:
    frame = frame_of([record(cell) for cell in cells([GAUSSIAN, LAPLACE], [8], seeds=1)])
    frame["samples_per_second"] = [300.0, 170_000.0]
    drawn = cost_figures.cost_by_design(frame)
    assert drawn is not None
    (axes, *_) = drawn.figure.get_axes()
    low, high = axes.get_xlim()
    within = [tick for tick in axes.xaxis.get_majorticklocs() if low <= tick <= high]
    assert within == [1_000, 10_000, 100_000]


def test_a_device_without_results_takes_no_room() -> None:
    made = cells([GAUSSIAN], sizes=[2, 4], seeds=2)
    lost = [c.model_copy(update={"device": d}) for c in made for d in ("cuda", "mps")]
    absent = Status(state="unavailable", reason="no such device")
    gone = [record(cell, status=absent, metrics={}, series={}) for cell in lost]
    frame = frame_of([*map(record, made), *gone])
    (figure,) = figures.against(frame, "latent_dim", ["elbo"])
    assert not figure.legends
    axes = figure.get_axes()[0]
    drawn = [line for line in axes.get_lines() if line.get_linestyle() == "-"]
    assert [line.get_xdata().tolist() for line in drawn] == [[2.0, 4.0]]
    low, high = axes.get_xlim()
    shown = [tick for tick in axes.get_xticks() if low <= tick <= high]
    assert shown == [2.0, 4.0]
    ranking = figures.bits_ranking(frame)
    assert ranking is not None
    assert [tick.get_text() for tick in ranking.get_axes()[0].get_yticklabels()] == ["z 4", "z 2"]
    costs = cost_figures.cost(frame)
    assert costs is not None
    assert not costs.figure.legends


def test_every_tick_is_in_sight_beside_lines_that_are_set_apart() -> None:
    """The first of the lines stands left of its sizes; the others have no value in this panel."""
    designs = [{"likelihood": "gaussian", "sigma": i / 10} for i in range(1, 9)]
    frame = frame_of([record(c) for c in cells(designs, sizes=[2, 4], seeds=1)])
    frame.loc[frame["sigma"] != 0.1, "elbo"] = np.nan
    (figure,) = figures.against(frame, "latent_dim", ["elbo", "kl"])
    low, high = figure.get_axes()[0].get_xlim()
    assert low < 2
    assert high > 4


def test_a_figure_says_how_many_designs_it_leaves_out_and_by_which_rule() -> None:
    designs = [{"likelihood": "gaussian", "sigma": i / 100} for i in range(1, 13)]
    sweeps, alone = cells(designs, sizes=[2, 8], seeds=1), cells(designs, sizes=[4], seeds=1)
    curves = {cell_id(c, CHECKSUM): series(c) for c in sweeps}
    parts = groups(frame_of([record(c) for c in sweeps]), "elbo")
    kl = {cell_id(c, CHECKSUM): arrays(c)["kl_per_dimension"] for c in [*sweeps, *alone]}
    by_design = figures.kl_by_design(frame_of([record(c) for c in alone]), kl)
    told = (figures.loss_curves(parts, curves), figures.kl_per_dimension(parts, kl), by_design)
    said = [drawn.left_out for drawn in told if drawn is not None]
    assert [text.split(":")[0] for text in said] == [
        " 9 of 12 designs are shown",
        " 6 of 12 designs of several latent sizes are shown",
        " 10 of 12 designs of one latent size are shown",
    ]
    assert all(":" in text for text in said)


def test_of_designs_with_as_many_sizes_evenly_spread_ones_are_shown() -> None:
    designs = [{"likelihood": "gaussian", "sigma": float(i)} for i in range(1, 8)]
    wide = {"likelihood": "gaussian", "sigma": 9.0}
    made = cells(designs, sizes=[2, 8], seeds=1) + cells([wide], sizes=[2, 4, 8], seeds=1)
    frame = tidy([(record(cell), "s") for cell in made])
    shown = [key[0] for key, _ in widest(split(frame, ["sigma"]), 4)]
    assert shown == [1.0, 4.0, 7.0, 9.0]


def test_curves_that_were_not_read_count_as_left_out() -> None:
    designs = [{"likelihood": "gaussian", "sigma": i / 100} for i in range(1, 13)]
    frame = frame_of([record(c) for c in cells(designs, sizes=[4], seeds=1)])
    read = curve_cells(groups(frame, "elbo"))
    drawn = figures.kl_by_design(frame, dict.fromkeys(read, np.ones(4)))
    assert drawn is not None
    assert drawn.left_out.startswith(" 10 of 12 designs")


def keyed(figure: Figure) -> dict[str, tuple[object, object]]:
    """Colour and marker of each name in the legend below a figure."""
    handles = figure.legends[0].legend_handles
    return {line.get_label(): (line.get_color(), line.get_marker()) for line in handles}


def test_a_design_has_one_colour_and_marker_in_all_figures() -> None:
    kinds: list[float | str] = [0.05, 0.1, 0.3, 1.0, "learned", "optimal", "per_pixel"]
    designs = [{"likelihood": "gaussian", "sigma": kind} for kind in kinds]
    designs += [{"likelihood": name} for name in ("continuous_bernoulli", "laplace", "logistic")]
    frame = frame_of([record(c) for c in cells(designs, sizes=[8], seeds=1)])
    some = frame[~frame["sigma"].isin([0.05, "learned"])]
    keys = Keys()
    plane = plane_figures.rate_distortion(frame, keys=keys)
    lines = figures.kl_by_design(some, dict.fromkeys(frame["cell_id"], np.ones(8)), keys=keys)
    assert plane is not None
    assert lines is not None
    first, second = keyed(plane), keyed(lines.figure)
    assert len(set(first.values())) == len(designs)
    assert set(second) < set(first)
    assert {name: first[name] for name in second} == second


def test_sixty_designs_are_told_apart() -> None:
    names = [f"design {i}" for i in range(60)]
    assert len(set(Keys().designs(names))) == 60


def test_a_latent_size_keeps_its_colour() -> None:
    keys = Keys([2, 4, 8, 16])
    assert keys.sizes([4, 16])[4] == keys.sizes([2, 4])[4]
    assert len(set(keys.sizes([2, 4, 8, 16]).values())) == 4


def test_a_far_point_leaves_the_others_a_panel() -> None:
    kinds: list[float | str] = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    designs = [{"likelihood": "gaussian", "sigma": kind} for kind in kinds]
    frame = frame_of([record(c) for c in cells(designs, sizes=[8], seeds=1)])
    close = plane_figures.rate_distortion(frame)
    assert close is not None
    assert len(close.get_axes()) == 1
    values = np.linspace(-40, -38, 6)
    values[2] = 689.0
    frame["reconstruction_error"] = values
    far = plane_figures.rate_distortion(frame)
    assert far is not None
    near, every = far.get_axes()
    assert near.get_title() == "without 1 far point"
    low, high = near.get_ylim()
    assert high - low < 4
    assert every.get_ylim()[1] > 689


def test_kl_curves_are_read_of_the_cells_that_can_be_drawn() -> None:
    sweeps = [{"likelihood": "gaussian", "sigma": i / 100} for i in range(1, 9)]
    alone = [{"likelihood": "gaussian", "sigma": i / 10} for i in range(1, 13)]
    made = cells(sweeps, sizes=[2, 8], seeds=1) + cells(alone, sizes=[4], seeds=1)
    chosen = curve_cells(groups(frame_of([record(c) for c in made]), "elbo"))
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
    for drawn in (
        figures.kl_per_dimension(parts, kl),
        figures.loss_curves(parts, curves),
        cost_figures.cost(frame),
    ):
        assert drawn is not None
        assert drawn.left_out == ""
        assert all("[" in label for label in labels(drawn.figure))
    plane = plane_figures.rate_distortion(frame)
    assert plane is not None
    assert all("[" in label for label in labels(plane))


def test_an_image_grid_holds_the_images_themselves() -> None:
    shown = np.arange(2 * 3 * 4 * 4, dtype=np.uint8).reshape(2, 3, 4, 4)
    sheet = images.mosaic(shown)
    assert sheet.shape == (9, 14, 3)
    assert (sheet[5:9, 10:14, 0] == shown[1, 2]).all()
    colour = np.repeat(shown[..., None], 3, axis=-1)
    assert (images.mosaic(colour) == sheet).all()


@pytest.mark.parametrize("name", list(images.KINDS))
def test_pictures_name_their_latent_sizes(
    frame: pd.DataFrame, made: list[CellRecord], name: str
) -> None:
    kept = {each.cell_id: arrays(each.cell) for each in made}
    figure = (
        pictures.tsne_maps(frame, kept.__getitem__)
        if name == "tsne"
        else pictures.image_figure(images.KINDS[name], frame, kept.__getitem__)
    )
    assert figure is not None
    words = " ".join(text.get_text() for text in figure.findobj(lambda a: hasattr(a, "get_text")))
    assert all(f"z {size}" in words for size in (2, 4, 16))


def test_designs_of_one_latent_size_stand_side_by_side() -> None:
    designs = [{"likelihood": "gaussian", "sigma": s} for s in (0.1, 0.3, "optimal")]
    records = [record(cell) for cell in cells(designs, sizes=[8])]
    kept = {each.cell_id: arrays(each.cell) for each in records}
    frame = frame_of(records)
    kind = images.Kind("tsne", designs=2, sizes=5, alone=9)
    (block,) = images.blocks(frame, kept.__getitem__, kind)
    assert block.label == "z 8"
    assert block.names == ("σ 0.1", "σ 0.3", "σ optimal")
    best = frame.groupby("sigma")["elbo"].mean().idxmax()
    (few,) = images.blocks(frame, kept.__getitem__, replace(kind, alone=2))
    assert f"σ {best}" in few.names
    assert len(few.names) == 2
    assert figures.kl_by_design(frame, {c: of["kl_per_dimension"] for c, of in kept.items()})


def test_the_best_design_of_each_likelihood_is_among_the_images() -> None:
    """Evenly spread sizes and designs alone could leave out the ones that matter most."""
    sweep = {"likelihood": "bernoulli", "binarization": "static"}
    designs = [{"likelihood": "gaussian", "sigma": i / 100} for i in range(1, 13)]
    records = [record(c) for c in cells([sweep], sizes=[1, 2, 4, 8, 16, 32, 64], seeds=1)]
    records += [record(cell) for cell in cells(designs, sizes=[8], seeds=1)]
    frame = frame_of(records)
    kept = {each.cell_id: arrays(each.cell) for each in records}
    kind = images.Kind("tsne", designs=1, sizes=3, alone=3)
    for best_size, best_sigma in ((8, 0.04), (2, 0.11)):
        best = (frame["latent_dim"] == best_size) & (frame["likelihood"] == "bernoulli")
        best |= frame["sigma"] == best_sigma
        first, second = images.blocks(frame.assign(elbo=best * 1.0), kept.__getitem__, kind)
        assert f"z {best_size}" in first.names
        assert len(first.names) == 3
        assert f"gaussian, σ {best_sigma}" in second.names or f"σ {best_sigma}" in second.names
        assert len(second.names) == 3


def test_gaps_between_panels_are_equal(frame: pd.DataFrame, made: list[CellRecord]) -> None:
    kept = {each.cell_id: arrays(each.cell) for each in made}
    figure = pictures.image_figure(images.KINDS["samples"], frame, kept.__getitem__)
    assert figure is not None
    boxes = [axes.get_position() for axes in figure.get_axes()]
    rows = {round(box.y0, 6) for box in boxes}
    assert len(rows) == 2
    for row in rows:
        own = sorted((box for box in boxes if round(box.y0, 6) == row), key=lambda box: box.x0)
        gaps = [right.x0 - left.x1 for left, right in itertools.pairwise(own)]
        assert gaps == pytest.approx([gaps[0]] * len(gaps))


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
    assert drawable("a漢字\n$x$ σ") == r"a\u6f22\u5b57 $x$ σ"
    assert drawable("./日本.npz") != drawable("./中国.npz")
    assert len(drawable("漢" * 50, 40)) == 40
    with drawing():
        figure = Figure()
        figure.suptitle(drawable("$\\frac{1}{$ 漢"))
        figure.canvas.draw()


def test_one_wide_interval_does_not_compress_the_others() -> None:
    frame = frame_of([record(cell) for cell in cells([GAUSSIAN], sizes=[2, 4, 8, 16], seeds=3)])
    wild = frame["latent_dim"] == 16
    frame["elbo"] = -100.0 + frame["latent_dim"]
    frame.loc[wild, "elbo"] += (frame.loc[wild, "seed"] - 1) * 5000.0
    (figure,) = figures.against(frame, "latent_dim", ["elbo"])
    low, high = figure.get_axes()[0].get_ylim()
    assert low > -115
    assert high < -68


def test_active_units_have_an_axis_that_shows_one_and_a_thousand() -> None:
    frame = frame_of([record(cell) for cell in cells([GAUSSIAN], sizes=[1, 8, 1000], seeds=3)])
    frame["active_units"] = frame["latent_dim"].astype(float)
    (figure,) = figures.against(frame, "latent_dim", ["active_units"])
    axes = figure.get_axes()[0]
    assert axes.get_yscale() == "symlog"
    heights = axes.transAxes.inverted().transform(
        axes.transData.transform([(1, 1.0), (1, 8.0), (1, 1000.0)])
    )[:, 1]
    assert heights[1] - heights[0] > 0.15
    assert axes.get_ylim()[0] <= 0
