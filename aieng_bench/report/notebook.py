"""The report of a suite as a notebook that makes it again from the records, and from which a reader goes on.

Run here once, its outputs kept; times of execution are not, and ids are numbered, so that the same records give the same file.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from aieng_bench.record.schema import Record
from aieng_bench.report.chapters import Chapter, ModulePage

if TYPE_CHECKING:
    from pandas import DataFrame

CELL_TIMEOUT_S = 300

_LOAD = """\
from aieng_bench.record.sources import read
from aieng_bench.registry import module
from aieng_bench.report.module import module_page
from aieng_bench.report.notebook import frame, show

records = read({source!r}).records
page = module_page(records, module({name!r}))
print(page.scope)"""
_FRAME = """\
figures = frame(records)  # one line per sample: study, case, contender, kind, metric, seed, value
figures.pivot_table(index=["study", "case", "contender"], columns="metric", values="value").round(4)"""


def notebook(page: ModulePage, source: str, folder: Path) -> str:
    """The executed notebook (nbformat 4.5) as text; ``source`` is what its first cell reads, from within ``folder``.

    Raises nbclient's CellExecutionError if a cell fails, ImportError without the extra ``report``.
    """
    import nbformat
    from nbclient import NotebookClient
    from traitlets.config import Config

    v4 = nbformat.v4
    cells = [
        v4.new_markdown_cell(
            f"# {page.title}\n\n{page.question}\n\nEvery figure below is made from the records that this cell reads."
        ),
        v4.new_code_cell(_LOAD.format(source=source, name=page.name)),
    ]
    for chapter in page.chapters:
        cells += [v4.new_markdown_cell(f"## {chapter.title}"), v4.new_code_cell(f"show(page.chapter({chapter.anchor!r}))")]
    cells += [v4.new_markdown_cell("## To go on from here"), v4.new_code_cell(_FRAME), v4.new_markdown_cell(page.provenance)]
    for number, cell in enumerate(cells):
        cell.id = f"{page.digest[:8]}-{number}"
    made = v4.new_notebook(
        cells=cells, metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    )
    with tempfile.TemporaryDirectory() as place:
        # Sockets in a folder of its own: nobody else on the machine can talk to the kernel.
        private = Config(ConnectionFileMixin={"transport": "ipc", "connection_file": f"{place}/kernel.json"})
        resources = {"metadata": {"path": str(folder)}}
        NotebookClient(made, config=private, timeout=CELL_TIMEOUT_S, record_timing=False, resources=resources).execute()
    made.metadata.pop("language_info", None)  # the version of Python that ran it
    return str(nbformat.writes(made)) + "\n"


def show(chapter: Chapter) -> None:
    """Show a chapter in a notebook: text and tables as Markdown, figures as images."""
    from IPython.display import Image, Markdown, display

    from aieng_bench.report.module_markdown import image, pieces

    for piece in pieces(chapter):
        display(Markdown(piece) if isinstance(piece, str) else Image(data=image(piece), format="png", alt=piece.title))


def frame(records: Sequence[Record]) -> DataFrame:
    """A line per sample of every ranked cell: machine, study, case, contender, kind, metric, unit, seed, value."""
    import pandas as pd

    lines = [
        (r.environment.machine, r.definition.benchmark, r.case_id, r.contender.name, r.contender.kind, m.name, m.unit, seed, value)
        for r in records
        if r.ranked
        for m in r.definition.metrics
        for launch, rounds in zip(r.samples.get(m.name, ()), r.rounds)
        for seed, value in zip(rounds, launch)
    ]
    return pd.DataFrame(lines, columns=["machine", "study", "case", "contender", "kind", "metric", "unit", "seed", "value"])
