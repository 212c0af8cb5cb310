"""How a figure of the list of sections becomes files, a chart and words on a page."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.text import Text

from vaebench.analysis.columns import are_tables, of_data
from vaebench.plots.figures import Drawn
from vaebench.plots.saving import save_for_paper, save_png
from vaebench.report.overview import shared_settings
from vaebench.report.page import Image, Picture, phrase
from vaebench.report.sections import Content, FigureSpec, caption_facts


def draw(
    spec: FigureSpec, content: Content, folder: Path, *, static: bool, paper: Path | None = None
) -> Iterator[Picture]:
    """Make the charts and panels of each group, and draw and save its static figures.

    Args:
        spec: the figure.
        content: the numbers.
        folder: where the PNG files are saved; a group with several figures numbers them.
        static: save a static figure also where a chart or panels take its place.
        paper: where the figures are also saved for a paper, if anywhere.
    """
    for group in content.groups(spec.over):
        known = caption_facts(group)
        title = f"{phrase('figure', spec.name, 'title', known)}: {group.label}"
        caption = of_data(phrase("figure", spec.name, "caption", known), group.frame)
        if spec.over != "timings":
            caption = " ".join((caption, *shared_settings(group.frame)))
        chart = None if spec.chart is None else spec.chart(content, group)
        if chart is not None and are_tables(group.frame):
            parts = ("spec", "axes", "description")
            named = {part: _of_rows(getattr(chart, part), group.frame) for part in parts}
            chart = replace(chart, **named)
        blocks = () if spec.panels is None else spec.panels(content, group)
        key = f"{spec.name}-{group.slug}"
        images, remark = [], phrase("figure", spec.name, "static", known)
        replaced = chart is not None or bool(blocks)
        if static or paper is not None or not replaced:
            # The page has the title above the figure.
            made = spec.draw(content, group, title if replaced else "")
            drawn = [each if isinstance(each, Drawn) else Drawn(each) for each in made if each]
            for number, each in enumerate(drawn, 1):
                _name_data(each.figure, group.frame)
                name = f"{key}-{number}" if number > 1 else key
                if static or not replaced:
                    images.append(Image(folder / f"{name}.png"))
                    save_png(each.figure, images[-1].path)
                if paper is not None:
                    save_for_paper(each.figure, paper / name)
                remark = " ".join(filter(None, (remark, each.left_out.strip())))
        if images or replaced:
            told = remark if images else ""
            yield Picture(key, title, caption, told, tuple(images), chart, blocks)


def _name_data(figure: Figure, rows: pd.DataFrame) -> None:
    """Name the unit of tables in the labels of a figure; see `of_data`."""
    if are_tables(rows):
        for text in figure.findobj(Text):
            if isinstance(text, Text):
                text.set_text(of_data(text.get_text(), rows))


def _of_rows(content: Any, rows: pd.DataFrame) -> Any:
    """Name the unit of tables in every text of a chart."""
    return json.loads(of_data(json.dumps(content, ensure_ascii=False), rows))
