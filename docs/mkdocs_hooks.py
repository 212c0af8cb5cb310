"""MkDocs hooks: the committed reports are part of the site.

Pages link figures as ``../reports/reference/...``, which works in a checkout and on a code host. In
the site these files are copied below ``reports/``, and the links are changed to point there.
"""

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the figures of the committed reports to the files of the site."""
    for path in sorted((ROOT / "reports" / "reference").rglob("*.png")):
        name = path.relative_to(ROOT).as_posix()
        files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, **_: object) -> str:
    """Change links to the committed reports to their place in the site."""
    return markdown.replace("](../reports/", "](reports/")
