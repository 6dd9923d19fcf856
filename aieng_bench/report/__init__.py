"""Reports: what records say, as pages that work offline and as Markdown. A pure function of the records, rebuilt byte for byte."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from aieng_bench.record.schema import Record
from aieng_bench.record.store import write_whole
from aieng_bench.report.declare import Module


def write(records: Sequence[Record], out: Path, title: str) -> list[Path]:
    """Write the site of these records into ``out`` and return the files written.

    One run becomes ``index.html`` and ``index.md``. Several become one page of each kind per run and an index that links them,
    newest first. Beside them lie ``report.css``, ``report.js`` and ``plotly.min.js``.

    Raises ValueError if ``records`` is empty, OSError if ``out`` cannot be written.
    """
    from aieng_bench.report.build import run_page
    from aieng_bench.report.markdown import index_markdown, run_markdown
    from aieng_bench.report.page import assets, index_html, run_html

    if not records:
        raise ValueError("records: there is nothing to report")
    runs: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        runs[record.run].append(record)
    several = len(runs) > 1
    newest = sorted(runs, key=lambda run: (min(record.created for record in runs[run]), run), reverse=True)
    pages = [run_page(runs[run], title) for run in newest]
    texts = assets()
    for page in pages:
        name = page.slug if several else "index"
        texts |= {f"{name}.html": run_html(page, several=several), f"{name}.md": run_markdown(page)}
    if several:
        scope = f"{len(pages)} runs, {len(records)} cells."
        texts |= {"index.html": index_html(pages, title, scope), "index.md": index_markdown(pages, title, scope)}
    return _written(texts, out)


def write_module(records: Sequence[Record], module: Module, source: str, out: Path) -> list[Path]:
    """Write the report of a suite into ``out`` and return the files written.

    They are ``<name>.html``, ``<name>.md`` with its ``<name>-figures/``, and ``<name>.ipynb``, run here, whose first cell reads
    ``source`` as seen from the working folder. Raises ValueError if no record is of the suite's studies, ImportError without the
    extra ``report``, OSError if ``out`` cannot be written.
    """
    from aieng_bench.report.module import module_page
    from aieng_bench.report.module_markdown import page_markdown
    from aieng_bench.report.notebook import notebook
    from aieng_bench.report.page import assets, module_html

    page = module_page(records, module)
    markdown, figures = page_markdown(page)
    texts: dict[str, str | bytes] = {**assets(), f"{page.name}.html": module_html(page), f"{page.name}.md": markdown, **figures}
    texts[f"{page.name}.ipynb"] = notebook(page, source, Path.cwd())
    return _written(texts, out)


def _written(texts: Mapping[str, str | bytes], out: Path) -> list[Path]:
    for name, text in texts.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        write_whole(out / name, text)
    return [out / name for name in texts]
