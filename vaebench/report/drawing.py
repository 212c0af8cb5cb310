"""How a figure of the list of sections becomes files, a chart and words on a page."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from vaebench.analysis.columns import are_tables, of_data
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
        remark = phrase("figure", spec.name, "static", known)
        replaced = chart is not None or bool(blocks)
        images: list[Path] = []
        # A static figure shows nothing of a group where chart and panels do not.
        alone = spec.chart is None and spec.panels is None and spec.applies(content, group)
        if alone or (replaced and (static or paper is not None)):
            from vaebench.report.static import save_figures

            # The page has the title above the figure.
            heading = title if replaced else ""
            png = folder if static or alone else None
            images, left_out = save_figures(spec.name, content, group, heading, png, paper)
            remark = " ".join(filter(None, (remark, left_out)))
        if images or replaced:
            told = remark if images else ""
            shown = tuple(map(Image, images))
            yield Picture(key, title, caption, told, shown, chart, blocks)


def _of_rows(content: Any, rows: pd.DataFrame) -> Any:
    """Name the unit of tables in every text of a chart."""
    return json.loads(of_data(json.dumps(content, ensure_ascii=False), rows))
