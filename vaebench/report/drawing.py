"""How a figure of the list of sections becomes files, a chart and words on a page."""

from collections.abc import Iterator
from pathlib import Path

from vaebench.plots.figures import Drawn
from vaebench.plots.saving import save_for_paper, save_png
from vaebench.report.overview import shared_settings
from vaebench.report.page import Image, Picture, phrase
from vaebench.report.sections import Content, FigureSpec, caption_facts


def draw(
    spec: FigureSpec, content: Content, folder: Path, paper: Path | None = None
) -> Iterator[Picture]:
    """Draw and save the figures of each group, and make their charts and panels.

    Args:
        spec: the figure.
        content: the numbers.
        folder: where the PNG files are saved; a group with several figures numbers them.
        paper: where the figures are also saved for a paper, if anywhere.
    """
    for group in content.groups(spec.over):
        known = caption_facts(group)
        title = f"{phrase('figure', spec.name, 'title', known)}: {group.label}"
        caption = phrase("figure", spec.name, "caption", known)
        if spec.over != "timings":
            caption = " ".join((caption, *shared_settings(group.frame)))
        images, static = [], phrase("figure", spec.name, "static", known)
        for number, each in enumerate(spec.draw(content, group, title), 1):
            if each is not None:
                drawn = each if isinstance(each, Drawn) else Drawn(each)
                name = f"{spec.name}-{group.slug}{f'-{number}' if number > 1 else ''}"
                path = folder / f"{name}.png"
                save_png(drawn.figure, path)
                images.append(Image(path))
                if paper is not None:
                    save_for_paper(drawn.figure, paper / name)
                static = " ".join(filter(None, (static, drawn.left_out.strip())))
        chart = None if spec.chart is None else spec.chart(content, group)
        blocks = () if spec.panels is None else spec.panels(content, group)
        if images or chart is not None:
            key = f"{spec.name}-{group.slug}"
            yield Picture(key, title, caption, static, tuple(images), chart, blocks)
