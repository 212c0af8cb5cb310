"""How figures are saved: the same bytes from the same numbers, in processes of their own."""

import pickle
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from vaebench.plots.style import drawing
from vaebench.system.processes import not_to_be_stopped, serve_the_parent, without_the_script

__all__ = ["Saver", "save_png"]

_DPI: Final = 120
_COLOURS, _KEPT = 256, 128
"""Of a palette's colours, and of those the ones that are kept as they are."""

_PROCESSES: Final = 2


class Saver:
    """Saves figures in two other processes while this one makes the next.

    To draw figures in three formats takes longer than all the rest of a report. Leaving the context
    waits for the last of them.

    Raises:
        OSError: a figure could not be saved, which is told on leaving at the latest, or the other
            processes could not be started or were ended.
    """

    def __enter__(self) -> "Saver":
        self._pool = ProcessPoolExecutor(_PROCESSES, get_context("spawn"), serve_the_parent)
        self._saved: list[Future[None]] = []
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        try:
            if error is None:
                for each in self._saved:
                    each.result()
        except BrokenProcessPool as broken:
            raise OSError("a process that saves figures was ended") from broken
        finally:
            self._pool.shutdown(cancel_futures=True)

    def save(self, figure: Figure, folder: Path, name: str) -> Path:
        """Have `name` saved as PNG, SVG and PDF; the path that the PNG will have."""
        try:
            with without_the_script(), not_to_be_stopped():
                # Packed here and now: the caller may go on to change what it drew.
                self._saved.append(self._pool.submit(_save, pickle.dumps(figure), folder, name))
        except BrokenProcessPool as broken:
            raise OSError("a process that saves figures was ended") from broken
        return folder / f"{name}.png"


def _save(packed: bytes, folder: Path, name: str) -> None:
    """All three formats, without dates or versions in them.

    The canvases are called directly: `savefig` draws every figure twice.
    """
    figure = pickle.loads(packed)  # noqa: S301 - from `Saver.save` in the parent process alone
    with drawing():
        save_png(figure, folder / f"{name}.png")
        svg: Any = FigureCanvasSVG(figure)
        svg.print_svg(folder / f"{name}.svg", metadata={"Date": None, "Creator": None})
        figure.dpi = _DPI
        pdf: Any = FigureCanvasPdf(figure)
        pdf.print_pdf(
            folder / f"{name}.pdf",
            metadata={"CreationDate": None, "Creator": None, "Producer": None},
        )


def save_png(figure: Figure, path: Path) -> None:
    """PNG with at most 256 colours, which keeps line art small.

    The layout is worked out once: each format would otherwise do it again.
    """
    FigureCanvasAgg(figure)
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)
    figure.set_layout_engine("none")
    figure.dpi = _DPI
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    _in_few_colours(np.asarray(canvas.buffer_rgba())[..., :3]).save(path, format="PNG")


def _in_few_colours(pixels: NDArray[np.uint8]) -> Image.Image:
    """The image with its most frequent colours as they are, and others that stand for the rest.

    So a line keeps its own colour, which a palette of means alone mixes with that of another.
    """
    packed = pixels.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    found, where, counts = np.unique(packed, return_inverse=True, return_counts=True)
    order = np.argsort(-counts.astype(np.int64), kind="stable")
    colours = np.stack([found >> 16, found >> 8, found], axis=1).astype(np.uint8)[order]
    entries = np.arange(len(found))
    if len(found) > _COLOURS:
        rare = Image.fromarray(colours[np.newaxis, _KEPT:])
        few = rare.quantize(_COLOURS - _KEPT, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
        means = np.array(few.getpalette(), np.uint8).reshape(-1, 3)
        colours = np.concatenate([colours[:_KEPT], means])
        entries[_KEPT:] = _KEPT + np.asarray(few)[0].astype(np.int64)
    of = np.empty(len(found), np.uint8)
    of[order] = entries
    small = Image.fromarray(of[where].reshape(packed.shape), mode="P")
    small.putpalette(colours[:_COLOURS].tobytes())
    return small
