"""HTML pages: the templates filled, everything escaped, scripts and styles in files beside the pages, nothing from a network."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined

from aieng_bench.calibration import HEADS
from aieng_bench.record.exhibits import Pictures
from aieng_bench.report.build import INDEX_COLUMNS
from aieng_bench.report.chapters import ModulePage
from aieng_bench.report.format import clean
from aieng_bench.report.png import inline
from aieng_bench.report.view import GUIDE, MATRIX_COLUMNS, RunPage


@cache
def _templates() -> Environment:
    made = Environment(
        loader=PackageLoader("aieng_bench.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    made.filters |= {"kinds": lambda blocks: [(type(block).__name__, block) for block in blocks], "images": _images}
    return made


def _images(pictures: Pictures) -> list[list[str]]:
    return [[inline(one) for one in row] for row in pictures.array()]


def module_html(page: ModulePage) -> str:
    """The report of a suite."""
    return _templates().get_template("module.html.j2").render(page=page)


def run_html(page: RunPage, *, several: bool) -> str:
    """The page of one run; ``several``: it stands beside others and links to their index."""
    names = {"guide": GUIDE, "matrix_columns": MATRIX_COLUMNS, "trial_heads": HEADS}
    return _templates().get_template("run.html.j2").render(page=page, **names, index=several)


def index_html(pages: Sequence[RunPage], title: str, scope: str) -> str:
    rows = [page.index_row for page in pages]
    return _templates().get_template("index.html.j2").render(rows=rows, columns=INDEX_COLUMNS, title=clean(title), scope=scope)


def assets() -> dict[str, str]:
    """The files beside the pages, by name."""
    folder = files("aieng_bench.report") / "templates"
    own = {name: (folder / name).read_text(encoding="utf-8") for name in ("report.css", "report.js")}
    return {**own, "plotly.min.js": (files("plotly") / "package_data/plotly.min.js").read_text(encoding="utf-8")}
