"""Saved figures: the same bytes from the same figure, in the colours that were drawn."""

from pathlib import Path

import numpy as np
import seaborn as sns
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from vaebench.plots.palette import colours, ramp
from vaebench.plots.saving import save_for_paper, save_png
from vaebench.plots.style import drawing


def test_the_colours_are_those_of_seaborn_but_for_the_two_pale_ones() -> None:
    same = [place for place in range(10) if place not in (6, 8)]
    expected, found = sns.color_palette("colorblind"), colours(12)
    np.testing.assert_allclose([found[i] for i in same], [expected[i] for i in same], atol=1e-9)
    assert found[10:] == found[:2]
    for count in (1, 2, 7):
        shades = sns.color_palette("viridis", max(count + 1, 3))[:count]
        np.testing.assert_allclose(ramp(count), shades)


def figure(height: float) -> Figure:
    with drawing():
        made = Figure((4, 3), layout="constrained")
        axes = made.subplots()
        axes.plot([0, 1, 2], [0, height, 1])
        axes.set_title("a title")
    return made


def test_the_same_figure_gives_the_same_bytes(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        with drawing():
            made = figure(1.0)
            save_png(made, tmp_path / folder / "f.png")
            save_for_paper(made, tmp_path / folder / "f")
    for name in ("f.png", "f.svg", "f.pdf"):
        content = (tmp_path / "one" / name).read_bytes()
        assert content == (tmp_path / "two" / name).read_bytes()
    assert "a title" in (tmp_path / "one" / "f.svg").read_text(encoding="utf-8")
    with Image.open(tmp_path / "one" / "f.png") as image:
        assert image.size == (800, 600)


def test_a_figure_for_a_paper_is_one_column_wide_with_its_fonts(tmp_path: Path) -> None:
    with drawing():
        made = Figure((9.6, 3), layout="constrained")
        for axes in made.subplots(1, 3):
            axes.plot([0, 1], [0, 1], label="<script>alert(1)</script>")
            axes.set_xlabel("a label")
        made.legend(*made.get_axes()[0].get_legend_handles_labels(), loc="outside lower center")
        save_for_paper(made, tmp_path / "wide")
    text = (tmp_path / "wide.pdf").read_bytes()
    assert b"/MediaBox [ 0 0 241.2 " in text
    assert b"/FontFile2" in text
    boxes = [axes.get_position() for axes in made.get_axes()]
    assert boxes[0].y0 > boxes[1].y1
    assert boxes[1].y0 > boxes[2].y1
    assert "<script" not in (tmp_path / "wide.svg").read_text(encoding="utf-8")


def test_frequent_colours_are_kept_among_thousands_of_shades(tmp_path: Path) -> None:
    """So that an error bar has its own colour, and not another design's."""
    with drawing():
        made = Figure((6, 4))
        axes = made.subplots()
        for place, colour in enumerate(sns.color_palette("colorblind", 10)):
            axes.plot(np.sin(np.arange(60) / 9 + place) + place, color=colour, lw=1, alpha=0.85)
            axes.errorbar([6 * place], [place], [0.7], color=colour, elinewidth=1.1)
        save_png(made, tmp_path / "thin.png")
        made.dpi = 200
        canvas = FigureCanvasAgg(made)
        canvas.draw()
    drawn = np.asarray(canvas.buffer_rgba())[..., :3]
    with Image.open(tmp_path / "thin.png") as image:
        assert image.mode == "P"
        saved = np.asarray(image.convert("RGB")).astype(int)
    colours, counts = np.unique(drawn.reshape(-1, 3), axis=0, return_counts=True)
    assert len(colours) > 1_000
    for colour in colours[np.argsort(-counts)][:100]:
        # The nearest two colours of the palette are 40 levels of 255 apart.
        assert (abs(saved[(drawn == colour).all(-1)] - colour) <= 13).all()
