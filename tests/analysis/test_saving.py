"""Figures saved elsewhere are the figures that were made, and a failure is not lost."""

from pathlib import Path

import numpy as np
import pytest
import seaborn as sns
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from vaebench.plots.saving import Saver, save_png
from vaebench.plots.style import drawing


def figure(height: float) -> Figure:
    with drawing():
        made = Figure((4, 3), layout="constrained")
        axes = made.subplots()
        axes.plot([0, 1, 2], [0, height, 1])
        axes.set_title("a title")
    return made


def test_what_is_saved_is_the_figure_as_it_was_handed_over(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        with Saver() as saver:
            for name, height in (("flat", 1.0), ("steep", 9.0)):
                made = figure(height)
                png = saver.save(made, tmp_path / folder, name)
                made.axes[0].set_title("changed afterwards")
        assert png == tmp_path / folder / "steep.png"
    names = {f"{name}.{ending}" for name in ("flat", "steep") for ending in ("png", "svg", "pdf")}
    assert {path.name for path in (tmp_path / "one").iterdir()} == names
    for name in names:
        content = (tmp_path / "one" / name).read_bytes()
        assert content == (tmp_path / "two" / name).read_bytes()
    assert "a title" in (tmp_path / "one" / "flat.svg").read_text(encoding="utf-8")
    assert (tmp_path / "one" / "flat.png").read_bytes() != png.read_bytes()
    with Image.open(png) as image:
        assert image.size == (480, 360)


def test_a_figure_that_cannot_be_saved_is_an_error_at_the_end(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), Saver() as saver:
        saver.save(figure(1), tmp_path / "nowhere", "lost")


def test_an_error_of_the_caller_is_the_one_that_is_told(tmp_path: Path) -> None:
    def interrupted() -> None:
        with Saver() as saver:
            saver.save(figure(1), tmp_path / "nowhere", "lost")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        interrupted()


def test_frequent_colours_are_kept_among_thousands_of_shades(tmp_path: Path) -> None:
    """So that an error bar has its own colour, and not another design's."""
    with drawing():
        made = Figure((6, 4))
        axes = made.subplots()
        for place, colour in enumerate(sns.color_palette("colorblind", 10)):
            axes.plot(np.sin(np.arange(60) / 9 + place) + place, color=colour, lw=1, alpha=0.85)
            axes.errorbar([6 * place], [place], [0.7], color=colour, elinewidth=1.1)
        save_png(made, tmp_path / "thin.png")
        canvas = FigureCanvasAgg(made)
        canvas.draw()
    drawn = np.asarray(canvas.buffer_rgba())[..., :3]
    with Image.open(tmp_path / "thin.png") as image:
        assert image.mode == "P"
        saved = np.asarray(image.convert("RGB"))
    colours, counts = np.unique(drawn.reshape(-1, 3), axis=0, return_counts=True)
    assert len(colours) > 1_000
    for colour in colours[np.argsort(-counts)][:100]:
        assert (saved[(drawn == colour).all(-1)] == colour).all()
